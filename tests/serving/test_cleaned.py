"""A request is repaired, read and judged as a row of a file is at intake: the same verdict, the same features."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline import data
from loopline.base.clock import ManualClock
from loopline.base.errors import Invalid
from loopline.base.ids import canonical
from loopline.data.contracts.judging import quarantine_of
from loopline.data.spec import TableSpec
from loopline.features import compute
from loopline.features.requests import request_doc
from loopline.features.views import load_views
from loopline.serving.assembled import AssembledInputs, inputs_of
from loopline.serving.inputs import Inputs
from loopline.testing.inference import linear_bundle
from loopline.training.bundle import Bundle, read_bundle
from loopline.training.encoding import Input
from loopline.workspace import create_workspace

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FILE = """
from loopline.features import col, minutes_since, view

@view(entity="order")
def own():
    return {"mass": col("size") / 2, "minute": col("opened").minute_of_day("UTC"), "place": col("shop").category(),
            "day": col("opened").weekday("Europe/Vienna"), "gift": col("gift").fill(False)}
"""
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: orders
name: orders
version: 1.0.0
status: active
schema:
  - name: orders
    properties:
      - {name: order, logicalType: string, required: true}
      - {name: shop, logicalType: string, required: true, logicalTypeOptions: {pattern: '[a-z]+'}}
      - {name: size, logicalType: number, logicalTypeOptions: {minimum: 0, maximum: 50}}
      - {name: gift, logicalType: boolean}
      - name: opened
        logicalType: timestamp
        required: true
        logicalTypeOptions: {defaultTimezone: Europe/Vienna}
"""
SPEC = TableSpec.model_validate(
    {
        "source": "o.csv",
        "contract": "orders.yaml",
        "key": ["order"],
        "clean": [
            {"column": ["shop", "size", "gift"], "trim": True},
            {"column": "shop", "map": {"AA": "a", "n": "nord"}},
            {"column": ["shop", "opened", "gift"], "null": ["n/a", "?"]},
            {"column": ["size", "note"], "replace": " ?kg$"},
            {"column": "opened", "replace": " Uhr$"},
            {"column": "size", "null": [-1]},
            {"column": "size", "from": "g", "to": "kg"},
            {"column": "size", "fill": 7.5},
            {"duplicates": ["order"]},
        ],
    }
)
INPUTS = [
    Input("mass", "number", (), True, 0.1, 0.0, 50.0),
    Input("minute", "number", (), False, 0.0, 0.0, 1440.0),
    Input("place", "category", ("a", "b", "nord"), False, 0.0),
    Input("day", "number", (), True, 0.0, 0.0, 7.0),
    Input("gift", "number", (), True, 0.0, 0.0, 1.0),
]
SCHEMA = {"order": pl.String, "shop": pl.String, "size": pl.Float64, "gift": pl.Boolean,
          "opened": pl.Datetime("us", "UTC")}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root: Path = tmp_path_factory.mktemp("project")
    (root / "views.py").write_text(FILE)
    (root / "orders.yaml").write_text(CONTRACT)
    return root


def bundle(project: Path, spec: TableSpec = SPEC) -> Bundle:
    made = read_bundle(linear_bundle(INPUTS, [0.1] * len(INPUTS)))
    doc = request_doc(project, ["views.py"], load_views(project, ["views.py"]), spec, SCHEMA)
    made.manifest["request"] = json.loads(canonical(doc))
    return made


numbers = st.sampled_from(["1200", " 900 kg", "3e3", "-1", "kg", "", "12,5", "nan", "inf", "60000", "1_0", "+4", "-0"])
rows = st.lists(
    st.fixed_dictionaries(
        {
            "shop": st.none() | st.sampled_from([" a", "AA", "n\t", "n/a", "B", "", "?", "b"]),
            "size": st.none() | numbers | st.floats(-10, 1e5, width=32).map(repr),
            "gift": st.none() | st.sampled_from([" true", "FALSE", "yes", "?", ""]),
            "opened": st.none()
            | st.sampled_from(
                [
                    "2026-03-29T02:30:00",
                    "2026-03-01T10:00:00",
                    "2026-03-01 10:00:00Z",
                    "2026-03-01T10:00:00 Uhr",
                    "?",
                    "soon",
                    "",
                ]
            )
            | st.integers(0, 400).map(lambda n: (NOW - timedelta(hours=7 * n)).isoformat()),
        }
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(given_rows=rows)
def test_a_request_is_repaired_and_judged_as_a_row_of_a_file(project, tmp_path_factory, given_rows):
    ws = create_workspace(tmp_path_factory.mktemp("ws") / "w", clock=ManualClock(NOW), actor="user:test")
    frame = pl.DataFrame(
        [{"order": str(n), **row} for n, row in enumerate(given_rows)], schema=dict.fromkeys(SCHEMA, pl.String)
    )
    data.ingest(ws, project, {"orders": SPEC}, frames={"orders": frame})
    kept = ws.tables.scan("orders").collect() if ws.tables.version("orders") is not None else pl.DataFrame()
    bad = (
        ws.tables.scan(quarantine_of("orders")).collect()
        if ws.tables.version(quarantine_of("orders")) is not None
        else None
    )
    told = {} if bad is None else dict(bad.select("order", "broken_rules").rows())
    views = load_views(project, ["views.py"])
    made = {}
    if kept.height:
        spine = kept.cast({"gift": pl.Boolean}).with_columns(decision_time=pl.lit(NOW).cast(SCHEMA["opened"]))
        made = {row["order"]: row for row in compute(views, spine, {}, unit="order").to_dicts()}
    inputs = AssembledInputs(bundle(project))
    for n, row in enumerate(given_rows):
        judged = inputs.judge(row, round(NOW.timestamp() * 1e6))
        if str(n) in told:
            assert judged.hard and ", ".join(judged.broken) == told[str(n)], row
        else:
            expected = Inputs(INPUTS).judge({name: made[str(n)][name] for name in views.names})
            assert judged == expected, row
    ws.close()


def test_a_column_that_a_request_leaves_out_is_filled_like_one_without_a_value(project):
    inputs = AssembledInputs(bundle(project))
    row = {"shop": "a", "opened": "2026-03-01T10:00:00"}
    assert inputs.judge(row) == inputs.judge({**row, "size": None}) == inputs.judge({**row, "size": "7500"})
    assert inputs.judge(row).values[0] == 3.75


def test_repairs_of_other_columns_do_not_travel(project):
    doc = bundle(project).manifest["request"]
    assert doc["clean"][0]["column"] == ["shop", "size", "gift"]
    assert not any("duplicates" in rule or "note" in rule["column"] for rule in doc["clean"])
    spec = SPEC.model_copy(update={"clean": SPEC.clean[:1]})
    (rule,) = bundle(project, spec).manifest["request"]["clean"]
    assert rule == {"column": ["shop", "size", "gift"], "trim": True}


def test_the_document_of_a_later_version_is_refused_and_one_of_before_is_read(project):
    made = bundle(project)
    made.manifest["request"]["format"] = 9
    with pytest.raises(Invalid, match="does not say"):
        AssembledInputs(made)
    before = bundle(project)
    doc = before.manifest["request"]
    before.manifest["request"] = {key: doc[key] for key in ("groups", "columns", "contract")} | {"format": 1}
    judged = inputs_of(before).judge({"shop": "a", "size": 3.0, "opened": "2026-03-01T10:00:00Z"})
    assert judged.values[:2] == (1.5, 600.0) and not judged.hard
