from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from loopline.base.errors import Invalid
from loopline.evaluation.spec import METRICS as DECLARED
from loopline.framing.metrics import (
    HIGHER_IS_BETTER,
    METRICS,
    best_threshold,
    brier,
    calibration_bins,
    calibration_error,
    log_loss,
    roc_auc,
    value,
)
from loopline.framing.spec import ValueSpec

pairs = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1)),
    min_size=1,
    max_size=60,
)


def columns(rows):
    return np.array([y for y, _ in rows]), np.array([p for _, p in rows], dtype=float)


@given(pairs)
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    ones = [p for y, p in rows if y]
    zeros = [p for y, p in rows if not y]
    won = [1.0 if a > b else 0.5 if a == b else 0.0 for a in ones for b in zeros]
    found = roc_auc(*columns(rows))
    assert math.isnan(found) if not won else found == pytest.approx(sum(won) / len(won))


@given(pairs)
def test_brier_and_log_loss_are_those_of_scikit_learn(rows):
    y, p = columns(rows)
    assert brier(y, p) == pytest.approx(np.mean((p - y) ** 2))
    assert log_loss(y, p) == pytest.approx(reference.log_loss(y, np.clip(p, 1e-7, 1 - 1e-7), labels=[0, 1]))


@given(pairs, st.randoms(use_true_random=False))
def test_calibration_ignores_the_order_of_the_rows_and_loses_none(rows, random):
    mixed = list(rows)
    random.shuffle(mixed)
    assert calibration_error(*columns(rows)) == pytest.approx(calibration_error(*columns(mixed)))
    bins = calibration_bins(*columns(rows))
    assert sum(n for _, _, n in bins) == len(rows)
    assert len(bins) <= 15
    assert [p for p, _, _ in bins] == sorted(p for p, _, _ in bins)


def test_distinct_scores_fill_bins_of_equal_mass_as_in_the_plain_definition():
    rng = np.random.default_rng(0)
    p = np.sort(rng.permutation(1500) / 1500)
    y = (rng.random(1500) < p**2).astype(int)
    plain = sum(abs(y[i : i + 100].mean() - p[i : i + 100].mean()) * 100 for i in range(0, 1500, 100)) / 1500
    assert calibration_error(y, p) == pytest.approx(plain)
    assert [n for _, _, n in calibration_bins(y, p)] == [100] * 15


def test_a_constant_score_is_off_by_the_base_rate_alone():
    y = np.array([0, 0, 0, 1])
    assert calibration_error(y, np.full(4, 0.4)) == pytest.approx(0.15)


prices = st.floats(-100, 100).map(lambda v: round(v, 2))


@given(prices, prices, prices, prices, st.floats(0, 1))
def test_at_the_best_threshold_acting_and_waiting_are_worth_the_same(tp, fp, fn, tn, p):
    spec = ValueSpec(true_positive=tp, false_positive=fp, false_negative=fn, true_negative=tn)
    if tp <= fn or tn <= fp:
        with pytest.raises(Invalid, match="nothing to decide"):
            best_threshold(spec)
        return
    acting, waiting = p * tp + (1 - p) * fp, p * fn + (1 - p) * tn
    threshold = best_threshold(spec)
    if abs(p - threshold) > 1e-9:
        assert (acting > waiting) == (p > threshold)


def test_no_threshold_earns_more_than_the_best_on_calibrated_scores():
    spec = ValueSpec(true_positive=40, false_positive=-12, false_negative=-55)
    rng = np.random.default_rng(1)
    p = rng.random(200_000)
    y = (rng.random(200_000) < p).astype(int)
    best = value(y, p, best_threshold(spec), spec)
    assert all(best >= value(y, p, t, spec) - 0.05 for t in np.linspace(0.01, 0.99, 50))
    assert best_threshold(None) == 0.5


def test_value_counts_each_kind_of_decision():
    spec = ValueSpec(true_positive=1, false_positive=10, false_negative=100, true_negative=1000)
    y, p = np.array([1, 0, 1, 0]), np.array([0.5, 0.5, 0.4, 0.4])
    assert value(y, p, 0.5, spec) == 1111 / 4


def test_every_declared_metric_has_a_function_and_a_direction():
    assert set(METRICS) == set(DECLARED) == set(HIGHER_IS_BETTER)
    y, p = np.array([0, 1, 1]), np.array([0.2, 0.7, 0.4])
    found = {name: metric(y, p, 0.5, ValueSpec(true_positive=1)) for name, metric in METRICS.items()}
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["value"] == pytest.approx(1 / 3)
    assert math.isnan(METRICS["value"](y, p, 0.5, None))
    assert all(math.isnan(metric(y[:0], p[:0], 0.5, None)) for metric in METRICS.values())
