"""A profile of parts, merged, is the profile of the whole."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.monitoring import profile as module
from loopline.monitoring.drift import Summary, summarise
from loopline.monitoring.packing import pack, unpack
from loopline.monitoring.profile import (
    NAMES,
    NumberProfile,
    TextProfile,
    cell_middles,
    merged,
    profile,
    value_cells,
)

numbers = st.one_of(st.none(), st.floats(width=64), st.integers(-1000, 1000).map(float))
texts = st.one_of(st.none(), st.text(max_size=3), st.integers(0, 600).map(str))
frames = st.lists(st.tuples(numbers, texts), max_size=40).map(
    lambda rows: pl.DataFrame(rows, schema={"n": pl.Float64, "t": pl.String}, orient="row")
)


def same(a: module.Profile, b: module.Profile) -> None:
    assert a.rows == b.rows and a.columns.keys() == b.columns.keys()
    for name, mine in a.columns.items():
        other = b.columns[name]
        if isinstance(mine, NumberProfile):
            assert isinstance(other, NumberProfile)
            assert (mine.rows, mine.null, mine.nan, mine.inf) == (other.rows, other.null, other.nan, other.inf)
            assert (mine.low, mine.high) == (other.low, other.high)
            assert (mine.cells == other.cells).all() and (mine.counts == other.counts).all()
        else:
            assert mine == other


@settings(max_examples=60, deadline=None)
@given(st.lists(frames, min_size=1, max_size=4))
def test_merging_parts_profiles_the_whole(parts) -> None:
    same(merged(map(profile, parts)), profile(pl.concat(parts)))


@settings(max_examples=40, deadline=None)
@given(frames)
def test_a_profile_counts_what_is_there_and_survives_being_stored(frame) -> None:
    made = profile(frame)
    column = made.columns["n"]
    assert isinstance(column, NumberProfile)
    values = frame["n"].drop_nulls().to_list()
    finite = [v for v in values if math.isfinite(v)]
    assert column.null == frame["n"].null_count() and column.finite == len(finite) == column.counts.sum()
    assert column.nan == sum(map(math.isnan, values)) and column.inf == sum(map(math.isinf, values))
    if finite:
        assert (column.low, column.high) == (min(finite), max(finite))
    text = made.columns["t"]
    assert isinstance(text, TextProfile)
    assert text.values == {k: n for k, n in frame["t"].value_counts().iter_rows() if k is not None}
    (again,) = unpack(pack([made]))
    same(again, made)


def test_long_frames_take_another_road_to_the_same_profile(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"a": rng.normal(0, 1e3, 3000), "b": rng.integers(0, 5, 3000)}).with_columns(
        pl.when(pl.col("a") > 2000).then(None).otherwise("a").alias("a"), t=pl.col("b").cast(pl.String)
    )
    short = profile(frame)
    monkeypatch.setattr(module, "_SMALL", 100)
    same(profile(frame), short)


def test_many_values_keep_a_constant_number_of_names_and_still_merge_exactly() -> None:
    rng = np.random.default_rng(1)
    parts = [pl.DataFrame({"t": rng.integers(0, 3000, 2000).astype(str)}) for _ in range(3)]
    whole = profile(pl.concat(parts))
    same(merged(map(profile, parts)), whole)
    column = whole.columns["t"]
    assert isinstance(column, TextProfile)
    assert len(column.values) == NAMES and sum(column.values.values()) + column.other == 6000


@given(st.floats(min_value=-1e30, max_value=1e30, allow_nan=False))
def test_a_cell_is_never_wider_than_a_hundredth_of_its_value(value) -> None:
    cells = value_cells(np.array([value]))
    assert cell_middles(cells)[0] == pytest.approx(value, rel=0.01, abs=1e-37)


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=2, max_size=30))
def test_cells_are_in_the_order_of_their_values(values) -> None:
    assert (np.diff(value_cells(np.sort(values)).astype(int)) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=1, max_size=50))
def test_summaries_hold_quantiles_to_the_width_of_a_cell(values) -> None:
    made = summarise([profile(pl.DataFrame({"n": values}))])
    exact = np.quantile(np.float32(values), 0.5, method="inverted_cdf")
    assert made.stats[0, 0, 5] == pytest.approx(exact, rel=0.01, abs=1e-30)
    again = Summary.from_bytes(made.to_bytes())
    assert again.kinds == made.kinds and again.missing == made.missing
    np.testing.assert_array_equal(again.stats, made.stats)


def test_a_column_that_only_one_part_has_counts_as_missing_in_the_other() -> None:
    made = profile(pl.DataFrame({"a": [1.0, 2.0]})) + profile(pl.DataFrame({"a": [3.0], "b": ["x"]}))
    assert made.columns["b"] == TextProfile(3, 2, {"x": 1})
    odd = profile(pl.DataFrame({"a": [1.0]})) + profile(pl.DataFrame({"a": ["x"]}))
    assert odd.columns["a"].rows == 2 and odd.columns["a"].missing == 0


kinds = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["number", "text", "other", "none"]), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(kinds, st.integers(0, 5)), max_size=4))
def test_merging_at_once_is_adding_one_by_one_when_columns_come_and_go_and_change_their_kind(parts) -> None:
    values = {
        "number": [1.5, None, math.nan, -math.inf, 1.5],
        "text": ["x", None, "y", "x", ""],
        "other": [b"1", None, b"2", b"", b"1"],
        "none": [None] * 5,
    }
    made = [
        profile(pl.DataFrame({name: values[kind][:rows] for name, kind in columns.items()}, strict=False))
        for columns, rows in parts
    ]
    same(merged(made), sum(made, module.Profile(0)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.one_of(st.none(), st.integers(-9, 9), st.floats(width=32)), max_size=30), max_size=4))
def test_figures_of_all_columns_at_once_are_those_of_each(columns) -> None:
    height = max(map(len, columns), default=0)
    named = {f"c{i}": pl.Series(c + [None] * (height - len(c)), dtype=pl.Float64) for i, c in enumerate(columns)}
    made = summarise([profile(pl.DataFrame(named))])
    for i, name in enumerate(made.numbers):
        column = profile(named[name].to_frame(name)).columns[name]
        assert isinstance(column, NumberProfile)
        finite, top, low, *quantiles, high = made.stats[i, 0].tolist()
        assert finite == column.finite
        if finite:
            assert top == column.counts.max() / finite and (low, high) == (column.low, column.high)
            assert quantiles == column.quantiles((0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
        else:
            assert all(math.isnan(v) for v in (top, low, *quantiles, high))
