"""The row program and the online store name the same lookups in the same order."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.features import View, col, count, latest, mean, together, when
from loopline.features.row import compile_row
from loopline.features.tiles import Layout

LEAVES = [latest("a"), latest("b"), count("1h"), mean("a", "1h"), mean("b", "1d")]
picks = st.sampled_from(LEAVES)
trees = st.one_of(
    picks,
    st.builds(lambda a, b: a.fill(b), picks, picks),
    st.builds(lambda a, b, c: when(a > 1, b, c + col("x")), picks, picks, picks),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(trees, min_size=1, max_size=6))
def test_a_lookup_that_several_features_use_stands_where_it_comes_first(made):
    features = tuple((f"f{n}", tree) for n, tree in enumerate(made))
    views = together([View("v", "t", (("k", "k"),), timedelta(days=1), features)])
    program = [leaf.expr.doc() for leaf in compile_row(views).leaves]
    assert program == [leaf.doc() for leaf in Layout(views.views[0]).leaves]
