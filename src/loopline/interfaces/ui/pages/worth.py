"""Was it worth it: the same rows under four policies, as the player of a world left them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from loopline.base.errors import Invalid
from loopline.interfaces.ui.context import Here, number_of

FILE = "summary.json"
NAMES = {
    "never": "never retrain",
    "quarterly": "every quarter",
    "monthly": "every month",
    "loop": "the loop",
}
FIGURES = (
    ("auc", "AUC, mean of months", 3, True),
    ("brier", "Brier score", 4, False),
    ("calibration_error", "calibration error", 4, False),
    ("value", "value", 0, True),
)
"""Key, name, digits, whether higher is better."""


def read(here: Here) -> dict[str, Any] | None:
    """The summary beside the project; null where none was made.

    Raises
    ------
    Invalid
        If the file is there but is no summary.
    """
    path = here.project.root / FILE
    try:
        doc = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Invalid(
            f"{FILE} cannot be read: {error}", why="this page shows it", fix="play the world again"
        ) from error
    if (
        not isinstance(doc, dict)
        or not isinstance(doc.get("policies"), dict)
        or not isinstance(doc.get("months"), list)
    ):
        raise Invalid(f"{FILE} is no summary", why="it lacks policies or months", fix="play the world again")
    return doc


def page(here: Here, request: Request) -> dict[str, Any]:
    """Table, chart by month, story."""
    found = read(here)
    if found is None:
        return {"summary": None}
    policies = [(key, NAMES.get(key, key), figures) for key, figures in found["policies"].items()]
    cycles = {cycle.id: number_of(cycle.id) for cycle in here.cycles()}
    shown = [f for f in FIGURES if any(p.get(f[0]) is not None for _, _, p in policies)]
    return {
        "summary": found,
        "policies": policies,
        "never": found["policies"].get("never"),
        "loop": found["policies"].get("loop"),
        "figures_shown": shown,
        "best": {key: _best(found["policies"], key, higher) for key, _, _, higher in shown},
        "story": [{**line, "number": cycles.get(line.get("cycle"))} for line in found.get("story", [])],
        "events": sorted(found.get("events", []), key=lambda event: str(event.get("day"))),
        "get": found.get,
    }


def series(here: Here, request: Request) -> dict[str, Any]:
    """The AUC of each policy by month."""
    found = read(here) or {"months": [], "policies": {}}
    months = found["months"]
    return {
        "x": [round(datetime.strptime(m["month"], "%Y-%m").replace(tzinfo=UTC).timestamp()) for m in months],
        "months": [m["month"] for m in months],
        "lines": [
            {"key": key, "name": NAMES.get(key, key), "value": [m.get(key, {}).get("auc") for m in months]}
            for key in found["policies"]
        ],
    }


def _best(policies: dict[str, Any], key: str, higher: bool) -> str | None:
    known = {name: found[key] for name, found in policies.items() if found.get(key) is not None}
    if not known:
        return None
    return max(known, key=lambda name: known[name] if higher else -known[name])
