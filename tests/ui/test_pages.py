"""The pages say what the records hold, and nothing that a browser would run."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from tests.ui import world
from tests.ui.conftest import Get, asking

from loopline.interfaces.ui.pages import PAGES
from loopline.loop.project import Project, load
from loopline.workspace import Workspace

STAGES = ("framing", "data", "training", "evaluation", "registry", "serving", "monitoring", "retraining")
PLAIN = [path for path, _, _ in PAGES if "{" not in path]
LIMIT = 150_000


class Seen(HTMLParser):
    """What a browser would act on: elements, attributes, inline code, addresses."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.inline: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.inline += [f"{tag} {name}" for name in given if name.startswith(("on", "hx-on")) or name == "style"]
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.inline.append(tag)
        self.loaded += [v for v in (given.get("src"), given.get("href") if tag == "link" else None) if v]
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        if given.get("id"):
            self.ids.append(str(given["id"]))


def words(page: str) -> str:
    """The text of a page, spaces made one."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


@pytest.fixture
def life(ws: Workspace, project: Project) -> dict[str, object]:
    world.summary(project)
    return world.live(ws, project)


def every(life: dict[str, object]) -> list[str]:
    return [
        *PLAIN,
        f"/evaluation/{life['report'].id[:16]}",
        "/registry/1",
        "/registry/2",
        "/retraining/2",
        "/lineage/2",
    ]


def test_every_page_answers_over_a_life_and_over_nothing(get: Get, ws: Workspace, project: Project) -> None:
    assert {path: get(path).status_code for path in PLAIN} == dict.fromkeys(PLAIN, 200)
    made = world.live(ws, project)
    world.summary(project)
    paths = every(made)
    assert {path: get(path).status_code for path in paths} == dict.fromkeys(paths, 200)


def test_no_page_holds_inline_code_or_style_or_asks_another_host(get: Get, life: dict[str, object]) -> None:
    for path in every(life):
        answer = get(path)
        seen = Seen(answer.text)
        assert seen.inline == [], path
        assert all(address.startswith("/static/") for address in seen.loaded), path
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert seen.tags.count("h1") == 1, path
        assert len(seen.ids) == len(set(seen.ids)), path


def test_every_link_leads_to_a_page_that_is_there(get: Get, life: dict[str, object]) -> None:
    found = {link.partition("#")[0] for path in every(life) for link in Seen(get(path).text).links} - {""}
    assert {link: get(link).status_code for link in sorted(found)} == dict.fromkeys(sorted(found), 200)


def test_hostile_words_stay_words(get: Get, ws: Workspace, project: Project) -> None:
    made = world.live(ws, project, reason=world.HOSTILE)
    world.summary(project)
    shown = 0
    for path in [*every(made), "/live/front", "/live/serving"]:
        page = get(path).text
        assert "<script>alert" not in page and "<img" not in page, path
        shown += "&lt;script&gt;alert(1)" in page
    assert shown >= 4


def test_the_front_page_opens_on_what_needs_a_person(get: Get, life: dict[str, object]) -> None:
    page = get("/").text
    said = words(page)
    assert said.index("2 things need a person") < said.index("The loop")
    assert "Incident: climate: temp in another unit" in said
    assert "Version 2 awaits approval" in said and "0 of 1 approval given, by someone other than user:ada" in said
    assert "loopline approve 2 --reason" in said
    assert "loopline incident resolve incident-bbb --reason" in said and "curl" not in page
    assert f'href="/evaluation/{life["report"].id[:16]}"' in page
    order = [said.index(f" {stage} ", said.index("The loop")) for stage in STAGES]
    assert order == sorted(order)
    assert "Champion: version 1" in said and "approved by user:bob" in said
    assert "0.700" in said and "0.690 [0.660, 0.720]" in said and "−0.010" in said


def test_a_cycle_that_waits_for_a_data_incident_is_offered_the_override(
    get: Get, life: dict[str, object], ws: Workspace, project: Project
) -> None:
    assert "loopline override" not in words(get("/").text)
    moves = [("IDLE", "TRIAGE", "calibration_error > 0.05 fires"), ("TRIAGE", "DATA_INCIDENT", "bad rows")]
    world.cycle(ws, project.name, 3, "DATA_INCIDENT", moves, life["waiting"])
    said = words(get("/").text)
    assert said.index("loopline incident resolve incident-bbb") < said.index("loopline override --reason")
    for path in ("/data", "/monitoring"):
        assert "loopline incident resolve incident-bbb --reason" in words(get(path).text), path


def test_the_timeline_shows_decisions_with_what_was_observed(get: Get, life: dict[str, object]) -> None:
    page = get("/retraining").text
    assert page.count('class="event"') == 1, "the incident; the release stands in its cycle"
    said = words(page)
    assert said.index("Cycle 2") < said.index("Cycle 1 ")
    assert "0.0777 [0.0534, 0.0939]" in said and "released to everyone" in said
    assert "incident climate: temp in another unit" in said
    assert "promoted" in words(get("/retraining/1").text)


def test_a_report_leads_with_its_verdict(get: Get, life: dict[str, object]) -> None:
    page = get(f"/evaluation/{life['report'].id[:16]}").text
    said = words(page)
    assert said.index("Passed: all 1 gate") < said.index("Metrics")
    assert "0.730 [0.710, 0.750]" in said and "0.699 [0.680, 0.710]" in said and "+0.031 [0.012, 0.046]" in said
    assert page.count('class="dot"') == 2
    assert "1,090" in said and "46.0 %" in said


@pytest.mark.parametrize("primary", ["roc_auc", "calibration_error"])
def test_the_primary_metric_leads_every_table(
    ws: Workspace, project: Project, life: dict[str, object], primary: str
) -> None:
    file = project.root / "loop.yaml"
    file.write_text(file.read_text().replace("primary: roc_auc", f"primary: {primary}"))
    get = asking(ws, load(project.root))
    first, second = ("AUC", "calibration error") if primary == "roc_auc" else ("calibration error", "AUC")
    for path in ("/", "/registry/1", f"/evaluation/{life['report'].id[:16]}"):
        heads = [text.strip() for text in re.findall(r'<th scope="row"[^>]*>([^<]+)<', get(path).text)]
        assert heads.index(first) < heads.index(second), (path, heads)


def test_a_rejection_names_the_gates_that_failed(get: Get, ws: Workspace) -> None:
    _, report = world.candidate(ws, "low", auc=0.4)
    failed = world.Verdict(
        "roc_auc at_least 0.6", False, "roc_auc", "all", 0.4, 0.38, 0.6, None, "0.38 is not above 0.60"
    )
    worse = world.replace(report, id="rejected-" + "c" * 24, verdicts=(failed,), passed=False)
    with ws.records.transaction() as tx:
        tx.put(worse)
    said = words(get(f"/evaluation/{worse.id}").text)
    assert said.index("Rejected: 1 of 1 gate failed") < said.index("0.38 is not above 0.60") < said.index("Metrics")


def test_a_report_says_by_which_definitions_its_champion_was_scored_and_why_it_was_not(
    get: Get, ws: Workspace, life: dict[str, object]
) -> None:
    own = world.replace(life["report"], id="own-" + "a" * 28, beside=("wind", "hour"))
    lost = world.replace(
        life["report"], id="lost-" + "a" * 28, champion_metrics={}, differences={}, uncompared={"wind": "no such table"}
    )
    with ws.records.transaction() as tx:
        tx.put(own)
        tx.put(lost)
    assert "wind, hour, as they were defined when it was trained" in words(get(f"/evaluation/{own.id}").text)
    said = words(get(f"/evaluation/{lost.id}").text)
    assert "Champion not scored" in said and "wind: no such table" in said


def test_charts_get_every_judgement_with_its_interval_and_the_bound_it_is_judged_by(
    get: Get, life: dict[str, object]
) -> None:
    figures = get("/monitoring/quality.json").json()
    auc = figures["metrics"]["roc_auc"]
    judged = [n for n, value in enumerate(auc["value"]) if value is not None]
    assert len(judged) == 3 and [auc["low"][n] for n in judged] == [0.66] * 3
    assert [mark["label"] for mark in figures["marks"]] == ["v1"]
    assert auc["bounds"] == [{"name": "roc_auc < released - 0.03", "value": [None, 0.67, 0.67, 0.67]}]
    assert figures["metrics"]["calibration_error"]["bounds"][0]["value"] == [None, 0.05, 0.05, 0.05]


def test_worth_shows_policies_months_and_story(get: Get, project: Project) -> None:
    assert "loopline demo ." in words(get("/worth").text)
    world.summary(project)
    said = words(get("/worth").text)
    assert "0.731 [0.720, 0.740]" in said and "+0.031" in said and "22,825" in said and "rejected by the gates" in said
    lines = get("/worth/months.json").json()
    assert lines["months"] == ["2031-05", "2031-06"] and lines["lines"][1]["value"] == [0.75, 0.75]


def test_a_broken_summary_is_an_error_in_words(get: Get, project: Project) -> None:
    (project.root / "summary.json").write_text("{")
    answer = get("/worth")
    assert answer.status_code == 422 and "summary.json cannot be read" in answer.text
    (project.root / "summary.json").write_text("[]")
    assert "summary.json is no summary" in get("/worth").text


def test_empty_pages_carry_the_command_that_fills_them(get: Get) -> None:
    for path in (
        "/",
        "/data",
        "/features",
        "/training",
        "/evaluation",
        "/registry",
        "/serving",
        "/lineage",
        "/retraining",
    ):
        assert "loopline run" in get(path).text, path
    assert "loopline tick" in get("/monitoring").text


def test_what_is_not_there_is_said_on_a_page_to_people_and_as_json_to_programs(get: Get) -> None:
    for path in ("/nothing", "/evaluation/ffffffffffff", "/registry/99", "/retraining/99", "/lineage/99"):
        answer = get(path)
        assert answer.status_code == 404 and answer.headers["content-type"].startswith("text/html"), path
    assert get("/evaluation/ff").status_code == 422
    assert get("/nothing", accept="*/*").headers["content-type"] == "application/json"


def test_a_live_part_is_sent_again_only_when_it_has_changed(get: Get, ws: Workspace, project: Project) -> None:
    world.live(ws, project)
    again = re.search(r'hx-get="(/live/front\?seen=\w+)"', get("/").text)
    assert again is not None
    assert get(again[1]).status_code == 204
    world.candidate(ws, "three", auc=0.9)
    with ws.records.transaction() as tx:
        tx.put(
            world.Incident(
                "incident-2", "table:orders", "data", "orders: empty", (), world.NOW, world.NOW, world.NOW, ""
            )
        )
    changed = get(again[1])
    assert changed.status_code == 200 and "orders: empty" in changed.text and again[1] not in changed.text


def test_the_first_view_is_small(get: Get, life: dict[str, object]) -> None:
    for path in ("/", "/monitoring", "/worth"):
        page = get(path)
        files = [get(address) for address in dict.fromkeys(Seen(page.text).loaded)]
        assert all(file.status_code == 200 for file in files), "run tools/assets.py"
        assert len(page.content) + sum(len(file.content) for file in files) <= LIMIT, path


@pytest.fixture
def proofs(ws: Workspace, project: Project, life: dict[str, object]) -> dict[str, object]:
    return world.proofs(ws, project, life)


def test_the_features_page_shows_the_newest_comparison_with_the_tables_and_where_it_differs(
    get: Get, proofs: dict[str, object]
) -> None:
    page = get("/features").text
    said = words(page)
    assert "differs 39 of 2,000 values differ in 1,000 logged requests of version 2" in said
    assert "temp 37 3.7 %" in said and "parcel 1 2031-06-02 00:00 41.5 null" in said
    assert said.count("41.5") == 8, "a handful of examples, not all"
    assert "<script>alert" not in page and Seen(page).inline == []


def test_a_cycle_that_failed_by_leaks_shows_them_all_and_what_to_do(get: Get, proofs: dict[str, object]) -> None:
    page = get("/retraining/3").text
    said = words(page)
    assert "Why these rows were not trained on" in said and "1 leak refused" in said
    assert "target copy final_status" in said and "take final_status out of the features" in said
    assert "courier_score" in said and "bought before the decision" in said
    assert "early label (no time)" in said and "<script>alert" not in page
    assert "Why these rows" not in words(get("/retraining/2").text)


def test_the_timeline_and_a_version_show_whether_training_and_serving_agree(
    get: Get, proofs: dict[str, object]
) -> None:
    said = words(get("/retraining").text)
    assert "agrees Training and serving: 2,400 values of 1,200 requests" in said
    assert "differs Training and serving differ in 39 values of 2,000 of 1,000 requests" in said
    first, second = words(get("/registry/1").text), words(get("/registry/2").text)
    assert "agrees 2,400 values in 1,200 logged requests" in first and "score (computed elsewhere)" in first
    assert "differs 39 of 2,000" in second and "courier_score" in first, (
        "a leak that was accepted is told with the version"
    )
    assert 'id="parity"' in get("/retraining/1").text
