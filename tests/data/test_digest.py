"""The digest of rows: order-free, incremental, the same everywhere."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.history.digest import RowsDigest, quick_hashes, row_hashes, rows_digest

rows = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.one_of(st.none(), st.sampled_from(["", "a", "ab", "ba", "a\x00", "é"])),
            "int": st.one_of(st.none(), st.sampled_from([0, 1, -1, 2**63 - 1])),
            "float": st.one_of(st.none(), st.sampled_from([0.0, 1.0, math.inf, -1.0])),
            "flag": st.one_of(st.none(), st.booleans()),
        }
    ),
    max_size=8,
)
SCHEMA = {"text": pl.String, "int": pl.Int64, "float": pl.Float64, "flag": pl.Boolean}


def frame(listed):
    return pl.DataFrame(listed, schema=SCHEMA)


def counted(listed):
    return sorted(map(repr, (sorted(row.items()) for row in listed)))


@settings(max_examples=150)
@given(rows, rows)
def test_two_frames_have_one_digest_when_they_hold_the_same_rows_as_often(left, right):
    assert (rows_digest(frame(left)) == rows_digest(frame(right))) == (counted(left) == counted(right))


@given(rows, st.randoms())
def test_the_order_of_rows_and_columns_does_not_count(listed, random):
    shuffled = random.sample(listed, len(listed))
    names = random.sample(list(SCHEMA), len(SCHEMA))
    assert rows_digest(frame(shuffled).select(names)) == rows_digest(frame(listed))


@given(rows, rows)
def test_the_digest_after_an_append_is_the_sum(left, right):
    assert rows_digest(frame(left)) + rows_digest(frame(right)) == rows_digest(frame(left + right))


@given(rows)
def test_a_digest_is_read_back_from_its_text(listed):
    found = rows_digest(frame(listed))
    assert RowsDigest.parse(str(found)) == found


@given(rows)
def test_the_quick_hash_tells_the_same_rows_apart_as_the_lasting_one(listed):
    made = frame(listed)
    quick, lasting = quick_hashes(made).to_list(), row_hashes(made)[0].tolist()
    assert [quick.index(h) for h in quick] == [lasting.index(h) for h in lasting]
    assert quick_hashes(made.with_columns(later=pl.lit(None, pl.String))).equals(quick_hashes(made))


def test_equal_values_of_other_widths_and_zones_count_as_equal():
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    wide = pl.DataFrame({"i": [1], "f": [0.5], "t": pl.Series([noon], dtype=pl.Datetime("us", "UTC")), "c": ["x"]})
    narrow = wide.with_columns(
        pl.col("i").cast(pl.Int8),
        pl.col("f").cast(pl.Float32),
        pl.col("t").dt.cast_time_unit("ms").dt.convert_time_zone("Asia/Tokyo"),
        pl.col("c").cast(pl.Categorical),
    )
    assert rows_digest(wide) == rows_digest(narrow)
    assert rows_digest(pl.DataFrame({"f": [-0.0, math.nan]})) == rows_digest(pl.DataFrame({"f": [0.0, -math.nan]}))


def test_a_new_column_of_nulls_changes_nothing_and_a_value_under_another_name_does():
    one = pl.DataFrame({"a": [1, 2]})
    assert rows_digest(one.with_columns(pl.lit(None, pl.Int64).alias("b"))) == rows_digest(one)
    assert rows_digest(one.rename({"a": "b"})) != rows_digest(one)


def test_the_digest_is_pinned_for_ever():
    every = pl.DataFrame(
        {
            "i": [1, None],
            "f": [0.5, math.nan],
            "s": ["é", ""],
            "b": [True, None],
            "d": [date(2026, 1, 1), None],
            "t": pl.Series([datetime(2026, 1, 1, tzinfo=UTC), None], dtype=pl.Datetime("us", "UTC")),
            "l": [[1, 2], None],
        }
    )
    assert str(rows_digest(every)) == "2-d1105d9be45ddaa98a9dd711d12663d3"
