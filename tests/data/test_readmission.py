"""Refused rows come in once the contract lets them, as of then, once, and never over a correction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from loopline import data
from loopline.base.clock import ManualClock
from loopline.base.errors import NotFound
from loopline.data.contracts.contract import contract_of
from loopline.data.history.known import known
from loopline.data.intake.readmission import still_refused
from loopline.data.nouns import Ingestion, Readmission
from loopline.data.sources.parts import Part
from loopline.data.spec import TableSpec
from loopline.workspace import create_workspace

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: sales
version: 1.0.0
status: active
schema:
  - name: sales
    properties:
      - {name: amount, logicalType: number, logicalTypeOptions: {minimum: 0, maximum: 60}}
"""
KEYED = {"sales": TableSpec.model_validate(
    {"source": "s.csv", "event_time": "sold", "known_at": "told", "key": ["sale"], "contract": "sales.yaml"}
)}  # fmt: skip
KEYLESS = {"sales": TableSpec.model_validate({"source": "s.csv", "contract": "sales.yaml"})}


def sales(*rows):
    return pl.DataFrame(
        [(sale, shop, amount, NOON + hours * HOUR, NOON + hours * HOUR) for sale, shop, amount, hours in rows],
        schema=["sale", "shop", "amount", "sold", "told"],
        orient="row",
        schema_overrides={"sold": pl.Datetime("us", "UTC"), "told": pl.Datetime("us", "UTC"), "amount": pl.Float64},
    )


@pytest.fixture
def clock():
    return ManualClock(NOON)


@pytest.fixture
def ws(tmp_path, clock):
    made = create_workspace(tmp_path / "ws", clock=clock, actor="user:ada")
    (tmp_path / "sales.yaml").write_text(CONTRACT)
    yield made
    made.close()


def widen(tmp_path, most):
    (tmp_path / "sales.yaml").write_text(CONTRACT.replace("maximum: 60", f"maximum: {most}"))


def ingest(ws, tmp_path, tables, frame):
    return data.ingest(ws, tmp_path, tables, frames={"sales": frame})


def again(ws, tmp_path, tables=KEYED):
    made, *_ = data.readmit(ws, tmp_path, tables, table="sales")
    return made.rows, made.superseded, made.kept


def test_rows_that_are_good_now_enter_as_of_now_with_their_values_and_once(ws, tmp_path, clock):
    clock.advance(HOUR)
    ingest(ws, tmp_path, KEYED, sales((1, "a", 5.0, 0), (2, "b", 70.0, 0), (3, None, 99.0, 1)))
    assert again(ws, tmp_path) == (0, 0, 2)
    widen(tmp_path, 80)
    clock.advance(HOUR)
    assert again(ws, tmp_path) == (1, 0, 1)
    rows = ws.tables.scan("sales").collect()
    (row,) = rows.filter(pl.col("sale") == 2).rows()
    assert row == (2, "b", 70.0, NOON, clock())
    assert known(ws, "sales", KEYED["sales"], clock() - HOUR / 2).collect().height == 1, "the past stays as it was"
    clock.advance(HOUR)
    assert again(ws, tmp_path) == (0, 1, 1)
    assert ws.tables.scan("sales").collect().equals(rows)
    widen(tmp_path, 100)
    assert again(ws, tmp_path) == (1, 1, 0)
    assert ws.tables.scan("quarantine/sales").collect().height == 2
    found = ws.records.find(Readmission, table="sales", newest_first=False)
    assert [(one.rows, one.superseded, one.kept) for one in found] == [(0, 0, 2), (1, 0, 1), (0, 1, 1), (1, 1, 0)]
    assert sum(one.rows for one in ws.records.find(Ingestion, table="sales")) == 3
    assert "data.readmit" in {entry["action"] for entry in ws.records.entries()}


def test_ingestion_and_snapshots_go_on_from_there(ws, tmp_path, clock):
    clock.advance(HOUR)
    source = sales((1, "a", 5.0, 0), (2, "b", 70.0, 0))
    ingest(ws, tmp_path, KEYED, source)
    widen(tmp_path, 80)
    again(ws, tmp_path)
    taken = data.snapshot(ws, KEYED, project=tmp_path)
    assert taken.rows == {"sales": 2}
    clock.advance(HOUR)
    (made,) = ingest(ws, tmp_path, KEYED, pl.concat([source, sales((3, "c", 7.0, 2))]))
    assert (made.rows, made.violations) == (1, ())
    assert data.snapshot(ws, KEYED, project=tmp_path).rows == {"sales": 3}
    assert data.read(ws, taken, "sales").collect().height == 2


def test_a_row_that_was_corrected_meanwhile_stays_out(ws, tmp_path, clock):
    clock.advance(HOUR)
    ingest(ws, tmp_path, KEYED, sales((1, "a", 70.0, 0), (2, "b", 70.0, 0), (2, "b", 75.0, 1)))
    clock.advance(HOUR)
    ingest(ws, tmp_path, KEYED, sales((1, "a", 7.0, 2)))
    widen(tmp_path, 80)
    clock.advance(HOUR)
    assert again(ws, tmp_path) == (1, 2, 0)
    rows = known(ws, "sales", KEYED["sales"], clock()).collect().sort("sale")
    assert rows["amount"].to_list() == [7.0, 75.0], "the correction of 1, the newer version of 2"


def test_rows_without_a_key_enter_once_too(ws, tmp_path, clock):
    frame = sales((1, "a", 5.0, 0), (2, "b", 70.0, 0), (2, "b", 70.0, 0)).drop("told")
    ingest(ws, tmp_path, KEYLESS, frame)
    widen(tmp_path, 80)
    clock.advance(HOUR)
    assert again(ws, tmp_path, KEYLESS) == (2, 0, 0)
    clock.advance(HOUR)
    assert again(ws, tmp_path, KEYLESS) == (0, 2, 0)
    assert ws.tables.scan("sales").collect().height == 3


def test_texts_that_cannot_be_read_stay_where_they_are(ws, tmp_path, clock):
    clock.advance(HOUR)
    ingest(ws, tmp_path, KEYED, sales((1, "a", 5.0, 0)))
    clock.advance(HOUR)
    odd = sales((2, "b", 7.0, 2), (3, "c", 8.0, 2)).with_columns(amount=pl.Series(["much", "70"]))
    ingest(ws, tmp_path, KEYED, Part("", None, lambda: [odd], text=True))
    widen(tmp_path, 80)
    clock.advance(HOUR)
    assert again(ws, tmp_path) == (1, 0, 1)


def test_a_table_without_refused_rows_says_so(ws, tmp_path, clock):
    clock.advance(HOUR)
    with pytest.raises(NotFound, match="no row of sales was refused"):
        again(ws, tmp_path)
    ingest(ws, tmp_path, KEYED, sales((1, "a", 5.0, 0)))
    with pytest.raises(NotFound, match="no row of sales was refused"):
        again(ws, tmp_path)
    with pytest.raises(NotFound, match="declared: sales"):
        data.readmit(ws, tmp_path, KEYED, table="nothing")


@pytest.mark.parametrize("tables", [KEYED, KEYLESS])
def test_rows_that_came_in_are_no_longer_among_those_that_are_refused(ws, tmp_path, clock, tables):
    def refused():
        spec, held = tables["sales"], ws.tables.scan("quarantine/sales").collect()
        found = still_refused(ws, "sales", spec, contract_of(tmp_path, "sales", spec), held)
        return sorted(found["sale"].to_list())

    clock.advance(HOUR)
    ingest(ws, tmp_path, tables, sales((1, "a", 5.0, 0), (2, "b", 70.0, 0), (3, None, 99.0, 1)))
    assert refused() == ["2", "3"]
    widen(tmp_path, 80)
    clock.advance(HOUR)
    again(ws, tmp_path, tables)
    assert refused() == ["3"]
