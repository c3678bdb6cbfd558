"""The query and the row function are one contract."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data import Contract
from loopline.data.contracts.rules import SET_KINDS

EPOCH = datetime(1990, 1, 1)  # noqa: DTZ001
BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
HUGE = [0, 1, -1, 2**31 - 1, 2**31, -(2**31), 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
ODD_FLOATS = [0.0, -0.0, 0.1, 2.5, 3.0, 2.0**53, 2.0**63, -(2.0**63), 1e300, math.nan, math.inf, -math.inf]
TEXTS = ["", "a", "A1", "ab\n", "é", "e\u0301", "٣", "𝔸", "a b", "x\x00y", "line\nline", "\x1c", " ", "_"]
PATTERNS = [r"[A-Z]\d+", r"\w*", r"\s+", r".+", r"a|b|é", r"[^a]*", r"\D{1,3}", r"(ab?)+\n?", r"[\w.-]+", r"^a.$"]

texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=4))
GREAT = [2**53, -(2**53), 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, -(2**70), 10**300]
bound = st.one_of(st.sampled_from([0, 1, -3, 2.5, 0.1, 2**31, *GREAT]), st.integers(-5, 5), st.floats(-9, 9))
moments = st.integers(0, 2**50).map(lambda us: EPOCH + timedelta(microseconds=us))


@st.composite
def properties(draw):
    kind = draw(st.sampled_from(["string", "integer", "number", "boolean", "timestamp", "date", None, "array"]))
    options, quality = {}, []
    if kind in ("integer", "number"):
        drawn = bound if kind == "integer" else st.one_of(bound, st.sampled_from([2**60, 2.0**63, -1e19, 1e300]))
        options = {name: draw(drawn) for name in BOUNDS if draw(st.booleans())}
        if draw(st.booleans()):
            whole = st.one_of(st.integers(-3, 3), st.sampled_from(GREAT))
            valid = whole if kind == "integer" else st.one_of(whole, st.sampled_from([0.1, 2.5, 2.0**63, 1e300]))
            quality = [_valid(draw(st.lists(valid, min_size=1, max_size=4)))]
    if kind == "string":
        for name in ("minLength", "maxLength"):
            if draw(st.booleans()):
                options[name] = draw(st.integers(0, 4))
        if draw(st.booleans()):
            options["pattern"] = draw(st.sampled_from(PATTERNS))
        if draw(st.booleans()):
            quality = [_valid(draw(st.lists(texts, min_size=1, max_size=4)))]
    if kind == "boolean" and draw(st.booleans()):
        quality = [_valid([draw(st.booleans())])]
    if kind == "timestamp":
        options = {n: draw(moments).replace(tzinfo=UTC).isoformat() for n in BOUNDS if draw(st.booleans())}
    if kind == "date":
        options = {n: draw(moments).date().isoformat() for n in BOUNDS if draw(st.booleans())}
    prop = {"name": draw(st.sampled_from(["x", "a b", "é'\"", "\\"])), "required": draw(st.booleans())}
    return (
        prop
        | ({"logicalType": kind} if kind else {})
        | ({"logicalTypeOptions": options} if options else {})
        | ({"quality": quality} if quality else {})
    )


def _valid(values):
    return {"metric": "invalidValues", "arguments": {"validValues": values}, "mustBe": 0}


def column(dtype, values):
    return st.lists(st.one_of(st.none(), values), min_size=0, max_size=8).map(lambda v: pl.Series("v", v, dtype=dtype))


small = st.integers(-6, 6)
columns = st.one_of(
    column(pl.Int64, st.one_of(small, st.sampled_from(HUGE))),
    column(pl.Int8, small),
    column(pl.Int32, st.one_of(small, st.sampled_from([2**31 - 1, -(2**31)]))),
    column(pl.UInt64, st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1])),
    column(pl.Int128, st.one_of(small, st.sampled_from([2**63, -(2**63) - 1, 2**70, *HUGE]))),
    column(pl.Float64, st.one_of(st.sampled_from(ODD_FLOATS), small.map(float), st.floats())),
    column(pl.Float32, st.one_of(st.sampled_from([0.1, math.nan, math.inf, 2.0**63, 2.5]), st.floats(width=32))),
    column(pl.Decimal(10, 2), st.sampled_from([Decimal("0.10"), Decimal("2.50"), Decimal("-3.00")])),
    column(pl.String, texts),
    column(pl.Categorical, st.sampled_from(["a", "A1", "é"])),
    column(pl.Boolean, st.booleans()),
    column(pl.Datetime("us", "UTC"), moments.map(lambda m: m.replace(tzinfo=UTC))),
    column(pl.Datetime("us", "America/New_York"), moments.map(lambda m: m.replace(tzinfo=UTC))),
    column(pl.Datetime("us"), moments),
    column(pl.Date, moments.map(datetime.date)),
    column(pl.Time, moments.map(datetime.time)),
    column(pl.List(pl.Int64), st.lists(small, max_size=2)),
    column(pl.Struct({"k": pl.Int64}), st.fixed_dictionaries({"k": small})),
    st.integers(0, 4).map(lambda n: pl.Series("v", [None] * n, dtype=pl.Null)),
)


def contract(*props):
    doc = {"apiVersion": "v3.1.0", "kind": "DataContract", "schema": [{"name": "t", "properties": list(props)}]}
    return Contract.from_doc(doc)


def broken_in_batch(agreed, frame):
    """Rule ids per row, from the query: one row at a time, so that only it is asked."""
    return [
        [
            rule.id
            for rule in agreed.rules
            if rule.kind not in SET_KINDS and agreed.counts(frame[i : i + 1].lazy())[rule.id]
        ]
        for i in range(frame.height)
    ]


FITTING = {
    "integer": (pl.Int64, small),
    "number": (pl.Float64, st.one_of(small.map(float), st.sampled_from(ODD_FLOATS))),
    "string": (pl.String, texts),
    "boolean": (pl.Boolean, st.booleans()),
    "timestamp": (pl.Datetime("us", "UTC"), moments.map(lambda m: m.replace(tzinfo=UTC))),
    "date": (pl.Date, moments.map(datetime.date)),
}


@settings(max_examples=250, deadline=None)
@given(properties(), st.data())
def test_the_query_and_the_row_function_say_the_same_of_every_row(prop, data):
    kind = prop.get("logicalType")
    fitting = column(*FITTING[kind]) if kind in FITTING and data.draw(st.booleans()) else columns
    values = data.draw(fitting)
    agreed = contract(prop)
    frame = pl.DataFrame({prop["name"]: values})
    rows = frame.to_dicts()
    by_row = [list(agreed.judge_row(row).broken) for row in rows]
    counts = agreed.counts(frame.lazy())
    assert counts == {rule.id: sum(rule.id in broken for broken in by_row) for rule in agreed.rules}
    checked = agreed.check(frame)
    assert checked.bad["broken_rules"].to_list() == [broken for broken in by_row if broken]
    assert checked.good.height == sum(not broken for broken in by_row)


@settings(max_examples=60, deadline=None)
@given(st.lists(properties(), max_size=3, unique_by=lambda p: p["name"]), st.data())
def test_columns_are_judged_apart_and_an_absent_one_counts_as_missing(props, data):
    agreed = contract(*props)
    height = data.draw(st.integers(0, 4))
    present = {
        p["name"]: data.draw(columns).extend_constant(None, height).head(height)
        for p in props
        if data.draw(st.booleans())
    }
    frame = pl.DataFrame(present)
    if not frame.width:
        return
    for broken, row in zip(broken_in_batch(agreed, frame), frame.to_dicts(), strict=True):
        assert broken == list(agreed.judge_row(row).broken)


@given(st.one_of(st.integers(), st.floats(), st.booleans(), texts, st.none(), st.decimals(), st.binary(), moments))
def test_the_row_function_judges_any_value_and_never_raises(value):
    for kind in ("string", "integer", "number", "boolean", "timestamp", "date", "time", "object", "array"):
        assert contract({"name": "x", "logicalType": kind, "required": True}).row_rules()({"x": value}) in (
            [],
            ["x.required"],
            ["x.logicalType"],
        )


def test_what_is_pinned_about_values():
    rules = {
        kind: contract({"name": "x", "logicalType": kind, "required": True}).row_rules()
        for kind in ("integer", "number", "string", "timestamp", "date", "boolean")
    }
    zone = timezone(timedelta(hours=2))
    for kind, value, broken in [
        ("integer", 3.0, []),
        ("integer", 3.5, ["x.logicalType"]),
        ("integer", True, ["x.logicalType"]),
        ("integer", 2**63, ["x.logicalType"]),
        ("integer", math.nan, ["x.required"]),
        ("integer", math.inf, ["x.logicalType"]),
        ("number", math.inf, []),
        ("number", math.nan, ["x.required"]),
        ("number", "1", ["x.logicalType"]),
        ("string", "", []),
        ("string", 1, ["x.logicalType"]),
        ("timestamp", datetime(2026, 1, 1), ["x.logicalType"]),  # noqa: DTZ001
        ("timestamp", datetime(2026, 1, 1, tzinfo=zone), []),
        ("date", date(2026, 1, 1), []),
        ("date", datetime(2026, 1, 1, tzinfo=UTC), ["x.logicalType"]),
        ("boolean", 1, ["x.logicalType"]),
    ]:
        assert rules[kind]({"x": value}) == broken, (kind, value)
        assert rules[kind]({}) == ["x.required"]


@given(st.lists(st.one_of(st.none(), st.sampled_from([math.nan, 0.0, -0.0, 1.0, 2.0])), max_size=12))
def test_unique_is_broken_by_surplus_rows_and_missing_values_are_not_compared(values):
    agreed = contract({"name": "x", "unique": True})
    frame = pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)})
    present = [v for v in values if v is not None and v == v]
    surplus = len(present) - len(set(present))
    assert agreed.counts(frame.lazy())["x.unique"] == surplus
    checked = agreed.check(frame)
    assert checked.bad.height == surplus
    assert checked.good.height == len(values) - surplus


@pytest.mark.parametrize("kind", ["integer", "number"])
def test_neighbours_beyond_what_floats_tell_apart_are_told_apart(kind):
    n = 2**53 + 1
    listed = contract({"name": "v", "logicalType": kind, "quality": [_valid([n])]})
    bounded = contract({"name": "v", "logicalType": kind, "logicalTypeOptions": {"minimum": n}})
    near = pl.DataFrame({"v": [n - 1, n, n + 1]})
    for agreed, good in ((listed, [n]), (bounded, [n, n + 1])):
        assert agreed.check(near).good["v"].to_list() == good
        assert [row["v"] for row in near.to_dicts() if not agreed.judge_row(row).broken] == good
    floats = pl.DataFrame({"v": [2.0**53, 2.0**53 + 2]})
    assert (listed.check(floats).good.height, bounded.check(floats).good["v"].to_list()) == (0, [2.0**53 + 2])
    assert contract({"name": "v", "logicalType": kind, "logicalTypeOptions": {"minimum": n - 1}}).id != bounded.id


def test_nan_is_missing_to_every_rule_of_a_number():
    for kind in BOUNDS:
        agreed = contract({"name": "x", "logicalType": "number", "logicalTypeOptions": {kind: 0}})
        assert agreed.check(pl.DataFrame({"x": [math.nan, None]})).violations == ()
        assert agreed.row_rules()({"x": math.nan}) == []
    agreed = contract({"name": "x", "logicalType": "number", "quality": [_valid([0])]})
    assert agreed.check(pl.DataFrame({"x": [math.nan, None]})).violations == ()
