from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.base.errors import Invalid
from loopline.training.encoding import encode, learn

numbers = st.none() | st.floats(width=32, allow_infinity=False)
texts = st.none() | st.sampled_from(["", "a", "b", "ä"])


@given(st.lists(st.tuples(numbers, texts), min_size=1), st.lists(st.tuples(numbers, texts)))
def test_a_matrix_holds_numbers_as_they_are_and_texts_by_their_place_in_the_training_vocabulary(train, test):
    def frame(rows):
        return pl.DataFrame(
            {"n": [r[0] for r in rows], "t": [r[1] for r in rows]}, schema={"n": pl.Float32, "t": pl.String}
        )

    inputs = learn(frame(train), ["t", "n"], ["t"])
    matrix = encode(frame(test), inputs)
    vocabulary = sorted({t for _, t in train if t is not None})
    assert inputs[0].categories == tuple(vocabulary)
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    for (number, text), (code, value) in zip(test, matrix, strict=True):
        assert code == vocabulary.index(text) if text in vocabulary else math.isnan(code)
        assert math.isnan(value) if number is None or math.isnan(number) else value == np.float32(number)


@given(st.lists(numbers, min_size=1))
def test_an_input_states_the_range_and_the_missing_share_of_its_training_rows(values):
    (spec,) = learn(pl.DataFrame({"n": values}, schema={"n": pl.Float64}), ["n"], [])
    present = [float(np.float32(v)) for v in values if v is not None and not math.isnan(v)]
    assert spec.null_share == pytest.approx(1 - len(present) / len(values))
    assert spec.nullable == (len(present) < len(values))
    assert (spec.low, spec.high) == ((min(present), max(present)) if present else (None, None))


def test_whole_numbers_and_booleans_are_numbers_and_enums_are_texts():
    frame = pl.DataFrame({"i": [1, 2], "f": [True, None], "e": ["x", "y"]}, schema_overrides={"e": pl.Enum(["y", "x"])})
    inputs = learn(frame, ["i", "f", "e"], [])
    assert [i.kind for i in inputs] == ["number", "number", "category"]
    np.testing.assert_array_equal(encode(frame, inputs), np.float32([[1, 1, 0], [2, np.nan, 1]]))


def test_a_missing_column_and_a_text_among_numbers_are_named():
    inputs = learn(pl.DataFrame({"n": [1.0]}), ["n"], [])
    with pytest.raises(Invalid, match="'n'"):
        encode(pl.DataFrame({"m": [1.0]}), inputs)
    with pytest.raises(Invalid, match="column 'n' holds String"):
        encode(pl.DataFrame({"n": ["many"]}), inputs)
