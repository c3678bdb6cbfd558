from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loopline.evaluation.intervals import (
    CELLS,
    block_auc,
    block_sums,
    cell_scores,
    draws,
    estimate,
    histogram_calibration,
    logit_cells,
    replicated,
    student_over_normal,
)
from loopline.evaluation.scored import Rows, figures
from loopline.evaluation.spec import METRICS
from loopline.framing.metrics import METRICS as EXACT
from loopline.framing.metrics import roc_auc
from loopline.framing.spec import ValueSpec

VALUE = ValueSpec(true_positive=40, false_positive=-12, false_negative=-55)


def world(n=4000, days=30, seed=0, mood=0.0):
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(0, days, n))
    logit = rng.normal(-1, 1.2, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-logit - rng.normal(0, mood, days)[day]))).astype(np.int8)
    return y, 1 / (1 + np.exp(-logit)), day


def sums_of(y, p, day):
    return block_sums(y, p, day, int(day.max()) + 1, threshold=0.3, value=VALUE)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_the_auc_of_a_histogram_is_within_a_ten_thousandth_of_the_exact_one(spread, rate):
    rng = np.random.default_rng(5)
    logit = rng.normal(np.log(rate), spread, 60_000)
    p = 1 / (1 + np.exp(-logit))
    y = (rng.random(60_000) < p).astype(np.int8)
    counts = sums_of(y, p, np.zeros(60_000, dtype=np.int64)).histogram
    (found,) = block_auc(counts[:, 0], counts[:, 1], np.ones((1, 1)))
    assert found == pytest.approx(roc_auc(y, p), abs=1e-4)


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 40))
def test_the_auc_of_a_draw_is_bit_for_bit_that_of_the_summed_histogram(seed, blocks, cells):
    rng = np.random.default_rng(seed)
    zeros, ones = rng.integers(0, 4, (2, blocks, cells)).astype(np.float32)
    weights = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=20).astype(np.float64)
    for found, drawn in zip(block_auc(zeros, ones, weights), weights, strict=True):
        negatives, positives = drawn @ zeros, drawn @ ones
        in_order = sum(p * (negatives[:c].sum() + negatives[c] / 2) for c, p in enumerate(positives))
        pairs = negatives.sum() * positives.sum()
        assert found == in_order / pairs if pairs else np.isnan(found)


@given(st.lists(st.floats(0, 1), min_size=1))
def test_a_score_falls_into_the_cell_whose_middle_is_nearest_in_logit(scores):
    p = np.array(scores)
    middle = cell_scores()
    logit = np.log(middle) - np.log1p(-middle)
    for cell, score in zip(logit_cells(p), p, strict=True):
        if abs(score - 0.5) < 0.49:
            own = np.log(score) - np.log1p(-score)
            assert abs(own - logit[cell]) <= np.abs(own - logit).min() + 1e-9
        assert 0 <= cell < CELLS


def test_a_draw_is_what_the_rows_of_the_drawn_days_say():
    y, p, day = world(days=12)
    drawn = draws(12, 5)
    found = replicated(sums_of(y, p, day), drawn, METRICS)
    for r, counts in enumerate(drawn.astype(int)):
        rows = np.concatenate([np.tile(np.flatnonzero(day == d), k) for d, k in enumerate(counts)])
        for name in METRICS:
            tolerance = {"roc_auc": 1e-4, "calibration_error": 4e-3}.get(name, 1e-9)
            exact = EXACT[name](y[rows], p[rows], 0.3, VALUE)
            assert found[name][r] == pytest.approx(exact, abs=tolerance), name


def test_draws_take_as_many_blocks_as_there_are_and_the_same_ones_each_time():
    drawn = draws(28, 200)
    assert (drawn.sum(axis=1) == 28).all()
    assert drawn.mean() == pytest.approx(1.0)
    np.testing.assert_array_equal(drawn, draws(28, 200))
    assert (drawn != draws(28, 200, seed=1)).any()


def test_an_interval_holds_the_truth_about_as_often_as_it_says_although_days_differ():
    low_rate, held, naive = [], 0, 0
    trials = 120
    truth = np.mean([np.mean(w[1] - w[0]) for w in (world(60_000, days=6000, seed=s, mood=0.7) for s in range(4))])
    for seed in range(trials):
        y, p, day = world(1500, days=25, seed=seed + 10, mood=0.7)
        for block, blocks in ((day, 25), (np.arange(1500) % 200, 200)):
            found = figures(Rows(y, block, blocks, None), p, 0.3, ("bias",), replicates=300).difference("bias")
            assert found.low is not None
            inside = found.low <= truth <= found.high
            held += inside and blocks == 25
            naive += inside and blocks == 200
        low_rate.append(found.low)
    assert 0.89 <= held / trials <= 0.995
    assert naive / trials < held / trials - 0.1


def test_paired_differences_know_more_than_two_intervals_side_by_side():
    y, p, day = world(mood=0.8)
    rows = Rows(y, day, 30, VALUE)
    better, worse = figures(rows, p, 0.3, METRICS), figures(rows, np.clip(p + 0.03, 0, 1), 0.3, METRICS)
    gap = better.minus(worse).difference("brier")
    alone = better.estimate("brier")
    assert gap.high - gap.low < 0.5 * (alone.high - alone.low)
    assert gap.low <= gap.value <= gap.high
    same = better.minus(better).difference("roc_auc")
    assert (same.low, same.value, same.high) == (0, 0, 0)


def test_an_interval_is_not_stated_where_rows_classes_or_days_are_too_few():
    y, p, day = world(2000)
    for mask in (np.arange(2000) < 30, y == 0, day < 3):
        found = figures(Rows(y, day, 30, None), p, 0.3, ("roc_auc", "brier"), mask=mask)
        assert (found.estimate("brier").low, found.estimate("brier").high) == (None, None)
    only_zeros = figures(Rows(y, day, 30, None), p, 0.3, ("roc_auc",), mask=y == 0)
    assert only_zeros.estimate("roc_auc").value is None


def test_intervals_keep_within_what_a_metric_can_be():
    y, _, day = world(1000)
    found = figures(Rows(y, day, 30, None), np.where(y == 1, 0.999, 0.001), 0.5, METRICS)
    assert found.estimate("roc_auc").high == 1.0
    assert found.estimate("calibration_error").low >= 0
    assert "value" not in found.values


def test_calibration_of_a_histogram_is_near_the_exact_one():
    y, p, day = world(30_000)
    counts = sums_of(y, p, day).histogram.sum(axis=0)
    (found,) = histogram_calibration(counts[None, 0], counts[None, 1], cell_scores())
    assert found == pytest.approx(EXACT["calibration_error"](y, p, 0.3, None), abs=1e-3)


@pytest.mark.parametrize("degrees", [3, 6, 27, 199])
@pytest.mark.parametrize("share", [0.025, 0.05, 0.9, 0.975, 0.99])
def test_students_quantile_is_near_its_table(share, degrees):
    expected = stats.t.ppf(share, degrees) / stats.norm.ppf(share)
    assert student_over_normal(share, degrees) == pytest.approx(expected, rel=0.02)


def test_a_figure_that_cannot_be_said_has_no_value():
    y, p, day = world(200)
    found = estimate("roc_auc", float("nan"), np.zeros(10), sums_of(y, p, day))
    assert (found.value, found.low, found.high) == (None, None, None)
