"""Patterns mean the same to both engines."""

from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.language.pattern import portable

ATOMS = [
    "a",
    "b",
    ".",
    r"\d",
    r"\w",
    r"\s",
    r"\S",
    r"\W",
    "[ab]",
    "[^a]",
    r"[\w-]",
    r"[\]\\]",
    r"\.",
    "é",
    " ",
    r"\n",
    "<",
]
atom = st.sampled_from(ATOMS)
repeated = st.builds(lambda a, r: a + r, atom, st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "+?"]))
sequence = st.lists(repeated, max_size=3).map("".join)
patterns = st.recursive(
    sequence,
    lambda inner: st.builds(lambda a, b, r: f"({a}|{b}){r}", inner, inner, st.sampled_from(["", "?", "{2}"])),
    max_leaves=4,
)
subjects = st.text(st.sampled_from(list("ab.é٣ _-]\\\n\r\t\x0b\x1c\x85\u2028<𝔸0")), max_size=5)


@settings(max_examples=300, deadline=None)
@given(patterns, st.lists(subjects, max_size=8))
def test_rust_and_python_agree_on_every_portable_pattern(pattern, texts):
    text = portable(pattern)
    rust = pl.Series(texts, dtype=pl.String).str.contains(f"^(?:{text})$").to_list()
    assert rust == [re.compile(text).fullmatch(t) is not None for t in texts]


@settings(max_examples=200, deadline=None)
@given(patterns, st.text(st.sampled_from(list("ab0_ .]<\\-\n\r\t\x0b")), max_size=5))
def test_a_portable_pattern_means_to_ascii_text_what_it_means_to_python(pattern, text):
    assert bool(re.compile(portable(pattern)).fullmatch(text)) == bool(re.compile(pattern, re.ASCII).fullmatch(text))


@pytest.mark.parametrize(
    "pattern",
    [
        r"\bx",
        r"(?=a)",
        r"(?i)a",
        r"(?P<n>a)",
        r"(a)\1",
        r"\p{L}",
        "[[:alpha:]]",
        "a**",
        "a{2}{3}",
        "*a",
        "a$b",
        "[b-a]",
        "a{,3}",
        "x{1001}",
        "(a",
        "a)",
        "[a",
        "a\\",
        r"[\D]",
        "^a|b$",
        r"\Z",
        r"\x41",
        "[]",
        "]",
    ],
)
def test_what_the_engines_read_differently_is_refused(pattern):
    with pytest.raises(ValueError):
        portable(pattern)


def test_anchors_at_the_ends_add_nothing():
    assert portable("^ab$") == portable("ab")
    assert re.fullmatch(portable(r"a\$"), "a$")
