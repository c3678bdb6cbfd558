"""What can be done with a training set: make a model of it."""

from __future__ import annotations

import os
import subprocess
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from loopline.base.clock import monotonic
from loopline.base.errors import Denied, Invalid, NotFound
from loopline.base.ids import canonical, content_id, digest, uuid7
from loopline.features.nouns import LeakageReport, TrainingSet
from loopline.framing.spec import FramingSpec
from loopline.training import cache
from loopline.training.bundle import read_bundle
from loopline.training.making import Made, make
from loopline.training.nouns import Model, Run, Search, Trial
from loopline.training.packages.trust import trust_of
from loopline.training.source import packed
from loopline.training.spec import PackagesSpec, TrainingSpec
from loopline.training.tracking.lineage import training_run
from loopline.training.tracking.origin import is_notebook
from loopline.training.tracking.recipes import Track
from loopline.workspace import Workspace, verb


@verb("training.train")
def train(
    ws: Workspace,
    project: Path,
    *,
    training: TrainingSpec,
    training_set: TrainingSet,
    framing: FramingSpec,
    author: str,
    experiment: str | None = None,
    tracked: bool = True,
    trial: Trial | None = None,
) -> tuple[Run, Model]:
    """Apply the recipe to the training rows and package what it returns.

    Asked again for the same code, rows, params, environment and seed, it
    answers with the model it has: the run says `cached`. The packaged model is
    compared with the fitted one before anything is recorded.

    Parameters
    ----------
    project : Path
        Folder that holds the recipe.
    training_set : TrainingSet
        Rows with split `train` are fitted; rows with split `test` are only
        scored, to compare the packaged model with the fitted one.
    author : str
        Who answers for the model, and so cannot approve it.
    experiment : str, optional
        What the run log files it under; by default the name of the project's folder.
    tracked : bool
        Whether the run log hears of it, under the id of the run.
    trial : Trial, optional
        The trial of a search whose params are taken beside `training.params`; search and trial are part of the model.

    Raises
    ------
    UserCodeError
        If the recipe raises.
    Invalid
        If a search is declared and no trial given, or if what the recipe returns cannot be packaged, or is packaged
        wrongly.
    """
    searched = None if trial is None else _found_by(ws, trial)
    training = _settled(training, trial)
    code = cache.closure(project, training.recipe)
    environment = canonical(cache.environment())
    key = cache.step_key(
        code,
        step=f"training.train {training.recipe.partition(':')[2]}",
        inputs={"training_set": training_set.id, "problem": framing.id, **_declared(training, framing, searched)},
        params=training.params,
        environment=content_id(cache.relevant_environment()),
        seed=training.seed,
    )
    started, begin, cpu = ws.clock(), monotonic(), _cpu_seconds()
    id = uuid7(started)
    about = {"loopline.problem": framing.id, "loopline.author": author, **_searched(ws, training_set)}
    if trial is not None:
        about |= {"loopline.search": trial.search, "loopline.trial": str(trial.number)}
    with _tracked(ws, project, training, training_set, id, started, experiment, about, tracked) as track:
        made = _found(ws, key)
        cached = made is not None
        if made is None:
            made = make(ws, project, training, training_set, framing, code, track, searched)
        _report(track, made, training_set, cached)
    run = Run(
        id=id,
        step_key=key,
        recipe=training.recipe,
        code={
            **_commit(project),
            "closure": code.id,
            "files": code.files,
            "distributions": code.distributions,
            **({"exploratory": True} if is_notebook() else {}),
        },
        environment=ws.blobs.put(environment),
        params=training.params,
        seed=training.seed,
        started_at=started,
        seconds=round(monotonic() - begin, 3),
        cpu_seconds=round(_cpu_seconds() - cpu, 3),
        cached=cached,
        text=None if (text := packed(project, code)) is None else ws.blobs.put(text),
        declared=training.model_dump(mode="json", exclude_defaults=True, exclude={"reproduce"}),
    )
    return run, _model(ws, run, made, training_set, framing, author)


def _tracked(
    ws: Workspace,
    project: Path,
    training: TrainingSpec,
    training_set: TrainingSet,
    id: str,
    started: datetime,
    experiment: str | None,
    tags: dict[str, str],
    tracked: bool,
) -> AbstractContextManager[Track]:
    if not tracked:
        return nullcontext(Track())
    return training_run(
        ws,
        project,
        id=id,
        at=started,
        experiment=experiment or project.resolve().name,
        recipe=training.recipe,
        params=training.params,
        seed=training.seed,
        training_set=training_set,
        tags=tags,
    )


def _searched(ws: Workspace, training_set: TrainingSet) -> dict[str, str]:
    """What the search for leaks in these rows found, as tags; nothing where none was made."""
    for report in ws.records.find(LeakageReport, limit=1, training_set=training_set.id):
        found = ", ".join(f"{one.kind} {one.column or ''}".strip() for one in report.findings)
        return {"loopline.leaks": found or f"none of {len(report.checked)} kinds", "loopline.leak_report": report.id}
    return {}


def _report(track: Track, made: Made, training_set: TrainingSet, cached: bool) -> None:
    """Tell the run log what came of a training."""
    if track.run is None:
        return
    track.run.set_tags(
        {"loopline.bundle": made.bundle, "loopline.framework": made.framework, "loopline.cached": str(cached).lower()}
    )
    track.log_metrics({"threshold": made.threshold, "train_rows": training_set.train_rows}, step=0)
    for kind, compared in made.parity.items():
        for name, value in compared.items() if isinstance(compared, dict) else ():
            if isinstance(value, (int, float)):
                track.log_metric(f"parity/{kind}/{name}", value, 0)


def _found_by(ws: Workspace, trial: Trial) -> dict[str, Any]:
    """What a bundle says of the search that its params come from."""
    search = ws.records.get(Search, trial.search)
    return {
        "id": search.id,
        "trial": trial.number,
        "trials": len(ws.records.find(Trial, search=search.id)),
        "params": trial.params,
        "values": {name: value for (name, _), value in zip(search.objectives, trial.values, strict=True)},
        "space": search.declared,
        "validation": search.validation,
    }


def _settled(training: TrainingSpec, trial: Trial | None) -> TrainingSpec:
    """The declaration with the params of the trial in it, and no search left."""
    if trial is None and training.search is not None:
        raise Invalid(
            "a search for params is declared, and none was made",
            why="training.search says which params are tried before a model is trained",
            fix="call training.search first and hand over its trial, or set `search: none`",
        )
    params = {**training.params, **(trial.params if trial else {})}
    return training.model_copy(update={"params": params, "search": None})


def _declared(training: TrainingSpec, framing: FramingSpec, searched: dict[str, Any] | None) -> dict[str, str]:
    """The transforms, what packages may be and the search, as inputs of the step; nothing where nothing is declared."""
    found = {}
    if searched is not None:
        found["search"] = content_id(searched)
    if training.transforms:
        found["transforms"] = content_id([one.model_dump(mode="json") for one in training.transforms])
    if training.packages != PackagesSpec():
        found["packages"] = content_id({**training.packages.model_dump(mode="json"), "risk": framing.risk})
    return found


def _found(ws: Workspace, key: str) -> Made | None:
    """What an earlier run with this key made, if its bundle is still whole."""
    for run in ws.records.find(Run, step_key=key, cached=False):
        for model in ws.records.find(Model, run=run.id, limit=1):
            try:
                data = ws.blobs.get(model.bundle)
            except NotFound:
                continue
            except Invalid:
                ws.blobs.delete(model.bundle)
                continue
            try:
                read_bundle(data, trust_of(ws.id))
            except (Invalid, Denied):
                continue
            return Made(model.bundle, model.framework, model.threshold, model.parity, run.id, model.package)
    return None


def _model(ws: Workspace, run: Run, made: Made, training_set: TrainingSet, framing: FramingSpec, author: str) -> Model:
    about = {"bundle": made.bundle, "training_set": training_set.id, "problem": framing.id, "author": author}
    known = ws.records.find(Model, id=content_id(about), limit=1)
    if known:
        return known[0]
    return Model(
        id=content_id(about),
        run=made.run or run.id,
        training_set=training_set.id,
        problem=framing.id,
        bundle=made.bundle,
        features=training_set.features,
        framework=made.framework,
        author=author,
        threshold=made.threshold,
        parity=made.parity,
        created_at=ws.clock(),
        package=made.package,
    )


def _commit(project: Path) -> dict[str, Any]:
    """Commit of the project's repository and a digest of what is not committed; null outside one."""
    head = _git(project, "rev-parse", "HEAD")
    if head is None:
        return {"commit": None, "dirty": None}
    changed = (_git(project, "diff", "HEAD", "--", ".") or b"") + (_git(project, "status", "--porcelain", ".") or b"")
    return {"commit": head.decode().strip(), "dirty": digest(changed) if changed else None}


def _git(project: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system
