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
from loopline.data.outcomes import label_expression
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
