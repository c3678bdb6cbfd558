"""The online store is deleted, damaged, or away: a clear refusal first, the same values again afterwards."""

from __future__ import annotations

import subprocess
import threading
import time
from datetime import UTC, datetime

import pytest
from tests.features.test_publish import DAYS, HOUR, SPEC, START, TABLES, VIEWS, ingest, offline, online, published
from tests.store.test_online import started

from loopline import features
from loopline.base.clock import ManualClock
from loopline.base.errors import Conflict, Invalid, LooplineError, Unavailable
from loopline.features import publishing
from loopline.features.nouns import EMPTIED
from loopline.features.online import OnlineFeatures
from loopline.features.publishing import freshness
from loopline.features.requests import space_of
from loopline.interfaces.cli import checks
from loopline.store.online import sqlite
from loopline.workspace import create_workspace, open_workspace

NOW = START + 30 * HOUR
EVER = datetime.min.replace(tzinfo=UTC)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "views.py").write_text(VIEWS)
    return folder


@pytest.fixture
def ws(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "_LOOK_S", 0.0)
    made = create_workspace(tmp_path / "ws", clock=ManualClock(START + DAYS * 24 * HOUR), actor="user:test")
    ingest(made, EVER, NOW)
    yield made
    made.close()


@pytest.fixture
def reader(ws):
    """The same workspace in a process that only reads, as the data plane does."""
    other = open_workspace(ws.root, clock=ws.clock, actor="user:plane")
    yield other
    other.close()


def test_a_file_that_is_deleted_underneath_is_missed_and_filled_again(ws, reader, project):
    published(ws, project, NOW)
    before = online(reader, project, NOW)
    for file in ws.root.glob("online.db*"):
        file.unlink()
    with pytest.raises(Unavailable, match="holds nothing of view"):
        online(reader, project, NOW)
    assert [one.late for one in freshness(ws, project, features=SPEC, at=NOW)] == [EMPTIED] * 2
    assert published(ws, project, NOW).entities == 5
    assert online(reader, project, NOW) == before == offline(ws, project, NOW)


@pytest.mark.parametrize("how", ["overwritten", "cut", "replaced"])
def test_a_damaged_file_is_refused_until_a_backfill_sets_it_aside(ws, reader, project, how):
    published(ws, project, NOW)
    before = online(reader, project, NOW)
    ws.online.close()
    reader.online.close()
    file = ws.root / "online.db"
    size = file.stat().st_size
    if how == "replaced":
        file.unlink()
    with file.open("wb" if how == "replaced" else "r+b") as out:
        if how == "cut":
            out.truncate(size // 3)
        else:
            out.write(b"no database " * (size // 12))
    with pytest.raises(Unavailable, match="cannot be used"):
        online(reader, project, NOW)
    with pytest.raises(Unavailable, match="publish --backfill"):
        published(ws, project, NOW)
    published(ws, project, NOW, backfill=True)
    assert online(reader, project, NOW) == before
    assert (ws.root / "online.db.damaged").is_file()
    entry = [one for one in ws.records.entries() if one["action"] == "features.publish"][-1]
    assert "online.db.damaged" in str(entry)


@pytest.mark.parametrize("how", ["emptied", "overwritten"])
def test_a_file_that_is_mended_in_its_place_is_read_again_by_those_that_had_it_open(ws, reader, project, how):
    published(ws, project, NOW)
    ws.online.close()
    before = online(reader, project, NOW)
    file = ws.root / "online.db"
    sound = file.read_bytes()
    with file.open("r+b") as out:
        out.truncate(0)
        out.write(b"" if how == "emptied" else b"no database " * (len(sound) // 12))
    for end in ("-wal", "-shm"):
        file.with_name(file.name + end).unlink(missing_ok=True)
    with pytest.raises(Unavailable) as caught:
        online(reader, project, NOW)
    assert caught.value.why == "the file is damaged" and "--backfill" in caught.value.fix
    with file.open("r+b") as out:
        out.truncate(0)
        out.write(sound)
    assert online(reader, project, NOW) == before


def test_a_sound_file_is_never_set_aside(ws, project):
    published(ws, project, NOW)
    published(ws, project, NOW, backfill=True)
    assert not (ws.root / "online.db.damaged").exists()


def test_of_publishers_at_once_none_writes_over_another(ws, project):
    published(ws, project, NOW)
    for step in range(1, 5):
        last, now = NOW + (step - 1) * HOUR, NOW + step * HOUR
        ingest(ws, last, now)
        seats = [open_workspace(ws.root, clock=ws.clock, actor=f"user:{n}") for n in range(3)]
        gate, ends = threading.Barrier(len(seats)), []

        def go(seat, gate=gate, ends=ends, now=now):
            gate.wait()
            try:
                ends.append(published(seat, project, now))
            except Conflict as refused:
                ends.append(refused)

        threads = [threading.Thread(target=go, args=(seat,)) for seat in seats]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ends) == 3 and not all(isinstance(end, Conflict) for end in ends)
        assert online(ws, project, now) == offline(ws, project, now)
        for seat in seats:
            seat.close()


def test_whoever_remembers_what_was_before_a_backfill_has_to_read_anew(ws, project):
    group = features.load_views(project, SPEC.views)
    published(ws, project, NOW)
    mine = publishing._WRITERS[ws.online][space_of(group)]
    assert mine.current
    other = OnlineFeatures(ws.online, group, tables=TABLES, space=space_of(group))
    rows = {name: ws.tables.scan(name).collect() for name in ("results", "teams")}
    other.rebuild(rows, NOW, other.versions)
    assert not mine.current
    with pytest.raises(Conflict, match="another writer went on"):
        mine.apply_all({}, NOW, versions=mine.versions)


def test_the_store_never_stands_ahead_of_what_was_taken_in(ws, project, tmp_path):
    from tests.features.test_publish import frames

    from loopline import data

    late = create_workspace(tmp_path / "late", clock=ManualClock(NOW), actor="user:test")
    given = {name: frames()[name] for name in ("plan", "results", "teams")}
    data.ingest(late, project, TABLES, frames=given)
    late.clock.advance(5 * HOUR)
    assert published(late, project, None).upto == NOW
    assert [one.behind for one in freshness(late, project, features=SPEC)] == [5 * HOUR, None]
    data.ingest(late, project, {"results": TABLES["results"]}, frames={"results": given["results"]})
    assert published(late, project, None).upto == NOW + 5 * HOUR
    assert online(late, project, NOW + 5 * HOUR) == offline(late, project, NOW + 5 * HOUR)
    late.close()


def test_a_table_that_is_deleted_underneath_is_named_and_the_store_stays_as_it_was(ws, project):
    import shutil

    published(ws, project, NOW)
    before = online(ws, project, NOW)
    shutil.rmtree(ws.root / "tables" / "results")
    for backfill in (False, True):
        with pytest.raises(LooplineError) as raised:
            published(ws, project, NOW, backfill=backfill)
        assert "results" in str(raised.value) and not isinstance(raised.value, Invalid)
    assert online(ws, project, NOW) == before


def test_a_data_file_of_a_table_that_is_gone_is_named_by_whoever_reads_it_and_by_the_doctor(ws, project):
    published(ws, project, NOW)
    lost, cut = ws.tables.files("results")[0].path, ws.tables.files("teams")[0].path
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(Unavailable, match="the table results has lost 1 of its") as raised:
        published(ws, project, NOW, backfill=True)
    assert lost.name in raised.value.what
    told = {one.name: one.what for one in checks._tables(ws)}
    assert lost.name in told["table results"] and cut.name in told["table teams"] and "table plan" not in told


def test_redis_goes_away_and_comes_back_empty(tmp_path, project, require, monkeypatch):
    process, port = started(tmp_path, require)
    monkeypatch.setenv("LOOPLINE_ONLINE", f"redis://127.0.0.1:{port}/0")
    ws = create_workspace(tmp_path / "redis", clock=ManualClock(START + DAYS * 24 * HOUR), actor="user:test")
    try:
        ingest(ws, EVER, NOW)
        published(ws, project, NOW)
        before = online(ws, project, NOW)
        process.kill()
        process.wait(10)
        for ask in (online, lambda *_: freshness(ws, project, features=SPEC), published):
            with pytest.raises(Unavailable, match="cannot be used"):
                ask(ws, project, NOW)
        process = subprocess.Popen([*process.args], stdout=subprocess.DEVNULL)  # type: ignore[list-item]
        for _ in range(200):
            try:
                ws.online.read(["v"])
                break
            except Unavailable:
                time.sleep(0.02)
        with pytest.raises(Unavailable, match="holds nothing of view"):
            online(ws, project, NOW)
        assert published(ws, project, NOW).entities == 5
        assert online(ws, project, NOW) == before
    finally:
        ws.close()
        process.kill()
