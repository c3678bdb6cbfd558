"""A version that a client brought becomes one of ours: packaged, judged, signed, under the number it has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopline.base.errors import Denied, Invalid
from loopline.evaluation.nouns import Report
from loopline.evaluation.spec import EvaluationSpec
from loopline.evaluation.verbs import evaluate
from loopline.features.nouns import TrainingSet
from loopline.framing.spec import FramingSpec
from loopline.registry.nouns import Version
from loopline.registry.shelf import entry
from loopline.registry.verbs import register
from loopline.training.adopting import adopt as adopt_model
from loopline.training.nouns import Model
from loopline.training.spec import TrainingSpec
from loopline.workspace import Workspace, flow


@flow("registry.adopt")
def adopt(
    ws: Workspace,
    project: Path,
    name: str,
    number: int,
    *,
    training: TrainingSpec,
    evaluation: EvaluationSpec,
    framing: FramingSpec,
    training_set: TrainingSet,
    champion: Model | None,
    policy: Mapping[str, Any],
    plan: Mapping[str, Any] | None = None,
) -> tuple[Version, Report]:
    """Judge a version that a client brought on the held-out rows, and register it under its number.

    Its author is who brought it, and so cannot approve it. A failed report is
    registered as it is. Which rows it was trained on nobody here can know: the
    evidence says that it came from outside.

    Raises
    ------
    Invalid
        If it is no model, or its bytes lie elsewhere.
    Denied
        If it could only be opened by running its code.
    """
    found = entry(ws, name, number)
    if found.deposit is None:
        raise Invalid(
            f"version {number} of {name} was not brought by a client",
            why="it was trained and judged here",
            fix=f"loopline registry approve {number}",
        )
    if found.version is not None:
        return found.version, ws.records.get(Report, found.version.report)
    if found.prompt or not found.deposit.files:
        raise Invalid(
            f"version {number} of {name} has no files here",
            why="it is a prompt" if found.prompt else f"its bytes lie at {found.deposit.source[:200]}",
            fix="register a model whose files were logged to this server",
        )
    if framing.risk == "high":
        raise Denied(
            f"version {number} of {name} is not adopted",
            why="the framing says risk: high, and nobody can say which rows a model from outside was trained on",
            fix="make its training a recipe of the project",
        )
    _, model = adopt_model(
        ws,
        files=found.deposit.files,
        source=f"{name}/{number}",
        training=training,
        training_set=training_set,
        framing=framing,
        author=found.author,
    )
    report = evaluate(
        ws,
        project,
        evaluation=evaluation,
        framing=framing,
        model=model,
        champion=champion,
        training_set=training_set,
    )
    adopted = {"deposit": found.deposit.id, "digest": found.deposit.digest, "trained": "elsewhere"}
    version = register(
        ws,
        name=name,
        model=model,
        report=report,
        author=found.author,
        risk=framing.risk,
        policy={**policy, "adopted": adopted},
        plan=plan,
        adopts=found.deposit,
    )
    return version, report
