"""Policies over past days: the same whether the days are there already or still come."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from loopline.base.errors import Invalid
from loopline.interfaces.demo.deliveries import Deliveries
from loopline.loop import engine
from loopline.loop.candidates import Candidates
from loopline.loop.project import load
from loopline.loop.replay import Replays, replay
from loopline.loop.world import World, scored
from loopline.serving.release import KINDS
from loopline.workspace import FOLDER, Workspace, create_workspace

WORLD = Path(__file__).parents[1] / "worlds" / "parcels"
SINCE, UNTIL = datetime(2031, 4, 30, tzinfo=UTC), datetime(2031, 6, 20, tzinfo=UTC)
DAY = timedelta(days=1)


class Lived:
    """The small world, delivered as its days pass."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(WORLD, folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.project = load(folder)
        self.ws: Workspace = create_workspace(folder / FOLDER, actor="service:world")
        self.deliveries = Deliveries(self.ws, self.project, 1)
        self.deliveries.prepare([])

    def until(self, at: datetime) -> None:
        engine.set_clock(self.ws, to=at)
        self.deliveries.ingest()


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    made = Lived(tmp_path_factory.mktemp("world") / "parcels")
    yield made
    made.ws.close()


def told(replayed):
    return [(one.policy, one.moves, one.promotions, one.worth) for one in replayed]


def test_a_replay_that_goes_along_with_the_days_is_the_replay_of_the_whole(lived: Lived) -> None:
    policies = ("never", "monthly", "loop")
    candidates = Candidates(lived.ws, lived.project)
    along = Replays(candidates, policies, SINCE, UNTIL)
    with candidates.working(1):
        for stop in (SINCE, SINCE + DAY, SINCE + 17 * DAY, datetime(2031, 6, 1, tzinfo=UTC)):
            lived.until(stop)
            along.go_on(stop)
    made_along = set(candidates._made)
    lived.until(UNTIL + 3 * DAY)
    finished = told(along.finish())
    whole = Replays(candidates, policies, SINCE, UNTIL)
    assert told(whole.finish()) == finished
    assert told(replay(lived.ws, lived.project, policies=("never",), since=SINCE, until=UNTIL)) == finished[:1]
    assert len(made_along) >= 2, "what a policy trains is trained along the way"
    assert {one.policy: one.promotions for one in along.finish()}["monthly"] == 1
    assert finished[2][1], "the loop decided something"


def test_what_fails_on_the_way_is_begun_anew(lived: Lived, monkeypatch) -> None:
    lived.until(UNTIL + 3 * DAY)
    candidates = Candidates(lived.ws, lived.project)
    replays = Replays(candidates, ("never",), SINCE, UNTIL)
    with candidates.working(1):
        with monkeypatch.context() as broken:
            broken.setattr(Candidates, "model", lambda *_: (_ for _ in ()).throw(Invalid("a", why="b", fix="c")))
            with pytest.raises(Invalid):
                replays.go_on(SINCE + 9 * DAY)
        replays.go_on(SINCE + 9 * DAY)
    assert told(replays.finish()) == told(Replays(candidates, ("never",), SINCE, UNTIL).finish())


def test_a_stretch_without_rows_is_refused(lived: Lived) -> None:
    early = datetime(2001, 1, 1, tzinfo=UTC)
    with pytest.raises(Invalid, match="nothing to replay"):
        replay(lived.ws, lived.project, policies=("never",), since=early, until=early + DAY)
    with pytest.raises(Invalid, match="is not a policy"):
        replay(lived.ws, lived.project, policies=("yearly",), since=early, until=early + DAY)


def test_a_candidate_of_the_loop_waits_for_its_signature_as_long_as_told(lived: Lived) -> None:
    lived.until(UNTIL + 3 * DAY)
    candidates = Candidates(lived.ws, lived.project)

    def waited(after: timedelta) -> list[timedelta]:
        (one,) = Replays(candidates, ("loop",), SINCE, UNTIL, after).finish()
        came = [move.at for move in one.moves if move.what == "AWAIT_APPROVAL"]
        left = [later.at for move, later in pairwise(one.moves) if move.what == "AWAIT_APPROVAL"]
        assert came, "the loop asked for a signature"
        return [there - here for here, there in zip(came, left, strict=False)]

    assert set(waited(timedelta(0))) == {timedelta(0)}
    assert set(waited(2 * DAY)) == {2 * DAY}


def test_guardrails_of_a_replay_count_what_requests_with_these_features_are_held_to(lived: Lived) -> None:
    lived.until(UNTIL + 3 * DAY)
    candidates, world = Candidates(lived.ws, lived.project), World(lived.ws, lived.project, SINCE)
    with candidates.working(1):
        model, _ = candidates.model(SINCE)
    days = world.extend(UNTIL)
    one = scored(lived.ws, model, world)
    holes = world._rows.with_columns(
        pl.when(pl.int_range(pl.len()) % place != 0).then(pl.col(name)).alias(name)
        for place, name in enumerate((spec.name for spec in one.inputs.inputs), start=5)
    )
    world._rows = holes
    for day in days[:3]:
        judged = [one.inputs.judge(row) for row in world.features(day).iter_rows(named=True)]
        bad = dict(zip(KINDS, one.bad(day).T.tolist(), strict=True))
        assert bad["missing"] == [int(one.inputs.surprising(found.values)) for found in judged]
        assert bad["contract"] == [int(found.hard) for found in judged]
        assert 0 < sum(bad["missing"]) < len(judged)
        assert not any(bad["errors"] + bad["latency"])
