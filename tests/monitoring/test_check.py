"""`check` on real stores, window by window."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from tests.monitoring.world import DAY, ENDPOINT, FRAMING, START, TABLES, answers, celsius, outcomes, readings

from loopline import monitoring
from loopline.base.clock import ManualClock
from loopline.base.errors import Conflict
from loopline.monitoring.answers import given as given_answers
from loopline.monitoring.memory import POINTER, Memory
from loopline.monitoring.nouns import Alert, Incident, Quality, Resolution
from loopline.monitoring.quality import DayCounts, trailing
from loopline.monitoring.spec import MonitoringSpec
from loopline.workspace import Workspace, create_workspace

FIRST = 90


class Live:
    """A workspace whose days are played one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = ManualClock(START)
        self.ws: Workspace = create_workspace(root / ".loopline", clock=self.clock, actor="service:loop")
        for day in range(FIRST - 30, FIRST):
            self.ws.tables.append("readings", readings(day))

    def day(self, day: int, *, sent=None, also=None, log=None, check: bool = True):  # type: ignore[no-untyped-def]
        """Take in what became known on a day, then check it."""
        if sent is None or sent.height:
            self.ws.tables.append("readings", readings(day) if sent is None else sent)
        if also is not None:
            self.ws.tables.append("readings", also)
        self.ws.tables.append(f"predictions/{ENDPOINT}", answers(day) if log is None else log)
        start, near = START + day * DAY, pl.concat(outcomes(d) for d in range(max(FIRST, day - 2), day + 1))
        known = near.filter((pl.col("reported") > start) & (pl.col("reported") <= start + DAY))
        self.ws.tables.append("outcomes", known)
        self.clock.set(START + (day + 1) * DAY)
        return self.check(day) if check else None

    def check(self, day: int) -> monitoring.Checked:
        return monitoring.check(
            self.ws,
            project=self.root,
            endpoint=ENDPOINT,
            framing=FRAMING,
            tables=TABLES,
            monitoring=MonitoringSpec(),
            over=timedelta(days=28),
            since=START + day * DAY,
            until=START + (day + 1) * DAY,
        )


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path)


def test_an_ordinary_fortnight_raises_nothing_and_leaves_a_profile_per_subject_and_day(live: Live) -> None:
    for day in range(FIRST, FIRST + 14):
        checked = live.day(day)
        assert not checked.opened and not [a for a in checked.alerts if a.verdict == "bug"]
        assert {p.subject for p in checked.profiles} == {"table:readings", "table:outcomes", f"endpoint:{ENDPOINT}"}
    assert monitoring.open_incidents(live.ws) == [] and monitoring.excluded_windows(live.ws) == []


def test_a_day_in_another_unit_is_one_data_incident_until_the_corrected_rows_come(live: Live) -> None:
    live.day(FIRST)
    bad = live.day(FIRST + 1, sent=celsius(readings(FIRST + 1)))
    (incident,) = bad.opened
    assert incident.area == "data" and incident.subject == "table:readings"
    (alert,) = [a for a in bad.alerts if a.verdict == "bug"]
    assert alert.cause == "unit_change" and set(alert.evidence["columns"]) == {"temp", "dew"}
    assert alert.evidence["conversion"] == "Fahrenheit as Celsius"
    assert monitoring.open_incidents(live.ws, "table:readings") == [incident]
    window = (START + (FIRST + 1) * DAY, START + (FIRST + 2) * DAY)
    assert monitoring.excluded_windows(live.ws) == [window]

    quiet = live.day(FIRST + 2)
    assert not quiet.opened and not quiet.resolved

    ended = live.day(FIRST + 3, also=readings(FIRST + 1).with_columns(pl_time(FIRST + 3)))
    assert [r.incident for r in ended.resolved] == [incident.id] and not ended.opened
    assert not [a for a in ended.alerts if a.cause == "volume"], "corrections are not traffic of the day"
    assert monitoring.open_incidents(live.ws) == []
    assert monitoring.excluded_windows(live.ws) == [window], "what was decided then was decided on bad values"


def test_wrong_corrections_do_not_end_an_incident(live: Live) -> None:
    live.day(FIRST)
    (incident,) = live.day(FIRST + 1, sent=celsius(readings(FIRST + 1))).opened
    again = celsius(readings(FIRST + 1)).with_columns(pl_time(FIRST + 2))
    assert not live.day(FIRST + 2, also=again).resolved
    half = readings(FIRST + 1).head(30).with_columns(pl_time(FIRST + 3))
    assert not live.day(FIRST + 3, also=half).resolved
    assert monitoring.open_incidents(live.ws) == [incident]


def pl_time(day: int) -> pl.Expr:
    return pl.lit(START + day * DAY + timedelta(hours=9)).cast(pl.Datetime("us", "UTC")).alias("observed")


def test_further_bad_days_join_the_open_incident(live: Live) -> None:
    live.day(FIRST)
    (incident,) = live.day(FIRST + 1, sent=celsius(readings(FIRST + 1))).opened
    second = live.day(FIRST + 2, sent=celsius(readings(FIRST + 2)))
    assert not second.opened
    (alert,) = [a for a in second.alerts if a.verdict == "bug"]
    assert alert.evidence["incident"] == incident.id
    assert monitoring.excluded_windows(live.ws) == [(START + (FIRST + 1) * DAY, START + (FIRST + 3) * DAY)]


def test_a_person_may_say_that_the_data_are_right(live: Live) -> None:
    live.day(FIRST)
    (incident,) = live.day(FIRST + 1, sent=celsius(readings(FIRST + 1))).opened
    ended = monitoring.resolve(live.ws, incident.id, "the sensors changed", real=True)
    assert isinstance(ended, Resolution) and monitoring.open_incidents(live.ws) == []
    assert monitoring.excluded_windows(live.ws) == []
    with pytest.raises(Conflict):
        monitoring.resolve(live.ws, incident.id, "again")


def test_quality_counts_each_given_answer_once_when_its_label_comes(live: Live) -> None:
    for day in range(FIRST, FIRST + 12):
        shadows = answers(day, version="v2", role="shadow").with_columns(score=1.0 - answers(day)["score"])
        log = answers(day).vstack(shadows.select(answers(day).columns))
        checked = live.day(day, log=log)
    quality = checked.quality
    assert isinstance(quality, Quality) and quality.labelled == quality.rows
    known = START + (FIRST + 12) * DAY
    days = []
    for day in range(FIRST, FIRST + 12):
        truth = outcomes(day)
        label = truth["late"].cast(float).to_numpy().copy()
        label[(truth["reported"] > known).to_numpy()] = float("nan")
        log = answers(day)
        days.append(DayCounts.of(log["score"], label, value=FRAMING.value, decisions=log["decision"].to_numpy()))
    assert quality.labelled == sum(d.rows for d in days)
    assert quality.metrics["roc_auc"][0] == pytest.approx(trailing(days)["roc_auc"][0], abs=1e-12)
    assert quality.metrics["value"][0] == pytest.approx(trailing(days)["value"][0], abs=1e-12)
    assert monitoring.quality_history(live.ws, ENDPOINT)[-1] == quality


def test_answers_wait_in_one_place_and_those_of_earlier_windows_are_gone(live: Live) -> None:
    for day in range(FIRST, FIRST + 4):
        live.day(day)
    blobs = live.ws.blobs
    waiting = [name for name in blobs if blobs.get(name)[:6] == b"ARROW1" and b"decision" in blobs.get(name)]
    memory = Memory.of(live.ws.records.pointer(POINTER, ENDPOINT))
    assert memory.pending and memory.left and set(waiting) == {memory.pending, memory.left}


def test_checking_a_window_twice_changes_nothing(live: Live) -> None:
    live.day(FIRST)
    live.day(FIRST + 1, sent=celsius(readings(FIRST + 1)))
    counts = [len(live.ws.records.find(kind)) for kind in (Alert, Incident, Quality)]
    before = live.ws.records.pointer("monitoring", ENDPOINT)
    again = live.check(FIRST + 1)
    assert [len(live.ws.records.find(kind)) for kind in (Alert, Incident, Quality)] == counts
    assert live.ws.records.pointer("monitoring", ENDPOINT) == before
    assert [i.subject for i in again.opened] == ["table:readings"]


def test_an_input_that_arrives_null_is_an_incident_but_not_of_the_data_when_one_version_only_shows_it(
    live: Live,
) -> None:

    for day in range(FIRST, FIRST + 15):
        assert not live.day(day).opened
    log = answers(FIRST + 15)
    half = pl.int_range(pl.len()) % 2 == 0
    canary = log.with_columns(
        version=pl.when(half).then(pl.lit("v2")).otherwise("version"),
        role=pl.when(half).then(pl.lit("canary")).otherwise("role"),
        queue=pl.when(half).then(None).otherwise("queue"),
    )
    seen = live.day(FIRST + 15, log=canary)
    (alert,) = [a for a in seen.alerts if a.cause == "null_burst"]
    assert alert.verdict == "suspect" and alert.evidence["only_version"] == "v2" and not seen.opened
    broken = live.day(FIRST + 16, log=answers(FIRST + 16).with_columns(queue=pl.lit(None, pl.Float64)))
    assert [i.subject for i in broken.opened] == [f"endpoint:{ENDPOINT}"]


def test_a_constant_given_in_a_versions_place_is_no_answer_of_that_version() -> None:
    log = answers(FIRST).with_columns(
        fallback=pl.Series(["baseline", "error", None, None] * 50, dtype=pl.String), score=pl.lit(0.5)
    )
    found = given_answers(log)
    assert found["version"].to_list() == ["baseline", "v1", "v1", "v1"] * 50


def test_answers_given_ahead_of_their_window_count_once_it_closes(live: Live) -> None:
    """However the rows of a window came into the log, the window sees those decided in it."""
    batches = [answers(day) for day in range(FIRST, FIRST + 5)]
    early, late = batches[2].head(70), batches[2].tail(130)
    sent = [
        pl.concat([batches[0], early]),  # for the day after tomorrow
        batches[1],
        pl.concat([late, batches[0].tail(3).with_columns(prediction_id=pl.lit("late"))]),
        batches[3].head(0),
        pl.concat([batches[3], batches[4]]),
    ]
    for day, log in enumerate(sent, FIRST):
        checked = live.day(day, log=log)
        (made,) = [p for p in checked.profiles if p.subject == f"endpoint:{ENDPOINT}"]
        start, decided = START + day * DAY, pl.col("decision_time")
        here = live.ws.tables.scan(f"predictions/{ENDPOINT}").filter(decided >= start, decided < start + DAY).collect()
        assert made.rows == here.height == [200, 200, 200, 0, 200][day - FIRST]
