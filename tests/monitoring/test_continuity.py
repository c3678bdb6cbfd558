"""Readings that go on from window to window tell a wrong unit from a record day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.monitoring.world import DAY, ENDPOINT, FRAMING, READINGS, START, TABLES, readings

from loopline import monitoring
from loopline.base.clock import ManualClock
from loopline.data.spec import TableSpec
from loopline.monitoring.continuity import CAP, ENTITIES, Ends, Steps, entity_columns
from loopline.monitoring.drift import Summary, summarise
from loopline.monitoring.finding import Budget, Finding
from loopline.monitoring.spec import MonitoringSpec
from loopline.monitoring.triage import findings
from loopline.monitoring.units import CONVERSIONS
from loopline.monitoring.windows import profile_parts, series_ends
from loopline.workspace import create_workspace

BUDGET = Budget(2.0, 365 * 3)
COLUMNS = ["site", "temp", "dew", "flow"]
SCALES = np.array([c.scale for c in CONVERSIONS])
OFFSETS = np.array([c.offset for c in CONVERSIONS])
FAHRENHEIT = [c.name for c in CONVERSIONS].index("Fahrenheit as Celsius")
Change = Callable[[pl.DataFrame], pl.DataFrame]


@cache
def series(record: int | None = None) -> pl.DataFrame:
    """120 days of three sites whose temperature and dew point go on over midnight, and a flow that does not.

    `record`: a day that warms by 18 degrees in the evening before and cools in the evening of the day after.
    """
    rng = np.random.default_rng(3)
    hours = np.arange(120 * 24)
    moods = np.interp(hours, np.arange(121) * 24 + 9, np.random.default_rng(4).normal(0, 5, 121))
    if record is not None:
        moods += np.interp(hours, [record * 24 - 12, record * 24, record * 24 + 24, record * 24 + 36], [0, 18, 18, 0])
    season = 55 + 12 * np.sin(hours / 24 / 120 * np.pi) + 6 * np.sin((hours - 9) / 24 * 2 * np.pi)
    frames = []
    for i, site in enumerate("ABC"):
        temp = season + moods + i + rng.normal(0, 0.8, hours.size)
        frames.append(
            pl.DataFrame(
                {
                    "site": [site] * hours.size,
                    "hour": [START + timedelta(hours=int(h)) for h in hours],
                    "temp": temp.round(1),
                    "dew": (temp - 12 - 3 * np.sin(hours / 50) + rng.normal(0, 0.5, hours.size)).round(1),
                    "flow": rng.gamma(4, 10, hours.size).round(1),
                }
            )
        )
    return pl.concat(frames).with_columns(observed=pl.col("hour") + timedelta(hours=1)).sort("observed", "site")


def one_day(day: int, record: int | None = None) -> pl.DataFrame:
    start = START + day * DAY
    return series(record).filter((pl.col("observed") > start) & (pl.col("observed") <= start + DAY))


def summary(frame: pl.DataFrame, day: int, spec: TableSpec = READINGS) -> Summary:
    start = START + day * DAY
    parts = profile_parts(frame, "observed", start, start + DAY, COLUMNS)
    return summarise(parts, series_ends(frame, spec, start, start + DAY, COLUMNS))


@cache
def before(day: int) -> tuple[Summary, ...]:
    return tuple(summary(one_day(d), d) for d in range(day - 28, day))


def celsius(frame: pl.DataFrame, broken: pl.Expr | None = None) -> pl.DataFrame:
    broken = pl.lit(True) if broken is None else broken
    return frame.with_columns(
        pl.when(broken).then(((pl.col(c) - 32) / 1.8).round(1)).otherwise(c).alias(c) for c in ("temp", "dew")
    )


def bugs(window: Summary, day: int) -> list[Finding]:
    return [f for f in findings(window, before(day), BUDGET) if f.verdict == "bug"]


def on_record(day: int) -> tuple[Summary, ...]:
    # The evening before belongs to a record day too: it is delivered right and is part of the reference.
    return (*before(day)[:-1], summary(one_day(day - 1, day), day - 1))


@pytest.mark.parametrize("day", [40, 55, 70, 85, 100])
def test_a_record_day_in_another_unit_is_found_by_the_step_into_it(day: int) -> None:
    reference = on_record(day)
    (found,) = [f for f in findings(summary(celsius(one_day(day, day)), day), reference, BUDGET) if f.verdict == "bug"]
    assert set(found.columns) == {"temp", "dew"}
    assert found.evidence["conversion"] == "Fahrenheit as Celsius" and found.parts is None
    assert found.evidence["columns"]["temp"]["steps"] > 3


@pytest.mark.parametrize("day", [40, 70, 100])
def test_a_true_record_day_is_no_bug_nor_is_the_day_after(day: int) -> None:
    reference = on_record(day)
    right = summary(one_day(day, day), day)
    after = summary(one_day(day + 1, day), day + 1)
    assert not [f for f in findings(right, reference, BUDGET) if f.verdict == "bug"]
    assert not [f for f in findings(after, [*reference[1:], right], BUDGET) if f.verdict == "bug"]


@pytest.mark.parametrize("jump", [-25.0, -15.0, 15.0, 25.0, 35.0])
def test_a_true_heat_jump_is_no_bug(jump: float) -> None:
    for day in (50, 80):
        hour = (pl.col("hour") - (START + day * DAY)).dt.total_hours()
        warmer = (jump * (hour - 1).clip(0, 3) / 3).round(1)
        assert not bugs(summary(one_day(day).with_columns(pl.col("temp", "dew") + warmer), day), day)


def test_months_of_right_readings_raise_no_bug() -> None:
    found = {day: bugs(summary(one_day(day), day), day) for day in range(30, 120, 3)}
    assert not any(found.values()), found


@pytest.mark.parametrize(("first", "last", "parts"), [(0, 12, (0, 1)), (6, 18, (1, 2)), (12, 24, (2, 3))])
def test_the_steps_show_which_part_of_a_window_is_wrong(first: int, last: int, parts: tuple[int, int]) -> None:
    for day in (50, 75, 100):
        start = START + day * DAY
        broken = pl.col("hour").is_between(start + timedelta(hours=first), start + timedelta(hours=last), closed="left")
        (found,) = bugs(summary(celsius(one_day(day), broken), day), day)
        assert found.evidence["conversion"] == "Fahrenheit as Celsius" and found.parts == parts


def test_readings_that_do_not_go_on_give_no_evidence() -> None:
    day = 60
    wrong = summary(one_day(day).with_columns(pl.col("flow") * 10, pl.col("temp") * 10), day)
    steps = Steps.of(wrong.ends, [r.ends for r in before(day)], ["temp", "flow"])
    assert steps is not None
    ratio, goes_on = steps.evidence(SCALES, OFFSETS)
    assert ratio[:, 0].any() and not ratio[:, 1].any() and not goes_on[:, 1].any()
    assert Steps.of(wrong.ends, [r.ends for r in before(day)], ["flow"]) is None


def test_one_glitch_gives_no_evidence_and_no_column_more_than_the_cap() -> None:
    day = 60
    start = START + day * DAY
    frame = one_day(day)
    glitch = (pl.col("hour") == start) & (pl.col("site") == "A")
    for change, least, most in ((celsius(frame, glitch), -CAP, 0.0), (celsius(frame), 4.0, CAP)):
        steps = Steps.of(summary(change, day).ends, [r.ends for r in before(day)], ["temp", "dew"])
        assert steps is not None
        whole = steps.evidence(SCALES, OFFSETS)[0][FAHRENHEIT, :, 0]
        assert (whole >= least).all() and (whole <= most).all()


def test_a_step_over_a_window_that_was_left_out_says_nothing() -> None:
    day = 60
    wrong = summary(celsius(one_day(day)), day)
    gap = [r.ends for r in before(day)[:-1]]
    steps = Steps.of(wrong.ends, gap, ["temp", "dew"])
    assert steps is not None and not np.isfinite(steps.scale[:, 0]).any() and np.isfinite(steps.scale[:, 1]).all()


def test_a_series_has_its_event_time_in_the_key_or_no_key() -> None:
    assert entity_columns(READINGS) == ("site",)
    assert entity_columns(TABLES["outcomes"]) is None
    assert entity_columns(TableSpec(source="x", event_time="hour", key=("hour",))) == ()
    assert entity_columns(TableSpec(source="x", event_time="hour")) == ()
    assert entity_columns(TableSpec(source="x", key=("site",))) is None
    alone = TableSpec(source="x", event_time="hour", known_at="observed", key=("hour",))
    ends = summary(one_day(3).filter(pl.col("site") == "A"), 3, alone).ends
    assert ends is not None and ends.entities == ("",) and np.isfinite(ends.values).all()


def test_ends_are_the_first_and_last_known_readings_of_each_part() -> None:
    frame = one_day(5).sample(fraction=0.6, seed=1).with_columns(
        dew=pl.when(pl.int_range(pl.len()) % 3 == 0).then(None).otherwise("dew")
    )  # fmt: skip
    start = START + 5 * DAY
    older = one_day(3).with_columns(observed=pl.lit(start + timedelta(hours=2)).cast(pl.Datetime("us", "UTC")))
    again = (
        frame.filter(pl.col("observed") < start + DAY)
        .head(20)
        .with_columns(pl.col("temp") + 100, observed=pl.col("observed") + timedelta(minutes=1))
    )
    ends = series_ends(pl.concat([frame, older, again]), READINGS, start, start + DAY, COLUMNS)
    assert isinstance(ends, Ends) and ends.columns == ("temp", "dew", "flow") and ends.entities == ("A", "B", "C")
    said: dict[tuple[str, int, object], dict[str, object]] = {}
    for row in pl.concat([frame, again]).sort("observed").iter_rows(named=True):
        part = int((row["observed"] - start - timedelta(microseconds=1)) / (DAY / 4))
        said[row["site"], part, row["hour"]] = row
    for e, site in enumerate(ends.entities):
        for part in range(4):
            for c, column in enumerate(ends.columns):
                mine = sorted(k for k, v in said.items() if k[:2] == (site, part) and v[column] is not None)
                expected = [said[k][column] for k in (mine[0], mine[-1])] if mine else [np.nan, np.nan]
                np.testing.assert_array_equal(ends.values[e, part, :, c], np.array(expected, dtype=float))


def test_many_entities_keep_a_constant_size_and_survive_storage() -> None:
    start = START + 5 * DAY
    frame = pl.concat(
        one_day(5).filter(pl.col("site") == "A").with_columns(site=pl.lit(f"s{n:03}")) for n in range(60)
    ).sort("observed")
    made = summarise(
        profile_parts(frame, "observed", start, start + DAY, COLUMNS),
        series_ends(frame, READINGS, start, start + DAY, COLUMNS),
    )
    assert made.ends is not None and made.ends.entities == tuple(f"s{n:03}" for n in range(ENTITIES))
    again = Summary.from_bytes(made.to_bytes())
    assert again.ends is not None and again.ends.entities == made.ends.entities
    np.testing.assert_array_equal(again.ends.values, made.ends.values)
    np.testing.assert_array_equal(again.ends.times, made.ends.times)
    np.testing.assert_array_equal(again.stats, made.stats)
    bare = summarise(profile_parts(readings(5), "observed", start, start + DAY, ["temp"]))
    assert Summary.from_bytes(bare.to_bytes()).ends is None


def test_a_record_day_in_another_unit_is_an_incident_until_the_corrected_rows_come(tmp_path: Path) -> None:
    clock = ManualClock(START)
    ws = create_workspace(tmp_path / ".loopline", clock=clock, actor="service:loop")
    day = 60
    for earlier in range(day - 30, day):
        ws.tables.append("readings", one_day(earlier, day))

    def taken(at: int, rows: pl.DataFrame) -> monitoring.Checked:
        ws.tables.append("readings", rows)
        clock.set(START + (at + 1) * DAY)
        return monitoring.check(
            ws,
            project=tmp_path,
            endpoint=ENDPOINT,
            framing=FRAMING,
            tables=TABLES,
            monitoring=MonitoringSpec(),
            over=timedelta(days=28),
            since=START + at * DAY,
            until=START + (at + 1) * DAY,
        )

    (incident,) = taken(day, celsius(one_day(day, day))).opened
    assert incident.title.endswith("in another unit (Fahrenheit as Celsius)")
    quiet = taken(day + 1, one_day(day + 1, day))
    assert not quiet.resolved and not [a for a in quiet.alerts if a.verdict == "bug"]
    mended = one_day(day, day).with_columns(pl.col("observed").dt.offset_by("2d"))
    ended = taken(day + 2, pl.concat([one_day(day + 2, day), mended]))
    assert [r.incident for r in ended.resolved] == [incident.id]
    assert not [a for a in ended.alerts if a.verdict == "bug"] and monitoring.open_incidents(ws) == []
