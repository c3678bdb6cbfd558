"""Snapshots keep their rows whatever happens to the table, and can be told apart."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.clock import ManualClock
from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.data import TableSpec, compact, diff, ingest, known, read, retain, snapshot, snapshots, tag
from loopline.data.history.difference import changed
from loopline.data.history.manifest import manifest, pinned
from loopline.data.history.progress import POINTER, Progress
from loopline.workspace import create_workspace, open_workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPEC = TableSpec(source="t.csv", key="id", complete=True)
TABLES = {"t": SPEC}


@pytest.fixture
def clock():
    return ManualClock(START)


@pytest.fixture
def ws(tmp_path, clock):
    return create_workspace(tmp_path / "ws", clock=clock, actor="user:ada")


def put(ws, folder, clock, rows):
    """The source lists `rows` (id to value) now; ingest and freeze."""
    clock.advance(HOUR)
    (folder / "t.csv").write_text("id,v\n" + "".join(f"{i},{v}\n" for i, v in rows.items()))
    ingest(ws, folder, TABLES)
    return snapshot(ws, TABLES, project=folder)


def state(rows):
    return dict(rows.select("id", "v").collect().rows())


def test_a_snapshot_outlives_compaction_vacuum_and_the_table_itself(ws, tmp_path, clock):
    states = [{1: 1, 2: 2}, {1: 1, 2: 3, 4: 4}, {2: 3}]
    taken = [put(ws, tmp_path, clock, rows) for rows in states]
    listed = [file["digest"] for file in manifest(ws, taken[2])["t"]["files"]]
    assert [f["digest"] for f in manifest(ws, taken[0])["t"]["files"]] == listed[:1] or len(listed) == 3
    (planned,) = compact(ws)
    assert (planned.done, len(ws.tables.files("t"))) == (False, 3)
    compact(ws, dry_run=False)
    (freed,) = retain(ws, older_than=timedelta(0), dry_run=False)
    assert (freed.files_before - freed.files_after, freed.bytes_freed) == (3, 0)
    assert freed.bytes_pinned > 0
    assert [state(read(ws, one, "t")) for one in taken] == states
    assert snapshot(ws, TABLES, project=tmp_path) == taken[2]
    assert Progress.of(ws.records.pointer(POINTER, "t")).version == ws.tables.version("t")
    assert put(ws, tmp_path, clock, {2: 3}).id == taken[2].id
    shutil.rmtree(ws.root / "tables" / "t")
    assert [state(read(ws, one, "t")) for one in taken] == states
    with pytest.raises(Invalid, match="table t is gone"):
        ingest(ws, tmp_path, TABLES)


def test_what_is_pinned_twice_is_stored_once(ws, tmp_path, clock):
    first = put(ws, tmp_path, clock, dict.fromkeys(range(2000), 1))
    one = manifest(ws, first)["t"]["files"]
    second = put(ws, tmp_path, clock, {**dict.fromkeys(range(2000), 1), 7: 2})
    two = manifest(ws, second)["t"]["files"]
    assert {f["digest"] for f in one} < {f["digest"] for f in two}
    for file in two:
        assert ws.blobs.path(file["digest"]).stat().st_nlink == 2, "one file under two names"


def test_a_changed_pinned_file_is_told(ws, tmp_path, clock):
    taken = put(ws, tmp_path, clock, {1: 1})
    path = ws.blobs.path(manifest(ws, taken)["t"]["files"][0]["digest"])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(Invalid, match="damaged"):
        read(ws, taken, "t")


def test_a_tag_names_one_snapshot_until_it_is_moved(ws, tmp_path, clock):
    first, second = put(ws, tmp_path, clock, {1: 1}), put(ws, tmp_path, clock, {1: 2})
    assert tag(ws, first.id[:8], "before") == tag(ws, "before", "before") == first
    with pytest.raises(Conflict, match="--move"):
        tag(ws, second.id, "before")
    tag(ws, second.id, "before", move=True)
    assert state(read(ws, "before", "t")) == {1: 2}
    assert [(card.id, card.tags) for card in snapshots(ws)] == [(second.id, ("before",)), (first.id, ())]
    for name in ("12345678", "", "a b", "deadbeef"):
        with pytest.raises(Invalid):
            tag(ws, first.id, name)
    with pytest.raises(NotFound, match="tags here: before"):
        read(ws, "after", "t")
    with pytest.raises(NotFound, match="it holds t"):
        read(ws, "before", "u")


listings = st.dictionaries(st.integers(0, 5), st.integers(0, 2), max_size=6)


@settings(max_examples=60, deadline=None)
@given(listings, listings)
def test_a_difference_counts_rows_as_people_would(a, b):
    one, two = (
        pl.LazyFrame({"id": list(rows), "v": list(rows.values())}, {"id": pl.Int64, "v": pl.Int64}) for rows in (a, b)
    )
    found = changed(one, two, ("id",))
    moved = {k for k in a.keys() & b.keys() if a[k] != b[k]}
    assert (found.added, found.removed, found.changed) == (
        len(b.keys() - a.keys()),
        len(a.keys() - b.keys()),
        len(moved),
    )
    assert found.unchanged == len(a.keys() & b.keys()) - len(moved)
    assert found.columns == ({"v": len(moved)} if moved else {})
    whole = changed(one, two, ())
    assert (whole.added, whole.removed) == (len(b.items() - a.items()), len(a.items() - b.items()))


def test_a_difference_tells_columns_contract_keys_and_spread(ws, tmp_path, clock):
    first = put(ws, tmp_path, clock, {i: i for i in range(20)})
    clock.advance(HOUR)
    (tmp_path / "t.csv").write_text("id,v,w\n" + "".join(f"{i},{i * 3},x\n" for i in range(1, 21)))
    ingest(ws, tmp_path, TABLES)
    second = snapshot(ws, TABLES, project=tmp_path)
    (told,) = diff(ws, first.id, second.id).tables
    assert (told.added, told.removed, told.changed, told.unchanged) == (1, 1, 19, 0)
    assert told.columns_added["w"] == "String"
    assert told.changed_columns == {"v": 19, "w": 19}
    assert ("added", "20") in told.examples
    shift = next(s for s in told.shifts if s.column == "v")
    assert shift.notable and (shift.mean_a, shift.mean_b) == (9.5, 31.5)
    assert diff(ws, first.id, first.id).tables == ()


@settings(max_examples=8, deadline=None)
@given(st.lists(listings.filter(len), min_size=1, max_size=4))
def test_a_complete_listing_rebuilds_every_past_state(tmp_path_factory, history):
    folder = tmp_path_factory.mktemp("c")
    clock = ManualClock(START)
    ws = create_workspace(folder / "ws", clock=clock, actor="user:ada")
    for rows in history:
        put(ws, folder, clock, rows)
    for hour, rows in enumerate(history, 1):
        assert state(known(ws, "t", SPEC, START + hour * HOUR)) == rows


def test_tombstones_of_the_source_end_a_key_and_owe_the_contract_nothing(ws, tmp_path, clock):
    (tmp_path / "c.yaml").write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nschema:\n  - name: t\n    properties:\n"
        "      - {name: v, logicalType: integer, required: true}\n"
    )
    spec = TableSpec(source="t.csv", key="id", known_at="told", deleted="gone", contract="c.yaml")
    frame = pl.DataFrame(
        {"id": [1, 2, 1], "v": [5, 6, None], "gone": [False, None, True], "told": [START, START, START + HOUR]}
    )
    clock.advance(2 * HOUR)
    (done,) = ingest(ws, tmp_path, {"t": spec}, frames={"t": frame})
    assert (done.rows, done.gone, done.quarantined) == (3, 1, 0)
    assert state(known(ws, "t", spec, START)) == {1: 5, 2: 6}
    assert state(known(ws, "t", spec, START + HOUR)) == {2: 6}


def test_a_table_that_was_set_back_is_not_taken_for_the_same(ws, tmp_path, clock):
    put(ws, tmp_path, clock, {1: 1})
    shutil.copytree(ws.root / "tables" / "t", tmp_path / "old")
    put(ws, tmp_path, clock, {1: 1, 2: 2})
    shutil.rmtree(ws.root / "tables" / "t")
    shutil.move(tmp_path / "old", ws.root / "tables" / "t")
    fresh = create_workspace(ws.root, clock=clock, actor="user:ada")
    clock.advance(HOUR)
    with pytest.raises(Conflict, match="set back"):
        ingest(fresh, tmp_path, TABLES)


def test_the_files_of_a_snapshot_are_named_from_the_workspace_however_its_folder_is_written(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "here")
    ws = create_workspace(Path("../there/.loopline"), actor="user:ada")
    ws.tables.append("t", pl.DataFrame({"a": [1]}))
    ways = [ws, open_workspace(tmp_path / "link" / ".loopline"), open_workspace(tmp_path / "there" / ".loopline")]
    named = [pinned(one.blobs, one.tables.files("t"), one.root) for one in ways]
    assert named[0] == named[1] == named[2] and named[0][0]["path"].startswith("tables/t/")
