"""The pages of runs in a real browser: drawn, without a fault, for everyone; printed addresses lead there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright
from tests.protocols.tracking import served
from tests.ui import logged
from tests.ui.browser import FLAGS

from loopline.workspace import create_workspace


def _watch(page: Page, home: str, faults: list[str]) -> None:
    """Note what goes wrong in a page, and what it asks of others."""
    page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: faults.append(str(e)))
    page.on("request", lambda r: None if r.url.startswith((home, "data:")) else faults.append(r.url))


def test_pages_of_runs_are_drawn_under_the_strict_policy_and_open_to_everyone(
    require: Callable[[str], str], tmp_path: Path
) -> None:
    rules = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python brings the rules")
    script = (Path(rules.__file__).parent / "axe.min.js").read_text()
    program = require("chromium")
    ws = create_workspace(tmp_path / "ws", actor="user:ada")
    made = logged.log(ws)
    faults: list[str] = []
    with (
        served(ws) as server,
        sync_playwright() as play,
        contextlib.closing(play.chromium.launch(executable_path=program, args=FLAGS)) as browser,
    ):
        home = f"http://127.0.0.1:{server.port}"
        for scheme, width in (("light", 1200), ("dark", 420)):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            _watch(page, home, faults)
            judged = browser.new_context(color_scheme=scheme, bypass_csp=True).new_page()
            for path in made.pages if scheme == "light" else made.pages[::2]:
                page.goto(home + path)
                for place in page.query_selector_all("[data-curve]"):
                    place.scroll_into_view_if_needed()
                    place.wait_for_selector("canvas")
                spare = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert spare <= 0, f"{path} is {spare} px too wide"
                judged.goto(home + path)
                judged.evaluate(script)
                broken = judged.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})")
                faults += [f"{scheme} {path}: {r['id']} {r['nodes'][0]['html'][:80]}" for r in broken["violations"]]
            if scheme == "light":
                page.goto(f"{home}/runs/{made.first}")
                canvas = page.wait_for_selector("[data-curve*='train'] .u-over")
                assert canvas is not None
                canvas.scroll_into_view_if_needed()
                box = canvas.bounding_box()
                assert box is not None
                with page.expect_response(lambda answer: "from=" in answer.url) as finer:
                    page.mouse.move(box["x"] + 20, box["y"] + 50)
                    page.mouse.down()
                    page.mouse.move(box["x"] + 60, box["y"] + 50, steps=4)
                    page.mouse.up()
                assert max(finer.value.json()["lines"][0]["x"]) < logged.LONG / 2
                for printed, place in (
                    (f"/#/experiments/{made.experiment}/runs/{made.second}", f"/runs/{made.second}"),
                    (f"/#/experiments/{made.experiment}", f"/runs?experiment={made.experiment}"),
                ):
                    page.goto("about:blank")
                    page.goto(home + printed)
                    page.wait_for_url(home + place)
            page.close()
    ws.close()
    assert faults == []
