"""Planted leaks are found, named and block; the same rows without them pass."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from tests.features.leaky import Labelled, adult, any_name, flight_features, flight_spine, flights, recent, tables

from loopline.features import recompute
from loopline.features.leakage_columns import auc, columns
from loopline.features.leakage_rows import early_labels, late_rows, own_outcomes, rows
from loopline.features.nouns import Leak

SEEDS = range(3)
Y = pl.col("label").cast(pl.Float64)
TRAIN = pl.col("split") == "train"


def found(given: Labelled, seed: int = 0) -> list[Leak]:
    """Everything that shows in the rows themselves."""
    single = columns(given.frame, given.features, given.categorical, answers=given.answers, seed=seed)
    return [*single, *rows(given.frame, given.features, given.unit, given.groups)]


def said(leaks: list[Leak]) -> list[tuple[str, str | None]]:
    assert all(leak.refuses and leak.evidence and leak.fix for leak in leaks)
    return [(leak.kind, leak.column) for leak in leaks]


def noise(n: int, seed: int) -> pl.Series:
    return pl.Series(np.random.default_rng(seed).random(n))


def mean_over(*key: str) -> pl.Expr:
    return Y.mean().over(key)


def planted(n: int, seed: int, key: tuple[str, ...]) -> dict[str, tuple[str, pl.Expr | pl.Series]]:
    """Columns that leak: what they are, the kind they are found as, how they are made."""
    draw = noise(n, seed)
    other = (Y.sum().over(key) - Y) / (pl.len().over(key) - 1)
    return {
        "the label": ("target_copy", Y * 3 - 1),
        "its opposite as text": ("target_copy", pl.when(pl.col("label")).then(pl.lit("no")).otherwise(pl.lit("yes"))),
        "the label, now and then wrong": ("too_good", pl.when(draw < 0.04).then(1 - Y).otherwise(Y)),
        "a score with the answer in it": ("too_good", Y + 1.25 * noise(n, seed + 1)),
        "emptied after the outcome": (
            "missing_values",
            pl.when(~pl.col("label") | (draw < 0.4)).then(noise(n, seed + 2)),
        ),
        "rows sorted by answer, then numbered": ("row_number", (Y * 0.4 + draw).rank("ordinal")),
        "mean of the label over all rows": ("encoded_target", mean_over(*key)),
        "the same, drawn to the mean": ("encoded_target", (Y.sum().over(key) + 5) / (pl.len().over(key) + 20)),
        "the same, over training rows": ("encoded_target", pl.when(TRAIN).then(Y).mean().over(key)),
        "the same, in odds": ("encoded_target", (mean_over(*key) + 0.01).log() - (1.01 - mean_over(*key)).log()),
        "the same, without the row itself": ("encoded_target", other),
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_clean_flights_pass_whatever_the_seed(seed):
    given = flights()
    part = given.frame.sample(fraction=0.6, seed=seed).sort("decision_time") if seed else given.frame
    assert found(given.of(part), seed) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_the_clean_census_passes_whatever_the_seed(seed):
    given = adult(seed)
    part = given.frame.sample(fraction=0.5, seed=seed) if seed else given.frame
    assert found(given.of(part), seed) == []


@pytest.mark.parametrize("what", planted(2, 0, ("k",)))
def test_a_planted_column_of_the_flights_is_found_under_any_name(what):
    seed = len(what)
    given, name = flights(), any_name(seed)
    key = ("carrier", "dest") if "without" in what else ("carrier", "_flight")
    kind, values = planted(given.frame.height, seed, key)[what]
    told = found(given.with_column(name, values), seed)
    assert said(told) == [(kind, name)] and (kind != "target_copy" or told[0].bound == 0.999)


@pytest.mark.parametrize("what", planted(2, 0, ("k",)))
def test_a_planted_column_of_the_census_is_found_under_any_name(what):
    seed = len(what)
    given, name = adult(), any_name(seed)
    key = ("occupation", "education") if "without" in what else ("age", "occupation")
    kind, values = planted(given.frame.height, seed, key)[what]
    assert said(found(given.with_column(name, values), seed)) == [(kind, name)]


def test_a_delay_known_at_departure_is_too_good_and_its_mean_over_the_year_is_an_encoding():
    given = flights()
    late = given.with_column(any_name(1), pl.col("_dep_delay"))
    assert said(found(late)) == [("too_good", any_name(1))]
    mean = given.with_column(any_name(2), pl.col("_arr_delay").mean().over("carrier", "_flight"))
    seen = Labelled(mean.frame, mean.features, mean.categorical, mean.unit, (), ("_arr_delay",))
    assert said(found(seen)) == [("encoded_target", any_name(2))]


def test_several_leaks_at_once_do_not_hide_each_other():
    given, names = flights(), []
    every = planted(given.frame.height, 5, ("carrier", "_flight"))
    for n, what in enumerate(("the label", "the label, now and then wrong", "mean of the label over all rows")):
        names.append(any_name(n))
        given = given.with_column(names[-1], every[what][1])
    assert {column for _, column in said(found(given))} == set(names)


@pytest.mark.parametrize("world", [flights, adult])
@pytest.mark.parametrize("values", [2, 10])
def test_an_answer_that_is_split_over_two_columns_is_found_though_neither_knows_it(world, values):
    given = world()
    draw = np.random.default_rng(values)
    one = draw.integers(0, values, given.frame.height)
    wrong = given.frame["label"].to_numpy() ^ (draw.random(len(one)) < 0.05)
    made = given.with_column("half", pl.Series(one)).with_column("rest", pl.Series((one + wrong) % values))
    (leak,) = found(made)
    assert (leak.kind, leak.column) == ("too_good", "half + rest") and leak.refuses
    assert "alone 0." in leak.evidence and (leak.score or 0) > 0.9


def test_a_rule_over_two_honest_columns_and_noise_in_many_are_no_split_answer():
    draw = np.random.default_rng(2)
    spend, limit = draw.lognormal(size=4000), draw.lognormal(size=4000)
    frame = pl.DataFrame({"spend": spend, "limit": limit}).cast(pl.Float32)
    frame = frame.with_columns(label=pl.Series(spend > limit), split=pl.lit("train"))
    assert not list(columns(frame, ["spend", "limit"], []))
    for n in (60, 300, 2000):
        many = {f"b{i}": draw.integers(0, 2, n) for i in range(20)} | {f"c{i}": draw.random(n) for i in range(20)}
        rows_ = pl.DataFrame(many).cast(pl.Float32)
        rows_ = rows_.with_columns(label=pl.Series(draw.random(n) < 0.4), split=pl.lit("train"))
        assert not list(columns(rows_, list(many), []))


@pytest.mark.parametrize("world", [flights, adult])
def test_copied_rows_units_on_both_sides_and_shared_groups_are_found(world):
    given = world()
    test = given.frame.filter(split="test")
    copied = given.frame.filter(split="train").sample(test.height // 12, seed=1)
    renamed = copied.with_columns(
        pl.col(given.unit) + "x", decision_time=test["decision_time"].max(), split=pl.lit("test")
    )
    assert said(found(given.of(pl.concat([given.frame, renamed])))) == [("duplicate_rows", None)]
    again = test.head(30).with_columns(split=pl.lit("train"), decision_time=given.frame["decision_time"].min())
    twice = given.of(pl.concat([given.frame, again]))
    assert ("group_overlap", given.unit) in said(found(twice))
    grouped = Labelled(
        given.frame.with_columns(home=pl.col(given.unit).hash(1) % 500),
        given.features,
        given.categorical,
        given.unit,
        ("home",),
    )
    assert said(found(grouped)) == [("group_overlap", "home")]


def test_rows_of_few_values_meet_by_chance_and_are_no_copies():
    given = adult()
    few = Labelled(
        given.frame,
        ("workclass", "marital", "race", "sex", "hours", "age"),
        ("workclass", "marital", "race", "sex"),
        "person",
    )
    assert found(few) == []


def test_a_random_split_of_rows_with_times_overlaps_in_time():
    given = flights()
    drawn = noise(given.frame.height, 3) < 0.25
    mixed = given.frame.with_columns(split=pl.when(drawn).then(pl.lit("test")).otherwise(pl.lit("train")))
    assert said(found(given.of(mixed))) == [("time_overlap", None)]


def test_answers_known_too_early_are_found_and_the_true_ones_are_not():
    given = flights()
    outcomes = tables()["outcomes"].select("flight_id", event_time="arrived_or_due", known_at="reported")
    assert list(early_labels(given.frame, outcomes, "flight_id", "outcomes")) == []
    zone = outcomes.with_columns(pl.col("event_time", "known_at") - timedelta(hours=30))
    assert said(list(early_labels(given.frame, zone, "flight_id", "outcomes"))) == [("early_label", "outcomes")]
    soon = outcomes.with_columns(known_at=pl.col("event_time") - timedelta(minutes=5))
    assert said(list(early_labels(given.frame, soon, "flight_id", "outcomes"))) == [("early_label", "outcomes")]


def test_rows_that_became_known_after_they_were_due_are_found():
    given = flights()
    plan = tables()["schedule"].select("flight_id", "published", "sched_dep")
    assert list(late_rows(plan, "flight_id", "published", given.frame, "schedule")) == []
    late = list(late_rows(plan, "flight_id", "sched_dep", given.frame, "schedule", "told"))
    assert said(late) == [("future_known_at", "schedule")] and "became known (told) after" in late[0].evidence


def test_a_wall_clock_read_as_utc_lets_a_flight_see_its_own_arrival():
    given = flights()
    landed = tables()["arrivals"].select("flight_id", "arr_delay", "air_time", _enter="reported")
    ask = given.frame.select("flight_id", "decision_time", "label", "split")
    assert list(own_outcomes(ask, landed, "flight_id", "arrivals", bound=0.85)) == []
    wall = landed.with_columns(pl.col("_enter") - timedelta(hours=5))
    assert said(list(own_outcomes(ask, wall, "flight_id", "arrivals", bound=0.85))) == [
        ("own_outcome", "arrivals.arr_delay")
    ]


def recomputed(
    kept: pl.DataFrame, build: recompute.Build, name: str, *, moments: int = 3
) -> list[tuple[str, str | None]]:
    """What truncating and recomputing says of one more feature."""
    spine = flight_spine()
    at = recompute.moments(spine["decision_time"], moments, seed=2)

    def cut(moment):
        known = {"arrivals": "reported", "departures": "reported", "weather": "observed", "cancellations": "reported"}
        return {n: f.filter(pl.col(known[n]) <= moment) if n in known else f for n, f in recent().items()}

    done = recompute.recompute(build, spine, kept, cut, unit="flight_id", features=[name], at=at, rows=40)
    assert done.rows >= 40
    return said(list(recompute.leaks(done)))


def weather_at_departure(due, past):
    readings = past["weather"].select("origin", hour="time_hour", x="wind_speed").sort("hour")
    asked = due.select("flight_id", "origin", "decision_time", "sched_dep").with_row_index("n").sort("sched_dep")
    made = asked.join_asof(readings, left_on="sched_dep", right_on="hour", by="origin", check_sortedness=False)
    return made.sort("n").select("flight_id", "decision_time", "x")


def window_to_departure(due, past):
    left = past["departures"].select("origin", "departed", d="dep_delay").sort("departed")
    left = left.with_columns(x=pl.col("d").cum_sum().over("origin"))
    asked = due.select("flight_id", "origin", "decision_time", "sched_dep").with_row_index("n").sort("sched_dep")
    made = asked.join_asof(left, left_on="sched_dep", right_on="departed", by="origin", check_sortedness=False)
    return made.sort("n").select("flight_id", "decision_time", "x")


def whole_year_mean(due, past):
    means = past["arrivals"].group_by("carrier", "flight").agg(x=pl.col("arr_delay").mean())
    return due.join(means, on=["carrier", "flight"], how="left", maintain_order="left").select(
        "flight_id", "decision_time", "x"
    )


def scaled_by_everything(due, past):
    temp = past["weather"].group_by("origin").agg(x=pl.col("temp").std())
    return due.join(temp, on="origin", how="left", maintain_order="left").select("flight_id", "decision_time", "x")


def wall_clock(due, past):
    late = past["departures"].with_columns(departed=pl.col("departed") - timedelta(hours=5))
    return window_to_departure(due.with_columns(sched_dep="decision_time"), {**past, "departures": late})


@pytest.mark.parametrize(
    "build", [weather_at_departure, window_to_departure, whole_year_mean, scaled_by_everything, wall_clock]
)
def test_code_that_reads_the_future_changes_when_the_future_is_taken_away(build):
    name = any_name(7)

    def named(due, past):
        return build(due, past).rename({"x": name})

    assert recomputed(named(flight_spine(), recent()), named, name) == [("reads_future", name)]


def test_features_of_views_stay_the_same_when_the_future_is_taken_away():
    given = flights()
    for name in ("dest_late_28d", "origin_dep_delay_1h"):
        assert recomputed(given.frame.select("flight_id", name), flight_features, name, moments=1) == []


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(3)
    score, y = rng.integers(0, 9, 200).astype(float), rng.integers(0, 2, 200)
    pairs = [(a > b) + (a == b) / 2 for a in score[y == 1] for b in score[y == 0]]
    assert auc(score, y) == pytest.approx(np.mean(pairs))
