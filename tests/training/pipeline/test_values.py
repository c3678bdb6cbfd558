from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from loopline.base.errors import Invalid
from loopline.store.blobs.local import LocalBlobs
from loopline.training.pipeline.values import blobs_of, digest_of, pack, unpack

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"))
    | st.dates()
    | st.datetimes(timezones=st.just(UTC))
    | st.timedeltas()
    | st.binary(max_size=20)
)
KEYS = st.text(st.characters(codec="utf-8"), max_size=4) | st.just("$")
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return LocalBlobs(tmp_path_factory.mktemp("steps") / "blobs")


def same(a, b):
    """Equal in type, order and value; NaN is itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return bool(a == b)


@settings(max_examples=150, deadline=None)
@given(one=VALUES, other=VALUES)
@example(one=1, other=1.0)
@example(one=1, other=True)
@example(one=0.0, other=-0.0)
@example(one=(1,), other=[1])
@example(one={"a": 1, "b": 2}, other={"b": 2, "a": 1})
@example(one={"$": "int", "text": "1"}, other=1)
@example(one=2**60, other=float(2**60))
def test_a_value_comes_back_as_it_was_and_only_equal_values_share_a_digest(blobs, one, other):
    doc = pack(one, blobs, "it")
    assert same(unpack(json.loads(json.dumps(doc)), blobs), one)
    assert (digest_of(doc) == digest_of(pack(other, blobs, "it"))) == same(one, other)


def test_frames_arrays_and_scalars_come_back_as_they_were(blobs):
    frame = pl.DataFrame(
        {
            "n": [1, None],
            "f": [float("nan"), None],
            "t": [datetime(2030, 1, 1, tzinfo=UTC)] * 2,
            "c": pl.Series(["a", "b"], dtype=pl.Categorical),
            "l": [[1], []],
        }
    )
    back = unpack(pack(frame, blobs, "it"), blobs)
    assert_frame_equal(back, frame)
    assert digest_of(pack(frame.clone(), blobs, "it")) == digest_of(pack(back, blobs, "it"))
    for array in (np.arange(6).reshape(2, 3), np.array(["x"]), np.array([], "f4"), np.asfortranarray(np.eye(3))):
        found = unpack(pack(array, blobs, "it"), blobs)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    for scalar in (np.float32(1.5), np.int8(-1), np.datetime64("2030-01-01"), np.bool_(True)):
        found = unpack(pack(scalar, blobs, "it"), blobs)
        assert (type(found), found) == (type(scalar), scalar)
    series = pl.Series("s", [1, 2])
    assert unpack(pack({"s": series}, blobs, "it"), blobs)["s"].equals(series)


def test_models_come_back_and_answer_the_same(blobs):
    x = np.random.default_rng(0).normal(size=(60, 3))
    y = (x[:, 0] > 0).astype(int)
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    found = unpack(pack(linear, blobs, "it"), blobs)
    np.testing.assert_array_equal(found.predict_proba(x), linear.predict_proba(x))
    trees = lgb.train({"verbose": -1, "num_leaves": 4, "min_data_in_leaf": 5}, lgb.Dataset(x, y), 5)
    back = unpack(pack(trees, blobs, "it"), blobs)
    np.testing.assert_array_equal(back.predict(x), trees.predict(x))


def test_a_file_comes_back_under_its_name_and_cannot_be_changed(blobs, tmp_path):
    path = tmp_path / "report.txt"
    path.write_text("text")
    found = unpack(pack([path], blobs, "it"), blobs)[0]
    assert (found.name, found.read_text()) == ("report.txt", "text")
    assert not found.stat().st_mode & 0o222


def test_a_long_value_is_kept_as_a_blob_with_all_it_holds(blobs):
    value = {"rows": list(range(5000)), "frame": pl.DataFrame({"x": [1]})}
    doc = pack(value, blobs, "it")
    assert set(doc) == {"$", "digest", "inside"}
    assert len(set(blobs_of(doc))) == 2
    assert unpack(doc, blobs)["rows"] == value["rows"]


class Own:
    pass


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Own(), "Own"),
        ({"a": [Own()]}, r"the answer of clean\['a'\]\[0\]"),
        ({1: 2}, "the key 1"),
        ({"a", "b"}, "sorted"),
        (pl.LazyFrame({"x": [1]}), "collect"),
        (pl.DataFrame({"x": [Own()]}, schema={"x": pl.Object}), "Python objects"),
        (np.array([Own()]), "Python objects"),
        (lambda: 1, "function"),
        (Path("/nowhere/at/all"), "no file"),
        ((x for x in ()), "generator"),
    ],
)
def test_what_only_a_pickle_could_hold_is_refused_with_its_place_and_what_to_do(blobs, value, said):
    with pytest.raises(Invalid, match=said):
        pack(value, blobs, "the answer of clean")


def test_pandas_and_deep_values_are_refused_with_the_way_out(blobs):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(Invalid, match=r"polars\.from_pandas"):
        pack(pandas.DataFrame({"x": [1]}), blobs, "it")
    deep: list = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(Invalid, match="60 levels"):
        pack(deep, blobs, "it")
    assert unpack(pack((Decimal("1.10"), date(2030, 1, 1), timedelta(days=-1)), blobs, "it"), blobs)[0] == Decimal(
        "1.10"
    )
