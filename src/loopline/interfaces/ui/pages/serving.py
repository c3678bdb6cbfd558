"""The endpoint: who answers, how much, and the evidence about a canary."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from loopline import serving
from loopline.interfaces.ui.attention import Wanted
from loopline.interfaces.ui.context import Here
from loopline.serving.nouns import DesiredState

DOCUMENTS = 20


def frame(here: Here, request: Request) -> dict[str, Any]:
    """The page around the live part: what was asked for, newest first."""
    found = here.ws.records.find(DesiredState, endpoint=here.name, limit=DOCUMENTS)
    return {"documents": found, "limit": DOCUMENTS, "spec": here.project.spec.serving}


def live(here: Here, request: Request) -> dict[str, Any]:
    """What the data plane does now."""
    status = serving.status(here.ws, here.name)
    taken = [v for v in here.versions() if status is not None and v.id == status.rolled_back]
    return {
        "status": status,
        "running": serving.supervisor_pid(here.ws, here.name) is not None,
        "wanted": Wanted.read(here.ws.root, here.name),
        "taken_out": taken[0] if taken else None,
        "release": here.project.spec.serving.release,
    }
