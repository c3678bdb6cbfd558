"""Quality from counts equals quality from rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.errors import Invalid
from loopline.framing import metrics
from loopline.framing.spec import ValueSpec
from loopline.monitoring.quality import DayCounts, _weighted, trailing

WORTH = ValueSpec(true_positive=40, false_positive=-12, false_negative=-55)
rows = st.lists(
    st.tuples(st.integers(0, 1000).map(lambda k: k / 1000), st.sampled_from([0.0, 1.0, math.nan])), max_size=60
)
days = st.lists(rows, min_size=1, max_size=5)


def world(count: int, size: int, *, seed: int = 1, tilt: float = 0.0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        z = rng.normal(-1.2, 0.9, size)
        luck = rng.normal(0, 0.2)
        found.append((1 / (1 + np.exp(-z)), (rng.random(size) < 1 / (1 + np.exp(-z - tilt - luck))).astype(float)))
    return found


@settings(max_examples=60, deadline=None)
@given(days)
def test_counts_of_days_give_the_metrics_of_their_rows(given_days) -> None:
    counted = [DayCounts.of([p for p, _ in d], [y for _, y in d], 0.3, WORTH) for d in given_days]
    known = [(p, y) for d in given_days for p, y in d if not math.isnan(y)]
    found = trailing(counted, resamples=20)
    if not known:
        assert found == {}
        return
    p, y = np.array(known).T
    assert found["brier"][0] == pytest.approx(metrics.brier(y, p))
    assert found["log_loss"][0] == pytest.approx(metrics.log_loss(y, p))
    assert found["accuracy"][0] == pytest.approx(metrics.accuracy(y, p, 0.3))
    assert found["value"][0] == pytest.approx(metrics.value(y, p, 0.3, WORTH))
    assert ("roc_auc" in found) == (0 < y.sum() < y.size)
    if "roc_auc" in found:
        # Scores of this grid that differ share a cell only beyond .995; those count as ties.
        assert found["roc_auc"][0] == pytest.approx(metrics.roc_auc(y, p), abs=0.06)


def test_cells_cost_less_than_a_tenth_of_a_thousandth_of_auc() -> None:
    made = world(28, 900)
    p, y = (np.concatenate(part) for part in zip(*made, strict=True))
    found = trailing([DayCounts.of(*day) for day in made])
    assert found["roc_auc"][0] == pytest.approx(metrics.roc_auc(y, p), abs=1e-4)
    assert found["calibration_error"][0] == pytest.approx(metrics.calibration_error(y, p), abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(days)
def test_adding_days_is_counting_their_rows_together(given_days) -> None:
    whole = DayCounts.of([p for d in given_days for p, _ in d], [y for d in given_days for _, y in d], 0.4, WORTH)
    total = sum((DayCounts.of([p for p, _ in d], [y for _, y in d], 0.4, WORTH) for d in given_days), DayCounts.empty())
    assert (total.counts == whole.counts).all()
    assert total.rows == whole.rows
    np.testing.assert_allclose(total.scores, whole.scores, atol=1e-12)
    if whole.rows:
        np.testing.assert_allclose(total.sums, whole.sums, rtol=1e-9, atol=1e-9)


def test_counts_survive_being_stored() -> None:
    for day in [DayCounts.of(*world(1, 900)[0], 0.3), DayCounts.empty()]:
        again = DayCounts.from_bytes(day.to_bytes())
        assert (again.counts == day.counts).all() and (again.scores == day.scores).all()
        np.testing.assert_array_equal(again.sums, day.sums)
    assert len(DayCounts.of(*world(1, 900)[0]).to_bytes()) < 6_000


def test_intervals_hold_the_truth_about_nine_times_in_ten() -> None:
    held = {"brier": 0, "roc_auc": 0}
    everything = world(300, 600, seed=99)
    p, y = (np.concatenate(part) for part in zip(*everything, strict=True))
    truth = {"brier": metrics.brier(y, p), "roc_auc": metrics.roc_auc(y, p)}
    for seed in range(40):
        days = [DayCounts.of(*day) for day in world(28, 200, seed=seed)]
        found = trailing(days, seed=seed, resamples=100)
        for name, value in truth.items():
            held[name] += found[name][1] <= value <= found[name][2]
    assert all(31 <= n <= 40 for n in held.values()), held


def test_the_calibration_interval_of_a_calibrated_model_reaches_down_to_nothing() -> None:
    for seed in range(10):
        low = trailing([DayCounts.of(*day) for day in world(28, 900, seed=seed)], seed=seed)["calibration_error"][1]
        assert low < 0.01
    tilted = trailing([DayCounts.of(*day) for day in world(28, 900, tilt=0.5)])["calibration_error"]
    assert tilted[1] > 0.03


def test_the_same_seed_gives_the_same_interval_and_one_day_gives_none() -> None:
    made = [DayCounts.of(*day) for day in world(10, 200)]
    assert trailing(made, seed=3) == trailing(made, seed=3)
    assert trailing(made, seed=3) != trailing(made, seed=4)
    assert trailing(made[:1])["brier"][1:] == (0.0, 1.0)


def test_a_score_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(Invalid, match=r"1\.5"):
        DayCounts.of([0.2, 1.5], [0, 1])
    with pytest.raises(Invalid, match="2 scores for 1 labels"):
        DayCounts.of([0.2, 0.5], [0])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 3000), st.integers(1, 400))
def test_counts_weighted_in_pieces_are_those_weighted_at_once(many, cells, resamples) -> None:
    rng = np.random.default_rng(cells)
    weights = rng.integers(0, 5, (resamples, many)).astype(float)
    counts = rng.integers(0, 50, (many, 2, cells)).astype(float)[:, 0]
    assert (_weighted(weights, counts) == weights @ counts).all()
