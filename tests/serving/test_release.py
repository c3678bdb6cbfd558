from __future__ import annotations

from itertools import product
from math import comb, exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.serving.release import KINDS, TwoSample, Watch, _mean, guardrails
from loopline.serving.spec import ReleaseSpec

rates = st.floats(0.001, 0.97)


def look(test: TwoSample, rng, canary: float, champion: float, rows: int, share: float) -> None:
    nc = int(rng.binomial(rows, share))
    nb = rows - nc
    test.update(nc, int(rng.binomial(nc, canary)), nb, int(rng.binomial(nb, champion)))


def rolled_back(canary: float, champion: float, *, rows: int, looks: int, runs: int, seed: int) -> float:
    """Share of releases that end as worse when one looks after every block."""
    rng, found = np.random.default_rng(seed), 0
    for _ in range(runs):
        test = TwoSample(alpha=0.05, margin=0.02)
        for _ in range(looks):
            look(test, rng, canary, champion, rows, 0.1)
            if test.verdict == "worse":
                found += 1
                break
    return found / runs


@pytest.mark.parametrize(("rate", "rows", "looks"), [(0.005, 200, 120), (0.008, 2_000, 30), (0.2, 200, 60)])
def test_a_healthy_canary_is_rolled_back_by_mistake_at_most_five_times_in_a_hundred(rate, rows, looks):
    assert rolled_back(rate, rate, rows=rows, looks=looks, runs=300, seed=1) <= 0.05


def test_a_rise_from_half_a_percent_to_one_and_a_half_is_found():
    assert rolled_back(0.015, 0.005, rows=200, looks=120, runs=200, seed=2) >= 0.95


def test_a_canary_that_loses_most_rows_is_found_within_one_block():
    test = TwoSample(alpha=0.0125, margin=0.02)
    test.update(13, 11, 243, 0)
    assert test.verdict == "worse"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1), st.integers(0, 300), st.floats(0, 1)), max_size=6),
    st.integers(1, 4),
    st.integers(1, 8),
    rates,
    st.floats(0, 1),
    st.sampled_from([0.0, 0.03]),
)
def test_whatever_was_seen_the_next_block_multiplies_no_evidence_by_more_than_one_in_the_mean(
    past, nc, nb, champion, part, slack
):
    test = TwoSample(alpha=0.05, margin=0.02, slack=slack)
    for n, share, m, other in past:
        test.update(n, round(n * share), m, round(m * other))
    # every rate pair of the null of `worse`, and of `fine`
    no_worse = min(champion + slack * part, 0.99)
    too_much = min(champion + slack + 0.02 + (0.97 - champion) * part, 0.999)
    for attribute, canary in (("_worse", no_worse), ("_fine", too_much)):
        if attribute == "_fine" and canary - champion < slack + 0.02:
            continue
        mean = 0.0
        for xc, xb in product(range(nc + 1), range(nb + 1)):
            after = TwoSample.from_doc({**test.to_doc(), "_worse": list(test._worse), "_fine": list(test._fine)})
            after.canary, after.champion = list(after.canary), list(after.champion)
            after.update(nc, xc, nb, xb)
            chance = comb(nc, xc) * canary**xc * (1 - canary) ** (nc - xc)
            chance *= comb(nb, xb) * champion**xb * (1 - champion) ** (nb - xb)
            mean += chance * exp(_mean(getattr(after, attribute)) - _mean(getattr(test, attribute)))
        assert mean <= 1 + 1e-6


def test_a_canary_like_the_champion_is_found_fine_and_one_worse_by_the_margin_is_not():
    rng = np.random.default_rng(3)
    alike, beyond = TwoSample(0.05, 0.02), TwoSample(0.05, 0.02)
    for _ in range(60):
        look(alike, rng, 0.01, 0.01, 400, 0.25)
        look(beyond, rng, 0.03, 0.01, 400, 0.25)
    assert alike.verdict == "fine"
    assert beyond.fine < 20


def test_expected_nulls_of_a_new_input_are_no_evidence():
    rng = np.random.default_rng(4)
    strict, lenient = TwoSample(0.05, 0.02), TwoSample(0.05, 0.02, slack=0.04)
    for _ in range(60):
        look(strict, rng, 0.04, 0.0, 400, 0.25)
        rng2 = np.random.default_rng(5)
        look(lenient, rng2, 0.03, 0.0, 400, 0.25)
    assert strict.verdict == "worse"
    assert lenient.verdict != "worse"


def test_a_block_with_one_side_only_is_no_evidence():
    test = TwoSample(0.05, 0.02)
    test.update(50, 50, 0, 0)
    test.update(0, 0, 50, 0)
    assert (test.worse, test.fine, test.verdict) == (1.0, 1.0, "open")


def test_the_watch_survives_a_restart_and_a_step_keeps_only_what_speaks_against_the_canary():
    watch = Watch("r", 1, guardrails(ReleaseSpec()), 0.0)
    for _ in range(30):
        watch.update(25, [1, 0, 0, 0], 230, [1, 0, 0, 0])
    revived = Watch.from_doc(watch.to_doc())
    assert revived.found == watch.found
    revived.step(2)
    assert [g.worse for g in revived.found] == [g.worse for g in watch.found]
    assert all(g.fine == 1.0 and g.canary_n == 0 for g in revived.found)


def test_the_guardrails_share_the_chance_of_a_false_rollback():
    specs = guardrails(ReleaseSpec(alpha=0.04, latency_ms=9))
    assert [s["kind"] for s in specs] == list(KINDS)
    assert sum(s["alpha"] for s in specs) == pytest.approx(0.04)
    assert specs[KINDS.index("latency")]["latency_ms"] == 9


def test_the_release_is_worse_if_one_guardrail_is_and_fine_only_if_all_are():
    watch = Watch("r", 1, guardrails(ReleaseSpec()), 0.0)
    for _ in range(20):
        watch.update(50, [0, 40, 0, 0], 200, [0, 0, 0, 0])
    assert watch.verdict == "worse"
    assert log(max(g.worse for g in watch.found)) > log(80)
