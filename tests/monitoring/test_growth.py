"""What became known since the champion was trained."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.monitoring.test_check import FIRST, Live
from tests.monitoring.world import DAY, ENDPOINT, START, answers, outcomes

from loopline.features.nouns import TrainingSet
from loopline.registry.nouns import Release, Version
from loopline.training.nouns import Model

TRAINED = START + FIRST * DAY - timedelta(hours=5)


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path)


def release(live: Live, version: str, trained: datetime, rows: int) -> None:
    at = live.ws.clock()
    training_set = TrainingSet(f"set-{version}", "s", "f", (), (), "views", rows, 10, at, at, {})
    model = Model(f"m-{version}", "r", training_set.id, "p", "b", (), "sklearn", "user:a", 0.5, {}, trained)
    made = Version(version, ENDPOINT, 1, model.id, "r", "b", "s", "p", "user:a", "limited", "e", at, {})
    with live.ws.records.transaction() as tx:
        for noun in (training_set, model, made):
            tx.put(noun)
        tx.put(Release(f"r-{version}", ENDPOINT, "production", version, None, "", "user:a", at, 1))


def known(trained: datetime, days: int) -> int:
    """Labels that are not void and became known after the training, counted one by one."""
    until = START + days * DAY
    rows = [row for day in range(FIRST, days) for row in outcomes(day).iter_rows(named=True)]
    return sum(trained < row["reported"] <= until and row["late"] is not None for row in rows)


def test_labels_are_counted_from_the_training_on_whether_or_not_each_day_was_judged(live: Live) -> None:
    live.clock.set(START + FIRST * DAY)
    release(live, "v1", TRAINED, 4000)
    judged = 0
    for day in range(FIRST, FIRST + 12):
        quality = live.day(day, check=day != FIRST + 10).quality if day != FIRST + 10 else live.day(day, check=False)
        if quality is not None:
            judged += 1
            assert (quality.version, quality.trained_rows) == ("v1", 4000)
            assert quality.new_labels == known(TRAINED, day + 1)
    assert judged >= 2


def test_a_new_champion_is_counted_from_its_own_training(live: Live) -> None:
    live.clock.set(START + FIRST * DAY)
    release(live, "v1", TRAINED, 4000)
    for day in range(FIRST, FIRST + 9):
        live.day(day)
    later = TRAINED + 6 * DAY
    release(live, "v2", later, 6000)
    for day in range(FIRST + 9, FIRST + 20):
        log = answers(day, version="v2")
        quality = live.day(day, log=log).quality
    assert (quality.version, quality.trained_rows) == ("v2", 6000)
    assert quality.new_labels == known(later, FIRST + 20)
