"""A model made of rows: fitted by the recipe, packaged, compared, bundled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.keys import SigningKey
from loopline.base.log import logger
from loopline.features.nouns import TrainingSet
from loopline.framing.metrics import best_threshold
from loopline.framing.spec import FramingSpec
from loopline.training import cache, recipe
from loopline.training.bundle import build_bundle, read_bundle
from loopline.training.convert import package
from loopline.training.encoding import encode
from loopline.training.packages import skops
from loopline.training.packages.choosing import choose
from loopline.training.packages.packaged import Permission
from loopline.training.packages.runtimes import demands_signature
from loopline.training.packages.trust import Trust
from loopline.training.rows import learned
from loopline.training.spec import TrainingSpec
from loopline.training.tracking.recipes import Track, log_curves
from loopline.workspace import Workspace

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """What a training made, before it is recorded."""

    bundle: str
    framework: str
    threshold: float
    parity: dict[str, Any]
    run: str | None
    package: dict[str, Any] | None = None


def make(
    ws: Workspace,
    project: Path,
    training: TrainingSpec,
    training_set: TrainingSet,
    framing: FramingSpec,
    code: cache.Closure,
    track: Track,
    searched: dict[str, Any] | None = None,
) -> Made:
    """Apply the recipe to the training rows and keep what it returns, packaged and compared with what was fitted."""
    rows = learned(ws, training, training_set)
    seen, inputs = rows.seen, rows.inputs
    fitted = recipe.fit(
        project,
        training.recipe,
        pl.from_numpy(rows.take(), schema=list(seen.names)),
        rows.labels,
        params=training.params,
        seed=training.seed,
        categorical=seen.categorical,
        sample_weight=rows.weights,
        track=track,
    )
    log_curves(track, fitted)
    packaged = seen.around(package(fitted, seen.names), inputs)
    chosen = choose(
        packaged,
        inputs=inputs,
        rows=rows.held_out,
        labels=rows.held_labels,
        threshold=best_threshold(framing.value),
        permission=Permission(frozenset(training.packages.trust), training.packages.unsafe, framing.risk),
    )
    runtime = chosen.runtime
    signed = runtime is not None and demands_signature(runtime, skops.OWN)
    key = SigningKey.load(f"workspace-{ws.id}", create=True) if signed else None
    data = build_bundle(
        inputs=inputs,
        threshold=chosen.parity.threshold,
        model=chosen.onnx,
        native=chosen.native,
        probe=rows.probe,
        scores=chosen.score(encode(rows.probe, inputs)),
        about={
            "base_rate": float(rows.labels.mean()),
            "views": training_set.views,
            "request": json.loads(ws.blobs.get(training_set.request)) if training_set.request else None,
            "training_set": training_set.id,
            "problem": framing.id,
            "framework": packaged.framework,
            "recipe": training.recipe,
            "params": training.params,
            **_weighed(project, training, rows.weights),
            **({"transforms": seen.transforms.doc()} if seen.transforms else {}),
            **({"search": searched} if searched else {}),
            "seed": training.seed,
            "code": {"closure": code.id, "files": code.files, "distributions": code.distributions},
            "environment": cache.relevant_environment(),
        },
        runtime=runtime,
        key=key,
    )
    read_bundle(data, Trust(True, frozenset() if key is None else frozenset({key.public})))
    found = chosen.parity
    return Made(ws.blobs.put(data), packaged.framework, found.threshold, found.kinds, None, _shown(runtime))


def made_again(
    ws: Workspace,
    project: Path,
    *,
    training: TrainingSpec,
    training_set: TrainingSet,
    framing: FramingSpec,
    searched: dict[str, Any] | None = None,
) -> str:
    """The digest of the bundle that a training makes; the bundle is kept, nothing is recorded.

    `searched` is what the bundle is to say of the search that its params come from.
    """
    code = cache.closure(project, training.recipe)
    return make(ws, project, training, training_set, framing, code, Track(), searched).bundle


def _shown(runtime: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the record of a model says of its native runtime; its transforms stand in the manifest."""
    return None if runtime is None else {name: value for name, value in runtime.items() if name != "transforms"}


def _weighed(project: Path, training: TrainingSpec, given: npt.NDArray[np.float64] | None) -> dict[str, Any]:
    """What the bundle says of the labels' confidence: whether the recipe weighed rows by it."""
    if given is None:
        return {}
    used = recipe.takes(project, training.recipe, "sample_weight")
    if not used:
        log.warning("%s has no parameter sample_weight: every label counts alike, however sure it is", training.recipe)
    return {"label_confidence": {"mean": round(float(given.mean()), 6), "sample_weight": used}}
