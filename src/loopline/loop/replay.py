"""A policy over past data: what would have been released when, and what it would have gained.

The candidates are really trained, by the same steps and the same cache as the
live loop; only the world is replayed. The loop's own policy goes through the
same `decide` and the same guardrails as the live one (with healthy canaries).
Proposals by people and broken uploads are not
replayed; approvals are taken as given at once, by a person who trusts the gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.errors import Invalid
from loopline.base.ids import iso
from loopline.evaluation.nouns import Report
from loopline.loop import facts
from loopline.loop.candidates import Candidates, due_dates
from loopline.loop.transitions import moved
from loopline.loop.worth import Worth, worth
from loopline.monitoring.champion import champion_quality
from loopline.monitoring.quality import DayCounts
from loopline.retraining.decide import ENDS, TABLE, decide
from loopline.retraining.nouns import Cycle
from loopline.retraining.policy import EffectState, Facts, Parity, Policy, Rollout
from loopline.serving.release import Watch, guardrails
from loopline.serving.router import bucket
from loopline.training.bundle import Bundle, load_bundle
from loopline.training.nouns import Model
from loopline.training.packages.trust import trust_of
from loopline.workspace import Workspace, flow

if TYPE_CHECKING:
    from loopline.loop.project import Project

POLICIES = ("never", "quarterly", "monthly", "loop")
CHUNK = timedelta(days=31)
AT_ONCE = 2
"""Candidates that are made at the same time."""
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Move:
    """A decision of a replayed policy."""

    at: datetime
    what: str
    why: str


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
    progress: Progress = lambda _: None,
    candidates: Candidates | None = None,
) -> list[Replayed]:
    """Run each policy over the rows decided in `[since, until)`, day by day.

    Every policy starts with the model that could be trained at `since`.

    Parameters
    ----------
    candidates : Candidates, optional
        Holds those that were made before; they are not made again.

    Raises
    ------
    Invalid
        For an unknown policy, or when there are no rows or no labels then.
    """
    for name in policies:
        if name not in POLICIES:
            raise Invalid(f"{name!r} is not a policy", why="known are " + ", ".join(POLICIES), fix="choose among them")
    world = _World.load(ws, project, since, until)
    candidates = candidates or Candidates(ws, project)
    with candidates.working(AT_ONCE), ThreadPoolExecutor(max(1, len(policies))) as threads:
        progress(f"replaying {', '.join(policies)}")
        running = [
            threads.submit(
                _loop if name == "loop" else _calendar, name, world, candidates, project, since, until, progress
            )
            for name in policies
        ]
        return [one.result() for one in running]


# ---------------------------------------------------------------- the world


@dataclass
class _World:
    """All rows of the stretch, in order of decision time, with their labels."""

    rows: pl.DataFrame
    day: npt.NDArray[np.int64]
    label: npt.NDArray[np.float64]
    """1, 0, or NaN for void."""
    known: npt.NDArray[np.int64]
    """Microseconds of the label's `known_at`; the greatest integer when there is none."""
    bounds: dict[date, tuple[int, int]]
    usable: npt.NDArray[np.int64]
    """Microseconds at which each label that is not void became known, in order."""

    @classmethod
    def load(cls, ws: Workspace, project: Project, since: datetime, until: datetime) -> _World:
        from loopline import data, features

        spec = project.spec
        views = features.project_views(ws, project.root, spec.framing, spec.features, spec.data)
        given = (ws, project.root, spec.framing, spec.features, spec.data)
        features.materialise(*given, since=since, until=min(until, ws.clock()))
        rows = features.read(ws, views, since=since, until=until).sort("decision_time", spec.framing.unit)
        labels = data.labels(ws, spec.framing, spec.data, ws.clock()).select(spec.framing.unit, "label", "known_at")
        usable = labels.filter(pl.col("label").is_not_null())["known_at"].dt.epoch("us").sort()
        rows = rows.join(labels, on=spec.framing.unit, how="left", maintain_order="left")
        if not rows.height or rows["label"].null_count() == rows.height:
            raise Invalid(
                f"nothing to replay between {iso(since)} and {iso(until)}",
                why="the workspace holds no labelled rows there",
                fix="ingest the data first, or name other moments",
            )
        day = rows["decision_time"].dt.epoch("d").to_numpy().astype(np.int64)
        far = np.iinfo(np.int64).max
        return cls(
            rows=rows.drop("label", "known_at"),
            day=day,
            label=rows["label"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
            known=rows["known_at"].dt.epoch("us").fill_null(far).to_numpy().astype(np.int64),
            bounds=_bounds(day),
            usable=usable.to_numpy().astype(np.int64),
        )

    def new_labels(self, after: datetime, until: datetime) -> int:
        """Labels that became known in (after, until]."""
        ends = [int(moment.timestamp() * 1e6) for moment in (after, until)]
        low, high = np.searchsorted(self.usable, ends, side="right")
        return int(high - low)


def _bounds(day: npt.NDArray[np.int64]) -> dict[date, tuple[int, int]]:
    found = {}
    for number in np.unique(day):
        low, high = np.searchsorted(day, [number, number + 1])
        found[date.fromordinal(date(1970, 1, 1).toordinal() + int(number))] = (int(low), int(high))
    return found


class _Scored:
    """A model's scores of the world's rows, computed a month at a time when asked for."""

    def __init__(self, model: Model, bundle: Bundle, world: _World) -> None:
        self.model, self._bundle, self._world = model, bundle, world
        self._scores = np.full(world.rows.height, np.nan)

    @property
    def threshold(self) -> float:
        return self._bundle.threshold

    def __call__(self, low: int, high: int) -> npt.NDArray[np.float64]:
        if np.isnan(self._scores[low:high]).any():
            end = int(np.searchsorted(self._world.day, self._world.day[low] + CHUNK.days))
            self._scores[low:end] = self._bundle.predict(self._world.rows.slice(low, end - low))
        return self._scores[low:high]


def _scored(candidates: Candidates, model: Model, world: _World) -> _Scored:
    return _Scored(model, load_bundle(candidates.ws.blobs.path(model.bundle), trust_of(candidates.ws.id)), world)


# ---------------------------------------------------------------- calendar policies


def _calendar(
    name: str,
    world: _World,
    candidates: Candidates,
    project: Project,
    since: datetime,
    until: datetime,
    progress: Progress,
) -> Replayed:
    """Retrain blindly when the calendar says so: what is trained is shipped."""
    dates = due_dates(name, since, until)
    model, _ = candidates.model(dates.pop(0))
    scored, moves, days = _scored(candidates, model, world), [], {}
    for day, (low, high) in world.bounds.items():
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        while dates and start >= dates[0]:
            due = dates.pop(0)
            progress(f"{name}: training as of {due:%Y-%m-%d}")
            model, _ = candidates.model(due)
            scored = _scored(candidates, model, world)
            moves.append(Move(due, "PROMOTED", f"{name}: the calendar says so"))
        days[day] = _counts(world, low, high, scored(low, high), scored.threshold, project)
    return Replayed(name, worth(days), tuple(moves), len(moves))


def _counts(
    world: _World, low: int, high: int, scores: npt.NDArray[np.float64], threshold: float, project: Project
) -> DayCounts:
    return DayCounts.of(scores, world.label[low:high], threshold, project.spec.framing.value)


# ---------------------------------------------------------------- the loop's own policy


def _loop(
    name: str,
    world: _World,
    candidates: Candidates,
    project: Project,
    since: datetime,
    until: datetime,
    progress: Progress,
) -> Replayed:
    """The project's own policy, through `decide`."""
    policy = facts.policy(project)
    policy = replace(policy, mode="auto")
    model, changes = candidates.model(since)
    report = candidates.report(since, None, changes)
    state = _State(policy, _scored(candidates, model, world), report, since)
    days: dict[date, DayCounts] = {}
    over = project.spec.retraining.over
    for day, (low, high) in world.bounds.items():
        given, decisions = state.answers(world, low, high, project.spec.framing.unit)
        days[day] = DayCounts.of(given, world.label[low:high], 0.5, project.spec.framing.value, decisions=decisions)
        now = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        state.own[day] = state.scored
        quality = champion_quality(
            _labelled(world, state, now, over, project), released=state.released_at, until=now, over=over
        )
        growth = (world.new_labels(state.trained_at, now), candidates.rows(state.scored.model)) if quality else None
        state.settle(candidates, world, _Seen(quality, growth), now, progress)
    return Replayed(name, worth(days), tuple(state.moves), state.promotions)


def _labelled(world: _World, state: _State, now: datetime, over: timedelta, project: Project) -> dict[date, DayCounts]:
    """Counts of the champion's own answers on days inside the window, by labels known now."""
    found, stamp = {}, int(now.timestamp() * 1e6)
    for day, scored in state.own.items():
        if scored is not state.scored or (now.date() - day) > over:
            continue
        kept = state.seen.get(day)
        if kept is None or (now.date() - day).days <= 4:
            low, high = world.bounds[day]
            label = np.where(world.known[low:high] <= stamp, world.label[low:high], np.nan)
            kept = DayCounts.of(scored(low, high), label, scored.threshold, project.spec.framing.value)
            state.seen[day] = kept
        found[day] = kept
    return found


@dataclass(frozen=True, slots=True)
class _Seen:
    """What monitoring knows at the end of a day."""

    quality: Mapping[str, tuple[float, float, float]] | None
    growth: tuple[int, int] | None
    """Labels since the champion was trained, and the rows it was trained on."""


class _State:
    """Champion, canary and cycle of a replayed loop."""

    def __init__(self, policy: Policy, scored: _Scored, report: Report, at: datetime) -> None:
        self.policy, self.scored, self.released_at, self.trained_at = policy, scored, at, at
        self.released = {k: v.value for k, v in report.metrics.items()}
        self.candidate: _Scored | None = None
        self.candidate_at = at
        self.report: Report | None = None
        self.cycle: Cycle | None = None
        self.watch: Watch | None = None
        self.tried = 0
        """Requests that the canary answered: their features agree here, there being one path."""
        self.memory: dict[str, Any] = {"cycles": 1, "trained_at": [iso(at)]}
        self.own: dict[date, _Scored] = {}
        self.seen: dict[date, DayCounts] = {}
        self.moves: list[Move] = []
        self.promotions = 0

    def answers(
        self, world: _World, low: int, high: int, unit: str
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """What would have been answered, with the canary's part of the traffic."""
        given = self.scored(low, high).copy()
        decisions = given >= self.scored.threshold
        if self.cycle is not None and self.cycle.state == "ROLLOUT" and self.candidate is not None:
            limit = round(self.policy.canary[self.cycle.step] * 10_000)
            entities = world.rows[unit].slice(low, high - low).cast(pl.String).to_list()
            canary = np.array([bucket(self.cycle.id, e) < limit for e in entities])
            self.tried += int(canary.sum())
            if self.watch is not None:
                self.watch.update(int(canary.sum()), (0, 0, 0, 0), int((~canary).sum()), (0, 0, 0, 0))
            other = self.candidate(low, high)
            given = np.where(canary, other, given)
            decisions = np.where(canary, other >= self.candidate.threshold, decisions)
        return given, decisions

    def settle(
        self,
        candidates: Candidates,
        world: _World,
        seen: _Seen,
        now: datetime,
        progress: Progress,
    ) -> None:
        """Decide until there is nothing left but to wait."""
        for _ in range(32):
            decision = decide(self.cycle, (), self.policy, self._facts(seen), now)
            if decision.next == decision.state and not decision.effects:
                return
            if self.cycle is None:
                self.memory["cycles"] += 1
                self.cycle = Cycle(
                    f"{candidates.project.name}/{self.memory['cycles']}",
                    candidates.project.name,
                    "IDLE",
                    0,
                    now,
                    now,
                    "",
                    TABLE,
                )
            self.cycle = moved(self.cycle, decision, now)
            self.memory = facts.remember(self.memory, self.cycle, decision.next, now)
            self.moves.append(Move(now, decision.next, decision.why))
            self._act(candidates, world, decision.next, now, progress)
            if decision.next in ENDS:
                self.cycle = self.candidate = self.report = self.watch = None
                self.tried = 0
        raise RuntimeError("the replayed loop did not settle")

    def _facts(self, seen: _Seen) -> Facts:
        cycle = self.cycle
        done = ("prepare", "train", "evaluate", "deploy", "set_traffic", "promote", "roll_back")
        entered = cycle is not None and cycle.state == "ROLLOUT"
        verdict = self.watch.verdict if self.watch else "open"
        doc = self.memory
        return Facts(
            champion=self.scored.model.id,
            released=self.released,
            released_at=self.released_at,
            quality=dict(seen.quality) if seen.quality else None,
            new_labels=seen.growth[0] if seen.growth else None,
            trained_rows=seen.growth[1] if seen.growth else None,
            last_promotion=self.released_at,
            last_rejection=datetime.fromisoformat(doc["last_rejection"]) if doc.get("last_rejection") else None,
            trained_at=tuple(datetime.fromisoformat(at) for at in doc["trained_at"]),
            suppressed=doc.get("suppressed"),
            effects=tuple(EffectState(kind, "done", {}) for kind in done) if cycle else (),
            passed=self.report.passed if self.report else None,
            failed_gates=tuple(v.gate for v in self.report.verdicts if not v.passed) if self.report else (),
            approved=True,
            rollout=Rollout(True, verdict) if entered else None,
            parity=Parity(self.tried, 0) if entered else None,
        )

    def _act(self, candidates: Candidates, world: _World, state: str, now: datetime, progress: Progress) -> None:
        if state == "TRAIN":
            progress(f"loop: training as of {now:%Y-%m-%d}")
            model, changes = candidates.model(now, self.scored.model)
            self.candidate, self.candidate_at = _scored(candidates, model, world), now
            self.report = candidates.report(now, self.scored.model, changes)
        elif state == "ROLLOUT" and self.cycle is not None:
            if self.watch is None:
                rails = guardrails(candidates.project.spec.serving.release)
                self.watch = Watch(self.cycle.id, self.cycle.step, rails, 0.0)
            self.watch.step(self.cycle.step)
        elif state == "PROMOTED" and self.candidate is not None and self.report is not None:
            self.scored, self.released_at, self.trained_at = self.candidate, now, self.candidate_at
            self.released = {k: v.value for k, v in self.report.metrics.items()}
            self.promotions += 1
