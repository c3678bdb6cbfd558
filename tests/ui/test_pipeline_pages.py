"""Pages of pipelines: the graph, why each step ran, what it read and answered, and what a run looks like as it goes."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from tests.training.pipeline.world import HEAD
from tests.ui.browser import FLAGS, broken_rules, served
from tests.ui.conftest import Get, asking
from tests.ui.test_pages import Seen, words
from tests.ui.world import HOSTILE

from loopline.base.process import holder
from loopline.interfaces.ui.layers import depths
from loopline.interfaces.ui.pages.pipelines import drawing, needs
from loopline.loop.project import Project, load
from loopline.training.pipeline.nouns import PipelineRun
from loopline.training.pipeline.runner import RUNS
from loopline.training.pipeline.task import FOLDER as STEPS
from loopline.training.pipeline.verbs import find, run_pipeline
from loopline.workspace import FOLDER, Workspace, create_workspace

PAGE = """\
name: shop
framing: {label: left, unit: id, decision_time: seen}
data: {customers: {source: c.csv, event_time: seen, known_at: seen, key: id}}
features: {spine: customers}
training: {recipe: train.py:fit, pipeline: flow.py:main, split: {by: time, test: 20%}}
"""
FLOW = (
    HEAD
    + """
import polars as pl


@step(cpus=2, memory="1GiB", retries=1)
def load(rows: int) -> pl.DataFrame:
    print("loading", rows, "<b>rows</b>")
    return pl.DataFrame({"x": list(range(rows))})


@step(gpus=1)
def clean(rows: pl.DataFrame, note: str) -> pl.DataFrame:
    return rows.filter(pl.col("x") > 0)


@step
def share(rows: pl.DataFrame) -> float:
    return rows.height / 7


@step
def judge(found: float, other: float, note: str) -> dict:
    print("judging")
    if note == "break":
        raise ValueError("cannot judge <i>this</i>")
    return {"share": found, "of": other}


@pipeline
def main(rows: int = 12, note: str = "plain"):
    held = load(rows)
    kept = clean(held, "all")
    return judge(share(kept), share.named("before")(held), note)

"""
)


class Shop:
    """A project whose pipelines have run."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "shop"
        self.root.mkdir()
        (self.root / "loop.yaml").write_text(PAGE)
        (self.root / "flow.py").write_text(FLOW)
        (self.root / "train.py").write_text("def fit(X, y, seed=0):\n    raise NotImplementedError\n")
        self.project: Project = load(self.root)
        self.ws: Workspace = create_workspace(self.root / FOLDER, actor="user:ada")
        self.get: Get = asking(self.ws, self.project)
        self.first = self.run()
        self.again = self.run(rows=13)
        self.failed = self.run(note="break")
        self.hostile = self.run(note=HOSTILE)

    def run(self, **params: object) -> PipelineRun:
        made: PipelineRun = run_pipeline(self.ws, self.root, find(self.root, "flow.py:main"), params=params)
        return made

    def stopped(self, state: str, holder: str) -> str:
        """A run as its row says it in the middle: `load` is there, `clean` runs."""
        row = self.ws.records.row(RUNS, self.again.id)
        assert row is not None
        begun = {
            "clean": {"why": ["it is new"], "started_at": "2031-06-01T00:00:00.000000Z", "attempts": 1, "log": None}
        }
        doc = {
            **row.doc,
            "steps": {"load": row.doc["steps"]["load"]},
            "running": ["clean"],
            "begun": begun,
            "holder": holder,
        }
        with self.ws.records.transaction() as tx:
            tx.save(replace(row, state=state, generation=row.generation + 1, doc=doc), expect=row.generation)
        log = self.ws.root / STEPS / "logs" / row.id / "clean-1.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("so far so good\n")
        return row.id


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("pipelines"))
    yield made
    made.ws.close()


def test_a_run_is_drawn_and_every_step_says_why_it_ran_or_that_its_answer_was_found(shop: Shop) -> None:
    first = shop.get(f"/training/pipelines/{shop.first.id}")
    said = words(first.text)
    assert first.status_code == 200 and first.text.count('<span class="line">it has not run before') == 5
    assert first.text.count("<rect") == 5 and first.text.count('class="edge"') == 5
    assert "2 CPUs" in said and "1 GiB of memory" in said and "1 retry" in said
    assert needs({"timeout_s": 300.0, "env": ("REGION",), "volatile": True}) == [
        "at most 5 min",
        "variable REGION",
        "runs each time",
    ]
    assert "no GPU was there: CPU" in said
    again = words(shop.get(f"/training/pipelines/{shop.again.id}").text)
    assert "param rows was 12, is 13" in again and "input rows: load answered something else" in again
    failed = words(shop.get(f"/training/pipelines/{shop.failed.id}").text)
    assert failed.count("nothing it depends on has changed") == 4
    assert "4 steps found, 1 step failed" in failed and "ValueError: cannot judge &lt;i&gt;this&lt;/i&gt;" in failed


def test_a_step_says_what_it_read_answered_printed_and_where_its_answer_was_found(shop: Shop) -> None:
    page = shop.get(f"/training/pipelines/{shop.first.id}/load").text
    assert "frame, 12 × 1" in page and "loading 12 &lt;b&gt;rows&lt;/b&gt;" in page and "polars" in page
    judged = shop.get(f"/training/pipelines/{shop.first.id}/judge").text
    assert f'<a href="/training/pipelines/{shop.first.id}/before">before</a>' in judged
    assert re.search(r"<dt>share</dt><dd>number\s+<code>1.57", judged)
    failed = words(shop.get(f"/training/pipelines/{shop.failed.id}/judge").text)
    assert "judging" in failed and "flow.py" in failed and "mend flow.py:judge" in failed
    found = shop.get(f"/training/pipelines/{shop.failed.id}/load").text
    assert f'<a href="/training/pipelines/{shop.first.id}/load">run' in found
    assert shop.get(f"/training/pipelines/{shop.first.id}/nothing").status_code == 404
    assert shop.get("/training/pipelines/nothing").status_code == 404


def test_a_run_that_goes_on_asks_again_until_it_has_ended(shop: Shop) -> None:
    id = shop.stopped("running", holder())
    for path in (f"/live/pipelines/{id}", f"/live/pipelines/{id}/clean"):
        found = shop.get(path)
        assert f'hx-get="{path}?seen=' in found.text and "running" in words(found.text)
    assert "so far so good" in found.text and "it is new" in found.text
    [seen] = re.findall(r"seen=(\w+)", found.text)
    assert shop.get(f"{path}?seen={seen}").status_code == 204
    shop.stopped("killed", "")
    ended = shop.get(f"{path}?seen={seen}")
    assert "hx-get" not in ended.text and ended.headers["hx-reswap"] == "outerHTML"
    run = words(shop.get(f"/training/pipelines/{id}").text)
    assert "killed" in run and "is not run again" in run and "loopline pipeline run flow.py:main" in run
    gone = shop.get("/live/pipelines/nothing")
    assert "hx-get" not in gone.text and "no run of pipelines has an id that begins with nothing" in gone.text


def test_the_list_tells_runs_newest_first_and_those_of_one_pipeline(shop: Shop) -> None:
    page = shop.get("/training/pipelines").text
    assert page.index(shop.hostile.id) < page.index(shop.first.id)
    assert shop.first.id in shop.get("/training/pipelines?pipeline=flow.py:main").text
    shop.stopped("killed", "")
    assert "hx-get" not in shop.get("/training/pipelines").text
    shop.stopped("running", holder())
    listed = shop.get("/training/pipelines?pipeline=flow.py:main").text
    [address] = re.findall(r'hx-get="([^"]+)"', listed)
    assert re.fullmatch(r"/live/pipelines\?pipeline=flow.py%3Amain&amp;seen=\w{16}", address)
    assert shop.get(html.unescape(address)).status_code == 204
    shop.stopped("killed", "")
    assert "hx-get" not in shop.get(html.unescape(address)).text
    nothing = words(shop.get("/training/pipelines?pipeline=x.py:y").text)
    assert "has not run here" in nothing and "loopline pipeline run x.py:y" in nothing


def test_what_users_wrote_stays_text_and_every_link_leads_to_a_page(shop: Shop) -> None:
    one, fault = shop.hostile.id, shop.failed.id
    paths = [
        "/training/pipelines",
        *(f"/training/pipelines/{run}{step}" for run in (one, fault) for step in ("", "/judge")),
    ]
    links: set[str] = set()
    for path in paths:
        page = shop.get(path).text
        seen = Seen(page)
        assert "<script>alert" not in page and "<img" not in page and "<i>this" not in page, path
        assert seen.inline == [] and seen.tags.count("h1") == 1 and len(seen.ids) == len(set(seen.ids)), path
        links |= {
            link.partition("#")[0] if link[0] == "/" else f"/training/pipelines{link}"
            for link in seen.links
            if link[0] != "#"
        }
    assert "&lt;script&gt;alert(1)" in shop.get(f"/training/pipelines/{one}").text
    assert {link: shop.get(link).status_code for link in sorted(links)} == dict.fromkeys(sorted(links), 200)


def test_no_step_of_forty_covers_another_and_a_long_pipeline_runs_downwards() -> None:
    chain = [{"step": f"s{n}", "after": [f"s{n - 1}"] if n else [], "state": "found", "error": None} for n in range(40)]
    fan = [{**one, "after": ["s0"] if n else []} for n, one in enumerate(chain)]
    for steps, down in ((chain, True), (fan, False), (chain[:5], False)):
        made = drawing("run", steps)
        corners = sorted((box.x, box.y) for box in made.boxes)
        assert len(corners) == len(steps) and (
            made.height > made.width if down or steps is fan else made.width > made.height
        )
        for at, (x, y) in enumerate(corners):
            assert 0 <= x <= made.width - 152 and 0 <= y <= made.height - 50
            assert not any(abs(x - u) < 152 and abs(y - v) < 50 for u, v in corners[at + 1 :])
    assert depths({"a": [], "b": ["a"], "c": ["a", "b"], "d": []}) == {"a": 0, "b": 1, "c": 2, "d": 0}


def test_a_browser_follows_a_run_to_its_end_fits_a_small_screen_and_breaks_no_rule_of_accessibility(
    require: Callable[[str], str], shop: Shop
) -> None:
    program = require("chromium")
    rules = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python brings the rules")
    script = (Path(rules.__file__).parent / "axe.min.js").read_text()
    going = shop.stopped("running", holder())
    paths = [
        "/training/pipelines",
        f"/training/pipelines/{shop.hostile.id}",
        f"/training/pipelines/{shop.failed.id}/judge",
        f"/training/pipelines/{shop.first.id}/load",
    ]
    faults: list[str] = []
    with (
        served(shop.ws, shop.project) as home,
        sync_playwright() as play,
        contextlib.closing(play.chromium.launch(executable_path=program, args=FLAGS)) as browser,
    ):
        page = browser.new_page(viewport={"width": 420, "height": 800})
        page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
        page.goto(f"{home}/training/pipelines/{going}/clean")
        page.wait_for_function("document.querySelector('.live')._htmx !== undefined")
        shop.stopped("killed", "")
        page.wait_for_selector(".live:not([hx-get])", timeout=15_000)
        assert "killed" in page.inner_text(".live")
        page.close()
        faults += broken_rules(browser, home, paths, script)
    assert faults == []
