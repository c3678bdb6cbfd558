"""The model's timeline, and one cycle of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.requests import Request

from loopline.base.errors import NotFound
from loopline.interfaces.ui.context import Here
from loopline.interfaces.ui.strip import strip
from loopline.interfaces.ui.timeline import Event, Story, events, grouped, leaks, stories
from loopline.loop import engine

A_PAGE = 25


def page(here: Here, request: Request) -> dict[str, Any]:
    """Triggers now, the life on one line, then everything that happened, newest first."""
    told = stories(here)
    between = events(here, told)
    entries: list[Story | Event] = sorted([*told, *between], key=_when, reverse=True)
    first = _from(request.query_params.get("from"))
    return {
        "plan": engine.plan(here.ws, here.project),
        "running": here.cycle(),
        "strip": strip(told, between, here.now),
        "entries": entries[first : first + A_PAGE],
        "is_story": lambda entry: isinstance(entry, Story),
        "grouped": grouped,
        "first": first,
        "last": min(len(entries), first + A_PAGE),
        "total": len(entries),
        "older": first + A_PAGE if len(entries) > first + A_PAGE else None,
        "newer": max(0, first - A_PAGE) if first else None,
        "spec": here.project.spec.retraining,
    }


def cycle(here: Here, request: Request) -> dict[str, Any]:
    """One pass through the loop."""
    number = request.path_params["number"]
    told = next((story for story in stories(here) if story.number == number), None)
    if told is None:
        raise NotFound(f"there is no cycle {number}", why="the loop has not begun it", fix="open /retraining")
    return {
        "story": told,
        "leaks": leaks(here, told),
        "numbers": {v.id: v.number for v in here.versions()},
        "grouped": lambda moves: [(move,) for move in moves],
        "is_story": lambda entry: isinstance(entry, Story),
    }


def _when(entry: Story | Event) -> tuple[datetime, int]:
    return entry.at, entry.number if isinstance(entry, Story) else 0


def _from(text: str | None) -> int:
    return int(text) if text and text.isdigit() and len(text) < 7 else 0
