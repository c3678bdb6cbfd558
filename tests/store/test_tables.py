import json
import multiprocessing
import shutil
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from loopline.base.errors import Unavailable
from loopline.store.tables.delta import DeltaTables
from loopline.testing.stores import TablesConformance


class TestDeltaTables(TablesConformance):
    @pytest.fixture
    def tables(self, tmp_path):
        return DeltaTables(tmp_path / "a föld er" / "tables")


def rows(n: int) -> pl.DataFrame:
    return pl.DataFrame({"n": [n]})


def log_of(root: Path, version: int) -> Path:
    return root / "t" / "_delta_log" / f"{version:020d}.json"


@pytest.mark.parametrize("text", ["", '{"commitInfo":{"timesta', "not json\n", '{"add":{}}\n'])
def test_a_half_written_log_is_named_and_the_table_can_go_back_one_version(tmp_path, text):
    DeltaTables(tmp_path).append("t", rows(1))
    broken = log_of(tmp_path, 1)
    broken.write_text(text)
    tables = DeltaTables(tmp_path)
    for act in (lambda: tables.scan("t"), lambda: tables.append("t", rows(2), key="k")):
        with pytest.raises(Unavailable, match="the table t cannot be used") as raised:
            act()
        assert "_delta_log" in raised.value.why
    assert tables.append("other", rows(1)).version == 0
    broken.unlink()
    tables.append("t", rows(2), key="k")
    assert sorted(tables.scan("t").collect()["n"]) == [1, 2]


@pytest.mark.parametrize("opened", ["anew", "before"])
def test_a_data_file_that_is_gone_is_named_with_its_table_before_anything_is_read(tmp_path, opened):
    root = tmp_path / "tables"
    tables = DeltaTables(root)
    for n in range(3):
        tables.append("t", rows(n))
    whole = tables.scan("t").collect()
    lost = tables.files("t")[0].path
    kept = lost.read_bytes()
    lost.unlink()
    seen = tables if opened == "before" else DeltaTables(root)
    for look in (seen.scan, seen.files, lambda name: seen.scan(name, version=2)):
        with pytest.raises(Unavailable, match="the table t has lost 1 of its 3 data files") as raised:
            look("t")
        assert lost.name in raised.value.what and "loopline doctor" in raised.value.fix
    assert seen.version("t") == 2
    lost.write_bytes(kept)
    assert seen.scan("t").collect().equals(whole)


def test_an_open_store_notices_a_log_that_breaks_under_it(tmp_path):
    tables = DeltaTables(tmp_path)
    tables.append("t", rows(1))
    tables.scan("t").collect()
    log_of(tmp_path, 1).write_text("{")
    with pytest.raises(Unavailable):
        tables.scan("t")
    with pytest.raises(Unavailable):
        tables.append("t", rows(2))


def test_a_table_that_was_moved_is_read_where_it_is_now(tmp_path):
    DeltaTables(tmp_path / "a").append("t", rows(1))
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert DeltaTables(tmp_path / "b").scan("t").collect()["n"].to_list() == [1]
    assert str(tmp_path) not in log_of(tmp_path / "b", 0).read_text()


def test_appends_of_another_process_are_seen(tmp_path):
    ours, theirs = DeltaTables(tmp_path), DeltaTables(tmp_path)
    for n in range(0, 30, 2):
        ours.append("t", rows(n), key=str(n))
        theirs.append("t", rows(n + 1), key=str(n + 1))
        theirs.append("t", rows(n), key=str(n))
    assert sorted(ours.scan("t").collect()["n"]) == list(range(30))
    assert ours.version("t") == theirs.version("t") == 29


def test_a_log_that_went_back_a_version_is_believed(tmp_path):
    ours, theirs = DeltaTables(tmp_path), DeltaTables(tmp_path)
    ours.append("t", rows(0))
    for n in range(1, 4):
        theirs.append("t", rows(n))
        assert ours.version("t") == n
    log_of(tmp_path, 3).unlink()
    assert ours.version("t") == 2


def test_the_files_of_a_version_are_those_it_added(tmp_path):
    tables = DeltaTables(tmp_path)
    tables.append("t", rows(1))
    added = tables.append("t", rows(2), key="k")
    assert [pl.read_parquet(tmp_path / "t" / file)["n"].to_list() for file in added.files] == [[2]]


def test_every_version_stays_readable_after_checkpoints(tmp_path):
    tables = DeltaTables(tmp_path)
    for n in range(45):
        tables.append("t", rows(n), key=str(n))
    assert (tmp_path / "t" / "_delta_log" / "_last_checkpoint").exists()
    assert tables.scan("t", version=3).collect().height == 4
    assert DeltaTables(tmp_path).append("t", rows(3), key="3").version == 3
    assert tables.scan("t").collect().height == 45


def test_any_delta_reader_opens_our_tables(tmp_path):
    tables = DeltaTables(tmp_path)
    tables.append("a/b", rows(1))
    assert DeltaTable(tmp_path / "a" / "b").version() == 0


def append_some(root: Path, who: int, gate: object) -> None:
    tables = DeltaTables(root)
    gate.wait()
    for n in range(5):
        tables.append("t", pl.DataFrame({"n": [who * 10 + n], f"by_{who}": [n]}), key=f"{who}-{n}")
        tables.append("t", pl.DataFrame({"n": [100 + n]}), key=f"shared-{n}")


def test_processes_that_write_and_widen_at_once_lose_and_double_nothing(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    gate = spawn.Barrier(3)
    writers = [spawn.Process(target=append_some, args=(tmp_path, who, gate)) for who in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    back = DeltaTables(tmp_path).scan("t").collect()
    own = [who * 10 + n for who in range(3) for n in range(5)]
    assert sorted(back["n"]) == sorted(own + [100 + n for n in range(5)])
    assert {f"by_{who}" for who in range(3)} < set(back.columns)


def test_the_log_holds_the_key_in_the_same_commit_as_the_rows(tmp_path):
    DeltaTables(tmp_path).append("t", rows(1), key="day-1")
    actions = [json.loads(line) for line in log_of(tmp_path, 0).read_text().splitlines()]
    assert {"txn", "add"} <= {kind for action in actions for kind in action}
