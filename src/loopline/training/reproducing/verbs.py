"""What can be done with a model of before: make it again, and see how near it comes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import polars as pl

from loopline.base.clock import monotonic
from loopline.base.errors import Denied, Invalid, LooplineError, NotFound
from loopline.base.ids import uuid7
from loopline.compute import StepSpec, run_step
from loopline.compute.process import StepFailed
from loopline.data.privacy.tombstones import current
from loopline.features.nouns import TrainingSet
from loopline.framing.nouns import Problem
from loopline.framing.spec import FramingSpec
from loopline.training.archive import unpack
from loopline.training.bundle import MANIFEST
from loopline.training.nouns import ADOPTED, Model, Reproduction, Run
from loopline.training.packages.trust import trust_of
from loopline.training.reproducing.code import reason, restored
from loopline.training.reproducing.comparing import NOT, Interval, Nearness, bytes_unlike, compared
from loopline.training.reproducing.environment import deciding, differences, installed, run_in
from loopline.training.reproducing.rebuild import ENTRYPOINT
from loopline.training.rows import labels, split
from loopline.training.spec import TrainingSpec
from loopline.training.tracking import machine
from loopline.training.tracking.lineage import recorded
from loopline.workspace import Workspace, query, verb

Where = Literal["present", "fresh"]


@verb("training.reproduce")
def reproduce(
    ws: Workspace,
    model: Model,
    *,
    project: Path | None = None,
    training: TrainingSpec | None = None,
    reported: Mapping[str, Interval] | None = None,
    environment: Where = "present",
) -> Reproduction:
    """Make a model again from what was recorded of it, and tell how near it comes and what was not as it was.

    Rows by the id of the training set, code as it was kept, params, seed. Nothing is registered; the bundle that is
    made stays under its digest.

    Parameters
    ----------
    project : Path, optional
        Where code is looked for that was not kept: its repository, then its files.
    training : TrainingSpec, optional
        Followed where the run does not say what it followed (runs of before).
    reported : mapping, optional
        Metric to value, least and greatest, as a report has them; without it metrics are not judged.
    environment : str
        `present`, or `fresh`: the recorded distributions are installed anew, by pip.

    Raises
    ------
    Invalid
        If it was trained elsewhere and adopted: no recipe is recorded that could be followed.
    NotFound
        If the run, the rows or the problem of the model are not recorded.
    Unavailable
        If a fresh environment cannot be made.
    """
    begun = monotonic()
    run = ws.records.get(Run, model.run)
    if run.recipe.startswith(ADOPTED):
        raise Invalid(
            f"model {model.id[:12]} cannot be made again: it was {run.recipe}",
            why="it was trained elsewhere, so neither its code nor the rows it saw are recorded",
            fix="make its training a recipe of the project, and train it here",
        )
    used = ws.records.get(TrainingSet, model.training_set)
    framing = FramingSpec.model_validate(ws.records.get(Problem, model.problem).spec)
    was = _bytes(ws, model.bundle)
    differs, made, error = _machine(ws, run), None, None
    near = Nearness(NOT, None, {})
    environs = json.loads(ws.blobs.get(run.environment))
    names = deciding(run.code.get("distributions", {}))
    other = differences(environs, names)
    differs |= other if environment == "present" else {name: other[name] for name in ("python",) if name in other}
    with tempfile.TemporaryDirectory(prefix="loopline-reproduce-") as scratch:
        folder = Path(scratch) / "code"
        folder.mkdir()
        code, unlike = restored(ws, run, project, folder)
        if unlike:
            differs["code"] = unlike
        declared = _declared(run, training, differs)
        args = {
            "folder": str(folder),
            "training": declared.model_dump(mode="json"),
            "framing": framing.model_dump(mode="json"),
            "training_set": used.id,
            "searched": _searched(was),
            "actor": ws.actor,
        }
        interpreter = installed(Path(scratch), environs, names) if environment == "fresh" else None
        try:
            held_out = _rows(ws, used, differs)
            if interpreter is None:
                answer = run_step(StepSpec(ENTRYPOINT, args), workspace=ws.root)
            else:
                answer = run_in(interpreter, ws.root, args)
            made = str(answer["bundle"])
            near = compared(
                was,
                model.bundle,
                ws.blobs.get(made),
                held_out,
                labels(held_out),
                reported or {},
                trust=trust_of(ws.id),
                value=framing.value,
            )
        except LooplineError as problem:
            error = reason(problem)
        except StepFailed as problem:
            error = str(problem)[:4000]
    if was is not None and made is not None and made != model.bundle:
        differs["bundle"] = bytes_unlike(was, ws.blobs.get(made))
    if was is None:
        differs["bundle"] = "its bytes are lost" if made != model.bundle else "its bytes were lost, and are back"
    return Reproduction(
        id=uuid7(ws.clock()),
        model=model.id,
        level=near.level,
        bundle=made,
        code=code,
        environment=environment,
        differs=differs,
        difference=near.difference,
        metrics=near.metrics,
        error=error,
        seconds=round(monotonic() - begun, 3),
        by=ws.actor,
        at=ws.clock(),
    )


@query("training.reproductions")
def reproductions(ws: Workspace, model: str) -> list[Reproduction]:
    """How near a model came each time it was made again, newest first."""
    return ws.records.find(Reproduction, model=model)


def newest(ws: Workspace, model: str) -> Reproduction | None:
    """The last time a model was made again; null if never."""
    found = ws.records.find(Reproduction, model=model, limit=1)
    return found[0] if found else None


def _bytes(ws: Workspace, digest: str) -> bytes | None:
    """The bundle of before; null where it is lost or damaged."""
    try:
        return ws.blobs.get(digest)
    except (NotFound, Invalid, Denied):
        return None


def _searched(bundle: bytes | None) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None
    if bundle is not None:
        found = json.loads(unpack(bundle)[MANIFEST]).get("search")
    return found


def _declared(run: Run, training: TrainingSpec | None, differs: dict[str, Any]) -> TrainingSpec:
    """What the run followed; of a run that does not say so, its recipe, params and seed in the present declaration."""
    if run.declared is not None:
        return TrainingSpec.model_validate(run.declared)
    differs["declared"] = "the run does not say how it was declared: transforms and packages are those of now"
    base = training or TrainingSpec(recipe=run.recipe)
    return base.model_copy(update={"recipe": run.recipe, "params": run.params, "seed": run.seed, "search": None})


def _rows(ws: Workspace, used: TrainingSet, differs: dict[str, Any]) -> pl.DataFrame:
    """The held-out rows that are there; notes how many rows were erased since."""
    train, test = split(ws, used)
    if current(ws, used.frame) != used.frame:
        gone = used.train_rows + used.test_rows - train.height - test.height
        differs["rows"] = {
            "erased": gone,
            "train": [used.train_rows, train.height],
            "test": [used.test_rows, test.height],
        }
    return test


def _machine(ws: Workspace, run: Run) -> dict[str, Any]:
    """The processor then and now, where the run log holds the one of then."""
    told = recorded(ws, run.id)
    if told is None or told["machine"] is None:
        return {}
    present = machine.hardware()
    now = f"{present['processor']}, {present['cores_allowed'] or present['cores']} cores"
    return {} if told["machine"] == now else {"machine": [told["machine"], now]}
