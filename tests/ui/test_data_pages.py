"""Pages of tables, refused rows and labelling: what they show, and the few things that they do."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import httpx
import polars as pl
import pytest
from playwright.sync_api import sync_playwright
from tests.ui.browser import FLAGS, served
from tests.ui.conftest import HOME, Get, asking
from tests.ui.test_pages import Seen, words
from tests.ui.world import HOSTILE, NOW

from loopline import data
from loopline.base.clock import ManualClock
from loopline.data import labelling
from loopline.governance import erasure
from loopline.interfaces.asgi import application
from loopline.loop.project import Project, load
from loopline.workspace import FOLDER, Workspace, create_workspace

PAGE = """\
name: shop
framing: {label: left, unit: id, decision_time: seen}
data:
  customers: {source: c.csv, contract: customers.yaml, event_time: seen, known_at: seen, key: id}
features: {spine: customers}
training: {recipe: train.py:fit, split: {by: time, test: 20%}}
"""
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: customers
version: 1.0.0
status: active
team: [{username: ada, name: Ada Example, role: Owner}]
slaProperties: [{property: retention, value: 20, unit: d}]
schema:
  - name: customers
    description: People who bought something, as the shop wrote them down.
    properties:
      - {name: id, logicalType: string, description: Number of the customer.}
      - {name: seen, logicalType: timestamp}
      - {name: age, logicalType: integer, logicalTypeOptions: {minimum: 18, maximum: 99}}
      - name: plan
        logicalType: string
        quality: [{metric: invalidValues, mustBe: 0, arguments: {validValues: [small, large]}}]
      - {name: mail, logicalType: string, customProperties: [{property: pii, value: email}]}
      - {name: left, logicalType: boolean}
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Workspace, Project]]:
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("LOOPLINE_ACTOR", "user:ada")
    root = tmp_path / "shop"
    root.mkdir()
    (root / "loop.yaml").write_text(PAGE)
    (root / "customers.yaml").write_text(CONTRACT)
    (root / "train.py").write_text("def fit(X, y, seed=0):\n    raise NotImplementedError\n")
    project = load(root)
    ws = create_workspace(root / FOLDER, clock=ManualClock(NOW), actor="service:loop")
    for day in range(1, 13):
        ws.clock.set(NOW + timedelta(days=2 * day))  # type: ignore[attr-defined]
        rows = [
            {
                "id": f"c{day}-{n}",
                "seen": NOW + timedelta(days=2 * day, minutes=-n - 1),
                "age": 20 + (7 * n + day) % 60 if (n, day % 4) != (3, 1) else 130,
                "plan": "small" if n % 3 else "large" if (n, day) != (6, 10) else HOSTILE,
                "mail": f"c{day}-{n}@example.org",
                "first_name": "Ada",
                "left": n % 4 == 0,
            }
            for n in range(20)
        ]
        data.ingest(ws, root, project.spec.data, frames={"customers": pl.DataFrame(rows)})
    data.snapshot(ws, project.spec.data, project=root)
    labelling.write_guideline(
        ws, "gone", question="Has this customer left for good?", text="Gone means no order for a month. " + HOSTILE
    )
    labelling.ask_rows(
        ws, root, project.spec.data, "gone", table="customers", unit="id", n=12, twice=0.5, hide=("left",)
    )
    yield ws, project
    ws.close()


@pytest.fixture
def get_shop(shop: tuple[Workspace, Project]) -> Get:
    return asking(*shop)


def post(shop: tuple[Workspace, Project], path: str, form: dict[str, object], **headers: str) -> httpx.Response:
    app = application(*shop)

    async def one() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=HOME) as client:
            kind = {"content-type": "application/x-www-form-urlencoded", "origin": HOME}
            return await client.post(path, content=urlencode(form, doseq=True), headers={**kind, **headers})

    return asyncio.run(one())


def test_what_is_not_there_is_a_page_in_a_browser_at_any_depth(get_shop: Get) -> None:
    for path in ("/features/nothing", "/data/customers/nothing/at/all", "/labelling/a/b", "/nothing"):
        found = get_shop(path)
        assert found.status_code == 404 and f"There is no page {path}" in words(found.text), path
        assert get_shop(path, accept="application/json").headers["content-type"] == "application/json"


def test_the_page_of_data_tells_tags_what_was_redacted_and_hides_looks_that_found_nothing(
    shop: tuple[Workspace, Project], get_shop: Get
) -> None:
    ws, project = shop
    snapshot = data.snapshots(ws)[0].id
    data.tag(ws, snapshot, "before-letter")
    nothing = ws.tables.scan("customers").select("id", "seen", "age", "plan", "mail", "left").head(0).collect()
    for _ in range(3):
        ws.clock.advance(timedelta(minutes=1))  # type: ignore[attr-defined]
        data.ingest(ws, project.root, project.spec.data, frames={"customers": nothing})
    before = words(get_shop("/data").text)
    assert "before-letter" in before and "Rows that will never change again." in before
    assert "3 looks found nothing new" in before
    spec = project.spec
    erasure.erase(ws, project.root, spec.framing, spec.features, spec.data, subject="c1-1")
    after = words(get_shop("/data").text)
    assert "redacted" in after and "1 row of erased people taken out" in after and "flagged" in after


def test_a_table_has_a_page_with_all_that_is_known_of_it(get_shop: Get) -> None:
    page = get_shop("/data/customers").text
    said = words(page)
    for text in ("Ada Example", "People who bought something", "Number of the customer.", "236", "age.maximum"):
        assert text in said, text
    assert "20 d" in said and "rows are older" in said
    assert "email" in said and "first_name" in said and "Detectors propose" in said
    assert "@example.org" not in page, "personal values are nowhere on the page"
    assert page.count("<rect") > 30 and "1 snapshot" in said
    assert Seen(page).inline == []
    assert get_shop("/data/nothing").status_code == 404


def test_refused_values_become_a_reviewed_change_of_the_contract(
    shop: tuple[Workspace, Project], get_shop: Get
) -> None:
    ws, project = shop
    page = get_shop("/data/customers/quarantine").text
    said = words(page)
    assert "age.maximum" in said and "130" in said and "@example.org" not in page
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    only = words(get_shop("/data/customers/quarantine?rule=age.maximum").text)
    assert "Rows that broke age.maximum" in only
    answer = post(shop, "/data/customers/quarantine", {"rule": "age.maximum", "value": ["130"]})
    assert answer.status_code == 303
    review = answer.headers["location"]
    assert re.fullmatch(r"/data/proposals/[0-9a-f]{16}", review)
    assert "maximum: 99" in (project.root / "customers.yaml").read_text(), "nothing changes before a yes"
    shown = words(get_shop(review).text)
    assert "waits" in shown and "130" in shown and "user:ada" in shown
    assert review in get_shop("/data/customers").text
    assert post(shop, review, {"answer": "accept"}).status_code == 422, "a reason is asked for"
    assert post(shop, review, {"answer": "accept", "reason": "they grow old"}).status_code == 303
    assert "130" in (project.root / "customers.yaml").read_text()
    assert "accepted" in words(get_shop(review).text)
    assert [e["actor"] for e in ws.records.entries() if "contract" in e["action"]] == ["user:ada", "user:ada"]


def test_a_person_settles_a_personal_column_on_its_page(shop: tuple[Workspace, Project], get_shop: Get) -> None:
    ws, _ = shop
    done = post(shop, "/data/customers/personal", {"column": "first_name", "pii": ""})
    assert done.status_code == 303 and done.headers["location"] == "/data/customers#personal"
    pointer = ws.records.pointer("pii", "customers/first_name")
    assert pointer is not None and pointer.doc["by"] == "user:ada" and pointer.doc["pii"] is None
    assert post(shop, "/data/customers/personal", {"column": "age", "pii": "nonsense"}).status_code == 422


def test_two_people_label_and_the_pages_say_how_far_they_agree(shop: tuple[Workspace, Project], get_shop: Get) -> None:
    ws, _ = shop
    for who, value in (("ada", "yes"), ("bob", "no")):
        for _ in range(12):
            page = get_shop(f"/labelling/gone?who={who}").text
            found = dict(re.findall(r'name="(round|unit)" value="([^"]+)"', page))
            if not found:
                break
            assert "Has this customer left" in page and "@example.org" not in page
            assert "<script>alert" not in page and Seen(page).inline == []
            done = post(shop, "/labelling/gone", {**found, "who": who, "value": value, "note": ""})
            assert done.status_code == 303
    standing = labelling.label_standing(ws, "gone")
    assert standing.answers == {"user:ada": 12, "user:bob": 6} and standing.differing == 6
    assert "Nothing is left for ada" in words(get_shop("/labelling/gone?who=ada").text)
    assert "two people differ" in words(get_shop("/labelling/gone?who=carl").text)
    said = words(get_shop("/labelling").text)
    assert "user:bob" in said and "do not learn from these labels" in said and "labels may be learned from" not in said
    assert get_shop("/labelling/gone?who=%3Cb%3E").status_code == 422
    assert get_shop("/labelling/other").status_code == 404


def test_only_the_pages_themselves_may_act(shop: tuple[Workspace, Project]) -> None:
    form: dict[str, object] = {"column": "age", "pii": ""}
    assert post(shop, "/data/customers/personal", form, origin="http://evil.example").status_code == 403
    assert post(shop, "/data/customers/personal", form, **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert post(shop, "/data/customers/personal", form, host="evil.example").status_code == 421
    assert post(shop, "/data/customers/personal", form, **{"content-type": "text/plain"}).status_code == 422
    assert not [e for e in shop[0].records.entries() if e["action"] == "data.mark"]


def test_the_front_page_asks_for_labels_personal_columns_and_a_word_on_a_contract(
    shop: tuple[Workspace, Project], get_shop: Get
) -> None:
    ws, _ = shop
    said = words(get_shop("/").text)
    assert "12 rows of gone wait for your label" in said and "Has this customer left for good?" in said
    assert "1 column of customers may be personal" in said and "first_name (name)" in said
    assert "mail (email)" not in said, "the contract declares it"
    assert "waits for a yes or no" not in said
    post(shop, "/data/customers/quarantine", {"rule": "age.maximum", "value": ["130"]})
    page = get_shop("/live/front").text
    assert "A change of the contract of customers waits for a yes or no" in words(page)
    [review] = re.findall(r'href="(/data/proposals/[0-9a-f]+)"', page)
    assert "loopline data contract accept" in page and get_shop(review).status_code == 200
    post(shop, review, {"answer": "accept", "reason": "they grow old"})
    post(shop, "/data/customers/personal", {"column": "first_name", "pii": "name"})
    for _ in range(12):
        task = labelling.next_task(ws.acting_as("user:ada"), "gone")
        labelling.answer(ws.acting_as("user:ada"), task.round, task.unit, value="yes")
    said = words(get_shop("/live/front").text)
    for gone in ("waits for a yes or no", "your label", "may be personal"):
        assert gone not in said, gone


def test_an_erasure_is_shown_without_saying_who(shop: tuple[Workspace, Project], get_shop: Get) -> None:
    ws, project = shop
    spec = project.spec
    erasure.erase(
        ws.acting_as("user:ada"), project.root, spec.framing, spec.features, spec.data, subject="c3-5@example.org",
        reason="a letter",
    )  # fmt: skip
    said = words(get_shop("/data").text)
    assert "Erasures" in said and "a letter" in said and "c3-5" not in said


def test_every_link_of_these_pages_leads_somewhere(get_shop: Get) -> None:
    pages = ["/data", "/data/customers", "/data/customers/quarantine", "/labelling", "/labelling/gone"]
    found = {link.partition("#")[0] for path in pages for link in Seen(get_shop(path).text).links} - {""}
    full = {link if link.startswith("/") else f"/data/customers/quarantine{link}" for link in found}
    assert {link: get_shop(link).status_code for link in sorted(full)} == dict.fromkeys(sorted(full), 200)


def test_a_browser_draws_them_on_a_small_screen_answers_by_key_and_breaks_no_rule_of_accessibility(
    require: Callable[[str], str], shop: tuple[Workspace, Project]
) -> None:
    program = require("chromium")
    rules = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python brings the rules")
    script = (Path(rules.__file__).parent / "axe.min.js").read_text()
    faults: list[str] = []
    with (
        served(*shop) as home,
        sync_playwright() as play,
        contextlib.closing(play.chromium.launch(executable_path=program, args=FLAGS)) as browser,
    ):
        page = browser.new_page(viewport={"width": 420, "height": 800})
        page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
        page.goto(home + "/data/customers/quarantine")
        page.click("text=Accept into contract")
        page.wait_for_url("**/data/proposals/*")
        review = page.url.removeprefix(home)
        page.goto(home + "/labelling/gone?who=ada")
        page.keyboard.press("2")
        page.wait_for_selector("[role=status]")
        assert "no" in page.inner_text("[role=status]")
        for path in ("/data", "/data/customers", "/data/customers/quarantine", "/labelling", "/labelling/gone", review):
            page.goto(home + path)
            spare = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert spare <= 0, f"{path} is {spare} px too wide"
        page.close()
        for scheme in ("light", "dark"):
            page = browser.new_context(color_scheme=scheme, bypass_csp=True).new_page()
            for path in ("/data/customers", "/data/customers/quarantine", "/labelling", "/labelling/gone", review):
                page.goto(home + path)
                page.evaluate(script)
                broken = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})")
                faults += [
                    f"{scheme} {path}: {rule['id']} {rule['nodes'][0]['html'][:80]}"
                    for rule in broken["violations"]
                    if rule["impact"] in ("serious", "critical")
                ]
    assert faults == []


def test_rows_that_differ_and_columns_that_are_lost_are_told_where_the_table_is(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").write_text(PAGE.replace("source: c.csv, contract: customers.yaml", "source: c.parquet"))
    (tmp_path / "train.py").write_text("def fit(X, y, seed=0):\n    raise NotImplementedError\n")
    project = load(tmp_path)
    ws = create_workspace(tmp_path / FOLDER, clock=ManualClock(NOW), actor="service:loop")
    get, held = asking(ws, project), pl.DataFrame({"id": ["a", "b"], "age": [20, 30], "plan": ["small", "large"]})
    held = held.with_columns(pl.lit(NOW - timedelta(days=1)).alias("seen"), pl.lit(True).alias("left"))

    def taken(rows: pl.DataFrame) -> data.Ingestion:
        rows.write_parquet(tmp_path / "c.parquet")
        ws.clock.advance(timedelta(days=1))  # type: ignore[attr-defined]
        [done] = data.ingest(ws, tmp_path, project.spec.data)
        return done

    taken(held)
    assert "differing" not in get("/data/customers").text
    changed = held.with_columns(age=pl.Series([77, 30]))
    done = taken(changed)
    assert (done.rows, done.differing) == (0, 1)
    for path in ("/data", "/data/customers"):
        said = words(get(path).text)
        assert "1 row says other values than are known under the same key and time; not taken" in said, path
    assert "1 row of the newest ingestion says other values" in said and "give them a later seen" in said
    fresh = held.head(1).with_columns(id=pl.lit("c"), seen=pl.lit(ws.clock()).cast(held["seen"].dtype))
    done = taken(pl.concat([held, fresh]).drop("plan"))
    assert set(done.lost) == {"plan"}
    page = get("/data/customers").text
    assert "its source no longer has it; until" in words(page)
    for path in ("/data", "/data/customers"):
        assert "the source no longer has <strong>plan</strong>" in get(path).text
    ws.close()
