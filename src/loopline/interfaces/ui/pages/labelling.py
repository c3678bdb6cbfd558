"""Labelling: one row at a time, by keyboard or pointer, and how far people agree."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from loopline import data, governance
from loopline.base.errors import NotFound
from loopline.data.labelling.guidelines import guideline_of, names
from loopline.interfaces.ui.context import Here
from loopline.interfaces.ui.people import person


def overview(here: Here, request: Request) -> dict[str, Any]:
    """Every labelling with how far it has come, and whether its labels may be learned from."""
    spec = here.project.spec
    return {
        "standings": [data.label_standing(here.ws, name) for name in names(here.ws)],
        "health": governance.label_health(here.ws, spec.framing, spec.data, endpoint=here.name),
    }


def page(here: Here, request: Request) -> dict[str, Any]:
    """The next row for whoever asks."""
    name = request.path_params["name"]
    if guideline_of(here.ws, name) is None:
        raise NotFound(
            f"there is no labelling {name}",
            why="it has no guideline",
            fix=f'loopline data label guideline {name} --question "..."',
        )
    who = person(request.query_params.get("who"))
    return {
        "name": name,
        "who": who.removeprefix("user:"),
        "task": data.next_task(here.ws.acting_as(who), name),
        "standing": data.label_standing(here.ws, name),
        "live": governance.live_quality(here.ws, name),
        "said": request.query_params.get("said"),
    }
