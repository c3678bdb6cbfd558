"""Whatever is done to data is killed before and after each thing that it writes, and done again: as if nothing was."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.crash import small
from tests.crash.loaded import LOADED

from loopline import data
from loopline.base.errors import Conflict
from loopline.testing.crash import killed_at_every_call

WRITES = (
    "os:replace",
    "os:link",
    "os:unlink",
    "loopline.store.tables.delta:write_deltalake",
    "loopline.store.tables.delta:compacted",
    "loopline.store.tables.delta:vacuumed",
    "loopline.store.online.sqlite:SqliteOnline.write",
    "loopline.store.online.sqlite:SqliteOnline.delete",
    "loopline.store.records.tx:SqlTx.put",
    "loopline.store.records.tx:SqlTx.end",
)
Do = Callable[[Path, float], None]


@pytest.fixture(scope="module")
def lived(tmp_path_factory) -> Iterator[Path]:
    """A project with rows of two days in many small files, a snapshot, and values online."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPLINE_KEYS", "")  # and put back afterwards
        root = small.project(tmp_path_factory.mktemp("lived") / "project")
        small.ingest(root, 0.5)
        for hours in range(24, 72, 8):
            small.ingest(root, hours)
        small.publish(root, 48)
        ws = small.at(root, 64)
        data.snapshot(ws, small.TABLES, project=root)
        ws.close()
        yield root


def same(lived: Path, tmp_path: Path, do: Do, hours: float, *, before: Do | None = None, every: int = 1) -> Any:
    """What came of it after all deaths; the same as undisturbed."""
    found = []
    for name in ("undisturbed", "disturbed"):
        root = tmp_path / name / "project"
        shutil.copytree(lived.parent, root.parent)
        if before is not None:
            before(root, hours)
        if name == "undisturbed":
            do(root, hours)
        else:
            action = functools.partial(do, root, hours)
            deaths = sum(1 for _ in killed_at_every_call(action, WRITES, every=every, preload=LOADED))
            assert deaths > 3
        found.append(small.state(root, hours))
    assert found[1] == found[0]
    assert found[0]["audit"] == (), found
    return found[0]


def test_a_first_ingestion_leaves_each_row_once(tmp_path):
    (tmp_path / "fresh").mkdir()
    fresh = small.project(tmp_path / "fresh" / "project")
    small.at(fresh, 0).close()
    left = same(fresh, tmp_path, small.ingest, 0.5)
    assert len(left["orders"]) == 99 and len(left["sales"]) == 1


def test_an_ingestion_that_is_due_leaves_each_row_once_and_each_refused_one_once(lived, tmp_path):
    left = same(lived, tmp_path, small.ingest, 80)
    assert len(left["sales"]) + len(left["quarantine/sales"]) == 80 * 4 - 1
    assert len(left["quarantine/sales"]) > 0


def test_publishing_goes_on_from_where_it_stood(lived, tmp_path):
    left = same(lived, tmp_path, small.publish, 64)
    assert all(len(some) == 5 for some in left["online"].values())


def test_compaction_and_retention_keep_every_row_and_every_snapshot(lived, tmp_path):
    same(lived, tmp_path / "compact", small.compact, 72)
    left = same(lived, tmp_path / "retain", small.retain, 72, before=small.compact)
    assert set(left["snapshots"].values()) == {len(left["sales"])}


def test_erasure_takes_the_subject_out_of_everything(lived, tmp_path):
    left = same(lived, tmp_path, small.forget, 72, every=11)
    assert left["erased"]
    assert not any(small.WHO in some for some in left["online"].values())
    assert not any(small.WHO in row for name in ("orders", "sales", "quarantine/sales") for row in left[name])


def test_preparing_a_training_set_and_searching_it_for_leaks(lived, tmp_path):
    same(lived, tmp_path, small.prepare, 72, every=3)


def test_ingestions_that_overlap_leave_each_row_once_though_they_know_different_nows(lived, tmp_path, monkeypatch):
    root = tmp_path / "both" / "project"
    shutil.copytree(lived.parent, root.parent)
    slow = small.at(root, 76)
    append = slow.tables.append

    def overtaken(name: str, *rows: Any, **how: Any) -> Any:
        if name == "sales":
            monkeypatch.setattr(slow.tables, "append", append)
            small.ingest(root, 80)
        return append(name, *rows, **how)

    monkeypatch.setattr(slow.tables, "append", overtaken)
    with pytest.raises(Conflict, match="another ingestion of table sales"):
        data.ingest(slow, root, small.TABLES, names=["sales"])
    slow.close()
    small.ingest(root, 90)
    rows = small.at(root, 90).tables.scan("sales").collect()["sale"]
    assert rows.n_unique() == rows.len()
