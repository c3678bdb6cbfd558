"""Sources larger than memory, in many pieces, or of another library give the same rows as one frame."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.clock import ManualClock
from loopline.base.errors import Invalid, Unavailable
from loopline.data import TableSpec, due, ingest, known, load_source
from loopline.data.sources import files as files_module
from loopline.data.sources import parts as sources_module
from loopline.data.sources.frames import json_lines
from loopline.data.verbs import next_due
from loopline.store.tables.delta import DeltaTables
from loopline.workspace import create_workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CONTRACT = """apiVersion: v3.1.0
kind: DataContract
schema:
  - name: t
    quality: [{metric: rowCount, mustBeGreaterThan: 3}]
    properties:
      - {name: id, logicalType: integer, required: true}
      - {name: v, logicalType: number, logicalTypeOptions: {minimum: 0}}
"""


@pytest.fixture
def clock():
    return ManualClock(START)


@pytest.fixture
def ws(tmp_path, clock):
    return create_workspace(tmp_path / "ws", clock=clock, actor="user:ada")


def told(done):
    return done.rows, done.quarantined, done.digest, {(v.rule, v.count) for v in done.violations}, done.cleaned


rows = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([None, -1.0, 1.0, 2.0]), st.integers(0, 3)), max_size=12)


@settings(max_examples=8, deadline=None)
@given(rows, st.integers(1, 5), st.booleans())
def test_batches_enter_as_one_frame_does(tmp_path_factory, listed, size, timed):
    frame = pl.DataFrame(listed, schema={"id": pl.Int64, "v": pl.Float64, "h": pl.Int64}, orient="row")
    frame = frame.with_columns(told=pl.lit(START) + pl.duration(hours="h")).drop("h")
    times = {"known_at": "told"} if timed else {}
    spec = TableSpec(source="t.csv", key="id", contract="t.yaml", clean=[{"column": "v", "times": 2}], **times)
    found = []
    for batches in (frame, list(frame.iter_slices(size)) if frame.height else frame):
        folder = tmp_path_factory.mktemp("s")
        (folder / "t.yaml").write_text(CONTRACT)
        clock = ManualClock(START + 2 * HOUR)
        ws = create_workspace(folder / "ws", clock=clock, actor="user:ada")
        outcomes = [told(ingest(ws, folder, {"t": spec}, frames={"t": batches})[0])]
        clock.advance(2 * HOUR)
        outcomes.append(told(ingest(ws, folder, {"t": spec}, frames={"t": batches})[0]))
        there = ws.tables.scan("t").collect().select("id", "v")
        found.append((outcomes, sorted(there.rows(), key=str)))
        assert not list((ws.root / "tmp").glob("*")) if (ws.root / "tmp").exists() else True
    assert found[0] == found[1]


def test_large_files_are_read_in_batches_with_the_types_of_the_whole_column(ws, tmp_path, monkeypatch):
    monkeypatch.setattr(sources_module, "LARGE_BYTES", 1)
    monkeypatch.setattr(sources_module, "BATCH_ROWS", 100)
    frame = pl.DataFrame({"id": range(1000), "v": [None] * 990 + [0.5] * 10, "w": ["x"] * 1000})
    frame.write_csv(tmp_path / "t.csv")
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_ndjson(tmp_path / "t.jsonl")
    for name in ("t.csv", "t.parquet", "t.jsonl"):
        heard = []
        table = name.replace(".", "_")
        ingest(ws, tmp_path, {table: TableSpec(source=name)}, progress=heard.append)
        back = ws.tables.scan(table).sort("id").collect()
        assert back.select("id", "v", "w").equals(frame), name
        assert ws.tables.version(table) == 0
        assert heard[-1] == f"{table}: 1,000 rows read"
    assert files_module.SUFFIXES


def test_a_column_that_changes_its_type_midway_is_refused_and_nothing_enters(ws, tmp_path):
    batches = [pl.DataFrame({"id": [1, 2]}), pl.DataFrame({"id": ["three"]})]
    with pytest.raises(Invalid, match="id of t is Int64 at first and String from row 3 on"):
        ingest(ws, tmp_path, {"t": TableSpec(source="t.csv")}, frames={"t": iter(batches)})
    assert ws.tables.version("t") is None


def test_rows_that_cannot_wait_on_the_disk_are_told_and_none_enters(ws, tmp_path):
    (ws.root / "tmp").write_text("a file where a folder should be")
    batches = [pl.DataFrame({"id": [n]}) for n in range(3)]
    with pytest.raises(Unavailable, match="cannot wait for their append"):
        ingest(ws, tmp_path, {"t": TableSpec(source="t.csv")}, frames={"t": iter(batches)})
    assert ws.tables.version("t") is None


def test_a_stream_that_breaks_midway_leaves_nothing(ws, tmp_path):
    def rows():
        yield {"id": 1}
        raise RuntimeError("the line went dead")

    with pytest.raises(Invalid, match="the line went dead"):
        ingest(ws, tmp_path, {"t": TableSpec(source="t.csv")}, frames={"t": rows()})
    assert ws.tables.version("t") is None


def test_a_pattern_takes_new_and_changed_files_only(ws, tmp_path, clock, monkeypatch):
    spec = {"t": TableSpec(source="days/*.csv", known_at="told")}
    (tmp_path / "days").mkdir()
    read = []
    real = files_module.read
    monkeypatch.setattr(files_module, "read", lambda path, *more: read.append(path.name) or real(path, *more))

    def day(n, *hours):
        lines = [f"{h},{(START + h * HOUR).isoformat()}" for h in hours]
        (tmp_path / "days" / f"{n}.csv").write_text("\n".join(["id,told", *lines]) + "\n")

    def take():
        read.clear()
        clock.advance(HOUR)
        (done,) = ingest(ws, tmp_path, spec)
        return done.rows, sorted(read), done.waiting, [(v.rule, v.count) for v in done.violations]

    day(1, 0, 1)
    assert take() == (2, ["1.csv"], 0, [])
    assert take() == (0, [], 0, [])
    day(2, 3, 4)
    assert take() == (1, ["2.csv"], 1, []), "what waits is told"
    assert take() == (1, [], 0, []) or read == [], "kept in memory"
    assert take() == (0, [], 0, [])
    day(1, 0, 1, 5, 2)
    assert take() == (2, ["1.csv"], 0, []), "late rows are taken, also of a file that grew"


def test_rows_known_in_the_future_wait_and_it_is_said(ws, tmp_path, clock):
    frame = pl.DataFrame({"id": [1, 2, 3], "told": [START, START + 9 * HOUR, None]})
    spec = {"t": TableSpec(source="t.csv", known_at="told")}
    (done,) = ingest(ws, tmp_path, spec, frames={"t": frame})
    assert (done.rows, done.waiting, done.quarantined) == (1, 1, 1), "one says no time, and could wait for none"
    clock.advance(10 * HOUR)
    (done,) = ingest(ws, tmp_path, spec, frames={"t": frame})
    assert (done.rows, done.waiting, done.quarantined) == (1, 0, 0)


def test_delta_folders_json_lines_and_blank_lines_are_read(tmp_path):
    frame = pl.DataFrame({"id": [1, 2], "s": ["a", None]})
    DeltaTables(tmp_path).append("other", frame)
    assert load_source(tmp_path, TableSpec(source="other")).equals(frame)
    (tmp_path / "t.csv").write_text("id,s\n1,a\n\n2,\n")
    assert load_source(tmp_path, TableSpec(source="t.csv")).equals(frame)
    lines = b'{"id": 1, "s": "a"}\n\n{"id": 2, "s": null}\n'
    assert pl.concat(list(json_lines(io.BytesIO(lines), "in", 5))).equals(frame)
    with pytest.raises(Invalid, match="in, line 3 is not JSON"):
        list(json_lines(io.BytesIO(lines[:-4]), "in", 5))
    with pytest.raises(Invalid, match="row 1 is list"):
        list(json_lines(io.BytesIO(json.dumps([1]).encode()), "in", 5))
    with pytest.raises(Invalid, match=r"folder\.\*|a folder"):
        (tmp_path / "plain").mkdir()
        load_source(tmp_path, TableSpec(source="plain"))


def test_frames_of_other_libraries_are_taken(ws, tmp_path):
    pandas = pytest.importorskip("pandas")
    given = pandas.DataFrame(
        {
            "id": [1, 2],
            "s": ["a", None],
            "x": [0.5, float("nan")],
            "at": pandas.to_datetime(["2026-01-01T00:00:00+02:00", None], utc=True),
            "flag": [True, False],
            "n": pandas.array([1, None], dtype="Int64"),
        }
    )
    arrow = pl.DataFrame({"id": [1, 2]}).to_struct("x")
    ingest(ws, tmp_path, {"t": TableSpec(source="t.csv")}, frames={"t": given})
    back = ws.tables.scan("t").sort("id").collect().drop("known_at")
    when = datetime(2025, 12, 31, 22, tzinfo=UTC)
    assert back.rows() == [(1, "a", 0.5, when, True, 1), (2, None, None, None, False, None)]
    assert known(ws, "t", TableSpec(source="t.csv"), START).collect().height == 2
    assert arrow.len() == 2
    odd = pandas.DataFrame({"a": [1, "x"]})
    with pytest.raises(Invalid, match="several types"):
        ingest(ws, tmp_path, {"u": TableSpec(source="t.csv")}, frames={"u": odd})


def test_a_table_is_due_when_its_time_has_passed(ws, tmp_path, clock):
    (tmp_path / "t.csv").write_text("id\n1\n")
    tables = {"t": TableSpec(source="t.csv", every="1h"), "u": TableSpec(source="t.csv")}
    assert due(ws, tables, clock()) == ["t"]
    ingest(ws, tmp_path, tables, names=["t"])
    assert due(ws, tables, clock()) == []
    assert next_due(ws, tables) == START + HOUR
    clock.advance(HOUR)
    assert due(ws, tables, clock()) == ["t"]
    assert next_due(ws, {"u": tables["u"]}) is None
