"""Each store is killed at every line of its write, or after random delays where Rust commits."""

import functools
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from loopline import store
from loopline.base.ids import digest
from loopline.base.keys import SigningKey, key_path
from loopline.store.audit import Audit
from loopline.store.blobs.local import LocalBlobs
from loopline.store.records.sql import SqlRecords
from loopline.store.tables.delta import DeltaTables
from loopline.testing.crash import killed_after_delays, killed_at_every_line

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_no_line_of_put_leaves_half_a_blob(tmp_path):
    blobs = LocalBlobs(tmp_path)
    deaths = 0
    for _ in killed_at_every_line(lambda: blobs.put(b"weights")):
        deaths += 1
        for blob in tmp_path.rglob("[0-9a-f]" * 64):
            assert digest(blob.read_bytes()) == blob.name
        assert set(blobs) <= {digest(b"weights")}
    assert deaths > 15
    assert blobs.get(digest(b"weights")) == b"weights"


def test_no_line_of_put_file_leaves_half_a_blob(tmp_path):
    (tmp_path / "source").write_bytes(b"x" * 100_000)
    blobs = LocalBlobs(tmp_path / "blobs")
    for _ in killed_at_every_line(lambda: blobs.put_file(tmp_path / "source")):
        for blob in blobs:
            assert digest(blobs.get(blob)) == blob
    assert blobs.get(digest(b"x" * 100_000)) == b"x" * 100_000


def test_no_line_of_making_a_key_leaves_a_broken_one():
    for _ in killed_at_every_line(lambda: SigningKey.load("ada", create=True)):
        if key_path("ada").exists():
            SigningKey.load("ada", create=False)
    assert SigningKey.load("ada", create=False).sign(b"m")


def act(root, times):
    records = SqlRecords.at(root / "records.db")
    audit = Audit(records, root / "audit", workspace="w")
    for _ in range(times):
        done = int(records.meta("done") or 0)
        with records.transaction() as tx:
            tx.set_meta("done", str(done + 1))
            tx.enqueue(f"e{done}", "t", "k", {})
            tx.audit("do", "user:a", str(done), {}, at=NOON)
        audit.seal()


@pytest.mark.parametrize(("file", "every"), [("records/tx.py", 1), ("audit.py", 3), ("records/database.py", 7)])
def test_no_line_of_a_transaction_or_of_its_seal_leaves_them_apart(tmp_path, file, every):
    act(tmp_path, 1)
    deaths = 0
    within = str(Path(store.__file__).parent / file)
    for _ in killed_at_every_line(functools.partial(act, tmp_path, 1), every=every, within=within):
        deaths += 1
        records = SqlRecords.at(tmp_path / "records.db")
        done = int(records.meta("done") or 0)
        assert len(records.effects()) == len(records.entries()) == done
        audit = Audit(records, tmp_path / "audit", workspace="w")
        assert audit.verify().problems == ()
        audit.seal()
        assert audit.verify().notes == ()
        records.close()
    assert deaths > 10


@pytest.mark.parametrize("seed", [0, 1])
def test_records_killed_at_any_moment_keep_what_they_committed(tmp_path, seed):
    act(tmp_path, 1)
    seen = 0
    for _ in killed_after_delays(functools.partial(act, tmp_path, 40), times=6, up_to_s=0.3, seed=seed, fresh=False):
        records = SqlRecords.at(tmp_path / "records.db")
        done = int(records.meta("done") or 0)
        assert len(records.effects()) == len(records.entries()) == done >= seen
        seen = done
        assert Audit(records, tmp_path / "audit", workspace="w").verify().problems == ()
        records.close()
    with sqlite3.connect(tmp_path / "records.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def fill(root):
    tables = DeltaTables(root)
    for n in range(12):
        tables.append("t", pl.DataFrame({"n": [n, n]}), key=str(n))


def test_tables_killed_at_any_moment_hold_each_append_whole_and_once(tmp_path):
    tables = DeltaTables(tmp_path)
    for _ in killed_after_delays(functools.partial(fill, tmp_path), times=3, up_to_s=0.25):
        if tables.version("t") is not None:
            counts = tables.scan("t").collect().group_by("n").len()["len"]
            assert set(counts) <= {2}
    assert sorted(tables.scan("t").collect()["n"]) == sorted([*range(12), *range(12)])


def test_an_action_that_fails_fails_the_test():
    def fail():
        digest(b"")
        raise ZeroDivisionError

    with pytest.raises(AssertionError, match="failed"):
        list(killed_at_every_line(fail))


def test_a_child_dies_after_each_line_of_the_action_but_the_last():
    def three():
        digest(b"")
        digest(b"")
        digest(b"")

    assert list(killed_at_every_line(three)) == [1, 2]
