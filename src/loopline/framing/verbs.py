"""What can be done with a problem: freeze it."""

from __future__ import annotations

from loopline.framing.metrics import best_threshold
from loopline.framing.nouns import Problem
from loopline.framing.spec import FramingSpec
from loopline.workspace import Workspace, verb


@verb("framing.frame")
def frame(ws: Workspace, name: str, spec: FramingSpec) -> Problem:
    """Freeze what is decided and how it is judged; every model names the problem it answers.

    The same framing is the same problem, under the name it was first given, so
    a retry is safe.

    Raises
    ------
    Invalid
        If the value of decisions leaves nothing to decide.
    """
    best_threshold(spec.value)
    known = ws.records.find(Problem, id=spec.id, limit=1)
    return known[0] if known else Problem(spec.id, name, spec.model_dump(mode="json", exclude_defaults=True))
