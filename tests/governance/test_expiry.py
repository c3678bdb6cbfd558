"""Old rows of an ingested table go where it is named, and its source does not bring them back."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from loopline import data
from loopline.base.clock import ManualClock
from loopline.base.errors import Conflict
from loopline.data.history.manifest import rows_of
from loopline.data.spec import TableSpec
from loopline.governance import expiry
from loopline.workspace import Workspace, create_workspace

NOW = datetime(2031, 5, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
TABLES = {"orders": TableSpec(source="orders.csv", known_at="told", key=("order",))}
ROWS = [("a", NOW - 3 * YEAR, 1), ("b", NOW - 2 * YEAR, 2), ("b", NOW - YEAR / 2, 3), ("c", NOW - YEAR / 3, 4)]


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "keys"))
    made = create_workspace(tmp_path / "ws", clock=ManualClock(NOW), actor="user:bob")
    source(tmp_path, ROWS)
    data.ingest(made, tmp_path, TABLES)
    yield made
    made.close()


def source(folder: Path, rows: list[tuple[str, datetime, int]]) -> None:
    frame = pl.DataFrame(rows, schema=["order", "told", "n"], orient="row")
    frame.with_columns(pl.col("told").dt.to_string("%Y-%m-%dT%H:%M:%SZ")).write_csv(folder / "orders.csv")


def held(ws: Workspace) -> list[int]:
    return sorted(ws.tables.scan("orders").collect()["n"])


def expire(ws: Workspace, *, dry_run: bool = False, names: list[str] | None = None) -> list[expiry.Expiry]:
    asked = names if names is not None else ["orders"]
    return expiry.expire(ws, older_than=YEAR, names=asked or None, unit="order", tables=TABLES, dry_run=dry_run)


def test_old_rows_go_where_their_table_is_named_and_snapshots_keep_theirs(ws: Workspace, tmp_path: Path) -> None:
    pinned = data.snapshot(ws, TABLES, project=tmp_path)
    assert expire(ws, dry_run=True, names=[]) == [], "no ingested table is meant without its name"
    (planned,) = expire(ws, dry_run=True)
    assert (planned.rows, planned.units, planned.oldest, planned.done) == (2, 2, ROWS[0][1], False)
    assert planned.pinned == (pinned.id,) and held(ws) == [1, 2, 3, 4]
    (done,) = expire(ws)
    assert done.done and held(ws) == [3, 4]
    assert ws.tables.scan("orders", version=0).collect()["n"].sort().to_list() == [3, 4]
    assert rows_of(ws, pinned, "orders").collect()["n"].sort().to_list() == [1, 2, 3, 4]
    assert ws.records.entries()[-1]["action"] == "governance.expire"
    assert expire(ws) == []
    later = data.snapshot(ws, TABLES, project=tmp_path)
    assert later.id != pinned.id and rows_of(ws, later, "orders").collect().height == 2


def test_a_source_brings_no_row_back_that_was_let_go_of_and_none_as_old(ws: Workspace, tmp_path: Path) -> None:
    expire(ws)
    assert data.ingest(ws, tmp_path, TABLES)[0].rows == 0
    source(tmp_path, [*ROWS, ("z", NOW - 2 * YEAR, 8), ("d", NOW - timedelta(days=1), 9)])
    ws.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
    (taken,) = data.ingest(ws, tmp_path, TABLES)
    assert (taken.rows, taken.expired) == (1, 3) and held(ws) == [3, 4, 9]
    again = expiry.expire(ws, older_than=2 * YEAR, names=["orders"], tables=TABLES, dry_run=False)
    source(tmp_path, ROWS)
    assert again == [] and data.ingest(ws, tmp_path, TABLES)[0].expired == 2, (
        "what went once does not come for a longer age"
    )


def test_what_was_stopped_before_its_end_is_told_and_ended_by_the_same_call(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(expiry, "recounted", die)
        expire(ws)
    source(tmp_path, [*ROWS, ("d", NOW - timedelta(days=1), 9)])
    with pytest.raises(Conflict, match="loopline data expire orders"):
        data.ingest(ws, tmp_path, TABLES)
    expire(ws)
    assert data.ingest(ws, tmp_path, TABLES)[0].rows == 1 and held(ws) == [3, 4, 9]
