"""Patterns take time in proportion to the text, and mean what the two engines say."""

from __future__ import annotations

import re
import time

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loopline.data.language.linear import Automaton, _Builder
from loopline.data.language.pattern import matcher, portable

atoms = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", r"\d", "é", "[a-c]", r"\."])
repeats = st.sampled_from(["", "*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?", "{0}"])


def group(inner):
    joined = st.lists(inner, min_size=1, max_size=3).map("".join)
    return st.builds(lambda parts, r: f"({'|'.join(parts)}){r}", st.lists(joined, min_size=1, max_size=2), repeats)


pieces = st.recursive(st.builds(lambda a, r: a + r, atoms, repeats), group, max_leaves=5)
patterns = st.lists(pieces, min_size=1, max_size=3).map("".join)
texts = st.text(alphabet="abcé1.\n", max_size=7)


@settings(max_examples=400, deadline=None)
@given(patterns, st.lists(texts, min_size=1, max_size=5))
def test_the_automaton_and_both_engines_agree(pattern, given_texts):
    assume(sum(map(pattern.count, "*+{?")) <= 4)  # `re`, which is asked for comparison, tries every way through more
    common = portable(pattern)
    automaton = _Builder(common).build()
    batch = pl.Series(given_texts).str.contains(f"^(?:{common})$").to_list()
    for text, in_batch in zip(given_texts, batch, strict=True):
        expected = re.fullmatch(common, text) is not None
        assert automaton.run(text) == expected == in_batch == bool(matcher(pattern)(text))


@pytest.mark.parametrize(
    "pattern", ["(a+)+", "(a*)*b", "(a|a)*b", "(a|aa)+b", r"(\w+\w+)+x", "(a?){40}a{40}", "a*a*a*a*b", "(.*,){12}x"]
)
def test_a_hostile_pattern_takes_time_in_proportion_to_the_text(pattern):
    match = matcher(pattern)
    begin = time.process_time()
    match("a" * 50_000 + "!")
    assert time.process_time() - begin < 2.0


@pytest.mark.parametrize("pattern", [r"[A-Z]\d+", r"\w+@\w+\.com", "(ab?)+c", "a{2,5}b", "[A-Z]{3}"])
def test_a_pattern_with_one_way_through_runs_on_the_fast_engine(pattern):
    assert not _Builder(portable(pattern)).build().ambiguous
    assert isinstance(_Builder(portable(pattern)).build(), Automaton)


@pytest.mark.parametrize("pattern", ["(([a-z]{900}){900}){900}", "((a?){900}){900}", "(" * 5000 + "a" + ")" * 5000])
def test_a_pattern_too_large_to_write_out_is_refused_at_once(pattern):
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"too large|nested"):
        matcher(pattern)
    assert time.process_time() - begin < 5.0
