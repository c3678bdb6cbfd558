"""Policies as they are replayed: the calendar's, and the loop's own through the function that really decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from loopline.base.ids import iso
from loopline.evaluation.nouns import Report
from loopline.loop import facts
from loopline.loop.candidates import Candidates, due_dates
from loopline.loop.transitions import moved
from loopline.loop.world import Scored, World, scored
from loopline.monitoring.champion import champion_quality
from loopline.monitoring.quality import DayCounts
from loopline.retraining.decide import decide
from loopline.retraining.nouns import Cycle
from loopline.retraining.policy import EffectState, Facts, Parity, Policy, Rollout
from loopline.retraining.states import ENDS, TABLE
from loopline.serving.inputs import expected_rise
from loopline.serving.release import Watch, guardrails
from loopline.serving.router import bucket

DAY = timedelta(days=1)
NONE = timedelta(0)
LATE_DAYS = 4
"""A day's labels are counted again until it is this old."""
BLOCK = 50
"""Requests of a canary that the guardrails are told of at once."""
WAITS = "AWAIT_APPROVAL"
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Move:
    """A decision of a replayed policy."""

    at: datetime
    what: str
    why: str


class Played(Protocol):
    """A policy that lives through the days of a world, one after the other."""

    name: str
    moves: list[Move]
    promotions: int

    def live(self, day: date, progress: Progress) -> None:
        """Answer the rows of a day, and decide at its end."""
        ...

    def counts(self) -> dict[date, DayCounts]:
        """What its answers came to, by the labels that the world knows now."""
        ...


# ---------------------------------------------------------------- calendar policies


class CalendarPolicy:
    """Retrains blindly when the calendar says so: what is trained is shipped."""

    def __init__(self, name: str, world: World, candidates: Candidates, since: datetime, until: datetime) -> None:
        self.name, self.promotions = name, 0
        self.moves: list[Move] = []
        self._world, self._candidates = world, candidates
        self._dates = due_dates(name, since, until)
        self._scored: Scored | None = None
        self._given: dict[date, Scored] = {}

    def live(self, day: date, progress: Progress) -> None:
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        while self._dates and (self._scored is None or start >= self._dates[0]):
            due = self._dates.pop(0)
            if self._scored is not None:
                progress(f"{self.name}: training as of {due:%Y-%m-%d}")
                self.moves.append(Move(due, "PROMOTED", f"{self.name}: the calendar says so"))
            model, _ = self._candidates.model(due)
            self._scored = scored(self._candidates.ws, model, self._world)
        self.promotions = len(self.moves)
        assert self._scored is not None
        self._scored(day)
        self._given[day] = self._scored

    def counts(self) -> dict[date, DayCounts]:
        return {
            day: DayCounts.of(by(day), _labels(self._world, day), by.threshold, _value(self._candidates))
            for day, by in self._given.items()
        }


def _labels(world: World, day: date) -> npt.NDArray[np.float64]:
    low, high = world.bounds[day]
    return world.label[low:high]


def _value(candidates: Candidates) -> Any:
    return candidates.project.spec.framing.value


# ---------------------------------------------------------------- the loop's own policy


@dataclass(frozen=True, slots=True)
class _Seen:
    """What monitoring knows at the end of a day."""

    quality: Mapping[str, tuple[float, float, float]] | None
    growth: tuple[int, int] | None
    """Labels since the champion was trained, and the rows it was trained on."""


class LoopPolicy:
    """The project's own policy, through `decide`: champion, canary and cycle of a replayed loop."""

    def __init__(
        self, name: str, world: World, candidates: Candidates, since: datetime, approved_after: timedelta = NONE
    ) -> None:
        self.name, self.promotions = name, 0
        self.moves: list[Move] = []
        self._world, self._candidates, self._since = world, candidates, since
        self._approved_after = approved_after
        self._policy: Policy = replace(facts.policy(candidates.project), mode="auto")
        self._scored: Scored | None = None
        self._released: dict[str, float | None] = {}
        self._released_at = self._trained_at = self._candidate_at = since
        self._candidate: Scored | None = None
        self._report: Report | None = None
        self._cycle: Cycle | None = None
        self._watch: Watch | None = None
        self._tried = 0
        """Requests that the canary answered: their features agree here, there being one path."""
        self._memory: dict[str, Any] = {"cycles": 1, "trained_at": [iso(since)]}
        self._own: dict[date, Scored] = {}
        self._seen: dict[date, DayCounts] = {}
        self._given: dict[date, tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]] = {}

    def live(self, day: date, progress: Progress) -> None:
        if self._scored is None:
            self._first_release()
        champion = self._champion
        self._given[day] = self._answers(day)
        self._own[day] = champion
        now = datetime(day.year, day.month, day.day, tzinfo=UTC) + DAY
        over = self._candidates.project.spec.retraining.over
        quality = champion_quality(self._labelled(now, over), released=self._released_at, until=now, over=over)
        growth = None
        if quality:
            rows = self._candidates.rows(champion.model)
            growth = (self._world.new_labels(self._trained_at, now), rows)
        self._settle(_Seen(quality, growth), now, progress)

    def counts(self) -> dict[date, DayCounts]:
        value = _value(self._candidates)
        return {
            day: DayCounts.of(given, _labels(self._world, day), 0.5, value, decisions=decisions)
            for day, (given, decisions) in self._given.items()
        }

    @property
    def _champion(self) -> Scored:
        assert self._scored is not None
        return self._scored

    def _first_release(self) -> None:
        model, changes = self._candidates.model(self._since)
        report = self._candidates.report(self._since, None, changes)
        self._scored = scored(self._candidates.ws, model, self._world)
        self._released = {k: v.value for k, v in report.metrics.items()}

    def _answers(self, day: date) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """What would have been answered, with the canary's part of the traffic."""
        champion = self._champion
        given = champion(day).copy()
        decisions = given >= champion.threshold
        if self._cycle is not None and self._cycle.state == "ROLLOUT" and self._candidate is not None:
            limit, cycle = round(self._policy.canary[self._cycle.step] * 10_000), self._cycle.id
            canary = np.array([bucket(cycle, entity) < limit for entity in self._world.entities(day)])
            self._tried += int(canary.sum())
            self._count(self._candidate.bad(day), champion.bad(day), canary)
            other = self._candidate(day)
            given = np.where(canary, other, given)
            decisions = np.where(canary, other >= self._candidate.threshold, decisions)
        return given, decisions

    def _count(
        self, candidate: npt.NDArray[np.int64], champion: npt.NDArray[np.int64], canary: npt.NDArray[np.bool_]
    ) -> None:
        """Tell the guardrails of a day's requests, in the order they come."""
        assert self._watch is not None
        for low in range(0, len(canary), BLOCK):
            theirs = canary[low : low + BLOCK]
            ours = champion[low : low + BLOCK][~theirs]
            bad = candidate[low : low + BLOCK][theirs]
            self._watch.update(len(bad), bad.sum(axis=0).tolist(), len(ours), ours.sum(axis=0).tolist())

    def _labelled(self, now: datetime, over: timedelta) -> dict[date, DayCounts]:
        """Counts of the champion's own answers on days inside the window, by labels known now."""
        found: dict[date, DayCounts] = {}
        stamp = int(now.timestamp() * 1e6)
        for day, by in self._own.items():
            if by is not self._champion or (now.date() - day) > over:
                continue
            kept = self._seen.get(day)
            if kept is None or (now.date() - day).days <= LATE_DAYS:
                low, high = self._world.bounds[day]
                label = np.where(self._world.known[low:high] <= stamp, self._world.label[low:high], np.nan)
                kept = DayCounts.of(by(day), label, by.threshold, _value(self._candidates))
                self._seen[day] = kept
            found[day] = kept
        return found

    def _settle(self, seen: _Seen, now: datetime, progress: Progress) -> None:
        """Decide until there is nothing left but to wait."""
        for _ in range(32):
            decision = decide(self._cycle, (), self._policy, self._facts(seen, now), now)
            if decision.next == decision.state and not decision.effects:
                return
            if self._cycle is None:
                self._memory["cycles"] += 1
                self._cycle = Cycle(
                    f"{self._candidates.project.name}/{self._memory['cycles']}",
                    self._candidates.project.name,
                    "IDLE",
                    0,
                    now,
                    now,
                    "",
                    TABLE,
                )
            self._cycle = moved(self._cycle, decision, now)
            self._memory = facts.remember(self._memory, self._cycle, decision.next, now)
            self.moves.append(Move(now, decision.next, decision.why))
            self._act(decision.next, now, progress)
            if decision.next in ENDS:
                self._cycle = self._candidate = self._report = self._watch = None
                self._tried = 0
        raise RuntimeError("the replayed loop did not settle")

    def _facts(self, seen: _Seen, now: datetime) -> Facts:
        cycle = self._cycle
        done = ("prepare", "train", "evaluate", "deploy", "set_traffic", "promote", "roll_back")
        entered = cycle is not None and cycle.state == "ROLLOUT"
        verdict = self._watch.verdict if self._watch else "open"
        doc = self._memory
        return Facts(
            champion=self._champion.model.id,
            released=self._released,
            released_at=self._released_at,
            quality=dict(seen.quality) if seen.quality else None,
            new_labels=seen.growth[0] if seen.growth else None,
            trained_rows=seen.growth[1] if seen.growth else None,
            last_promotion=self._released_at,
            last_rejection=datetime.fromisoformat(doc["last_rejection"]) if doc.get("last_rejection") else None,
            trained_at=tuple(datetime.fromisoformat(at) for at in doc["trained_at"]),
            suppressed=doc.get("suppressed"),
            effects=tuple(EffectState(kind, "done", {}) for kind in done) if cycle else (),
            passed=self._report.passed if self._report else None,
            failed_gates=tuple(v.gate for v in self._report.verdicts if not v.passed) if self._report else (),
            approved=cycle is None or cycle.state != WAITS or now - cycle.entered_at >= self._approved_after,
            rollout=Rollout(True, verdict) if entered else None,
            parity=Parity(self._tried, 0) if entered else None,
        )

    def _act(self, state: str, now: datetime, progress: Progress) -> None:
        if state == "TRAIN":
            progress(f"loop: training as of {now:%Y-%m-%d}")
            champion, candidates = self._champion.model, self._candidates
            model, changes = candidates.model(now, champion)
            self._candidate, self._candidate_at = scored(candidates.ws, model, self._world), now
            self._report = candidates.report(now, champion, changes)
        elif state == "ROLLOUT" and self._cycle is not None:
            if self._watch is None:
                rails = guardrails(self._candidates.project.spec.serving.release)
                assert self._candidate is not None
                slack = expected_rise(self._candidate.inputs, self._champion.inputs)
                self._watch = Watch(self._cycle.id, self._cycle.step, rails, slack)
            self._watch.step(self._cycle.step)
        elif state == "PROMOTED" and self._candidate is not None and self._report is not None:
            self._scored, self._released_at, self._trained_at = self._candidate, now, self._candidate_at
            self._released = {k: v.value for k, v in self._report.metrics.items()}
            self.promotions += 1
