"""The pages of runs say what the run log holds, and nothing of it is run."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import re
import string

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import QueryParams
from tests.ui import logged
from tests.ui.conftest import HOME, Get
from tests.ui.logged import Logged
from tests.ui.test_pages import LIMIT, Seen, words

from loopline.interfaces.asgi import tracking
from loopline.interfaces.http.guard import Access
from loopline.interfaces.ui.runs import differences, drawings, files
from loopline.interfaces.ui.runs.question import Field, Question, literal, narrowed, written
from loopline.store.runs.filters import Compare, parse
from loopline.store.runs.protocol import Point
from loopline.training.tracking.frames import Begin
from loopline.training.tracking.spool import Writer
from loopline.workspace import Workspace, create_workspace


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory):
    """A workspace without a project."""
    ws = create_workspace(tmp_path_factory.mktemp("alone") / "ws", actor="user:ada")
    yield ws
    ws.close()


@pytest.fixture(scope="module")
def runs(alone: Workspace) -> Logged:
    return logged.log(alone)


@pytest.fixture(scope="module")
def ask(alone: Workspace) -> Get:
    """The answer of the site of runs."""
    app = tracking(alone, Access.at("127.0.0.1", 8400))

    def asked(path: str, **headers: str) -> httpx.Response:
        async def one() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=HOME) as client:
                return await client.get(path, headers={"accept": "text/html", **headers})

        return asyncio.run(one())

    return asked


def test_pages_stand_without_a_run_and_beside_a_project(get: Get, ws: Workspace) -> None:
    for path in ("/experiments", "/runs", "/runs?group=params.depth", "/runs.csv", "/traces"):
        assert get(path).status_code == 200, path
    assert "No run was logged yet" in get("/runs").text
    made = logged.log(ws)
    found = {link.partition("#")[0] for path in made.pages for link in Seen(get(path).text).links}
    assert {link: get(link).status_code for link in sorted(found)} == dict.fromkeys(sorted(found), 200)
    assert 'aria-current="page">Runs' in get(f"/runs/{made.first}").text


def test_no_page_of_runs_holds_inline_code_or_what_somebody_logged_as_code(ask: Get, runs: Logged) -> None:
    shown = 0
    for path in [*runs.pages, f"/runs/{runs.first}/live", f"/runs/{runs.first}/heard"]:
        answer = ask(path)
        assert answer.status_code == 200, path
        seen = Seen(answer.text)
        assert seen.inline == [], path
        assert "<script>alert" not in answer.text and "<img src=x" not in answer.text, path
        assert all(one.startswith(("/static/", "/runs/", "data:image/svg+xml")) for one in seen.loaded), path
        assert len(seen.ids) == len(set(seen.ids)) and seen.tags.count("h1") <= 1, path
        shown += "&lt;script&gt;alert(1)" in answer.text
    assert shown >= 12


def test_a_trace_is_a_tree_of_spans_each_with_all_that_it_says_and_its_run_leads_there(ask: Get, runs: Logged) -> None:
    found = Seen(ask(f"/runs/{runs.first}").text).links
    (listed,) = [link for link in found if link.startswith("/traces?")]
    rows = [link for link in Seen(ask(listed).text).links if link.startswith("/traces/")]
    assert rows == [f"/traces/{runs.trace}"] and f"/runs/{runs.first}" in Seen(ask(rows[0]).text).links
    page = ask(rows[0]).text
    drawn = re.findall(r'class="in(\d+)"><a href="[^"]*span=0*(\d)#one"', page)
    assert drawn == [("0", "1"), ("1", "2"), ("2", "3"), ("1", "4"), ("0", "5"), ("0", "6"), ("1", "7")]
    assert "its caller is not here" in page and page.count("<rect") == 7
    four = ask(f"{rows[0]}?span={4:016x}").text
    assert "exception.stacktrace" in four and "service.name" in four and "42" in four and "&#34;question&#34;" in four
    assert "There is no span" in ask(f"{rows[0]}?span=nothing").text
    assert ask("/traces/tr-none").status_code == 404 and ask("/traces?experiment=99").status_code == 404
    assert ask("/traces?filter=status >> 1").status_code == 422 and ask("/traces?order=nonsense").status_code == 422


def test_a_file_is_given_out_so_that_no_browser_runs_it(ask: Get, runs: Logged) -> None:
    for path in ("evil.html", "plots/roc.svg", "weights.bin", "a.csv"):
        answer = ask(f"/runs/{runs.first}/file?path={path}")
        assert answer.headers["content-type"] == "application/octet-stream", path
        assert answer.headers["content-disposition"].startswith("attachment"), path
        assert answer.headers["x-content-type-options"] == "nosniff"
    picture = ask(f"/runs/{runs.first}/file?path=plots/bar.png")
    assert picture.headers["content-type"] == "image/png" and picture.content == logged.png()
    assert ask(f"/runs/{runs.first}/file?path=../../runs.db").status_code == 422
    assert ask(f"/runs/{runs.first}/file?path=nothing").status_code == 404
    assert ask(f"/runs/{'0' * 32}").status_code == 404
    assert "&lt;script&gt;" in ask(f"/runs/{runs.first}/files?path=evil.html").text


@given(st.binary(max_size=40))
def test_a_picture_is_what_begins_like_one(data: bytes) -> None:
    known = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"RIFF")
    assert files.picture(data) is None or data.startswith(known)
    assert files.picture(b"<svg onload=alert(1)>" + data) is None


def test_a_damaged_file_is_not_given_out_whole(tmp_path) -> None:
    ws = create_workspace(tmp_path / "ws", actor="user:ada")
    made = logged.log(ws)
    kept, file = ws.artifacts.open(made.first, "weights.bin")
    file.close()
    place = ws.artifacts.blobs.where(kept.digest)
    place.chmod(0o644)
    place.write_bytes(b"other bytes")
    _, file = ws.artifacts.open(made.first, "weights.bin")
    with pytest.raises(RuntimeError, match="damaged"):
        list(files._checked(file, kept))
    ws.close()


def test_a_filter_that_cannot_be_read_is_told_beside_its_field(ask: Get, runs: Logged) -> None:
    for asked in ("filter=metrics.auc >> 1", "order=metrics.", "group=metrics.auc", "column=datasets.name", "token=x"):
        answer = ask(f"/runs?{asked}")
        assert answer.status_code == 422 and 'role="alert"' in answer.text, asked
    said = ask("/runs?filter=metrics.auc >> 1").text
    assert "cannot be read at character 14" in said and 'value="metrics.auc &gt;&gt; 1"' in said
    assert ask("/experiments?filter=nonsense = 1").status_code == 422
    assert ask("/runs?experiment=99").status_code == 404 and ask("/runs?rows=0").status_code == 422


def test_pages_of_the_table_hold_every_run_once_in_the_order_asked(ask: Get, runs: Logged) -> None:
    path: str | None = "/runs?rows=1&order=metrics.auc DESC&column=metrics.auc&filter=params.depth > 0"
    seen: list[str] = []
    while path is not None:
        page = ask(path).text
        seen += re.findall(r'name="run" value="(\w+)"', page)
        assert 'aria-sort="descending"' in page and "of 3 runs" in words(page)
        following = re.search(r'<a href="([^"]+)">Next 1<', page)
        path = following[1].replace("&amp;", "&") if following else None
    assert seen == [runs.second, runs.third, runs.first]


def test_exports_hold_what_the_table_shows_and_no_formula(ask: Get, runs: Logged) -> None:
    asked = "?order=metrics.auc&column=metrics.auc&column=params.depth&column=params.`%3D1%2B1`"
    read = list(csv.reader(io.StringIO(ask(f"/runs.csv{asked}").text)))
    assert read[0][-3:] == ["metrics.auc", "params.depth", "params.`=1+1`"]
    assert [row[0] for row in read[1:]] == [runs.first, runs.third, runs.second]
    assert [row[-3:] for row in read[1:]] == [[f"{v}", d, "'=1+1"] for v, d in ((0.8, "3"), (0.85, "4"), (0.9, "4"))]
    told = ask(f"/runs.json{asked}").json()
    assert [one["run_id"] for one in told] == [runs.first, runs.third, runs.second]
    assert told[0]["params.`=1+1`"] == "=1+1" and told[1]["end"] is None
    groups = ask("/runs.json?group=params.depth&column=metrics.auc").json()
    assert [(one["params.depth"], one["runs"]) for one in groups] == [("4", 2), ("3", 1)]
    assert groups[0]["mean of auc"] == pytest.approx(0.875)
    assert ask("/runs.csv?filter=>").status_code == 422


def test_a_group_leads_to_its_runs(ask: Get, runs: Logged) -> None:
    page = ask("/runs?group=tags.team&filter=params.depth = '4'").text
    inside = re.search(r'<th scope="row"><a href="(/runs\?filter[^"]+)"', page)
    assert inside is not None
    assert sorted(re.findall(r'name="run" value="(\w+)"', ask(inside[1].replace("&amp;", "&")).text)) == sorted(
        runs.ids[1:]
    )


def test_a_curve_is_finer_where_less_of_it_is_asked(ask: Get, runs: Logged) -> None:
    whole = ask(f"/runs/curves.json?run={runs.first}&key=train/loss").json()
    line = whole["lines"][0]
    assert (whole["by"], len(line["x"]), line["points"]) == ("step", 320, logged.LONG)
    assert line["most"][0] == 1.0 and whole["running"] is False
    part = ask(f"/runs/curves.json?run={runs.first}&key=train/loss&from=99.5&to=200.2").json()["lines"][0]
    assert part["x"] == list(range(99, 202)) and part["last"][0] == pytest.approx(1 / 100)
    timed = ask(f"/runs/curves.json?run={runs.first}&run={runs.third}&key=timed").json()
    assert timed["by"] == "time" and timed["running"] and timed["lines"][1]["x"] == [float(n) for n in range(9)]
    for asked in ("", "run=x&from=a", f"run={runs.first}&key=auc&by=luck", f"run={runs.first}&key=auc&from=1"):
        assert ask(f"/runs/curves.json?{asked}").status_code in (404, 422), asked


def test_a_run_page_tells_all_that_was_recorded(ask: Get, runs: Logged) -> None:
    said = words(ask(f"/runs/{runs.first}").text)
    for told in ("finished", "1 min", "CPU time", "7.5 s", "depth", "Runs inside it", "train"):
        assert told in said, told
    assert "3 curves" not in said and "2 curves" in said, "machine and single points are no curves of their own"
    assert "Part of" in words(ask(f"/runs/{runs.third}").text)
    code = words(ask(f"/runs/{runs.first}/code").text)
    assert "0" * 40 in code and "+depth = 3" in code and "train.py" in code and "new.py" in code
    environment = words(ask(f"/runs/{runs.first}/environment").text)
    assert "numpy 0.1" in environment and "system/cpu_percent" in environment and "gpus 1.name" in environment
    assert "begun" in ask(f"/runs/{runs.first}/output").text


def test_a_running_page_asks_again_until_the_run_ends(tmp_path) -> None:
    ws = create_workspace(tmp_path / "ws", actor="user:ada")
    made = logged.log(ws)
    app = tracking(ws, Access.at("127.0.0.1", 8400))

    async def story() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=HOME) as client:
            again = re.search(
                rf'hx-get="(/runs/{made.third}/live\?seen=\w+)"', (await client.get(f"/runs/{made.third}")).text
            )
            assert again is not None
            assert (await client.get(again[1])).status_code == 204
            ws.runs.log(made.third, metrics=[Point("auc", 0.99, logged.START, 2)])
            changed = await client.get(again[1])
            assert "0.99" in changed.text and "hx-get" in changed.text
            ws.runs.change_run(made.third, status="FINISHED", end_ms=logged.START + 200_000)
            over = await client.get(again[1])
            assert "finished" in over.text and "hx-get" not in over.text
            assert "hx-get" not in (await client.get(f"/runs/{made.third}")).text

    asyncio.run(story())
    ws.close()


def test_a_table_tells_runs_apart_names_what_broke_off_and_shows_what_most_have(tmp_path) -> None:
    ws = create_workspace(tmp_path / "ws", actor="user:ada")
    ids = [ws.runs.create_run("0", start_ms=at, name=f"run-{at}").id for at in range(12)]
    for at, id in enumerate(ids):
        ws.runs.log(id, metrics=[Point("auc", 0.9 + at * 1e-7, at, 0), Point("rows", 12_345_678.0, at, 0)])
    ws.runs.log(ids[0], metrics=[Point("rare", 1.0, 0, 0)])
    begin = Begin(run=ids[1], experiment="Default", start_ms=1, name="", user="", tags={})
    dead, alive = (Writer(ws.root / "spool", id) for id in ids[1:3])
    for writer in (dead, alive):
        writer.append([begin])
    dead.close()
    app = tracking(ws, Access.at("127.0.0.1", 8400))

    async def story() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=HOME) as client:
            page = (await client.get("/runs", headers={"accept": "text/html"})).text
            cells = re.findall(r'<td class="n">(0\.9[0-9]*)</td>', page)
            assert len(set(cells)) == len(cells) == 12 and "12,345,678" in page
            head = page[page.index("<thead>") : page.index("</thead>")]
            assert "rare" not in head and "auc" in head
            assert page.count("broke off") == 1 and page.count("running") == 11
            one = words((await client.get(f"/runs/{ids[1]}")).text)
            assert "broke off" in one and "loopline runs sync delivers what it left, and ends it as killed" in one
            assert "11" in words((await client.get("/experiments")).text).split()
            drawn = (await client.get("/runs/compare?x=metrics.rows&y=metrics.auc")).text
            marks = re.findall(r"<text[^>]*>(0\.90000[0-9]*)</text>", drawn)
            assert len(marks) > 3 and len(set(marks[: len(marks) // 2])) == len(marks) // 2
            lost = await client.get("/runs/nobody", headers={"accept": "text/html"})
            assert "<code>loopline runs list</code>" in lost.text

    asyncio.run(story())
    alive.close()
    ws.close()


def test_a_comparison_shows_what_differs_and_only_that(ask: Get, runs: Logged) -> None:
    page = ask(f"/runs/compare?run={runs.first}&run={runs.second}&x=params.depth&y=metrics.auc").text
    said = words(page)
    facts = said[said.index("What differs") :]
    for told in ("depth 3 4", "auc 0.8 0.9 +0.1", "numpy 0.1 1.1", "train.py 0000", "git diff 0000", "+depth = 4"):
        assert told in facts, told
    assert "lr 0.1" not in facts and page.count('class="dot"') == 2
    assert "lr 0.1 0.1" in words(ask(f"/runs/compare?run={runs.first}&run={runs.second}&all=1").text)
    assert "3 runs compared" in ask("/runs/compare?filter=params.depth > 2").text
    assert ask(f"/runs/compare?run={runs.first}").status_code == 422
    asis = ask("/runs/compare?filter=params.depth > 2").text
    assert '<option value="metrics.auc" selected>' in asis, "not the one of which no run has a number"


def test_the_first_view_of_runs_is_small(ask: Get, runs: Logged) -> None:
    for path in ("/experiments", "/runs", f"/runs/{runs.first}", f"/runs/compare?run={runs.first}&run={runs.second}"):
        page = ask(path)
        loaded = [one for one in dict.fromkeys(Seen(page.text).loaded) if one.startswith("/static/")]
        answers = [ask(one) for one in loaded]
        assert all(one.status_code == 200 for one in answers), "run tools/assets.py"
        assert len(page.content) + sum(len(one.content) for one in answers) <= LIMIT, path


def test_the_door_of_clients_stands_beside_the_pages(ask: Get, runs: Logged) -> None:
    assert ask("/").headers["location"] == "/experiments"
    assert "MLFLOW_TRACKING_URI" in ask("/", accept="*/*").text
    assert ask("/nothing").status_code == 404 and ask("/runs/a/b/c").status_code == 404
    assert json.loads(ask(f"/api/2.0/mlflow/runs/get?run_id={runs.first}").text)["run"]["info"]["run_id"] == runs.first


KEYS = st.text(alphabet=string.printable + "ä`\"'", min_size=1, max_size=12)


@given(st.sampled_from(["metric", "param", "tag"]), KEYS, KEYS)
def test_a_field_and_a_value_are_written_so_that_a_filter_reads_them(kind: str, key: str, value: str) -> None:
    if "`" in key and not key.strip("`"):
        key = "a" + key
    field = written(kind, key)
    assert Field.of(field) == Field(kind, key)
    assert parse(f"{field} = {literal(value)}") == Compare(kind, key, "=", value)
    told = parse(narrowed("params.a = '1' OR params.b = '2'", field, None))
    assert told.parts[1] == Compare(kind, key, "IS NULL")


@settings(max_examples=60)
@given(
    st.builds(
        Question,
        experiment=st.lists(st.sampled_from(["0", "1", "7"]), unique=True).map(tuple),
        filter=KEYS.map(str.strip), order=KEYS.map(str.strip), group=KEYS.map(str.strip),
        column=st.lists(KEYS.map(str.strip).filter(bool), unique=True, max_size=3).map(tuple),
        view=st.sampled_from(["active", "deleted", "all"]), rows=st.integers(1, 500), token=KEYS,
    )
)  # fmt: skip
def test_an_address_holds_the_whole_question(asked: Question) -> None:
    assert Question.of(QueryParams(asked.address().partition("?")[2])) == asked
    assert Question.of(QueryParams(asked.address(order="x").partition("?")[2])).token == ""


VALUES = st.one_of(st.none(), st.floats(), st.text(alphabet="ab1.", max_size=3), st.floats(allow_nan=False).map(str))


@settings(max_examples=200)
@given(st.lists(VALUES, max_size=20))
def test_what_has_a_place_on_an_axis_stands_on_it(values: list[str | float | None]) -> None:
    axis = drawings.scale(values)
    if axis is None:
        assert all(value is None or (isinstance(value, float) and not math.isfinite(value)) for value in values)
        return
    for value in values:
        place = axis.place(value)
        assert place is None or -1e-9 <= place <= 1 + 1e-9
    assert 1 <= len(axis.ticks) <= 20 and all(-1e-9 <= place <= 1 + 1e-9 for place, _ in axis.ticks)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3), min_size=2, max_size=4))
def test_a_fact_differs_where_the_runs_do_not_all_say_the_same(told: list[dict[str, str]]) -> None:
    for row in differences._rows(told):
        assert row.differs == any(one.get(row.name) != told[0].get(row.name) for one in told)
