"""A row of a file is judged as a request with the same values is, whatever else stands in the file."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.test_contract_agreement import TEXTS, properties

from loopline.base.clock import ManualClock
from loopline.base.errors import Invalid
from loopline.data import Contract, TableSpec, ingest, readmit
from loopline.data.sources import parts as sources_module
from loopline.workspace import create_workspace

NOW = datetime(2026, 3, 1, tzinfo=UTC)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**63, 10**19, 10**30, 1.0, 2.5, -0.0, 1e300]),
    st.sampled_from([*TEXTS, "1", "1.0", "true", "2026-01-31", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00", "soon"]),
    st.sampled_from([[1], ["x"], {"k": 1}]),
)


def contract(tmp_path, props):
    doc = {"apiVersion": "v3.1.0", "kind": "DataContract", "schema": [{"name": "rows", "properties": props}]}
    agreed = Contract.from_doc(doc)
    (tmp_path / "rows.yaml").write_text(agreed.to_yaml())
    return agreed


def verdicts(tmp_path, source, sourced):
    """Ids of the broken rules by row, as an ingestion of a file says them."""
    spec = {"rows": TableSpec(source=source, contract="rows.yaml")}
    with_rows = create_workspace(tmp_path / "ws", clock=ManualClock(NOW), actor="user:ada")
    try:
        ingest(with_rows, tmp_path, spec)
        found = {place: [] for place in with_rows.tables.scan("rows").collect()["place"].to_list()}
        if with_rows.tables.version("quarantine/rows") is not None:
            bad = with_rows.tables.scan("quarantine/rows").collect()
            found |= {int(r["place"]): r["broken_rules"].split(", ") for r in bad.iter_rows(named=True)}
        return [found[n] for n in range(sourced)]
    finally:
        with_rows.close()


def asked(agreed, rows):
    return [list(agreed.judge_row(agreed.read_row(row)).broken) for row in rows]


def test_arrays_that_hold_values_of_several_types_are_kept_as_texts(tmp_path):
    agreed = contract(tmp_path, [{"name": "x", "required": False, "logicalType": "array"}])
    rows = [{"x": None}, {"x": False}, {"x": [1]}, {"x": ["x"]}, {"x": [None, 2.5]}]
    lines = [json.dumps({"place": n, **row}) for n, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    assert verdicts(tmp_path, "rows.jsonl", len(rows)) == asked(agreed, rows)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_row_of_json_lines_is_judged_as_a_request_is_whatever_stands_beside_it(tmp_path_factory, data):
    tmp_path = tmp_path_factory.mktemp("json")
    props = data.draw(st.lists(properties(), min_size=1, max_size=3, unique_by=lambda p: p["name"]))
    agreed = contract(tmp_path, props)
    rows = data.draw(st.lists(st.fixed_dictionaries({p["name"]: VALUES for p in props}), min_size=1, max_size=6))
    lines = [json.dumps({"place": n, **row}) for n, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    large = not any(p.get("logicalType") in ("array", "object") for p in props) and data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as few:
        if large:
            few.setattr(sources_module, "LARGE_BYTES", 1)
            few.setattr(sources_module, "BATCH_ROWS", 2)
        assert verdicts(tmp_path, "rows.jsonl", len(rows)) == asked(agreed, rows)


FRAMES = {
    "integer": (pl.Int64, st.integers(-3, 3)),
    "number": (pl.Float64, st.sampled_from([0.0, -1.5, 3.0, math.inf])),
    "string": (pl.String, st.sampled_from([*TEXTS, "1", "true", "2026-01-31", "2026-01-31T12:00:00Z"])),
    "boolean": (pl.Boolean, st.booleans()),
    "date": (pl.Date, st.sampled_from([date(2026, 1, 31), date(1999, 2, 3)])),
}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_row_of_parquet_or_delta_is_judged_as_a_request_is(tmp_path_factory, data):
    tmp_path = tmp_path_factory.mktemp("typed")
    props = data.draw(st.lists(properties(), min_size=1, max_size=3, unique_by=lambda p: p["name"]))
    agreed = contract(tmp_path, props)
    height = data.draw(st.integers(1, 4))
    columns = {"place": pl.Series(range(height))}
    for prop in props:
        dtype, values = FRAMES[data.draw(st.sampled_from(sorted(FRAMES)))]
        listed = data.draw(st.lists(st.none() | values, min_size=height, max_size=height))
        columns[prop["name"]] = pl.Series(listed, dtype=dtype)
    frame = pl.DataFrame(columns)
    rows = frame.drop("place").to_dicts()
    if data.draw(st.booleans()):
        frame.write_parquet(tmp_path / "rows.parquet")
        source = "rows.parquet"
    else:
        frame.write_delta(tmp_path / "lake")
        source = "lake"
    assert verdicts(tmp_path, source, height) == asked(agreed, rows)


def test_a_row_that_was_refused_for_its_type_stays_refused_while_the_contract_is_the_same(tmp_path):
    contract(tmp_path, [{"name": "n", "logicalType": "integer"}, {"name": "s", "logicalType": "string"}])
    rows = [{"n": "1", "s": "x"}, {"n": 2, "s": 5}, {"n": 3, "s": "y"}, {"n": 4.0, "s": None}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tables = {"rows": TableSpec(source="rows.jsonl", contract="rows.yaml")}
    ws = create_workspace(tmp_path / "ws", clock=ManualClock(NOW), actor="user:ada")
    ingest(ws, tmp_path, tables)
    assert sorted(ws.tables.scan("rows").collect()["n"]) == [3, 4]
    assert readmit(ws, tmp_path, tables, table="rows")[0].kept == 2
    contract(tmp_path, [{"name": "n", "logicalType": "integer"}, {"name": "s"}])
    assert readmit(ws, tmp_path, tables, table="rows")[0].kept == 1


@pytest.mark.parametrize("word", ["Infinity", "-Infinity", "NaN", "nul", '"open'])
def test_a_line_that_is_no_json_is_named(tmp_path, word):
    contract(tmp_path, [{"name": "x", "logicalType": "number"}])
    (tmp_path / "rows.jsonl").write_text('{"place": 0, "x": 1}\n\n{"place": 1, "x": ' + word + "}\n")
    with pytest.raises(Invalid, match="line 3, cannot be read as JSON"):
        verdicts(tmp_path, "rows.jsonl", 2)


def test_a_number_of_csv_is_judged_alike_alone_and_beside_what_is_none(tmp_path):
    contract(tmp_path, [{"name": "n", "logicalType": "integer"}])
    (tmp_path / "a.csv").write_text("place,n\n0,3.0\n1,1e2\n2,2.5\n3,x\n")
    assert verdicts(tmp_path, "a.csv", 4) == [[], [], ["n.logicalType"], ["n.logicalType"]]
