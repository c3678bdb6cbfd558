"""The pages in a real browser: under the policy, without a fault, drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from tests.ui import world
from tests.ui.browser import FLAGS, served

from loopline.interfaces.ui.pages import PAGES
from loopline.loop.project import Project
from loopline.workspace import Workspace


@pytest.fixture
def home(ws: Workspace, project: Project) -> Iterator[str]:
    """The address of the application, really served."""
    with served(ws, project) as address:
        yield address


def test_a_browser_draws_the_pages_under_the_strict_policy_and_fits_a_small_screen(
    require: Callable[[str], str], home: str, ws: Workspace, project: Project
) -> None:
    program = require("chromium")
    made = world.live(ws, project)
    world.summary(project)
    world.proofs(ws, project, made)
    paths = [
        "/",
        "/features",
        "/registry/2",
        "/retraining/3",
        "/monitoring",
        "/worth",
        "/retraining",
        "/lineage",
        f"/evaluation/{made['report'].id[:16]}",
        "/serving",
    ]
    faults: list[str] = []
    outside: list[str] = []
    with (
        sync_playwright() as play,
        contextlib.closing(play.chromium.launch(executable_path=program, args=FLAGS)) as browser,
    ):
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 420, "height": 800}, color_scheme=scheme)
            page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda e: faults.append(str(e)))
            page.on("request", lambda r: None if r.url.startswith(home) else outside.append(r.url))
            for path in paths:
                page.goto(home + path)
                for place in page.query_selector_all("[data-chart]"):
                    place.wait_for_selector("canvas")
                spare = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert spare <= 0, f"{path} is {spare} px too wide"
            if scheme == "dark":
                page.close()
                continue
            page.goto(home + "/")
            page.wait_for_function("document.querySelector('.live')._htmx !== undefined")
            with page.expect_response(lambda answer: "/live/front" in answer.url, timeout=15_000) as again:
                pass
            assert again.value.status == 204
            page.close()
    assert faults == [] and outside == []


def test_no_page_breaks_a_serious_rule_of_accessibility(
    require: Callable[[str], str], home: str, ws: Workspace, project: Project
) -> None:
    rules = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python brings the rules")
    script = (Path(rules.__file__).parent / "axe.min.js").read_text()
    program = require("chromium")
    made = world.live(ws, project)
    world.summary(project)
    world.proofs(ws, project, made)
    paths = [path for path, _, _ in PAGES if "{" not in path]
    paths += [f"/evaluation/{made['report'].id[:16]}", "/registry/1", "/registry/2", "/retraining/2", "/retraining/3"]
    found: list[str] = []
    with (
        sync_playwright() as play,
        contextlib.closing(play.chromium.launch(executable_path=program, args=FLAGS)) as browser,
    ):
        for scheme in ("light", "dark"):
            page = browser.new_context(color_scheme=scheme, bypass_csp=True).new_page()
            for path in paths:
                page.goto(home + path)
                page.evaluate(script)
                broken = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})")
                found += [
                    f"{scheme} {path}: {rule['id']} {rule['nodes'][0]['html'][:80]}"
                    for rule in broken["violations"]
                    if rule["impact"] in ("serious", "critical")
                ]
    assert found == []
