from __future__ import annotations

import lightgbm as lgb
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loopline.training.snap import snap_down, snap_lightgbm, split_thresholds


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(width=32, allow_nan=False))
def test_a_float32_takes_the_same_branch_at_the_snapped_threshold(threshold, x):
    (snapped,) = snap_down([threshold])
    assert (x <= snapped) == (x <= threshold)
    assert np.isinf(snapped) or float(np.float32(snapped)) == snapped


@given(st.floats(-(2.0**99), 2.0**99, width=32), st.integers(-2, 2))
def test_the_neighbours_of_a_threshold_take_their_branch_too(near, steps):
    threshold = float(near) + steps * 1e-12 * max(abs(near), 1e-30)
    (snapped,) = snap_down([threshold])
    for x in (
        near,
        np.nextafter(np.float32(near), np.float32(np.inf)),
        np.nextafter(np.float32(near), np.float32(-np.inf)),
    ):
        assert (float(x) <= snapped) == (float(x) <= threshold)


def fitted() -> tuple[lgb.Booster, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 4)).astype(np.float32)
    x[:, 3] = rng.integers(0, 6, 2000)
    x[rng.random(2000) < 0.1, 1] = np.nan
    y = (x[:, 0] + (x[:, 3] % 2) + rng.normal(size=2000) > 0.5).astype(int)
    data = lgb.Dataset(x, y, categorical_feature=[3], params={"verbose": -1})
    return lgb.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 15), x


def test_a_snapped_model_predicts_the_same_bits_and_splits_at_float32_only():
    booster, x = fitted()
    text = snap_lightgbm(booster.model_to_string())
    snapped = lgb.Booster(model_str=text)
    np.testing.assert_array_equal(snapped.predict(x), booster.predict(x))
    assert snapped.num_trees() == 15
    found = split_thresholds(text)
    assert set(found) == {0, 1, 2}
    for values in found.values():
        np.testing.assert_array_equal(values, values.astype(np.float32))
    assert snap_lightgbm(text) == text


def test_the_model_before_had_thresholds_that_float32_cannot_say():
    values = np.concatenate(list(split_thresholds(fitted()[0].model_to_string()).values()))
    assert (values != values.astype(np.float32)).any()


def test_thresholds_where_lightgbm_reads_zero_are_moved_without_changing_an_answer():
    x = np.array([[v] for v in (-1.0, -1e-35, -1e-36, 0.0, 1e-36, 1e-35, 1.0)] * 40, dtype=np.float32)
    y = (x[:, 0] < -0.5).astype(int)
    data = lgb.Dataset(x, y, params={"verbose": -1, "min_data_in_bin": 1})
    text = lgb.train({"objective": "binary", "verbose": -1, "min_data_in_leaf": 1}, data, 2).model_to_string()
    snapped = snap_lightgbm(text)
    edge = float(np.float32(1e-35))
    for values in split_thresholds(snapped).values():
        assert not ((values > -np.nextafter(np.float32(edge), np.float32(1))) & (values < edge)).any()
    np.testing.assert_array_equal(lgb.Booster(model_str=snapped).predict(x), lgb.Booster(model_str=text).predict(x))
