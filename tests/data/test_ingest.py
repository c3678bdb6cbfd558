"""Rows enter once, when they are known, if they keep their contract."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopline.base.clock import ManualClock
from loopline.base.errors import Conflict, Invalid
from loopline.base.ids import canonical
from loopline.base.nouns import to_doc
from loopline.data import CleanSpec, Contract, TableSpec, catalogue, draft, ingest, known, readmit, show, snapshot
from loopline.data.contracts.odcs import read_yaml
from loopline.data.history.progress import POINTER
from loopline.data.intake.columns import read_declared
from loopline.data.intake.contract_source import check_source
from loopline.data.nouns import Ingestion
from loopline.interfaces.cli import checks
from loopline.interfaces.cli.taken_in import mixed_lines
from loopline.workspace import create_workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CONTRACT = """apiVersion: v3.1.0
kind: DataContract
schema:
  - name: facts
    properties:
      - {name: id, logicalType: integer, required: true}
      - {name: value, logicalType: number, logicalTypeOptions: {minimum: 0}}
"""
FACTS = TableSpec(source="facts.csv", contract="facts.yaml", event_time="at", known_at="told", key=("id",))


@pytest.fixture
def clock():
    return ManualClock(START)


@pytest.fixture
def ws(tmp_path, clock):
    (tmp_path / "facts.yaml").write_text(CONTRACT)
    return create_workspace(tmp_path / "ws", clock=clock, actor="user:ada")


def facts(*rows):
    schema = {"id": pl.Int64, "value": pl.Float64, "hour": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    told = pl.lit(START) + pl.duration(hours=pl.col("hour"))
    return frame.select("id", "value", told.alias("at"), told.alias("told"))


def rows(ws, name="facts"):
    return sorted(ws.tables.scan(name).select("id", "value").collect().rows())


histories = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9), st.integers(1, 8)), max_size=10)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories, st.sets(st.integers(0, 9), max_size=4), st.integers(0, 9))
def test_what_is_known_at_a_time_does_not_depend_on_when_it_was_ingested(tmp_path_factory, listed, stops, asked):
    folder = tmp_path_factory.mktemp("w")
    clock = ManualClock(START)
    ws = create_workspace(folder, clock=clock, actor="user:ada")
    spec = FACTS.model_copy(update={"contract": None})
    source = facts(*((i, float(v), h) for i, v, h in {(i, h): (i, v, h) for i, v, h in listed}.values()))
    for hour in sorted({*stops, 9}):
        clock.set(START + hour * HOUR)
        ingest(ws, folder, {"facts": spec}, frames={"facts": source})
    newest = {}
    for row in sorted(source.rows(), key=lambda r: r[3]):
        if row[3] <= START + asked * HOUR:
            newest[row[0]] = row
    found = known(ws, "facts", spec, START + asked * HOUR).collect()
    assert sorted(found.rows()) == sorted(newest.values())


def test_rows_wait_until_they_are_known_and_enter_once(ws, tmp_path, clock):
    source = facts((1, 1.0, 1), (2, 2.0, 2), (3, 3.0, 3))
    source = source.with_columns(pl.when(pl.col("id") != 3).then("told").alias("told"))
    clock.advance(HOUR)
    (first,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": source})
    assert (first.rows, rows(ws)) == (1, [(1, 1.0)])
    clock.advance(HOUR)
    ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": source})
    (again,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": source})
    assert (again.rows, again.violations, rows(ws)) == (0, (), [(1, 1.0), (2, 2.0)])


def test_bad_rows_go_to_quarantine_and_the_ingestion_tells_all(ws, tmp_path, clock):
    clock.advance(HOUR)
    source = facts((1, 1.0, 1), (2, -5.0, 1), (None, 3.0, 1), (1, 4.0, 1))
    (done,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": source})
    assert (done.rows, done.quarantined, done.quarantine) == (1, 3, "quarantine/facts")
    assert {(v.rule, v.column, v.count, v.examples) for v in done.violations} == {
        ("id.required", "id", 1, ()),
        ("value.minimum", "value", 1, (-5.0,)),
        ("id.key", "id", 1, ("1",)),
    }
    kept = ws.tables.scan("quarantine/facts").collect().sort("value")
    assert dict(kept.select("value", "broken_rules").rows()) == {
        "-5.0": "value.minimum",
        "3.0": "id.required",
        "4.0": "id.key",
    }
    (card,) = catalogue(ws, {"facts": FACTS})
    assert (card.name, card.rows, card.quarantined, card.last) == ("facts", 1, 3, done)


def test_a_rule_that_says_stop_lets_nothing_in(ws, tmp_path, clock):
    text = CONTRACT.replace("value, l", "value, customProperties: [{property: response, value: stop}], l")
    (tmp_path / "facts.yaml").write_text(text)
    clock.advance(HOUR)
    with pytest.raises(Invalid) as refused:
        ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((1, 1.0, 1), (2, -5.0, 1))})
    for part in ("value.minimum", "1 times", "column value", "-5.0", "quarantine/facts"):
        assert part in str(refused.value)
    assert ws.tables.version("facts") is None
    assert ws.records.pointer(POINTER, "facts") is None
    assert ws.tables.scan("quarantine/facts").collect().height == 1


def test_an_append_that_was_not_recorded_is_found_again(ws, tmp_path, clock):
    tables = {"facts": FACTS}
    clock.advance(HOUR)
    ingest(ws, tmp_path, tables, frames={"facts": facts((1, 1.0, 1))})
    clock.advance(HOUR)
    source = facts((1, 1.0, 1), (2, 2.0, 2))
    lost = create_workspace(tmp_path / "other", clock=clock, actor="user:ada")
    ws.tables.append("facts", source.filter(pl.col("id") == 2), key="the append before the crash")
    clock.advance(HOUR)
    (done,) = ingest(ws, tmp_path, tables, frames={"facts": pl.concat([source, facts((3, 3.0, 3))])})
    assert (done.rows, rows(ws)) == (2, [(1, 1.0), (2, 2.0), (3, 3.0)])
    ingest(lost, tmp_path, tables, frames={"facts": facts((1, 1.0, 1), (2, 2.0, 2), (3, 3.0, 3))})
    assert snapshot(ws, tables, project=tmp_path).id == snapshot(lost, tables, project=tmp_path).id


def own(ws, name="facts"):
    found = ws.tables.scan(name).collect()
    return sorted(found.select("id", "value", pl.coalesce("told_given", "told"), "told").rows(), key=str)


def test_a_row_that_comes_late_is_known_from_now_on_and_keeps_its_own_time(ws, tmp_path, clock):
    clock.advance(2 * HOUR)
    ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((1, 1.0, 1))})
    clock.advance(HOUR)
    whole = facts((1, 1.0, 1), (9, 9.0, 2), (2, 2.0, 3))
    (done,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": whole})
    assert (done.rows, done.late, done.violations) == (2, 1, ())
    assert (9, 9.0, START + 2 * HOUR, START + 3 * HOUR) in own(ws)
    assert known(ws, "facts", FACTS, START + 2 * HOUR).collect()["id"].to_list() == [1], "the past stays"
    (again,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": whole})
    assert (again.rows, again.late, again.superseded) == (0, 0, 0)
    (news,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((7, 7.0, 0))})
    assert (news.rows, news.late) == (1, 1), "also news that begin before all others"


def test_a_late_row_whose_correction_is_known_is_told_and_does_not_come_back(ws, tmp_path, clock):
    clock.advance(4 * HOUR)
    ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((1, 1.0, 4))})
    clock.advance(2 * HOUR)
    late = facts((1, 0.0, 2), (2, 2.0, 3), (2, 1.0, 2), (3, 3.0, 1), (3, 4.0, 6))
    (done,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": late})
    assert (done.rows, done.late, done.superseded) == (2, 1, 3)
    assert known(ws, "facts", FACTS, clock()).collect().select("id", "value").sort("id").rows() == [
        (1, 1.0), (2, 2.0), (3, 4.0),
    ]  # fmt: skip
    clock.advance(HOUR)
    (newer,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((2, 5.0, 4))})
    assert (newer.rows, newer.late) == (1, 1), "its own time decides, not when the older one came"
    assert known(ws, "facts", FACTS, clock()).collect().filter(id=2)["value"].to_list() == [5.0]


def test_a_row_that_is_changed_in_its_place_is_not_taken_and_told(ws, tmp_path, clock):
    clock.advance(4 * HOUR)
    ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((1, 1.0, 1), (2, 2.0, 2), (3, -1.0, 3))})
    clock.advance(HOUR)
    changed = facts((1, 5.0, 1), (2, 2.0, 2), (3, -1.0, 3), (4, 4.0, 5))
    (done,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": changed})
    assert (done.rows, done.late, done.differing) == (1, 0, 1)
    assert rows(ws) == [(1, 1.0), (2, 2.0), (4, 4.0)]
    clock.advance(HOUR)
    batches = iter([changed[:2], changed[2:].with_columns(new=pl.lit("x"))])
    (again,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": batches})
    assert (again.rows, again.differing) == (0, 1), "batches; a column that only later ones bring says nothing"
    (wider,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": changed.with_columns(new=pl.lit("x"))})
    assert (wider.rows, wider.differing) == (0, 3), "a value that is there now, and was not, is a difference"


def test_a_tombstone_or_a_late_row_that_comes_again_differs_from_nothing(ws, tmp_path, clock):
    spec = FACTS.model_copy(update={"deleted": "gone"})
    clock.advance(4 * HOUR)
    gone = pl.Series("gone", [False, True])
    source = facts((1, 1.0, 1), (1, 7.0, 2)).with_columns(gone)
    ingest(ws, tmp_path, {"facts": spec}, frames={"facts": source})
    for expected in (1, 0):
        clock.advance(HOUR)
        more = pl.concat([source, facts((2, 2.0, 3)).with_columns(gone=False)])
        (done,) = ingest(ws, tmp_path, {"facts": spec}, frames={"facts": more})
        assert (done.late, done.differing) == (expected, 0)
    back = source.with_columns(gone=pl.lit(False))
    (done,) = ingest(ws, tmp_path, {"facts": spec}, frames={"facts": back})
    assert (done.rows, done.differing) == (0, 1), "a key that is not gone any more needs a later time"


def test_rows_that_are_repaired_otherwise_now_are_not_told_as_changed(ws, tmp_path, clock):
    clock.advance(4 * HOUR)
    ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((1, 1.0, 1))})
    clean = CleanSpec(column="value", times=2.0)
    spec = FACTS.model_copy(update={"clean": (clean,)})
    clock.advance(HOUR)
    (done,) = ingest(ws, tmp_path, {"facts": spec}, frames={"facts": facts((1, 1.0, 1), (2, 2.0, 5))})
    assert (done.rows, done.differing) == (1, 0)
    clock.advance(HOUR)
    (done,) = ingest(ws, tmp_path, {"facts": spec}, frames={"facts": facts((1, 1.0, 1), (2, 9.0, 5))})
    assert (done.rows, done.differing) == (0, 1)


@pytest.mark.parametrize("contract", ["facts.yaml", None])
@pytest.mark.parametrize("column", ["id", "at", "told"])
def test_a_row_without_its_key_or_a_time_is_set_aside_once_and_told(ws, tmp_path, clock, contract, column):
    spec = FACTS.model_copy(update={"contract": contract, "deleted": "gone"})
    clock.advance(4 * HOUR)
    source = facts((1, 1.0, 1), (2, 2.0, 2), (3, 3.0, 3)).with_columns(gone=pl.Series([False, False, True]))
    which = 2.0 if column == "at" else 3.0  # a tombstone owes no event time
    source = source.with_columns(pl.when(pl.col("value") != which).then(pl.col(column)))
    (done,) = ingest(ws, tmp_path, {"facts": spec}, frames={"facts": source})
    assert (done.quarantined, done.waiting) == (1, 0)
    assert [(v.rule, v.count) for v in done.violations] == [(f"{column}.required", 1)]
    assert ws.tables.scan("quarantine/facts").select("broken_rules").collect().item() == f"{column}.required"
    assert ws.tables.scan("facts").select(pl.col("id", "told").null_count()).collect().row(0) == (0, 0)
    clock.advance(HOUR)
    more = pl.concat([source, facts((5, 5.0, 5)).with_columns(gone=False)])
    (again,) = ingest(ws, tmp_path, {"facts": spec}, frames={"facts": iter([more[:1], more[1:]])})
    assert (again.rows, again.waiting, again.quarantined) == (1, 0, 0)
    (kept,) = readmit(ws, tmp_path, {"facts": spec}, table="facts")
    assert (kept.rows, kept.kept) == (0, 1)


def test_a_batch_whose_every_value_of_a_column_is_of_a_wrong_type_costs_those_rows_alone(ws, tmp_path, clock):
    (tmp_path / "facts.yaml").write_text(CONTRACT + "      - {name: word, logicalType: string}\n")
    clock.advance(4 * HOUR)
    first = facts((1, 1.0, 1)).with_columns(word=pl.lit("a"))
    flags = facts((2, 2.0, 2), (3, 3.0, 3)).with_columns(word=pl.Series([False, None]))
    (done,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": iter([first, flags])})
    assert (done.rows, done.quarantined) == (2, 1)
    assert [v.rule for v in done.violations] == ["word.logicalType"]
    clock.advance(HOUR)
    (done,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": flags[:1].with_columns(id=pl.lit(4))})
    assert (done.rows, done.quarantined) == (0, 1), "in one batch too"
    other = {"other": FACTS}
    for frame in (facts((1, 1.0, 1)).with_columns(value=pl.lit(1)), facts((2, None, 6))):
        clock.advance(HOUR)
        assert ingest(ws, tmp_path, other, frames={"other": frame})[0].rows == 1, "the type of the table stays"


def test_a_column_that_its_source_no_longer_has_is_told_once(ws, tmp_path, clock):
    spec = FACTS.model_copy(update={"contract": None})
    held = []

    def taken(frame, **given):
        clock.advance(HOUR)
        held.append(frame)
        pl.concat(held, how="diagonal").drop(given.get("without", [])).write_parquet(tmp_path / "facts.parquet")
        (done,) = ingest(ws, tmp_path, {"facts": spec.model_copy(update={"source": "facts.parquet"})})
        return done.rows, done.lost

    assert taken(facts((1, 1.0, 1))) == (1, {})
    assert taken(facts((2, 2.0, 2)), without=["value"]) == (1, {"value": START + HOUR})
    assert taken(facts((3, 3.0, 3)), without=["value"]) == (1, {}), "once"
    assert rows(ws) == [(1, 1.0), (2, None), (3, None)]
    assert taken(facts((4, 4.0, 4))) == (1, {}), "it is back"
    assert taken(facts((5, 5.0, 5)), without=["value"]) == (1, {"value": START + 4 * HOUR})
    clock.advance(HOUR)
    some = facts((7, 7.0, 6)).drop("value")
    (done,) = ingest(ws, tmp_path, {"facts": spec}, frames={"facts": facts((6, 6.0, 6))})
    (given,) = ingest(ws, tmp_path, {"facts": spec}, frames={"facts": some})
    assert (done.lost, given.lost) == ({}, {}), "rows that are given may leave columns out"


def test_a_second_file_of_history_comes_in_whole(ws, tmp_path, clock):
    spec = {"t": TableSpec(source="days/*.csv", known_at="told")}
    (tmp_path / "days").mkdir()
    clock.advance(4 * HOUR)
    for n in (1, 2):
        lines = "".join(f"{i},{START.isoformat()}\n" for i in range(3))
        (tmp_path / "days" / f"{n}.csv").write_text("id,told\n" + lines + f"{n}{n},{START.isoformat()}\n")
        (done,) = ingest(ws, tmp_path, spec)
    assert done.late == 1, "a row that is there is the same row wherever it comes from"
    clock.advance(HOUR)
    (tmp_path / "days" / "2.csv").write_text("id,told\n" + "".join(f"{i},{START.isoformat()}\n" for i in range(9)))
    (done,) = ingest(ws, tmp_path, spec)
    assert sorted(ws.tables.scan("t").collect()["id"].to_list()) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 22]


def test_refused_rows_are_not_refused_again_when_their_source_grows(ws, tmp_path, clock):
    clock.advance(4 * HOUR)
    rest = facts((1, 1.0, 1), (2, -5.0, 1))
    ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": rest})
    clock.advance(HOUR)
    (done,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": pl.concat([rest, facts((3, 3.0, 2))])})
    assert (done.rows, done.late, done.quarantined, done.violations) == (1, 1, 0, ())


def test_rows_that_are_repaired_otherwise_now_do_not_come_twice(ws, tmp_path, clock):
    spec = TableSpec(source="t.csv", known_at="told")
    rows = facts((1, 1.0, 1), (2, 2.0, 1)).drop("at")
    clock.advance(HOUR)
    ingest(ws, tmp_path, {"t": spec}, frames={"t": rows})
    rows.write_csv(tmp_path / "t.csv")
    clock.advance(HOUR)
    times = spec.model_copy(update={"clean": TableSpec(source="t", clean=[{"column": "value", "times": 2}]).clean})
    for hour in (2, 3):
        ingest(ws, tmp_path, {"t": times})
        rows = pl.concat([rows, facts((3 + hour, 3.0, 1)).drop("at")])
        rows.write_csv(tmp_path / "t.csv")
        clock.advance(HOUR)
    ingest(ws, tmp_path, {"t": times})
    assert sorted(ws.tables.scan("t").collect()["id"].to_list()) == [1, 2, 5, 6]


def test_late_rows_come_in_from_batches_as_from_one_frame(tmp_path):
    found = []
    later = facts((1, 0.0, 2), (2, 2.0, 3), (2, 1.0, 2), (3, 4.0, 6), (3, 3.0, 1), (9, -1.0, 1))
    for name, batches in (("one", later), ("many", list(later.iter_slices(1)))):
        (tmp_path / "facts.yaml").write_text(CONTRACT)
        clock = ManualClock(START + 4 * HOUR)
        ws = create_workspace(tmp_path / name, clock=clock, actor="user:ada")
        ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((1, 1.0, 4))})
        clock.advance(2 * HOUR)
        (done,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": batches})
        found.append((done.rows, done.late, done.superseded, done.quarantined, own(ws)))
    assert found[0] == found[1]
    assert found[0][:4] == (2, 1, 3, 1)


def test_rows_given_once_that_would_have_to_wait_are_refused_and_none_enters(ws, tmp_path, clock):
    clock.advance(HOUR)
    with pytest.raises(Invalid, match=r"1 of the rows given to facts .* become known later"):
        ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((1, 1.0, 1), (2, 2.0, 5))}, once=True)
    assert ws.tables.version("facts") is None


def test_a_table_that_fails_leaves_the_others_as_they_were(ws, tmp_path, clock):
    clock.advance(HOUR)
    two = {"facts": FACTS, "more": FACTS}
    good, bad = facts((1, 1.0, 1)), facts((1, 1.0, 1)).drop("told")
    with pytest.raises(Invalid, match="no column 'told'"):
        ingest(ws, tmp_path, two, frames={"facts": good, "more": bad})
    assert ws.tables.names() == []
    done = ingest(ws, tmp_path, two, frames={"facts": good, "more": good})
    assert [(d.rows, d.late, d.violations) for d in done] == [(1, 0, ())] * 2


def test_an_append_that_was_not_recorded_is_not_told_as_late(ws, tmp_path, clock):
    clock.advance(HOUR)
    ws.tables.append("facts", facts((1, 1.0, 1)), key="the append before the crash")
    clock.advance(HOUR)
    (done,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((1, 1.0, 1))})
    assert (done.rows, done.late, done.violations, rows(ws)) == (1, 0, (), [(1, 1.0)])


def test_what_was_set_aside_and_not_recorded_is_told_by_the_next_ingestion(ws, tmp_path, clock):
    clock.advance(4 * HOUR)
    there = create_workspace(tmp_path / "other", clock=clock, actor="user:ada")
    news = facts((1, 1.0, 1), (2, -5.0, 1))
    ingest(there, tmp_path, {"facts": FACTS}, frames={"facts": news})
    for table in ("facts", "quarantine/facts"):
        ws.tables.append(table, there.tables.scan(table).collect(), key="before the crash")
    clock.advance(HOUR)
    (done,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": news})
    assert (done.rows, done.quarantined, [v.count for v in done.violations]) == (1, 1, [1])
    (done,) = ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": news})
    assert (done.rows, done.quarantined) == (0, 0), "what was told is not told again"


def test_a_broken_number_of_any_size_is_told(ws, tmp_path, clock):
    values = [sign * (2**53 + n) for sign in (1, -1) for n in (-1, 0, 2)]
    listed = "integer, quality: [{metric: invalidValues, arguments: {validValues: [1]}, mustBe: 0}]}"
    for table, rule in (("whole", listed), ("broken", listed.replace("integer", "number"))):
        text = CONTRACT.replace("facts", table).replace("number, logicalTypeOptions: {minimum: 0}}", rule)
        (tmp_path / f"{table}.yaml").write_text(text)
        lines = "".join(f'{{"id": 1, "value": {value}}}\n' for value in values)
        (tmp_path / f"{table}.jsonl").write_text(lines if table == "whole" else lines.replace("}", ".0}"))
        (done,) = ingest(ws, tmp_path, {table: TableSpec(source=f"{table}.jsonl", contract=f"{table}.yaml")})
        (one,) = done.violations
        assert one.count == 6 and [int(float(e)) for e in one.examples] == [int(float(v)) for v in values[:5]]
        written = canonical(to_doc(done))
        assert canonical(json.loads(written)) == written, "what was read back can be written again"


def test_an_ingestion_that_meets_another_says_so(ws, tmp_path, clock):
    clock.advance(HOUR)

    def meanwhile():
        yield facts((1, 1.0, 1))
        ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((2, 2.0, 1))})

    with pytest.raises(Conflict, match="another ingestion of table facts is running") as told:
        ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": meanwhile()})
    assert "run it again" in str(told.value)


def test_a_column_that_turns_into_text_is_told(ws, tmp_path, clock):
    spec = {"t": TableSpec(source="t.csv")}
    for row in ("1,5", "2,five"):
        (tmp_path / "t.csv").write_text(f"id,value\n{row}\n")
        if row == "1,5":
            ingest(ws, tmp_path, spec)
    with pytest.raises(Conflict, match="column value of table t was Int64 and is String now") as told:
        ingest(ws, tmp_path, spec)
    assert "contract" in str(told.value)


def test_a_csv_without_any_time_is_known_when_ingested(ws, tmp_path, clock):
    spec = {"data": TableSpec(source="customers.csv")}
    (tmp_path / "customers.csv").write_text("id,value\n1,2.5\n1,2.5\n2,\n")
    (first,) = ingest(ws, tmp_path, spec)
    (again,) = ingest(ws, tmp_path, spec)
    clock.advance(HOUR)
    (tmp_path / "customers.csv").write_text("id,value\n1,2.5\n1,2.5\n2,\n3,1.0\n1,2.5\n")
    (more,) = ingest(ws, tmp_path, spec)
    assert (first.rows, again.rows, more.rows) == (3, 0, 2)
    assert known(ws, "data", spec["data"], START).collect().height == 3
    assert known(ws, "data", spec["data"], START + HOUR).collect().height == 5


def test_with_a_key_a_changed_row_is_a_correction_also_back_to_what_it_was(ws, tmp_path, clock):
    spec = {"data": TableSpec(source="c.csv", key="id")}
    for value, taken in ((1, 1), (2, 1), (2, 0), (1, 1)):
        clock.advance(HOUR)
        (tmp_path / "c.csv").write_text(f"id,value\n1,{value}\n")
        (done,) = ingest(ws, tmp_path, spec)
        assert done.rows == taken
        assert known(ws, "data", spec["data"], clock()).collect()["value"].to_list() == [value]


def test_text_that_cannot_be_read_costs_its_row_and_no_other(ws, tmp_path, clock):
    (tmp_path / "facts.csv").write_text(
        "id,value,at,told\n1,5,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z\n2,oops,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z\n"
    )
    (done,) = ingest(ws, tmp_path, {"facts": FACTS})
    assert (done.rows, rows(ws)) == (1, [(1, 5.0)])
    assert [(v.rule, v.count, v.examples) for v in done.violations] == [("value.logicalType", 1, ("oops",))]
    assert ws.tables.scan("quarantine/facts").collect()["value"].to_list() == ["oops"]


def test_times_without_zone_are_refused_until_one_is_declared(ws, tmp_path, clock):
    spec = TableSpec(source="t.csv", event_time="at", known_at="told")
    (tmp_path / "t.csv").write_text("id,value,at,told\n1,5,2025-07-01 12:00:00,2025-07-01\n")
    with pytest.raises(Invalid, match="zone: UTC"):
        ingest(ws, tmp_path, {"t": spec})
    ingest(ws, tmp_path, {"t": spec.model_copy(update={"zone": "Europe/Paris"})})
    (row,) = ws.tables.scan("t").collect().rows(named=True)
    assert row["at"] == datetime(2025, 7, 1, 10, tzinfo=UTC)
    assert row["told"] == datetime(2025, 7, 1, 22, tzinfo=UTC), "a date is known when it is over"


def test_a_local_time_that_comes_twice_is_refused(ws, tmp_path, clock):
    frame = pl.DataFrame({"id": [1], "told": [datetime(2025, 10, 26, 2, 30)]})  # noqa: DTZ001
    spec = TableSpec(source="t.csv", known_at="told", zone="Europe/Paris")
    with pytest.raises(Invalid, match="does not name one moment"):
        ingest(ws, tmp_path, {"t": spec}, frames={"t": frame})


def test_a_missing_column_is_named_with_its_part(ws, tmp_path, clock):
    with pytest.raises(Invalid, match=r"no column 'told' \(known_at\)"):
        ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts().drop("told")})
    with pytest.raises(Invalid, match=r"no column 'id' \(key\)"):
        ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts().drop("id")})


def test_days_that_hold_only_nulls_or_whole_numbers_keep_the_columns_type(ws, tmp_path, clock):
    spec = {"facts": FACTS.model_copy(update={"contract": None})}
    for hour, values in ((1, [1.5]), (2, [None]), (3, [4])):
        clock.set(START + hour * HOUR)
        frame = facts((hour, 0.0, hour)).with_columns(pl.Series("value", values))
        ingest(ws, tmp_path, spec, frames={"facts": frame})
    assert rows(ws) == [(1, 1.5), (2, None), (3, 4.0)]


def test_a_snapshot_is_the_same_wherever_the_rows_came_in(tmp_path):
    ids = []
    source = facts(*((i, float(i), 1 + i % 4) for i in range(20)))
    for name, hours in (("one", (5,)), ("two", (2, 3, 5))):
        clock = ManualClock(START)
        ws = create_workspace(tmp_path / name, clock=clock, actor="user:ada")
        (tmp_path / "facts.yaml").write_text(CONTRACT)
        for hour in hours:
            clock.set(START + hour * HOUR)
            ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": source[::-1] if name == "two" else source})
        taken = snapshot(ws, {"facts": FACTS}, project=tmp_path)
        ids.append(taken.id)
        assert taken.rows == {"facts": 20}
        assert taken.known_to == START + 4 * HOUR
        assert taken.manifest in ws.blobs
    assert ids[0] == ids[1]


def test_a_snapshot_follows_the_rows_and_the_contract(ws, tmp_path, clock):
    tables = {"facts": FACTS}
    clock.advance(5 * HOUR)
    ingest(ws, tmp_path, tables, frames={"facts": facts((1, 1.0, 1))})
    first = snapshot(ws, tables, project=tmp_path)
    assert snapshot(ws, tables, project=tmp_path) == first
    (tmp_path / "facts.yaml").write_text(CONTRACT.replace("minimum: 0", "minimum: 1"))
    changed = snapshot(ws, tables, project=tmp_path)
    clock.advance(HOUR)
    ingest(ws, tmp_path, tables, frames={"facts": facts((2, 2.0, 6))})
    assert len({first.id, changed.id, snapshot(ws, tables, project=tmp_path).id}) == 3


def test_two_ingestions_at_once_leave_each_row_once(ws, tmp_path, clock):
    clock.advance(HOUR)
    ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((0, 0.0, 1))})
    clock.advance(HOUR)
    source = {"facts": facts((1, 1.0, 2), (2, 2.0, 2))}
    seats = [create_workspace(tmp_path / "ws", clock=clock, actor=f"user:{who}") for who in ("ada", "bea", "cyd")]
    gate = threading.Barrier(len(seats))

    def begin(seat):
        gate.wait()
        try:
            return ingest(seat, tmp_path, {"facts": FACTS}, frames=source)
        except Conflict as moved:
            return moved

    with ThreadPoolExecutor(len(seats)) as pool:
        ends = list(pool.map(begin, seats))
    assert any(isinstance(end, list) for end in ends)
    assert rows(ws) == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_a_calendar_date_may_be_an_ordinary_column(ws, tmp_path, clock):
    frame = pl.DataFrame({"id": [1], "day": [date(2026, 1, 1)]})
    ingest(ws, tmp_path, {"t": TableSpec(source="t.csv")}, frames={"t": frame})
    assert ws.tables.scan("t").collect()["day"].to_list() == [date(2026, 1, 1)]


def test_one_time_without_zone_costs_its_row_whether_checked_or_ingested(ws, tmp_path, clock):
    timed = CONTRACT + "      - {name: told, logicalType: timestamp}\n      - {name: at, logicalType: timestamp}\n"
    (tmp_path / "facts.yaml").write_text(timed)
    moments = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00")
    lines = "".join(f"{i},1.0,{moments[0]},{t}\n" for i, t in enumerate(moments))
    (tmp_path / "facts.csv").write_text("id,value,at,told\n" + lines)
    checked = check_source(tmp_path, {"facts": FACTS}, "facts", Contract.load(tmp_path / "facts.yaml", table="facts"))
    clock.advance(HOUR)
    (done,) = ingest(ws, tmp_path, {"facts": FACTS})
    assert (done.rows, done.quarantined, checked.refused) == (1, 1, 1)
    assert [v.rule for v in done.violations] == [v.rule for v in checked.violations] == ["told.logicalType"]
    (tmp_path / "facts.csv").write_text("id,value,at,told\n" + lines + f"7,1.0,{moments[0]},{moments[0]}\n")
    (again,) = ingest(ws, tmp_path, {"facts": FACTS})
    assert (again.rows, again.late, again.quarantined) == (1, 1, 0)


def test_dates_among_times_are_told_as_such(ws, tmp_path, clock):
    frame = pl.DataFrame({"id": [1, 2], "told": ["2025-01-01T00:00:00Z", "2025-01-02"]})
    with pytest.raises(Invalid, match="told holds dates and times, for example '2025-01-02'"):
        ingest(ws, tmp_path, {"t": TableSpec(source="t.csv", known_at="told")}, frames={"t": frame})


def test_a_table_whose_folder_is_gone_is_told_everywhere(ws, tmp_path, clock):
    clock.advance(HOUR)
    ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts((1, 1.0, 1))})
    shutil.rmtree(ws.root / "tables" / "facts")
    (card,) = catalogue(ws, {"facts": FACTS})
    assert card.gone
    for look in (
        lambda: show(ws, {"facts": FACTS}, tmp_path, "facts"),
        lambda: snapshot(ws, {"facts": FACTS}, project=tmp_path),
        lambda: ingest(ws, tmp_path, {"facts": FACTS}, frames={"facts": facts()}),
    ):
        with pytest.raises(Invalid, match="table facts is gone"):
            look()
    assert any("table facts" in c.name and c.state == "fail" for c in checks._tables(ws))


def test_a_column_that_changes_type_midway_is_told_once_and_a_contract_decides(tmp_path, ws, clock):
    head = "id,value,mail,at,told\n"
    line = "{},{},{},2026-01-01T00:00:00Z,2026-01-01T00:00:00Z\n".format
    source = tmp_path / "facts.csv"
    source.write_text(head + line(1, 5, 1) + line(2, 6, 2) + line(3, "n/a", "ada@example.org"))
    bare = FACTS.model_copy(update={"contract": None})
    made = ingest(ws, tmp_path, {"t": bare})[0]
    value, mail = made.mixed
    assert (value.column, value.kind, value.values, value.others, value.line) == ("value", "numbers", 2, 1, 4)
    assert (value.examples, value.source, mail.examples) == (("n/a",), "facts.csv", ()), "who is personal is not shown"
    assert "line 4 of facts.csv: 'n/a'" in mixed_lines("t", value)[0] and "logicalType" in mixed_lines("t", value)[1]
    assert ws.records.find(Ingestion, table="t")[0].mixed == made.mixed
    clock.set(START + HOUR)
    source.write_text(source.read_text() + line(4, 8, 3))
    assert not ingest(ws, tmp_path, {"t": bare})[0].mixed, "its earlier rows have made it text"
    declared = ingest(ws, tmp_path, {"facts": FACTS})[0]
    assert (declared.rows, declared.quarantined, [m.column for m in declared.mixed]) == (3, 1, ["mail"])
    clock.set(START + HOUR + HOUR / 2)
    (tmp_path / "t.yaml").write_text(CONTRACT.replace("name: facts", "name: t"))
    source.write_text(source.read_text() + line(5, 9, 3))
    with pytest.raises(Conflict, match="was String and is Float64 now") as late:
        ingest(ws, tmp_path, {"t": FACTS.model_copy(update={"contract": "t.yaml"})})
    assert "another name" in late.value.fix, "it is declared already: that is not what helps"
    [table] = draft(ws.tables.scan("t").collect(), "t").doc["schema"]
    drafted = {p["name"]: p.get("description", "") for p in table["properties"]}
    assert "3 of 4 values are numbers" in drafted["value"]
    source.write_text(head + line(1, 5, 1))
    ingest(ws, tmp_path, {"u": bare})
    clock.set(START + 2 * HOUR)
    source.write_text(head + line(1, 5, 1) + line(2, "n/a", 1))
    with pytest.raises(Conflict, match=r"was Int64 and is String now, first in line 3 of facts\.csv"):
        ingest(ws, tmp_path, {"u": bare})


def test_a_date_that_is_none_is_set_aside_where_dates_are_declared(tmp_path, ws):
    (tmp_path / "days.yaml").write_text(
        CONTRACT.replace("name: facts", "name: days").replace(
            "logicalType: number, logicalTypeOptions: {minimum: 0}", "logicalType: date"
        )
    )
    (tmp_path / "days.csv").write_text("id,value\n1,2026-01-01\n2,31/01/2026\n3,2026-01-03\n")
    spec = TableSpec(source="days.csv", contract="days.yaml", key=("id",))
    made = ingest(ws, tmp_path, {"days": spec})[0]
    assert (made.rows, made.quarantined, made.mixed) == (2, 1, ())
    assert rows(ws, "days") == [(1, date(2026, 1, 1)), (3, date(2026, 1, 3))]


def test_of_a_column_of_several_kinds_each_value_is_counted_as_what_it_is(tmp_path, ws):
    values = ["7"] * 10_000 + ["2.5", "x", "1e3"] * 100
    (tmp_path / "t.csv").write_text("id,v\n" + "".join(f"{n},{v}\n" for n, v in enumerate(values)))
    (made,) = ingest(ws, tmp_path, {"t": TableSpec(source="t.csv")})[0].mixed
    assert (made.kind, made.values, made.others, made.line, made.examples) == ("numbers", 10_200, 100, 10_003, ("x",))


def test_a_time_that_no_request_can_name_costs_its_row_in_any_kind_of_file(tmp_path, ws):
    edges = [("0000-01-01", "0000-05-01T08:00:00Z"), ("2000-1-1", "0001-01-01T00:00:00+14:00")]
    edges += [("+2000-01-01", "9999-12-31T23:59:59-14:00"), ("9999-12-31", "9999-12-31T00:00:00Z")]
    lines = [json.dumps({"id": n, "day": day, "at": at}) for n, (day, at) in enumerate(edges)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    (tmp_path / "t.csv").write_text("id,day,at\n" + "".join(f"{n},{d},{at}\n" for n, (d, at) in enumerate(edges)))
    far = pl.DataFrame({"id": [0, 1], "day": [-719_529, 0], "at": [2**58, 0]})
    far.cast({"day": pl.Int32}).cast({"day": pl.Date, "at": pl.Datetime("us", "UTC")}).write_parquet(
        tmp_path / "t.parquet"
    )
    props = "      - {name: day, logicalType: date}\n      - {name: at, logicalType: timestamp}\n"
    for kind, bad in (("jsonl", 3), ("csv", 3), ("parquet", 1)):
        (tmp_path / f"{kind}.yaml").write_text(
            CONTRACT[: CONTRACT.index("      - {name: id")].replace("facts", kind) + props
        )
        spec = {kind: TableSpec(source=f"t.{kind}", contract=f"{kind}.yaml")}
        told = check_source(tmp_path, spec, kind, Contract.load(tmp_path / f"{kind}.yaml"))
        (done,) = ingest(ws, tmp_path, spec)
        assert told.refused == done.quarantined == bad and done.rows == 1
        assert {v.rule: v.count for v in done.violations} == {"day.logicalType": bad, "at.logicalType": bad}
    with pytest.raises(Invalid, match="outside the years 1 to 9999"):
        ingest(ws, tmp_path, {"bare": TableSpec(source="t.parquet")})


def test_each_digit_of_a_whole_number_in_text_counts():
    texts = [
        "3",
        "3.0",
        "3e0",
        "9007199254740993",
        "9007199254740993.0",
        "9007199254740993e0",
        "1e18",
        "2e19",
        "2.5",
        "x",
    ]
    read, unreadable = read_declared(pl.DataFrame({"id": texts}), Contract.from_doc(read_yaml(CONTRACT, "facts.yaml")))
    great = [2**53 + 1] * 3
    assert read["id"].to_list() == [3, 3, 3, *great, 10**18, None, None, None]
    assert unreadable["id.logicalType"].to_list() == [False] * 7 + [True] * 3
