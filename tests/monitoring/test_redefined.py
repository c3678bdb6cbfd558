"""Inputs across a release: what another version reads otherwise is not compared, what it reads alike is."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from tests.monitoring.test_check import FIRST, Live
from tests.monitoring.world import DAY, ENDPOINT, START, answers

from loopline import monitoring
from loopline.base.ids import canonical
from loopline.features.expr import Expr, col
from loopline.features.nouns import TrainingSet
from loopline.features.views import View, together
from loopline.registry.nouns import Release, Version
from loopline.training.nouns import Model

FORTNIGHT = 15
NOTHING = pl.lit(None, pl.Float64)


@pytest.fixture
def live(tmp_path: Path) -> Live:
    """Two quiet weeks of a version that reads two inputs."""
    made = Live(tmp_path)
    made.clock.set(START + FIRST * DAY)
    release(made, 1, load=col("load"), queue=col("queue"))
    for day in range(FIRST, FIRST + FORTNIGHT):
        assert not made.day(day).opened
    return made


def release(live: Live, number: int, **read: Expr) -> None:
    """A version that reads these takes over."""
    at, version = live.ws.clock(), f"v{number}"
    doc = live.ws.blobs.put(canonical(together([View("own", None, (), None, tuple(read.items()))]).doc()))
    rows = TrainingSet(f"set-{version}", "s", "f", tuple(read), (), doc, 1, 1, at, at, {})
    model = Model(f"m-{version}", "r", rows.id, "p", "b", tuple(read), "sklearn", "user:a", 0.5, {}, at)
    made = Version(version, ENDPOINT, number, model.id, "r", "b", "s", "p", "user:a", "limited", "e", at, {})
    before = f"v{number - 1}" if number > 1 else None
    with live.ws.records.transaction() as tx:
        for noun in (rows, model, made):
            tx.put(noun)
        tx.put(Release(f"r-{version}", ENDPOINT, "production", version, before, "", "user:a", at, number))


def alerted(checked: monitoring.Checked) -> set[str | None]:
    return {a.column for a in checked.alerts if a.subject == f"endpoint:{ENDPOINT}"}


def test_a_feature_that_a_new_version_drops_or_redefines_is_no_bug_of_the_data(live: Live) -> None:
    release(live, 2, load=col("load") * 60)
    changed = {"queue": NOTHING, "load": pl.col("load") * 60}
    for day in range(FIRST + FORTNIGHT, FIRST + FORTNIGHT + 3):
        seen = live.day(day, log=answers(day, version="v2").with_columns(**changed))
        assert not seen.opened and not alerted(seen)


def test_a_feature_that_both_versions_read_alike_is_watched_across_the_release(live: Live) -> None:
    release(live, 2, queue=col("queue"), load=col("load") * 60)
    day = FIRST + FORTNIGHT
    seen = live.day(day, log=answers(day, version="v2").with_columns(queue=NOTHING, load=pl.col("load") * 60))
    assert alerted(seen) == {"queue"} and [i.subject for i in seen.opened] == [f"endpoint:{ENDPOINT}"]


def test_it_is_watched_again_once_the_reference_is_the_new_versions(live: Live) -> None:
    release(live, 2, load=col("load") * 60)
    first = FIRST + FORTNIGHT
    after = first + 29
    for day in range(first, after):
        assert not live.day(day, log=answers(day, version="v2").with_columns(queue=NOTHING)).opened
    seen = live.day(after, log=answers(after, version="v2").with_columns(queue=NOTHING, load=NOTHING))
    assert "load" in alerted(seen) and seen.opened
