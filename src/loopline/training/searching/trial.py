"""One trial, in a process of its own: JSON in, JSON out."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import polars as pl

from loopline.base.clock import monotonic
from loopline.base.errors import LooplineError
from loopline.base.ids import moment
from loopline.base.log import logger
from loopline.features.nouns import TrainingSet
from loopline.framing.metrics import METRICS, best_threshold
from loopline.framing.spec import FramingSpec
from loopline.training import recipe
from loopline.training.convert import package
from loopline.training.encoding import Floats, Input, encode, learn
from loopline.training.nouns import Search, Trial
from loopline.training.reporting import Pruned, Report
from loopline.training.rows import labels, split, weights
from loopline.training.searching.proposing import Proposals, first_of_round
from loopline.training.searching.validation import cut
from loopline.training.spec import TrainingSpec
from loopline.training.tracking.client import ActiveRun, begin
from loopline.training.tracking.delivery import Here
from loopline.training.tracking.recipes import Track, log_curves
from loopline.training.transforms import Transforms
from loopline.training.transforms import fit as fit_transforms
from loopline.workspace import Workspace, open_workspace

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of every trial of a search, as the recipe sees them."""

    names: tuple[str, ...]
    categorical: tuple[str, ...]
    fitted: Floats
    labels: Any
    weights: npt.NDArray[Any] | None
    judged: Floats
    """Before the transforms, which stand in the packaged model."""
    truth: Any
    inputs: tuple[Input, ...]
    transforms: Transforms | None


def run(workspace: Path, **args: Any) -> dict[str, Any]:
    """Fit the recipe with the params of a trial and judge it on the rows set aside.

    Returns
    -------
    dict
        `state`, `values`, `metrics`, `reported`, `error`, `seconds`, `memory`. What the user's code raises, or a metric
        that is no number, makes the state `failed`; what is wrong with the workspace is raised.
    """
    ws = open_workspace(workspace, actor=args["actor"])
    try:
        return _run(ws, args)
    finally:
        ws.close()


def _run(ws: Workspace, args: dict[str, Any]) -> dict[str, Any]:
    training = TrainingSpec.model_validate(args["training"])
    framing = FramingSpec.model_validate(args["framing"])
    search = ws.records.get(Search, args["search"])
    rows = _rows(ws, search, training)
    begun = monotonic()
    with_run = _begun(ws, search, args) if args["tracked"] else None
    try:
        found = _tried(ws, Path(args["project"]), training, framing, search, rows, args, Track(with_run))
    except BaseException:
        _ended(with_run, {"metrics": {}, "state": "failed", "error": None})
        raise
    found["seconds"] = round(monotonic() - begun, 3)
    _ended(with_run, found)
    return found


def _tried(
    ws: Workspace,
    project: Path,
    training: TrainingSpec,
    framing: FramingSpec,
    search: Search,
    rows: _Rows,
    args: dict[str, Any],
    track: Track,
) -> dict[str, Any]:
    found: dict[str, Any] = {"state": "failed", "values": [], "metrics": {}, "error": None, "memory": {}}
    judge = _judge(ws, search, training, args["number"])
    report = Report(track, judge)
    try:
        fitted = recipe.fit(
            project,
            training.recipe,
            pl.from_numpy(rows.fitted, schema=list(rows.names)),
            rows.labels,
            params={**training.params, **args["params"]},
            seed=training.seed,
            categorical=rows.categorical,
            sample_weight=rows.weights,
            track=track,
            report=report,
        )
        log_curves(track, fitted)
        packaged = package(fitted, rows.names)
        if rows.transforms is not None:
            packaged = packaged.behind(rows.transforms, len(rows.inputs))
        scores = packaged.native(rows.judged)
        threshold = best_threshold(framing.value)
        metrics = {name: metric(rows.truth, scores, threshold, framing.value) for name, metric in METRICS.items()}
        found["metrics"] = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        values = [found["metrics"][name] for name, _ in search.objectives]
        if None in values:
            name = search.objectives[values.index(None)][0]
            found["error"] = f"{name} is no number on the rows that trials are judged on"
        else:
            found |= {"state": "complete", "values": values}
    except Pruned:
        found["state"] = "pruned"
    except LooplineError as error:
        found["error"] = f"{error.what}\n{error.why}"[:4000]
    found["reported"] = sorted(report.values.items())
    if isinstance(judge, _Judge):
        found["memory"] = judge.memory
    return found


class _Judge:
    """Asks the pruner, which knows the trials of earlier rounds."""

    def __init__(self, proposals: Proposals, number: int) -> None:
        self._trial = proposals.judge(number)

    def __call__(self, value: float, step: int) -> bool:
        if step < 0:
            return False
        self._trial.report(value, step)
        return bool(self._trial.should_prune())

    @property
    def memory(self) -> dict[str, Any]:
        return dict(self._trial.study._storage.get_trial(self._trial._trial_id).system_attrs)


def _judge(ws: Workspace, search: Search, training: TrainingSpec, number: int) -> _Judge | None:
    assert training.search is not None
    if training.search.pruner == "none":
        return None
    earlier = [one for one in ws.records.find(Trial, search=search.id) if one.number < first_of_round(number)]
    return _Judge(Proposals(training.search, [way for _, way in search.objectives], earlier), number)


@functools.lru_cache(1)
def _prepared(root: Path, search: str, training: str) -> _Rows:
    ws = open_workspace(root)
    found, spec = ws.records.get(Search, search), TrainingSpec.model_validate_json(training)
    used = ws.records.get(TrainingSet, found.training_set)
    assert spec.search is not None
    fit, judged, _ = cut(split(ws, used)[0], spec.split, spec.search.validation, seed=spec.search.seed)
    inputs = learn(fit, used.features, used.categorical)
    matrix, names, categorical, transforms = encode(fit, inputs), used.features, used.categorical, None
    if spec.transforms:
        transforms, matrix = fit_transforms(spec.transforms, inputs, matrix, labels(fit), seed=spec.seed)
        names, categorical = transforms.names, transforms.categorical
    ws.close()
    return _Rows(
        names,
        categorical,
        matrix,
        labels(fit),
        weights(fit),
        encode(judged, inputs),
        labels(judged),
        inputs,
        transforms,
    )


def _rows(ws: Workspace, search: Search, training: TrainingSpec) -> _Rows:
    return _prepared(ws.root, search.id, training.model_dump_json())


def _begun(ws: Workspace, search: Search, args: dict[str, Any]) -> ActiveRun | None:
    try:
        run = begin(
            Here(ws),
            spool=ws.root / "spool",
            name=f"trial {args['number']}",
            experiment=args["experiment"],
            id=args["run"],
            at=moment(args["at"]),
            tags={
                "mlflow.parentRunId": search.run,
                "loopline.search": search.id,
                "loopline.trial": str(args["number"]),
                "loopline.training_set": search.training_set,
            },
            user=ws.actor.partition(":")[2],
        )
        run.log_params({**search.fixed, **args["params"], "seed": search.seed})
        return run
    except (LooplineError, OSError) as error:
        log.warning("this trial is not in the run log: %s", error)
        return None


def _ended(run: ActiveRun | None, found: dict[str, Any]) -> None:
    if run is None:
        return
    try:
        run.log_metrics({name: value for name, value in found["metrics"].items() if value is not None}, step=0)
        run.set_tag("loopline.trial_state", found["state"])
        if found["error"]:
            run.log_text(found["error"], "error.txt")
        run.finish("FAILED" if found["state"] == "failed" else "FINISHED")
    except (LooplineError, OSError) as error:
        log.warning("the end of this trial is not in the run log: %s", error)
