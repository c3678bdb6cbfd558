"""Candidates as of a moment: what a policy could have trained then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from loopline.base.ids import iso
from loopline.compute.pool import Pool
from loopline.compute.spec import StepSpec
from loopline.evaluation.nouns import Report
from loopline.features.nouns import TrainingSet
from loopline.loop import facts
from loopline.training.nouns import Model
from loopline.workspace import Workspace

if TYPE_CHECKING:
    from loopline.loop.project import Project

ACTOR = "service:replay"
MONTHS = {"never": 0, "quarterly": 3, "monthly": 1}
"""Policies that the calendar decides: months between two trainings, 0 for none after the first."""

HEAVY = ("SNAPSHOT", "TRAIN", "EVALUATE")
"""States in which the live loop makes a candidate."""
PAUSE_S = 0.2

Made = tuple[Model, dict[str, Any]]


class Candidates:
    """Candidates as of a moment, made by the steps of the live loop, once for all policies that want them.

    Use it inside `working`, which starts and ends the processes; what was made stays.
    """

    def __init__(self, ws: Workspace, project: Project) -> None:
        self.ws, self.project = ws.acting_as(ACTOR), project
        self._pool: Pool | None = None
        self._later: ThreadPoolExecutor | None = None
        self._polite = False
        self._lock = threading.Lock()
        self._made: dict[tuple[datetime, str | None], Future[Made]] = {}

    @contextmanager
    def working(self, at_once: int, *, polite: bool = False) -> Iterator[Candidates]:
        """Have up to `at_once` processes make candidates.

        Polite ones yield to all else on the machine, and begin no step while the live
        loop makes a candidate of its own: two at once would need the memory of two.
        """
        with Pool(self.ws.root, workers=at_once, polite=polite) as pool, ThreadPoolExecutor(at_once) as later:
            self._pool, self._later, self._polite = pool, later, polite
            try:
                yield self
            finally:
                self._polite = False  # nobody is waited for any more
                later.shutdown(cancel_futures=True)
                self._pool = self._later = None

    def ahead(self, at: datetime) -> None:
        """Make the candidate of `at`, a moment that has come, before anybody waits for it."""
        self.beside(self.model, at)

    def beside(self, work: Callable[..., Any], *given: Any) -> None:
        """Do something after what was asked for before, while nobody waits; what it raises is met by who needs it."""
        assert self._later is not None
        self._later.submit(work, *given)

    def model(self, at: datetime, champion: Model | None = None) -> Made:
        """The model trained on what was known at `at`, and the ids of the steps on its way."""
        key = at, champion.id if champion else None
        with self._lock:
            mine = key not in self._made
            future = self._made.setdefault(key, Future())
        if mine:
            try:
                future.set_result(self._train(at, champion))
            except BaseException as error:
                with self._lock:
                    del self._made[key]
                future.set_exception(error)
        return future.result()

    def rows(self, model: Model) -> int:
        """Rows a model was trained on."""
        return self.ws.records.get(TrainingSet, model.training_set).train_rows

    def report(self, at: datetime, champion: Model | None, changes: dict[str, Any]) -> Report:
        """Judge a candidate as the gates would have."""
        result = self._run("evaluate", {**self._args(at, champion), "changes": changes, "register": False})
        return self.ws.records.get(Report, result["report"])

    def _train(self, at: datetime, champion: Model | None) -> Made:
        args = self._args(at, champion)
        changes = self._run("prepare", args)
        changes |= self._run("train", {**args, "changes": changes})
        return self.ws.records.get(Model, changes["model"]), changes

    def _args(self, at: datetime, champion: Model | None) -> dict[str, Any]:
        return {
            "project": str(self.project.root),
            "actor": ACTOR,
            "author": "service:loop",
            "at": iso(at),
            "champion": champion.id if champion else None,
            "changes": {},
            "policy": {},
            "tracked": False,  # what might have been is no run: years of it would bury those that were
            "search_leaks": False,  # the live loop searches the same rows before it trains on them
        }

    def _run(self, step: str, args: dict[str, Any]) -> dict[str, Any]:
        while self._polite and self._live():
            time.sleep(PAUSE_S)
        assert self._pool is not None
        return self._pool.submit(StepSpec(f"loopline.loop.steps:{step}", args)).result()

    def _live(self) -> bool:
        cycle = facts.current_cycle(self.ws, self.project.name)
        return cycle is not None and cycle.state in HEAVY


def due_dates(policy: str, since: datetime, until: datetime) -> list[datetime]:
    """When a calendar policy trains in `[since, until)`; the first at `since`."""
    months, dates = MONTHS[policy], [since]
    while months and (later := _later(dates[-1], months)) < until:
        dates.append(later)
    return dates


def _later(at: datetime, months: int) -> datetime:
    index = at.year * 12 + at.month - 1 + months
    return at.replace(year=index // 12, month=index % 12 + 1)
