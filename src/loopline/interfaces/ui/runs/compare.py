"""Several runs beside each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request

from loopline.base.errors import Invalid
from loopline.interfaces.ui.runs import cells, curves, differences, drawings
from loopline.interfaces.ui.runs.context import Log
from loopline.interfaces.ui.runs.origin import Origin, origin
from loopline.interfaces.ui.runs.question import OWN, Field, Question, written
from loopline.interfaces.ui.runs.run import diff_lines
from loopline.interfaces.ui.runs.table import look, places
from loopline.interfaces.ui.runs.told import Told

MOST = 500
"""Runs that are drawn as points and lines."""
BESIDE = 10
"""Runs whose facts stand side by side; curves have up to twice as many."""
CURVES = 6
AXES = 8
OFFERED = 400
CHANGED = 4
"""Runs whose uncommitted changes are held against those of the first."""


def page(log: Log, request: Request) -> dict[str, Any]:
    """Points, lines, curves, and what differs."""
    given = request.query_params
    runs, more = _runs(log, request)
    beside = runs[:BESIDE]
    origins = [origin(log, run) for run in beside]
    every = given.get("all") == "1"
    x, y = _axes(request, runs)
    keys = given.getlist("curve") or _curves(log, runs)
    tables = {
        "Params": differences.params(beside),
        "Metrics": differences.metrics(beside),
        "Data": differences.data(beside),
        "Code": differences.code(origins),
        "Environment": differences.environment(origins),
    }
    return {
        "runs": runs,
        "more": more,
        "beside": beside,
        "tables": {name: _shown(rows, every) for name, rows in tables.items()},
        "every": every,
        "toggled": _address(request, all=None if every else "1"),
        "kept": [(key, value) for key, value in given.multi_items() if key not in ("x", "y", "curve")],
        "fields": _fields(runs),
        "x": x,
        "y": y,
        "scatter": drawings.scatter(runs, x, y) if x and y else None,
        "parallel": drawings.parallel(runs, _lines(runs, y)),
        "size": (drawings.WIDTH, drawings.HEIGHT, drawings.LEFT, drawings.BOTTOM),
        "charts": curves.charts([run.id for run in runs], keys, 0),
        "drawn": min(len(runs), curves.RUNS),
        "curves": keys,
        "diffs": _diffs(beside, origins),
        "commits": [commit for one in origins if (commit := one.commit)],
        "cells": cells,
    }


def _runs(log: Log, request: Request) -> tuple[list[Told], bool]:
    """The runs that are named, else those that a question of the table finds; and whether it finds more.

    Raises
    ------
    Invalid
        If there are none, or one only.
    """
    ids = list(dict.fromkeys(request.query_params.getlist("run")))
    if len(ids) > MOST:
        raise Invalid(f"{len(ids):,} runs", why=f"{MOST} are compared at most", fix="choose fewer")
    more = False
    if ids:
        runs = log.told(log.runs.document(id) for id in ids)
    else:
        asked = replace(Question.of(request.query_params), rows=MOST, column=(), token="")
        found = look(log, asked, places(log, asked)[0])
        runs, more = found.runs, found.token is not None
    if len(runs) < 2:
        raise Invalid(
            f"{cells.cut(runs[0].title)} alone cannot be compared" if runs else "no run is named",
            why="two or more are needed",
            fix="choose them in the table of /runs",
        )
    return runs, more


def _axes(request: Request, runs: Sequence[Told]) -> tuple[Field | None, Field | None]:
    """The fields of the scatter: those that are asked for, else a param that differs and the metric that most have.

    A metric that one run alone has is no axis of its own accord.
    """
    x, y = request.query_params.get("x", ""), request.query_params.get("y", "")
    metrics = _metrics(runs)
    params = _differing(runs)
    up = Field.of(y) if y else metrics[0] if metrics else None
    across = Field.of(x) if x else params[0] if params else next((one for one in metrics if one != up), None)
    return across, up


def _metrics(runs: Sequence[Told]) -> list[Field]:
    """Metrics that two runs or more have a number of, those of the most runs first."""
    counts = Counter(
        key for run in runs for key, value in run.metrics.items() if math.isfinite(value) and not key.startswith(OWN)
    )
    return [Field("metric", key) for key in sorted(counts, key=lambda key: (-counts[key], key)) if counts[key] > 1]


def _differing(runs: Sequence[Told]) -> list[Field]:
    """Params that most runs have and that are not the same in all, those of the most runs first."""
    values: dict[str, list[str]] = {}
    for run in runs:
        for key, value in run.params.items():
            values.setdefault(key, []).append(value)
    kept = [key for key, found in values.items() if len(found) * 2 >= len(runs) and len(set(found)) > 1]
    return [Field("param", key) for key in sorted(kept, key=lambda key: (-len(values[key]), key))]


def _lines(runs: Sequence[Told], last: Field | None) -> list[Field]:
    """Axes of the parallel coordinates: params that differ, then metrics, the chosen one last."""
    found = _differing(runs)[: AXES - 2] + [one for one in _metrics(runs) if one != last][:1]
    return [one for one in found if one != last] + ([last] if last else [])


def _curves(log: Log, runs: Sequence[Told]) -> list[str]:
    """Series that most of the first runs have."""
    counts = Counter(key for run in runs[:BESIDE] for key in curves.series(log, run, own=False))
    return sorted(counts, key=lambda key: (-counts[key], key))[:CURVES]


def _fields(runs: Sequence[Told]) -> list[tuple[str, str]]:
    """What may be an axis: field and name."""
    params = sorted({key for run in runs for key in run.params})
    metrics = sorted({key for run in runs for key in run.metrics})
    found = [("param", key) for key in params][: OFFERED // 2] + [("metric", key) for key in metrics][: OFFERED // 2]
    return [(written(kind, key), f"{cells.cut(key, 60)} ({kind})") for kind, key in found]


def _shown(rows: list[differences.Row], every: bool) -> tuple[list[differences.Row], int]:
    """The rows that differ (or all), and how many are the same."""
    differ = [row for row in rows if row.differs]
    return (rows if every else differ), len(rows) - len(differ)


def _diffs(runs: Sequence[Told], origins: Sequence[Origin]) -> list[tuple[Told, list[tuple[str, str]]]]:
    """What is not committed of each run, held against the first."""
    found = []
    for run, one in list(zip(runs, origins, strict=True))[1 : CHANGED + 1]:
        if one.diff != origins[0].diff:
            names = (f"{runs[0].title} (not committed)", f"{run.title} (not committed)")
            found.append((run, diff_lines("\n".join(differences.unified(origins[0].diff, one.diff, names)))))
    return found


def _address(request: Request, **changes: str | None) -> str:
    """The address of this page, with changes; null leaves a part out."""
    pairs = [(key, value) for key, value in request.query_params.multi_items() if key not in changes]
    pairs += [(key, value) for key, value in changes.items() if value is not None]
    return f"{request.url.path}?{urlencode(pairs, quote_via=quote)}"
