"""Lengths of time as people read them: two units at most, no microseconds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from loopline.base.spec import length_text
from loopline.interfaces.cli.online import _length


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(days=3, hours=11, minutes=44, seconds=49, microseconds=331_495), "3 d 11 h"),
        (timedelta(days=7), "7 d"),
        (timedelta(days=1, minutes=5), "1 d"),
        (timedelta(minutes=15), "15 min"),
        (timedelta(seconds=90), "1 min 30 s"),
        (timedelta(seconds=60.9), "1 min"),
        (timedelta(hours=1, seconds=5), "1 h"),
        (timedelta(hours=3, minutes=2, seconds=59), "3 h 2 min"),
        (timedelta(seconds=41, microseconds=900), "41 s"),
        (timedelta(seconds=1.5), "1.5 s"),
        (timedelta(seconds=0.999), "1 s"),
        (timedelta(milliseconds=32), "0.032 s"),
        (timedelta(microseconds=400), "< 0.001 s"),
        (timedelta(0), "0 s"),
        (timedelta(hours=-2), "\N{MINUS SIGN}2 h"),
    ],
)
def test_a_length_is_told_in_its_two_largest_units(length, text):
    assert length_text(length) == length_text(length.total_seconds()) == _length(length) == text


def test_no_length_is_told_as_nothing():
    assert _length(None) == ""
