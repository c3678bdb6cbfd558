"""The problem as it is declared."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from loopline.base.errors import LooplineError
from loopline.framing.metrics import best_threshold
from loopline.framing.nouns import Problem
from loopline.interfaces.ui.context import Here


def framing(here: Here, request: Request) -> dict[str, Any]:
    """What is decided, what it is worth, and which framings were recorded."""
    spec = here.project.spec.framing
    try:
        threshold, refused = best_threshold(spec.value), None
    except LooplineError as error:
        threshold, refused = None, error
    return {
        "spec": spec,
        "threshold": threshold,
        "refused": refused,
        "problems": here.ws.records.find(Problem, name=here.name),
        "evaluation": here.project.spec.evaluation,
    }
