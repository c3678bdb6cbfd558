"""What a strange window is taken for: a seasonal year without alarms, and faults that are found."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from tests.monitoring.world import DAY, START, celsius, readings

from loopline.data.spec import TableSpec
from loopline.monitoring.drift import Reference, Summary, summarise
from loopline.monitoring.finding import SHARES, Budget, Finding
from loopline.monitoring.triage import findings, t_tail
from loopline.monitoring.units import CONVERSIONS
from loopline.monitoring.windows import profile_parts, series_ends

BUDGET = Budget(2.0, 365 * 3)
COLUMNS = ["site", "temp", "dew", "pressure", "gust", "rain"]


def summary(frame: pl.DataFrame, day: int) -> Summary:
    start = START + day * DAY
    return summarise(profile_parts(frame, "observed", start, start + DAY, COLUMNS))


@cache
def clean(day: int, seed: int = 0) -> Summary:
    return summary(readings(day, seed=seed), day)


def look(day: int, change: Callable[[pl.DataFrame], pl.DataFrame], seed: int = 0) -> list[Finding]:
    reference = [clean(d, seed) for d in range(day - 28, day)]
    return findings(summary(change(readings(day, seed=seed)), day), reference, BUDGET)


def test_a_seasonal_year_raises_no_bug() -> None:
    found = [(day, f) for day in range(40, 360, 2) for f in look(day, lambda frame: frame)]
    assert [f for f in found if f[1].verdict != "real"] == []
    assert len(found) <= 3


def test_a_day_of_celsius_is_found_and_named_in_the_warm_half_of_the_year() -> None:
    missed = []
    for day in range(120, 300, 6):
        found = [f for f in look(day, celsius) if f.cause == "unit_change"]
        if not found or set(found[0].columns) != {"temp", "dew"}:
            missed.append(day)
    assert len(missed) <= 1, missed


def test_a_file_that_went_wrong_midway_is_found_in_its_part() -> None:
    for day in (170, 200, 230):
        late = pl.col("observed") > START + day * DAY + timedelta(hours=12)

        def midway(frame: pl.DataFrame, late: pl.Expr = late) -> pl.DataFrame:
            return celsius(frame.filter(late)).vstack(frame.filter(~late)).sort("observed")

        (found,) = [f for f in look(day, midway) if f.cause == "unit_change"]
        assert found.verdict == "bug" and found.parts == (2, 3)


@pytest.mark.parametrize(
    ("name", "change", "cause", "verdict"),
    [
        ("pressure", pl.col("pressure") * 1000, "unit_change", "bug"),
        ("temp", pl.lit(None, pl.Float64).alias("temp"), "null_burst", "bug"),
        ("temp", pl.lit(50.0).alias("temp"), "constant", "bug"),
        ("site", pl.col("site").str.to_lowercase() + " ", "new_category", "bug"),
        (
            "site",
            pl.when(pl.col("site") == "A").then(pl.lit("Z")).otherwise("site").alias("site"),
            "new_category",
            "suspect",
        ),
        ("temp", pl.col("temp").cast(pl.String), "schema", "bug"),
    ],
)
def test_each_fault_has_its_name(name, change, cause, verdict) -> None:
    for day in (100, 200):
        found = [f for f in look(day, lambda frame: frame.with_columns(change)) if name in f.columns]
        assert [(f.cause, f.verdict) for f in found] == [(cause, verdict)]


def test_a_column_that_is_gone_is_a_bug_and_half_the_rows_are_suspect() -> None:
    day = 150
    frame = readings(day)
    reference = [clean(d) for d in range(day - 28, day)]
    start = START + day * DAY
    without = summarise(profile_parts(frame, "observed", start, start + DAY, [c for c in COLUMNS if c != "dew"]))
    assert [(f.cause, f.verdict) for f in findings(without, reference, BUDGET)] == [("schema", "bug")]
    few = findings(summary(frame.head(24), day), reference, BUDGET)
    assert ("volume", "suspect") in [(f.cause, f.verdict) for f in few]


def test_a_real_jump_of_the_same_size_is_not_called_a_bug() -> None:
    def colder(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col("temp") - 60)

    for day in (150, 200, 250):
        assert all(f.verdict == "real" for f in look(day, colder))


def test_what_is_expected_of_a_column_is_the_same_whichever_stand_beside_it() -> None:
    windows = [clean(day) for day in range(120, 150)]
    names = windows[0].numbers
    every, bare = Reference.of(windows, names), Reference.of(windows, names, tails=False)
    for place, name in enumerate(names):
        alone = Reference.of(windows, (name,))
        for figure in ("windows", "center", "scale", "low", "high", "distinct", "spread", "spread_scale"):
            np.testing.assert_array_equal(getattr(alone, figure)[0], getattr(every, figure)[place], figure)
            if not figure.startswith("spread"):
                np.testing.assert_array_equal(getattr(bare, figure)[place], getattr(every, figure)[place], figure)


def test_fewer_than_fourteen_windows_say_nothing() -> None:
    reference = [clean(d) for d in range(187, 200)]
    assert findings(summary(celsius(readings(200)), 200), reference, BUDGET) == []


def test_the_budget_is_divided_and_never_exceeded() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert sum(c.weight for c in CONVERSIONS) == pytest.approx(1)
    levels = sum(10 * BUDGET.level(check, 10) for check in SHARES)
    assert levels * BUDGET.looks_per_year == pytest.approx(BUDGET.false_alarms_per_year)


@pytest.mark.parametrize("z", [0.0, 0.5, 2.0, 5.0, 12.0, 29.0, 31.0, 200.0])
def test_tails_are_those_of_student(z) -> None:
    assert t_tail(z) == pytest.approx(float(stats.t.sf(z, 8)), rel=0.03)


def test_a_year_of_real_readings_raises_no_bug_and_a_day_of_celsius_is_found_from_may_to_october() -> None:
    prepare = _example()
    rows = prepare.weather()
    columns = [c for c in rows.columns if c not in ("time_hour", "observed")]
    day = pl.col("observed").dt.offset_by("-1us").dt.truncate("1d")
    by_day = {key[0]: part for key, part in rows.with_columns(_day=day).partition_by("_day", as_dict=True).items()}
    wrong = rows.with_columns(_day=day, temp=(pl.col("temp") - 32) / 1.8, dewp=(pl.col("dewp") - 32) / 1.8)
    wrong_by_day = {key[0]: part for key, part in wrong.partition_by("_day", as_dict=True).items()}
    start = datetime(2013, 3, 4, tzinfo=UTC)
    dates = [start + timedelta(days=i) for i in range(302)]
    empty = rows.clear()
    spec = TableSpec(source="none.csv", event_time="time_hour", known_at="observed", key=("origin", "time_hour"))

    def seen(source, date):  # type: ignore[no-untyped-def]
        rows = source.get(date, empty)
        ends = series_ends(rows, spec, date, date + DAY, columns)
        return summarise(profile_parts(rows, "observed", date, date + DAY, columns), ends)

    made = [seen(by_day, date) for date in dates]
    bugs, hits, warm = 0, 0, 0
    for i in range(28, len(dates)):
        bugs += any(f.verdict == "bug" for f in findings(made[i], made[i - 28 : i], BUDGET))
        if 5 <= dates[i].month <= 10:
            found = findings(seen(wrong_by_day, dates[i]), made[i - 28 : i], BUDGET)
            warm += 1
            named = [f for f in found if f.evidence.get("conversion") == "Fahrenheit as Celsius"]
            hits += any({"temp", "dewp"} <= set(f.columns) for f in named)
    assert bugs == 0
    assert hits / warm >= 0.99, (hits, warm)


def _example():  # type: ignore[no-untyped-def]
    path = Path(__file__).parents[2] / "examples" / "flights" / "prepare.py"
    spec = importlib.util.spec_from_file_location("prepare_for_monitoring", path)
    if spec is None or spec.loader is None or not path.exists():
        pytest.skip("the example is not here")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        module.weather()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    return module


def test_medians_that_never_moved_raise_no_shift() -> None:
    rng = np.random.default_rng(5)
    start = START

    def day(i: int, level: float) -> Summary:
        frame = pl.DataFrame({"observed": [start + i * DAY + timedelta(hours=h) for h in range(24)]}).with_columns(
            pl.Series("x", np.full(24, level) + np.where(rng.random(24) < 0.2, 1.0, 0.0))
        )
        return summarise(profile_parts(frame, "observed", start + i * DAY, start + (i + 1) * DAY, ["x"]))

    reference = [day(i, 10.0) for i in range(28)]
    assert [f for f in findings(day(28, 7.0), reference, BUDGET) if f.cause == "shift"] == []
