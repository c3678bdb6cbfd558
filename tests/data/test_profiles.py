from __future__ import annotations

from collections import Counter

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from loopline.data.history.profiles import RARE, TOP, profile


@given(
    st.lists(st.none() | st.sampled_from("abß"), max_size=30) | st.just([*"tsrqponmlkjihgfedcbaß"] * RARE + [*"xyz"])
)
def test_the_top_of_a_text_column_is_its_most_frequent_values_then_the_least(values):
    found = profile(pl.DataFrame({"c": pl.Series(values, dtype=pl.String)}))["columns"]["c"]
    counts = Counter(value for value in values if value is not None)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0].encode()))
    assert found["distinct"] == len(counts)
    assert found["top"] == [[value, n] for value, n in ranked[:TOP] if n >= RARE], "rare ones tell of few people"
