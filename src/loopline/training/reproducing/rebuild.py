"""A training done again, in a process of its own: JSON in, JSON out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopline.base.errors import LooplineError
from loopline.features.nouns import TrainingSet
from loopline.framing.spec import FramingSpec
from loopline.training.making import made_again
from loopline.training.spec import TrainingSpec
from loopline.workspace import open_workspace

ENTRYPOINT = "loopline.training.reproducing.rebuild:run"


def run(workspace: Path, **args: Any) -> dict[str, Any]:
    """Apply the recipe in `folder` to a training set; `bundle` is the digest of what it makes. Nothing is recorded."""
    ws = open_workspace(workspace, actor=args["actor"])
    try:
        bundle = made_again(
            ws,
            Path(args["folder"]),
            training=TrainingSpec.model_validate(args["training"]),
            training_set=ws.records.get(TrainingSet, args["training_set"]),
            framing=FramingSpec.model_validate(args["framing"]),
            searched=args["searched"],
        )
    finally:
        ws.close()
    return {"bundle": bundle}


def answer(workspace: Path, args: Mapping[str, Any]) -> dict[str, Any]:
    """As `run`; what Loopline refuses is told as `error`."""
    try:
        return run(workspace, **args)
    except LooplineError as error:
        return {"error": {"code": error.code, "what": error.what, "why": error.why, "fix": error.fix}}
