"""The page of one run: what it says of itself, its curves, its code, its environment, what it printed."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from loopline.interfaces.ui.frame import LIVE_S
from loopline.interfaces.ui.runs import cells, curves
from loopline.interfaces.ui.runs.context import Log
from loopline.interfaces.ui.runs.links import came_of, kin
from loopline.interfaces.ui.runs.origin import origin
from loopline.interfaces.ui.runs.origin import output as printed
from loopline.interfaces.ui.runs.question import OWN, numbers
from loopline.interfaces.ui.runs.told import NOTE, Told

LISTED = 500
"""Metrics, params and tags that a page lists; all are in the table's columns and exports."""
LINES = 3_000
"""Lines of a diff, or of output, that a page shows."""


def overview(log: Log, request: Request) -> dict[str, Any]:
    """Curves, params, tags, data, and what came of it."""
    run = _run(log, request)
    keys, start = curves.series(log, run, own=False), curves.start_of(request)
    tags = {key: value for key, value in run.tags.items() if not key.startswith(("mlflow.", "loopline."))}
    return {
        "run": run,
        "tab": "overview",
        "experiment": log.runs.experiment(run.experiment).name,
        "note": run.tags.get(NOTE, ""),
        **_charts(run, keys, start, f"/runs/{run.id}"),
        "params": sorted(run.params.items())[:LISTED],
        "tags": sorted(tags.items())[:LISTED],
        "own_tags": sorted((run.tags.items() - tags.items()) - {(NOTE, run.tags.get(NOTE, ""))})[:LISTED],
        "kin": kin(log, run),
        "links": came_of(log, run),
        "numbers": numbers,
        "cells": cells,
    }


def live(log: Log, request: Request) -> dict[str, Any]:
    """What changes while a run runs: status and the latest figures; asks no more once it has ended."""
    run = _run(log, request)
    cost = {key.removeprefix("cost/"): value for key, value in run.metrics.items() if key.startswith("cost/")}
    told_of = [(key, value, run.steps[key]) for key, value in run.metrics.items() if not key.startswith(OWN)]
    return {
        "run": run,
        "cost": cost,
        "metrics": told_of[:LISTED],
        "left_out": max(0, len(told_of) - LISTED),
        "experiment": log.runs.experiment(run.experiment).name,
        "again_s": LIVE_S if run.running else None,
        "cells": cells,
    }


def code(log: Log, request: Request) -> dict[str, Any]:
    """Commit, what was not committed, and the files it ran."""
    run = _run(log, request)
    found = origin(log, run)
    return {
        "run": run,
        "tab": "code",
        "origin": found,
        "diff": diff_lines(found.diff),
        "cut": found.diff.count("\n") > LINES,
        "cells": cells,
    }


def environment(log: Log, request: Request) -> dict[str, Any]:
    """Distributions, machine with its use over time, process."""
    run = _run(log, request)
    found = origin(log, run)
    keys, start = curves.series(log, run, own=True), curves.start_of(request)
    return {
        "run": run,
        "tab": "environment",
        "origin": found,
        "machine": _plain(found.machine),
        "process": _plain(found.process),
        **_charts(run, keys, start, f"/runs/{run.id}/environment"),
        "cells": cells,
    }


def output(log: Log, request: Request) -> dict[str, Any]:
    """The end of what it printed."""
    return {"run": _run(log, request), "tab": "output", "cells": cells}


def heard(log: Log, request: Request) -> dict[str, Any]:
    """What was printed so far."""
    run = _run(log, request)
    lines = printed(log, run).splitlines()
    return {
        "text": "\n".join(lines[-LINES:]),
        "cut": len(lines) > LINES,
        "running": run.running,
        "again_s": LIVE_S if run.running else None,
    }


def diff_lines(text: str) -> list[tuple[str, str]]:
    """Lines of a diff, each with the class of its sign."""
    kinds = {"+": "plus", "-": "minus", "@": "place"}
    return [(kinds.get(line[:1], ""), line) for line in text.splitlines()[:LINES]]


def _run(log: Log, request: Request) -> Told:
    return log.run(request.path_params["id"])


def _charts(run: Told, keys: list[str], start: int, place: str) -> dict[str, Any]:
    """The charts of a page, and where those before and after are."""
    after = start + curves.CHARTS
    return {
        "charts": curves.charts([run.id], keys, start),
        "series": len(keys),
        "first_chart": start,
        "more_charts": f"{place}?charts={after}#curves" if after < len(keys) else None,
        "fewer_charts": f"{place}?charts={max(0, start - curves.CHARTS)}#curves" if start else None,
    }


def _plain(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Facts by name, those within others by dotted name."""
    lines: list[tuple[str, str]] = []
    for key, value in found.items():
        if isinstance(value, dict):
            lines += [(f"{key}.{inner}", text) for inner, text in _plain(value)]
        elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
            for place, one in enumerate(value):
                lines += _plain({f"{key} {place + 1}": one})
        elif value not in (None, "", []):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            if key.endswith("_bytes") and isinstance(value, int):
                key, text = key.removesuffix("_bytes"), cells.size(value)
            lines.append((cells.cut(str(key).replace("_", " "), 60), cells.cut(text, 2_000)))
    return lines
