"""What can be done with a space of params: try some, and pick one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopline.base.clock import monotonic
from loopline.base.errors import Invalid, LooplineError, Unavailable
from loopline.base.ids import content_id, iso
from loopline.base.log import logger
from loopline.compute import Pool, StepSpec
from loopline.compute.process import StepFailed
from loopline.features.nouns import TrainingSet
from loopline.framing.spec import FramingSpec
from loopline.training import cache
from loopline.training.nouns import Search, Trial
from loopline.training.rows import split
from loopline.training.searching.choice import best
from loopline.training.searching.result import search_result, searches
from loopline.training.searching.space import objectives, possible
from loopline.training.searching.validation import cut
from loopline.training.spec import SearchSpec, TrainingSpec
from loopline.training.tracking.lineage import append, training_run
from loopline.workspace import Workspace, flow, verb

if TYPE_CHECKING:
    from loopline.training.searching.proposing import Proposals

log = logger(__name__)

ENTRYPOINT = "loopline.training.searching.trial:run"
Tell = Callable[[str, float, float], None]


@flow("training.search")
def search(
    ws: Workspace,
    project: Path,
    *,
    training: TrainingSpec,
    training_set: TrainingSet,
    framing: FramingSpec,
    primary: str,
    author: str,
    experiment: str | None = None,
    tracked: bool = True,
    tell: Tell | None = None,
) -> tuple[Search, Trial]:
    """Try params as `training.search` declares, and pick the best trial.

    Each trial is fitted on a part of the training rows and judged on the rest of them; held-out rows are not looked at.
    It is recorded when it ends, so a search that was killed goes on where it was, and one whose trials are all there
    answers at once. What is found does not depend on how many run at once.

    Parameters
    ----------
    primary : str
        The metric that is judged where the search names none.
    author : str
        Who answers for what comes of it.
    experiment : str, optional
        What the run log files it under; by default the name of the project's folder.
    tracked : bool
        Whether the run log hears of it: one run for the search, and one below it for each trial.
    tell : callable, optional
        Takes a sentence with the best so far, how many trials ended, and how many there are.

    Returns
    -------
    tuple of Search and Trial
        The trial whose params are to be trained with, by `training.train(..., trial=...)`.

    Raises
    ------
    Invalid
        If nothing is declared, or no trial could be completed.
    Unavailable
        If Optuna is not installed, or the time was up before any trial was complete.
    """
    spec = training.search
    if spec is None:
        raise Invalid(
            "there is no search to run", why="training.search is `none`", fix="declare training.search.params"
        )
    from loopline.training.searching.proposing import Proposals

    started = ws.clock()
    found = declare_search(
        ws, project, training, training_set, framing, primary=primary, author=author, at=started
    )  # also what a killed one declared
    trials = {one.number: one for one in ws.records.find(Trial, search=found.id)}
    wanted = possible(spec)
    proposals = Proposals(spec, [way for _, way in found.objectives], list(trials.values()))
    if missing := [number for number in range(wanted) if number not in trials]:
        args = {
            "project": str(Path(project).resolve()),
            "training": training.model_dump(mode="json"),
            "framing": framing.model_dump(mode="json"),
            "search": found.id,
            "experiment": experiment or Path(project).resolve().name,
            "actor": ws.actor,
            "tracked": tracked,
        }
        with _logged(ws, project, found, training, training_set, started, args):
            _Round(ws, spec, found, proposals, args, tell or (lambda *_: None), wanted).run(missing)
    ended = [one for one in proposals.done.values() if one.number < wanted]
    picked = best(found, ended, pick=spec.pick)
    if picked is None:
        raise _nothing(ended)
    if tracked:
        metrics = {name: value for name, value in picked.metrics.items() if value is not None}
        tags = {"loopline.best_trial": str(picked.number), "loopline.trials": str(len(ended))}
        append(ws, found.run, metrics=metrics, tags=tags, at=ws.clock())
    return found, picked


@verb("training.declare_search", offered=False)
def declare_search(
    ws: Workspace,
    project: Path,
    training: TrainingSpec,
    training_set: TrainingSet,
    framing: FramingSpec,
    *,
    primary: str,
    author: str,
    at: datetime,
) -> Search:
    """Record what is searched; the same again is the search there is."""
    spec = training.search
    assert spec is not None
    code = cache.closure(project, training.recipe)
    targets = objectives(spec, primary)
    id = cache.step_key(
        code,
        step=f"training.search {training.recipe.partition(':')[2]}",
        inputs={
            "training_set": training_set.id,
            "problem": framing.id,
            "search": content_id({**spec.what, "objectives": [list(one) for one in targets]}),
            "transforms": content_id([one.model_dump(mode="json") for one in training.transforms]),
            "split": content_id({"by": training.split.by, "group": training.split.group}),
        },
        params=training.params,
        environment=content_id(cache.relevant_environment()),
        seed=training.seed,
    )
    known = ws.records.find(Search, id=id, limit=1)
    if known:
        return known[0]
    *_, validation = cut(split(ws, training_set)[0], training.split, spec.validation, seed=spec.seed)
    return Search(
        id=id,
        training_set=training_set.id,
        problem=framing.id,
        recipe=training.recipe,
        objectives=targets,
        declared=spec.what,
        fixed=training.params,
        seed=training.seed,
        validation=validation,
        author=author,
        run=_run_id(id, None),
        created_at=at,
    )


@verb("training.record_trial", offered=False)
def record_trial(ws: Workspace, trial: Trial) -> Trial:
    """Record a trial that ended; it is never tried again."""
    known = ws.records.find(Trial, id=trial.id, limit=1)
    return known[0] if known else trial


@dataclass
class _Round:
    """Trials of a search under way: proposed in order, run as many at once as may be, recorded as they end."""

    ws: Workspace
    spec: SearchSpec
    search: Search
    proposals: Proposals
    args: dict[str, Any]
    tell: Tell
    wanted: int

    def run(self, missing: list[int]) -> None:
        limit = None if self.spec.timeout is None else monotonic() + self.spec.timeout.total_seconds()
        running: dict[Future[dict[str, Any]], int] = {}
        pool = Pool(self.ws.root, workers=min(self.spec.parallel, len(missing)))
        try:
            while missing or running:
                late = limit is not None and monotonic() >= limit
                while missing and not late and len(running) < self.spec.parallel and self.proposals.ready(missing[0]):
                    number = missing.pop(0)
                    left = None if limit is None else max(0.1, limit - monotonic())
                    running[pool.submit(self._step(number), timeout_s=left)] = number
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._ended(running.pop(future), future, limit)
        finally:
            threading.Thread(target=pool.stop, daemon=True).start() if running else pool.close()

    def _step(self, number: int) -> StepSpec:
        params, _ = self.proposals.propose(number)
        more = {"number": number, "params": params, "run": _run_id(self.search.id, number), "at": iso(self.ws.clock())}
        return StepSpec(ENTRYPOINT, {**self.args, **more})

    def _ended(self, number: int, future: Future[dict[str, Any]], limit: float | None) -> None:
        try:
            found = future.result()
        except (LooplineError, StepFailed) as error:
            if limit is not None and monotonic() >= limit and isinstance(error, Unavailable):
                return  # its time was up: it is tried again when the search goes on
            if not isinstance(error, (StepFailed, Unavailable)):
                raise
            found = {"state": "failed", "values": (), "metrics": {}, "reported": (), "error": str(error)[:4000]}
        params, _ = self.proposals.propose(number)
        trial = record_trial(
            self.ws,
            Trial(
                id=content_id({"search": self.search.id, "trial": number}),
                search=self.search.id,
                number=number,
                params=params,
                state=found["state"],
                values=tuple(found["values"]),
                metrics=found["metrics"],
                reported=tuple((int(step), float(value)) for step, value in found["reported"]),
                error=found["error"],
                run=_run_id(self.search.id, number),
                seconds=found.get("seconds", 0.0),
                ended_at=self.ws.clock(),
                memory={**self.proposals.kept(number), **found.get("memory", {})},
            ),
        )
        self.proposals.add(trial)
        self.tell(self._so_far(), len(self.proposals.done), self.wanted)

    def _so_far(self) -> str:
        found = best(self.search, list(self.proposals.done.values()), pick=self.spec.pick)
        if found is None:
            return "no trial is complete yet"
        names = (name for name, _ in self.search.objectives)
        return f"best trial {found.number}: " + ", ".join(
            f"{name} {value:.4f}" for name, value in zip(names, found.values, strict=True)
        )


@contextmanager
def _logged(
    ws: Workspace,
    project: Path,
    search: Search,
    training: TrainingSpec,
    training_set: TrainingSet,
    at: datetime,
    args: dict[str, Any],
) -> Iterator[None]:
    """The run of the search, below which the runs of its trials lie."""
    if not args["tracked"]:
        yield
        return
    with training_run(
        ws,
        project,
        id=search.run,
        at=at,
        experiment=args["experiment"],
        recipe=training.recipe,
        params=training.params,
        seed=training.seed,
        training_set=training_set,
        tags={
            "loopline.search": search.id,
            "loopline.problem": search.problem,
            "loopline.author": search.author,
            "loopline.objectives": ", ".join(f"{way} {name}" for name, way in search.objectives),
        },
    ):
        yield


def _run_id(search: str, number: int | None) -> str:
    return content_id({"search": search, "run": number})[:32]


def _nothing(trials: list[Trial]) -> LooplineError:
    failed = next((one.error for one in sorted(trials, key=lambda one: one.number) if one.error), None)
    if failed is None:
        return Unavailable(
            "the search ended before any trial was complete",
            why="training.search.timeout was over",
            fix="raise it; what was tried stays",
        )
    return Invalid(
        "the only trial could not be completed" if len(trials) == 1 else f"none of {len(trials)} trials was completed",
        why=f"the first one says: {failed}",
        fix="mend the recipe or training.search.params; changed code is a search of its own",
    )


__all__ = ["declare_search", "record_trial", "search", "search_result", "searches"]
