"""The long steps of a cycle, each a fresh process: JSON in, JSON out.

Every step is idempotent: it ends in content-addressed blobs and nouns, so a
step that was killed and is started again finds its own work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopline.base.ids import moment
from loopline.evaluation.nouns import Report
from loopline.features.nouns import TrainingSet
from loopline.loop.project import Project, load
from loopline.training.nouns import Model
from loopline.training.spec import TrainingSpec
from loopline.workspace import Workspace, open_workspace


def _open(workspace: Path, args: dict[str, Any]) -> tuple[Workspace, Project]:
    ws = open_workspace(workspace, actor=args["actor"])
    return ws, load(Path(args["project"]))


def _training(project: Project, args: dict[str, Any]) -> TrainingSpec:
    override = args.get("training") or {}
    return TrainingSpec.model_validate({**project.spec.training.model_dump(mode="json"), **override})


def prepare(workspace: Path, **args: Any) -> dict[str, Any]:
    """Pin the data, build the features, cut the training set, and let no leak through."""
    from loopline import features, monitoring

    ws, project = _open(workspace, args)
    spec = project.spec
    views = tuple(args["views"]) if args.get("views") else None
    champion = ws.records.get(Model, args["champion"]) if args.get("champion") else None
    training = _training(project, args)
    made = features.training_set(
        ws,
        project.root,
        framing=spec.framing,
        features=spec.features,
        training=training,
        tables=spec.data,
        evaluation_slices=spec.evaluation.slices,
        views=views,
        beside=champion.training_set if champion else None,
        excluded_windows=monitoring.excluded_windows(ws),
        at=moment(args["at"]),
    )
    if args.get("search_leaks", True):
        _search_leaks(ws, project, training, made, views)
    return {"training_set": made.id}


def _search_leaks(
    ws: Workspace, project: Project, training: TrainingSpec, made: TrainingSet, views: tuple[str, ...] | None
) -> None:
    from loopline import features

    spec = project.spec
    report = features.leaks(
        ws,
        project.root,
        framing=spec.framing,
        features=spec.features,
        training=training,
        tables=spec.data,
        training_set=made,
        views=views,
    )
    features.refuse_leaks(report)


def train(workspace: Path, **args: Any) -> dict[str, Any]:
    """Fit the recipe and pack the bundle."""
    from loopline import framing, training

    ws, project = _open(workspace, args)
    framing.frame(ws, project.name, project.spec.framing)
    training_set = ws.records.get(TrainingSet, args["changes"]["training_set"])
    declared, trial, searched = _training(project, args), None, {}
    tracked = args.get("tracked", True)
    if declared.search is not None:
        found, trial = training.search(
            ws,
            project.root,
            training=declared,
            training_set=training_set,
            framing=project.spec.framing,
            primary=project.spec.evaluation.primary,
            author=args["author"],
            experiment=project.name,
            tracked=tracked,
        )
        searched = {"search": found.id, "trial": trial.number}
    run, model = training.train(
        ws,
        project.root,
        training=declared,
        training_set=training_set,
        framing=project.spec.framing,
        author=args["author"],
        experiment=project.name,
        tracked=tracked,
        trial=trial,
    )
    return {"run": run.id, "model": model.id, "training_seconds": run.seconds, "cached": run.cached, **searched}


def evaluate(workspace: Path, **args: Any) -> dict[str, Any]:
    """Judge the candidate on held-out rows; register and sign it if it passes (and `register` is not false)."""
    from loopline import evaluation, registry

    ws, project = _open(workspace, args)
    spec, changes = project.spec, args["changes"]
    model = ws.records.get(Model, changes["model"])
    champion = ws.records.get(Model, args["champion"]) if args.get("champion") else None
    report: Report = evaluation.evaluate(
        ws,
        project.root,
        evaluation=spec.evaluation,
        framing=spec.framing,
        model=model,
        champion=champion,
        training_set=ws.records.get(TrainingSet, changes["training_set"]),
    )
    result: dict[str, Any] = {"report": report.id, "passed": report.passed}
    if report.passed and args.get("register", True):
        version = registry.register(
            ws,
            name=project.name,
            model=model,
            report=report,
            author=args["author"],
            risk=spec.framing.risk,
            policy={**args["policy"], "approvals": spec.registry.approvals.model_dump(mode="json")},
            plan=spec.serving.release.model_dump(mode="json"),
        )
        result |= {"version": version.id, "number": version.number}
    return result
