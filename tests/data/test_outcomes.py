"""Labels: true, false, void or not known yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.clock import ManualClock
from loopline.base.errors import Invalid
from loopline.data import TableSpec, ingest, labels
from loopline.data.labelling.outcomes import label_expression
from loopline.framing.spec import FramingSpec
from loopline.workspace import create_workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
numbers = st.one_of(st.none(), st.integers(-3, 3))


def value(text, **columns):
    frame = pl.DataFrame(columns)
    return frame.select(label_expression(text, frame.schema)).to_series().to_list()


def python(text, row):
    """Kleene logic and null arithmetic, the slow way."""
    import ast

    def go(node):
        match node:
            case ast.Expression():
                return go(node.body)
            case ast.Name():
                return row[node.id]
            case ast.Constant():
                return node.value
            case ast.UnaryOp(op=ast.Not()):
                inner = go(node.operand)
                return None if inner is None else not inner
            case ast.BoolOp():
                parts = [go(v) for v in node.values]
                final = isinstance(node.op, ast.Or)
                return final if final in parts else None if None in parts else not final
        left, right = (go(node.left), go(node.right if isinstance(node, ast.BinOp) else node.comparators[0]))
        if left is None or right is None or (isinstance(getattr(node, "op", None), ast.Div) and right == 0):
            return None
        op = node.op if isinstance(node, ast.BinOp) else node.ops[0]
        signs = {"Add": "+", "Sub": "-", "Mult": "*", "Div": "/", "Gt": ">", "LtE": "<=", "Eq": "==", "NotEq": "!="}
        return eval(f"left {signs[type(op).__name__]} right")

    return go(ast.parse(text, mode="eval"))


names = st.sampled_from(["x", "y", "1", "2.5", "0"])
sums = st.recursive(names, lambda e: st.builds("({} {} {})".format, e, st.sampled_from("+-*/"), e), max_leaves=4)
tests = st.builds("(x + {} {} {})".format, sums, st.sampled_from([">", "<=", "==", "!="]), sums)
logic = st.recursive(
    tests,
    lambda e: st.one_of(
        st.builds("({} {} {})".format, e, st.sampled_from(["and", "or"]), e), st.builds("(not {})".format, e)
    ),
    max_leaves=3,
)


@settings(max_examples=150, deadline=None)
@given(logic, numbers, numbers)
def test_a_label_expression_means_what_python_means_with_null_kept(text, x, y):
    frame = pl.DataFrame({"x": [x], "y": [y]}, schema={"x": pl.Int64, "y": pl.Int64})
    assert frame.select(label_expression(text, frame.schema)).item() == python(text, {"x": x, "y": y})


def test_null_stays_null_and_nan_is_null():
    assert value("delay > 15", delay=[20.0, 10.0, None, float("nan")]) == [True, False, None, None]
    assert value("state in ['a', 'b']", state=["a", "c", None]) == [True, False, None]
    assert value("a name with spaces", **{"a name with spaces": [True, None]}) == [True, None]
    assert value("0 < x <= 2", x=[0, 1, 2, 3, None]) == [False, True, True, False, None]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "x.mean()",
        "x if y else 1",
        "[x]",
        "x > ",
        "z > 1",
        "lambda: 1",
        "x ** 2",
        "x is None",
        "1 > 0",
    ],
)
def test_anything_outside_the_closed_set_is_refused(text):
    with pytest.raises(Invalid, match="label"):
        value(text, x=[1], y=[2])


def test_the_newest_answer_known_at_the_time_counts(tmp_path):
    clock = ManualClock(START)
    ws = create_workspace(tmp_path, clock=clock, actor="user:ada")
    tables = {"outcomes": TableSpec(source="o.csv", event_time="at", known_at="told", key=("id",))}
    framing = FramingSpec(label={"table": "outcomes", "value": "late > 15"}, unit="id")
    told = pl.DataFrame(
        {
            "id": [1, 2, 3, 1],
            "late": [20, None, 3, 10],
            "at": [START] * 4,
            "told": [START + HOUR, START + HOUR, START + 2 * HOUR, START + 3 * HOUR],
        }
    )
    clock.advance(timedelta(days=1))
    ingest(ws, tmp_path, tables, frames={"outcomes": told})

    def at(hours, **kw):
        found = labels(ws, framing, tables, START + hours * HOUR, **kw)
        assert found.columns == ["id", "label", "event_time", "known_at"]
        return dict(found.select("id", "label").rows())

    assert at(0) == {}
    assert at(1) == {1: True, 2: None}
    assert at(3) == {1: False, 2: None, 3: False}
    assert at(3, since=START + 2 * HOUR) == {1: False}


def test_a_column_that_is_no_answer_is_refused_with_a_way_out(tmp_path):
    clock = ManualClock(START)
    ws = create_workspace(tmp_path, clock=clock, actor="user:ada")
    tables = {"data": TableSpec(source="customers.csv")}
    (tmp_path / "customers.csv").write_text("id,churned,score\n1,yes,0\n2,no,7\n")
    ingest(ws, tmp_path, tables)
    with pytest.raises(Invalid, match='churned == "yes"'):
        labels(ws, FramingSpec(label="churned", unit="id"), tables, clock())
    with pytest.raises(Invalid, match="neither 0 nor 1"):
        labels(ws, FramingSpec(label="score", unit="id"), tables, clock())
    with pytest.raises(Invalid, match="no column 'nobody'"):
        labels(ws, FramingSpec(label="score", unit="nobody"), tables, clock())
    with pytest.raises(Invalid, match="cannot be read"):
        labels(ws, FramingSpec(label="churned > 3", unit="id"), tables, clock())
    assert labels(ws, FramingSpec(label='churned == "yes"', unit="id"), tables, clock())["label"].to_list() == [
        True,
        False,
    ]


HOURS = st.integers(0, 5)
ANSWERS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from([True, False, None]), HOURS, st.sampled_from([None, 0.2, 0.5, 0.9])),
    max_size=8,
    unique_by=lambda row: (row[0], row[2]),
)


@settings(max_examples=10, deadline=None)
@given(ANSWERS, ANSWERS, ANSWERS, HOURS, HOURS)
def test_labels_of_several_sources_are_those_known_then_best_source_first(
    tmp_path_factory, strong, agents, guesses, asked, since
):
    folder = tmp_path_factory.mktemp("w")
    clock = ManualClock(START)
    ws = create_workspace(folder, clock=clock, actor="user:ada")
    spec = TableSpec(source="x.csv", key="id", known_at="told")
    tables = {"outcomes": spec, "agents": spec, "guesses": spec}
    framing = FramingSpec(
        label={
            "table": "outcomes",
            "value": "left",
            "weak": [
                {"table": "agents", "value": "left", "confidence": 0.7},
                {"table": "guesses", "value": "left", "confidence": "sure", "at_least": 0.5},
            ],
        },
        unit="id",
    )
    schema = {"id": pl.Int64, "left": pl.Boolean, "h": pl.Int64, "sure": pl.Float64}
    for hour in range(6):
        clock.set(START + hour * HOUR)
        frames = {}
        for name, rows in (("outcomes", strong), ("agents", agents), ("guesses", guesses)):
            frame = pl.DataFrame(rows, schema=schema, orient="row")
            frames[name] = frame.with_columns(told=pl.lit(START) + pl.duration(hours="h")).drop("h")
        ingest(ws, folder, tables, frames=frames)

    def slow(unit):
        for name, rows in (("outcomes", strong), ("agents", agents), ("guesses", guesses)):
            told = [row for row in rows if row[0] == unit and row[2] <= asked]
            if not told:
                continue
            _, answer, hour, sure = max(told, key=lambda row: row[2])
            sure = {"outcomes": 1.0, "agents": 0.7}.get(name, 1.0 if sure is None else sure)
            if name == "outcomes" or (answer is not None and (name != "guesses" or sure >= 0.5)):
                return answer, hour, sure, name
        return None

    wanted = {unit: found for unit in (1, 2, 3) if (found := slow(unit))}
    at = START + asked * HOUR
    found = labels(ws, framing, tables, at)
    shown = found.select("id", "label", (pl.col("known_at") - START).dt.total_hours(), "confidence", "source").rows()
    assert {row[0]: row[1:] for row in shown} == wanted
    fresh = labels(ws, framing, tables, at, since=START + since * HOUR)
    assert set(fresh["id"]) == {unit for unit, one in wanted.items() if one[1] > since}


def test_a_confidence_outside_its_range_is_refused(tmp_path):
    clock = ManualClock(START)
    ws = create_workspace(tmp_path, clock=clock, actor="user:ada")
    tables = {"o": TableSpec(source="o.csv")}
    (tmp_path / "o.csv").write_text("id,left,sure\n1,true,0.5\n2,false,7\n")
    ingest(ws, tmp_path, tables)
    with pytest.raises(Invalid, match=r"7\.0 lies outside"):
        labels(ws, FramingSpec(label={"value": "left", "confidence": "sure"}, unit="id"), tables, clock())
    with pytest.raises(Invalid, match="no column 'doubt'"):
        labels(ws, FramingSpec(label={"value": "left", "confidence": "doubt"}, unit="id"), tables, clock())
