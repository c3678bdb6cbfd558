from __future__ import annotations

import math

import msgspec
import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.serving.inputs import Inputs, bounds, expected_rise, leading, row_type, shown_range
from loopline.training.encoding import Input, encode

INPUTS = (
    Input("a", "number", (), False, 0.0, -1.5, 2.5),
    Input("b b", "number", (), True, 0.3, 0.1, 0.1),
    Input("c", "category", ("", "x", "y"), True, 0.01),
    Input("class", "category", ("1", "true"), False, 0.0),
    Input("e", "number", (), True, 1.0, None, None),
)
NEWER = Inputs(
    (
        INPUTS[0],
        Input("b b", "number", (), False, 0.0, 0.0, 0.5),
        Input("c", "category", ("x", "z"), True, 0.01),
        Input("f", "number", (), False, 0.0, 0, 9),
    )
)
OURS = Inputs(INPUTS)

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 4),
    st.floats(-3, 4, width=32),
    st.sampled_from(["", "x", "y", "z", "1", "true", "q", 0.1, -1.5, 2.5, 1e300]),
    st.just([1]),
)
good = {
    "a": st.floats(-1.5, 2.5, width=32),
    "b b": st.sampled_from([None, 0.1]),
    "c": st.sampled_from([None, "x", "y"]),
    "class": st.sampled_from(["1", "true"]),
    "e": st.sampled_from([None, 7.0]),
    "f": st.integers(0, 9),
}
faults = st.dictionaries(st.sampled_from([*good, "other"]), st.one_of(anything, st.just(...)), max_size=2)


@st.composite
def sent(draw):
    """A row with at most two faults; `...` leaves a key out."""
    row = {**draw(st.fixed_dictionaries(good)), **draw(faults)}
    return {name: value for name, value in row.items() if value is not ...}


rows = sent()


@settings(max_examples=500)
@given(rows)
def test_the_typed_way_takes_exactly_the_rows_that_break_no_rule_and_reads_them_the_same(row):
    versions = (OURS, NEWER)
    judged = [v.judge(row) for v in versions]
    try:
        typed = msgspec.json.decode(msgspec.json.encode(row), type=row_type(versions))
    except msgspec.ValidationError:
        whole = any(isinstance(row.get(n), bool) for n in ("a", "b b", "e", "f")) or any(
            isinstance(row.get(n), int) for n in ("c", "class")
        )
        unseen_by_one = row.get("c") in ("", "y", "z") if isinstance(row.get("c"), str) else False
        assert any(j.broken for j in judged) or whole or unseen_by_one
    else:
        assert not any(j.broken for j in judged)
        assert [v.values(typed) for v in versions] == [j.values for j in judged]


@settings(max_examples=200)
@given(rows)
def test_a_row_without_hard_faults_is_read_as_training_read_it(row):
    judged = OURS.judge(row)
    if judged.hard:
        return
    columns = {}
    for i in INPUTS:
        value = row.get(i.name)
        if i.kind == "category":
            text = None if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            columns[i.name] = pl.Series([text], dtype=pl.String)
        else:
            columns[i.name] = pl.Series([None if value is None else float(value)], dtype=pl.Float64)
    with np.errstate(over="ignore"):
        ours = np.array([judged.values], np.float32)
    assert np.array_equal(ours, encode(pl.DataFrame(columns), INPUTS), equal_nan=True)


made = st.fixed_dictionaries(
    {
        i.name: st.one_of(st.none(), st.sampled_from(["", "x", "y", "1", "true", "q"]))
        if i.kind == "category"
        else st.one_of(
            st.none(), st.floats(-3, 4, width=32), st.sampled_from([math.nan, math.inf, -math.inf, 0.1, -0.0])
        )
        for i in INPUTS
    }
)
NAMES = [i.name for i in reversed(INPUTS)]
quick = OURS.quick(NAMES)


@settings(max_examples=500)
@given(made)
def test_the_quick_way_says_what_judging_says_or_leaves_the_row_to_it(row):
    said, judged = quick([row[name] for name in NAMES]), OURS.judge(row)
    if said is None:
        assert judged.hard or any(value != value for value in row.values())
    else:
        assert (said[0], leading(said[1]), False) == (judged.values, judged.broken, judged.hard)


def test_rules_that_are_only_recorded_do_not_leave_the_quick_way():
    row = {"a": 9.0, "b b": None, "c": "new", "class": "1", "e": None}
    assert quick([row[name] for name in NAMES]) == (OURS.judge(row).values, ("range:a", "unseen:c"))


def test_every_broken_rule_is_named():
    judged = OURS.judge({"a": "1", "b b": 7, "c": "new", "class": None})
    assert judged.broken == ("type:a", "null:class", "range:b b", "unseen:c"), "those that refuse first"
    assert judged.hard
    assert OURS.judge({"class": "1"}).broken == ("missing:a",)
    soft = OURS.judge({"a": 99, "c": "new", "class": "1"})
    assert soft.broken == ("range:a", "unseen:c")
    assert not soft.hard


@given(st.floats(-1e6, 1e6))
def test_what_training_saw_is_in_range_however_it_was_rounded(value):
    seen = float(np.float32(value))
    low, high = bounds(Input("n", "number", (), False, 0.0, seen, seen))
    assert low <= value <= high
    assert not low <= math.nextafter(float(np.nextafter(np.float32(seen), np.float32(np.inf))), math.inf) <= high


def test_a_null_surprises_only_where_training_hardly_had_one():
    assert not OURS.surprising((1.0, None, 0.0, 0.0, None))
    assert OURS.surprising((1.0, None, None, 0.0, None))


def test_a_canary_with_more_inputs_may_miss_more():
    assert expected_rise(NEWER, OURS) == 0.0
    wider = Inputs((*INPUTS, Input("g", "number", (), True, 0.04, 0, 1)))
    assert expected_rise(wider, OURS) == 0.04


def test_inputs_that_only_a_shadow_reads_are_kept_as_they_come():
    row = msgspec.json.decode(b'{"a": 1, "class": "1", "f": "any", "zz": 1}', type=row_type((OURS,), (NEWER,)))
    assert msgspec.to_builtins(row)["f"] == "any"


@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30))
def test_a_shown_range_is_short_and_within_what_is_let_through(one, other):
    spec = Input("n", "number", (), False, 0.0, min(one, other), max(one, other))
    low, high = bounds(spec)
    shown = shown_range(spec)
    assert shown is not None
    assert low <= shown[0] <= shown[1] <= high
    assert all(len(f"{abs(value):g}") <= 12 and np.float32(value) == np.float32(str(value)) for value in shown)


def test_a_range_from_nought_is_shown_from_nought():
    assert shown_range(Input("n", "number", (), False, 0.0, 0.0, 0.1)) == (0.0, 0.1)
    assert shown_range(Input("n", "number", (), False, 0.0, None, None)) is None
