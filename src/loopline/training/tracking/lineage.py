"""Trainings of the loop in the run log: under the id of their record, with what they were made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from loopline.base.errors import LooplineError, NotFound
from loopline.base.log import logger
from loopline.features.nouns import TrainingSet
from loopline.store.runs.protocol import Point
from loopline.training.tracking.client import ActiveRun, begin
from loopline.training.tracking.delivery import Here
from loopline.training.tracking.recipes import Track
from loopline.training.tracking.spool import waiting
from loopline.training.tracking.syncing import sync
from loopline.training.tracking.watch import EXPLORATORY, Watch
from loopline.workspace import Workspace

log = logger(__name__)

SPOOL = "spool/loop"
"""Below the workspace. Runs by hand wait elsewhere: they may be on their way to a server."""


@contextmanager
def training_run(
    ws: Workspace,
    project: Path,
    *,
    id: str,
    at: datetime,
    experiment: str,
    recipe: str,
    params: Mapping[str, Any],
    seed: int,
    training_set: TrainingSet,
    tags: Mapping[str, str],
) -> Iterator[Track]:
    """Log what happens inside as the run `id`; a training never fails for its log.

    Parameters
    ----------
    at : datetime
        When it began, by the workspace's clock.
    """
    track = _begun(ws, project, id, at, experiment, recipe, params, seed, training_set, tags)
    try:
        yield track
    except BaseException as error:
        _end(track, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    _end(track, "FINISHED")


def _begun(
    ws: Workspace,
    project: Path,
    id: str,
    at: datetime,
    experiment: str,
    recipe: str,
    params: Mapping[str, Any],
    seed: int,
    training_set: TrainingSet,
    tags: Mapping[str, str],
) -> Track:
    spool = ws.root / SPOOL
    try:
        if waiting(spool):  # trainings that were killed
            sync(spool, Here(ws))
    except (LooplineError, OSError) as error:
        log.warning("earlier trainings still wait in %s: %s", spool, error)
    try:
        run = begin(
            Here(ws),
            spool=spool,
            name=f"{recipe.partition(':')[2]} {at:%Y-%m-%d %H:%M}",
            experiment=experiment,
            id=id,
            at=at,
            tags={
                "loopline.training_set": training_set.id,
                "loopline.snapshot": training_set.snapshot,
                "loopline.features": training_set.views,
                "loopline.recipe": recipe,
                **tags,
            },
            user=ws.actor.partition(":")[2],
        )
    except (LooplineError, OSError) as error:
        log.warning("this training is not in the run log: %s", error)
        return Track()
    try:
        run.log_params({**_flat(params), "seed": seed})
        run.log_dataset(training_set, name="training_set", context="train")
        run.watch = Watch(run, project, scrub=run.scrub, recipe=recipe, seed=seed)
    except (LooplineError, OSError) as error:
        log.warning("a part of this training is not in the run log: %s", error)
    return Track(run)


def _end(track: Track, status: Any) -> None:
    run: ActiveRun | None = track.run
    if run is not None:
        try:
            run.finish(status)
        except (LooplineError, OSError) as error:
            log.warning("the end of this training is not in the run log: %s", error)


def _flat(params: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """Params by dotted name."""
    found: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{start}{key}.")
        else:
            found[f"{start}{key}"] = value
    return found


def append(ws: Workspace, run: str, *, metrics: Mapping[str, float], tags: Mapping[str, str], at: datetime) -> None:
    """Add what was found out later, such as an evaluation; nothing happens where the run is not in the log."""
    if not (ws.root / "runs.db").exists():
        return
    at_ms = int(at.timestamp() * 1000)
    try:
        ws.runs.log(run, metrics=[Point(key, float(value), at_ms, 0) for key, value in metrics.items()], tags=tags)
    except NotFound:
        return
    except LooplineError as error:
        log.warning("the run %s does not tell what was found later: %s", run, error)


def recorded(ws: Workspace, run: str) -> dict[str, Any] | None:
    """What the run log says of a run: experiment, machine, code, environment, cost; null where it holds none."""
    if not (ws.root / "runs.db").exists():
        return None
    try:
        found = ws.runs.run(run)
        experiment = ws.runs.experiment(found.experiment).name
    except LooplineError:
        return None
    values = {point.key: point.value for point in found.metrics if not point.key.startswith("system/")}
    tags = found.tags
    return {
        "id": found.id,
        "name": found.name,
        "experiment": experiment,
        "by": found.user,
        "status": found.status,
        "exploratory": tags.get(EXPLORATORY) == "true",
        "commit": tags.get("mlflow.source.git.commit"),
        "code": tags.get("loopline.code"),
        "environment": tags.get("loopline.environment"),
        "machine": tags.get("loopline.machine"),
        "gpus": tags.get("loopline.gpus"),
        "params": found.params,
        "metrics": {key: value for key, value in values.items() if not key.startswith("cost/")},
        "cost": {key.removeprefix("cost/"): value for key, value in values.items() if key.startswith("cost/")},
    }


def is_exploratory(ws: Workspace, run: str) -> bool:
    """Whether a run was made in a notebook, whose cells may have run in any order."""
    found = recorded(ws, run)
    return found is not None and bool(found["exploratory"])
