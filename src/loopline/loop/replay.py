"""A policy over past data: what would have been released when, and what it would have gained.

The candidates are really trained, by the same steps and the same cache as the
live loop; only the world is replayed. The loop's own policy goes through the
same `decide` and the same guardrails as the live one: they count what the features of
the day hold, no answer fails and none is slow.
Proposals by people and broken uploads are not
replayed; approvals are given by a person who trusts the gates, at once or after a set time.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from loopline.base.errors import Invalid
from loopline.loop.candidates import Candidates
from loopline.loop.policies import NONE, CalendarPolicy, LoopPolicy, Move, Played, Progress
from loopline.loop.world import World
from loopline.loop.worth import Worth, worth
from loopline.workspace import Workspace, flow

if TYPE_CHECKING:
    from loopline.loop.project import Project

POLICIES = ("never", "quarterly", "monthly", "loop")
AT_ONCE = 2
"""Candidates that are made at the same time."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One policy over one stretch of time."""

    policy: str
    worth: Worth
    moves: tuple[Move, ...]
    promotions: int


@flow("loop.replay")
def replay(
    ws: Workspace,
    project: Project,
    *,
    policies: Sequence[str] = POLICIES,
    since: datetime,
    until: datetime,
    approved_after: timedelta = NONE,
    progress: Progress = lambda _: None,
) -> list[Replayed]:
    """Run each policy over the rows decided in `[since, until)`, day by day.

    Every policy starts with the model that could be trained at `since`. In the loop's
    own, a candidate that passed its gates waits `approved_after` for its signature.

    Raises
    ------
    Invalid
        For an unknown policy, or when there are no rows or no labels then.
    """
    replays = Replays(Candidates(ws, project), policies, since, until, approved_after)
    return replays.finish(progress)


class Replays:
    """Policies that are replayed while the days to replay still come, or all at once when they are there.

    Parameters
    ----------
    candidates : Candidates
        Makes what the policies train; what it has made already is not made again.
    policies : sequence of str
    since, until : datetime
        The stretch, UTC midnights.
    approved_after : timedelta
        How long a candidate of the loop waits for its signature; policies of the calendar ask nobody.

    Raises
    ------
    Invalid
        For an unknown policy.
    """

    def __init__(
        self,
        candidates: Candidates,
        policies: Sequence[str],
        since: datetime,
        until: datetime,
        approved_after: timedelta = NONE,
    ) -> None:
        for name in policies:
            if name not in POLICIES:
                raise Invalid(
                    f"{name!r} is not a policy", why="known are " + ", ".join(POLICIES), fix="choose among them"
                )
        self._candidates, self._policies = candidates, tuple(policies)
        self._since, self._until, self._approved_after = since, until, approved_after
        self._begin()

    def _begin(self) -> None:
        candidates = self._candidates
        self._world = World(candidates.ws, candidates.project, self._since)
        self._played: list[Played] = [
            LoopPolicy(name, self._world, candidates, self._since, self._approved_after)
            if name == "loop"
            else CalendarPolicy(name, self._world, candidates, self._since, self._until)
            for name in self._policies
        ]

    def go_on(self, to: datetime) -> None:
        """Replay the days before `to`, a moment that has come; inside `candidates.working`.

        Decisions take what was known on their day, so they are those of a replay of the whole. When it fails
        everything is begun anew by the next call.
        """
        try:
            self._play(self._world.extend(min(to, self._until)), 1, lambda _: None)
        except BaseException:
            self._begin()
            raise

    def finish(self, progress: Progress = lambda _: None) -> list[Replayed]:
        """Replay what is left of the stretch, and judge every policy by the labels that are known now.

        Raises
        ------
        Invalid
            When there are no rows or no labels in it.
        """
        days = self._world.extend(self._until)
        self._world.require_labels(self._since, self._until)
        with self._candidates.working(AT_ONCE):
            progress(f"replaying {', '.join(self._policies)}")
            self._play(days, len(self._played), progress)
        return [Replayed(one.name, worth(one.counts()), tuple(one.moves), one.promotions) for one in self._played]

    def _play(self, days: Sequence[date], at_once: int, progress: Progress) -> None:
        def live(policy: Played) -> None:
            for day in days:
                policy.live(day, progress)

        with ThreadPoolExecutor(max(1, at_once)) as threads:
            for running in [threads.submit(live, one) for one in self._played]:
                running.result()


__all__ = ["AT_ONCE", "POLICIES", "Move", "Progress", "Replayed", "Replays", "replay"]
