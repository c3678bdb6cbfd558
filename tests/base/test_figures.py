"""Numbers as people read them: short, and never so short that they mislead."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.base.figures import figure, figures, plural
from loopline.base.sizes import size_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567.0, "1,234,567"),
        (12345678, "12,345,678"),
        (10**18, "1,000,000,000,000,000,000"),
        (1000000000000001.0, "1,000,000,000,000,001"),
        (1000000000000000.5, "1,000,000,000,000,000.5"),
        (2.0**53, "9,007,199,254,740,992"),
        (2.0**53 + 2, "9.0072e+15"),
        (0.123456789, "0.123457"),
        (0.9999999, "0.9999999"),
        (1.0000001, "1.0000001"),
        (1234567.891, "1,234,567.9"),
        (99_999.96, "99,999.96"),
        (0.1 + 0.2, "0.3"),
        (-2.5, "-2.5"),
        (-0.0, "0"),
        (2e-7, "2e-07"),
        (1.5e300, "1.5e+300"),
        (math.nan, "NaN"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
    ],
)
def test_a_number_is_told_so_that_it_does_not_mislead(value, text):
    assert figure(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_figure_is_as_near_as_six_figures_are_and_exact_where_the_number_is_whole(value):
    read = float(figure(value).replace(",", ""))
    assert read == pytest.approx(value, rel=1e-5, abs=1e-300)
    if value.is_integer() and abs(value) <= 2**53:
        assert read == value


@given(st.lists(st.floats() | st.none(), max_size=4))
def test_beside_one_another_two_numbers_look_equal_only_where_they_are(values):
    for one, first in zip(values, figures(values), strict=True):
        for other, second in zip(values, figures(values), strict=True):
            if first == second:
                assert one == other or (one != one and other != other)


def test_counts_and_sizes():
    assert [plural(one, "run") for one in (0, 1, 2000)] == ["0 runs", "1 run", "2,000 runs"]
    assert plural(2, "entry", "entries") == "2 entries"
    assert [size_text(one) for one in (0, 999, 1000, 999_999)] == ["0 B", "999 B", "1.0 kB", "1.0 MB"]
