"""Pages of searches, and how near a model came when it was made again."""

from __future__ import annotations

import contextlib
import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from tests.ui import world
from tests.ui.browser import FLAGS, broken_rules, served
from tests.ui.conftest import Get
from tests.ui.test_pages import Seen, words
from tests.ui.world import HOSTILE, NOW

from loopline.interfaces.ui.pages.searches import _ordered
from loopline.loop.project import Project
from loopline.training.archive import pack
from loopline.training.bundle import MANIFEST
from loopline.training.nouns import Model, Reproduction, Search, Trial
from loopline.training.searching.plots import HIGH, KINDS, WIDE, drawn
from loopline.workspace import Workspace

SPACE = {
    "params": {
        "rate": {"low": 0.01, "high": 0.3, "log": True},
        "leaves": {"low": 4.0, "high": 24.0, "int_": True},
        "kind": {"choices": ["gbdt", HOSTILE]},
    },
    "pruner": "median",
}


@dataclass
class Tried:
    """A search for one metric, one for two, and a model of each kind of standing."""

    one: Search
    two: Search
    version: int


def search(mark: str, *objectives: tuple[str, str], training_set: str) -> Search:
    several = {"params": SPACE["params"], "objectives": [name for name, _ in objectives]}
    declared = SPACE if len(objectives) == 1 else several
    validation = {"by": "time", "rows": 4034, "fitted": 12100, "from": None}
    return Search(
        f"search-{mark}-" + "f" * 24, training_set, "problem", "train.py:fit", objectives, declared, {"trees": 30}, 0,
        validation, "user:ada", f"run-{mark}", NOW,
    )  # fmt: skip


def trials(of: Search, count: int) -> list[Trial]:
    """Complete ones but for the last three: one ended early, two failed."""
    made = []
    for n in range(count):
        params = {"rate": 0.01 * (n + 1), "leaves": 4 + (5 * n) % 20, "kind": HOSTILE if n % 3 == 0 else "gbdt"}
        values = (0.6 + 0.03 * ((7 * n) % 5), 0.2 + 0.01 * ((3 * n) % 7))[: len(of.objectives)]
        state = "complete" if n < count - 3 else "pruned" if n == count - 3 else "failed"
        told = ((0, 0.5), (1, 0.6))
        made.append(
            Trial(
                f"{of.id}-{n}", of.id, n, params, state, values if state == "complete" else (), {}, told,
                HOSTILE if state == "failed" else None, f"run-{n}", 0.5 * n, NOW, {},
            )
        )  # fmt: skip
    return made


@pytest.fixture
def tried(ws: Workspace, project: Project) -> Tried:
    model, report = world.candidate(ws, "tried", auc=0.72)
    one = search("one", ("roc_auc", "maximize"), training_set=model.training_set)
    two = search("two", ("roc_auc", "maximize"), ("brier", "minimize"), training_set=model.training_set)
    bundle = ws.blobs.put(pack({MANIFEST: json.dumps({"search": {"id": one.id, "trial": 2}}).encode()}))
    chosen = replace(model, id="model-chosen-" + "c" * 24, bundle=bundle)
    judged = replace(report, id="report-chosen-" + "c" * 24, model=chosen.id)
    with ws.records.transaction() as tx:
        for noun in (one, two, *trials(one, 15), *trials(two, 12), chosen, judged):
            tx.put(noun)
    version = world.register(ws, project.name, chosen, judged)
    again = [
        Reproduction("again-1", chosen.id, 4, "b", "text", "fresh", {}, 0.0, {}, None, 3.2, "service:cron", NOW),
        Reproduction(
            "again-2", chosen.id, 1, "c", "text", "present",
            {"distributions": {"lightgbm": ["4.6.0", "4.7.0"]}, "machine": ["one", HOSTILE]}, 3.4e-4,
            {"roc_auc": {"was": 0.72, "low": 0.7, "high": 0.74, "now": 0.69}}, None, 4.0, "user:bob",
            NOW + timedelta(days=3),
        ),
    ]  # fmt: skip
    with ws.records.transaction() as tx:
        for noun in again:
            tx.put(noun)
    return Tried(one, two, version.number)


def test_a_search_shows_its_trials_drawings_and_what_came_of_the_best(get: Get, tried: Tried) -> None:
    pytest.importorskip("optuna", reason="the extra loopline[search] is not installed")
    page = get(f"/training/searches/{tried.one.id[:16]}").text
    said = words(page)
    assert "12 complete, 1 ended early, 2 failed" in said and "4,034 training rows, the newest" in said
    assert "0.01 to 0.3, by its logarithm" in said and "4 to 24, whole" in said
    assert page.count('<svg xmlns="http://www.w3.org/2000/svg" class="plot"') == 4
    assert page.count('class="best"') >= 2 and "trials by their objectives" not in page
    assert "Best: trial 2" in said or "Best: trial 7" in said
    assert f'<a href="/registry/{tried.version}">version {tried.version}</a>' in page
    assert f'<a href="/lineage/{tried.version}">' in page and "/evaluation/report-chosen-c" in page
    two = get(f"/training/searches/{tried.two.id}").text
    assert 'aria-label="trials by their objectives"' in two and "beaten by none" in words(two)
    assert "No model was trained with one of its trials yet" in words(two)
    listed = words(get("/training/searches").text)
    assert "most AUC" in listed and "least Brier score" in listed
    assert get("/training/searches/nothing-of-the-kind").status_code == 404


def test_pages_of_searches_ask_again_while_one_goes_on_and_models_lead_to_runs_that_are_logged(
    get: Get, tried: Tried, ws: Workspace
) -> None:
    pages = ("/training/searches", f"/training/searches/{tried.one.id}?by=took&down=1")
    assert not any("hx-get" in get(page).text for page in pages)
    assert "not in the run log" in get("/training?all=1").text
    ws.runs.create_run("0", start_ms=1, id=tried.one.run)
    for page in pages:
        [address] = re.findall(r'hx-get="([^"]+)"', get(page).text)
        assert get(html.unescape(address)).status_code == 204
    assert address.startswith(f"/live/searches/{tried.one.id}?by=took&amp;down=1&amp;seen=")
    ws.runs.change_run(tried.one.run, status="FINISHED", end_ms=2)
    assert not any("hx-get" in get(page).text for page in pages)
    run = ws.records.find(Model)[0].run
    ws.runs.create_run("0", start_ms=1, id=run)
    assert f'<a href="/runs/{run}">' in get("/training?all=1").text


def test_trials_stand_in_the_order_that_is_asked_for_and_those_without_a_value_last(tried: Tried, get: Get) -> None:
    doc = {"objectives": [["roc_auc", "maximize"], ["brier", "minimize"]]}
    lines = [{"number": n, "values": v, "params": p, "seconds": s} for n, v, p, s in (
        (0, (0.6, 0.3), {"rate": 0.2}, 3.0), (1, (), {"rate": "a"}, 1.0), (2, (0.9, 0.1), {}, 2.0),
        (3, (float("nan"), 0.2), {"rate": 0.1}, 4.0),
    )]  # fmt: skip

    def order(by: str, down: bool) -> list[int]:
        return [one["number"] for one in _ordered(lines, doc, by, down)]

    assert order("", False) == order("value:0", True) == [2, 0, 1, 3]
    assert order("value:1", False) == [2, 3, 0, 1] and order("took", True) == [3, 0, 2, 1]
    assert order("param:rate", False) == [3, 0, 1, 2] and order("param:nothing", True) == [0, 1, 2, 3]
    assert order("nonsense:9", True) == [2, 0, 1, 3] and order("value:7", True) == [0, 1, 2, 3]
    page = get(f"/training/searches/{tried.one.id}?by=param%3Arate&down=1").text
    assert 'aria-sort="descending"' in page and "?by=param%3Arate#trials-title" in page


def test_labels_of_a_drawing_stay_within_it_and_trials_that_differ_look_different(get: Get, ws: Workspace) -> None:
    history = [[n * 250_000, 0.9 + n * 1e-7, 0.9] for n in range(5)]
    found = {"search": {"objectives": [["roc_auc", "maximize"]]}, "trials": [], "best": 4, "front": [4],
             "history": history, "importance": {}, "slices": {}, "pareto": []}  # fmt: skip
    svg = drawn(found, "history")
    labels = re.findall(r'<text x="([0-9.]+)" y="([0-9.]+)" text-anchor="end"([^>]*)>([^<]*)</text>', svg)
    across = [(float(x), text) for x, y, _, text in labels if float(y) == HIGH - 24]
    assert [text for _, text in across] == ["0", "200,000", "400,000", "600,000", "800,000", "1,000,000"]
    assert all(7 * len(text) <= x <= WIDE for x, text in across[1:]) and across[-1][0] == WIDE
    up = [(narrow, text) for _, y, narrow, text in labels if float(y) != HIGH - 24]
    assert len({text for _, text in up}) == len(up) > 3
    assert all(("textLength" in narrow) == (len(text) > 8) for narrow, text in up), up
    one = search("near", ("roc_auc", "maximize"), training_set="set")
    made = [replace(t, values=(0.72 + at * 1e-8,)) for at, t in enumerate(trials(one, 8)) if t.state == "complete"]
    with ws.records.transaction() as tx:
        for noun in (one, *made):
            tx.put(noun)
    page = get(f"/training/searches/{one.id}").text
    values = re.findall(r'<td class="n">(0\.72[0-9]*)</td>', page)
    assert len(set(values)) == len(values) == len(made)


def test_each_drawing_holds_against_values_that_have_no_place_and_against_hostile_names() -> None:
    numbers = [float("nan"), float("inf"), 0.5, 0.7]
    found = {
        "search": {"objectives": [[HOSTILE, "maximize"], ["b", "minimize"]]},
        "trials": [
            {"number": n, "state": "complete", "params": {HOSTILE: HOSTILE, "x": None}, "values": [v, 1.0]}
            for n, v in enumerate(numbers)
        ],
        "best": 3, "front": [3], "history": [[n, v, 0.7] for n, v in enumerate(numbers)], "importance": {HOSTILE: 1.0},
        "slices": {HOSTILE: [[HOSTILE, v] for v in numbers], "x": [[None, v] for v in numbers]},
        "pareto": [[n, v, 1.0] for n, v in enumerate(numbers)],
    }  # fmt: skip
    for kind in KINDS:
        svg = drawn(found, kind)
        assert "<script" not in svg and "<img" not in svg and "nan" not in svg and "inf" not in svg, kind


def test_how_near_a_model_came_is_on_its_version_its_report_and_in_the_list_of_models(get: Get, tried: Tried) -> None:
    page = get(f"/registry/{tried.version}").text
    said = words(page)
    assert "L1: metrics in their intervals , 2031-06-04" in said, "the newest stands above"
    assert said.index("L1: metrics", said.index("Greatest difference")) < said.index("L4: the same bytes")
    assert "lightgbm: 4.6.0 → 4.7.0" in said and "outside their intervals: roc_auc" in said and "3.4e-04" in said
    assert "installed anew" in said and "service:cron" in said
    assert "L1: metrics in their intervals" in words(get("/evaluation/report-chosen-c").text)
    assert "L1 , 2031-06-04" in words(get("/training?all=1").text)


def test_what_users_wrote_stays_text_and_links_lead_to_pages(get: Get, tried: Tried) -> None:
    paths = [
        "/training",
        "/training/searches",
        f"/training/searches/{tried.one.id}",
        f"/training/searches/{tried.two.id}",
    ]
    paths.append(f"/registry/{tried.version}")
    links: set[str] = set()
    for path in paths:
        page = get(path).text
        seen = Seen(page)
        assert "<script>alert" not in page and "<img" not in page, path
        assert seen.inline == [] and seen.tags.count("h1") == 1 and len(seen.ids) == len(set(seen.ids)), path
        links |= {link.partition("#")[0] for link in seen.links if link.startswith("/")}
    assert {link: get(link).status_code for link in sorted(links)} == dict.fromkeys(sorted(links), 200)


def test_a_browser_draws_them_on_a_small_screen_and_no_rule_of_accessibility_is_broken(
    require: Callable[[str], str], ws: Workspace, project: Project, tried: Tried
) -> None:
    program = require("chromium")
    rules = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python brings the rules")
    script = (Path(rules.__file__).parent / "axe.min.js").read_text()
    faults: list[str] = []
    with (
        served(ws, project) as home,
        sync_playwright() as play,
        contextlib.closing(play.chromium.launch(executable_path=program, args=FLAGS)) as browser,
    ):
        faults += broken_rules(
            browser,
            home,
            (f"/training/searches/{tried.two.id}", "/training/searches", f"/registry/{tried.version}"),
            script,
        )
    assert faults == []
