from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from loopline.evaluation.gates import judge, label
from loopline.evaluation.scored import Rows, figures
from loopline.evaluation.spec import GateSpec

RNG = np.random.default_rng(0)
DAY = np.sort(RNG.integers(0, 28, 6000))
LOGIT = RNG.normal(-1, 1.2, 6000)
Y = (RNG.random(6000) < 1 / (1 + np.exp(-LOGIT))).astype(np.int8)
GOOD = 1 / (1 + np.exp(-LOGIT))
BAD = 1 / (1 + np.exp(-LOGIT - RNG.normal(0, 1.5, 6000)))
ROWS = Rows(Y, DAY, 28, None)


def verdict(gate, scores=GOOD, other=None, mask=None, against=None):
    candidate = figures(ROWS, scores, 0.5, (gate.metric,), mask=mask)
    reference = None if other is None else figures(ROWS, other, 0.5, (gate.metric,), mask=mask)
    return judge(gate, "all", candidate, reference, against)


@pytest.mark.parametrize("metric", ["roc_auc", "brier", "log_loss", "accuracy"])
def test_a_clearly_better_model_is_better_a_clearly_worse_one_worse_in_every_direction(metric):
    better = GateSpec(metric=metric, against="champion", better_by=0.005)
    no_worse = GateSpec(metric=metric, against="champion", no_worse_by=0.005)
    assert verdict(better, GOOD, BAD).passed
    assert verdict(no_worse, GOOD, BAD).passed
    assert not verdict(better, BAD, GOOD).passed
    assert not verdict(no_worse, BAD, GOOD).passed


def test_an_equal_model_is_no_worse_and_not_better():
    assert verdict(GateSpec(metric="roc_auc", against="champion", no_worse_by=0.0), GOOD, GOOD).passed
    assert not verdict(GateSpec(metric="roc_auc", against="champion", better_by=0.0), GOOD, GOOD).passed
    assert not verdict(GateSpec(metric="brier", against="champion", better_by=0.0), GOOD, GOOD).passed


def test_the_bound_must_clear_not_the_figure():
    auc = verdict(GateSpec(metric="roc_auc", at_least=0.5)).observed
    assert not verdict(GateSpec(metric="roc_auc", at_least=auc - 1e-4)).passed
    assert verdict(GateSpec(metric="roc_auc", at_least=auc - 0.05)).passed
    brier = verdict(GateSpec(metric="brier", at_most=1.0)).observed
    assert not verdict(GateSpec(metric="brier", at_most=brier + 1e-5)).passed
    assert verdict(GateSpec(metric="brier", at_most=brier + 0.05)).passed


def test_more_confidence_asks_for_more():
    loose = verdict(GateSpec(metric="roc_auc", at_least=0.5, confidence=0.8))
    strict = verdict(GateSpec(metric="roc_auc", at_least=0.5, confidence=0.99))
    assert strict.bound < loose.bound < loose.observed


def test_a_small_slice_cannot_pass_by_luck():
    found = verdict(GateSpec(metric="roc_auc", at_least=0.0), mask=np.arange(6000) < 40)
    assert not found.passed
    assert found.bound is None
    assert "too few rows" in found.why


def test_a_verdict_says_what_was_asked_seen_and_compared():
    gate = GateSpec(metric="roc_auc", slice="place=north", against="champion", no_worse_by=0.01)
    found = verdict(gate, BAD, GOOD, against="baseline")
    assert found.gate == label(gate) == "roc_auc no_worse_by 0.01 against champion on place=north"
    assert found.against == "baseline"
    assert found.observed < 0
    assert found.threshold == -0.01
    assert "is not above -0.0100" in found.why
    assert verdict(GateSpec(metric="brier", against="champion", better_by=0.01), GOOD, BAD).threshold == -0.01


def test_a_gate_has_exactly_one_bound_and_a_reference_where_it_needs_one():
    for wrong in ({}, {"at_least": 0.1, "at_most": 0.2}, {"better_by": 0.1}, {"at_least": 0.1, "against": "champion"}):
        with pytest.raises(ValidationError):
            GateSpec(metric="roc_auc", **wrong)
    with pytest.raises(ValueError, match="needs a reference"):
        verdict(GateSpec(metric="roc_auc", against="champion", better_by=0.1))
