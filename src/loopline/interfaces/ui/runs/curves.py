"""Figures of curves: thinned by the server, finer for a part that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite
from typing import Any, Literal
from urllib.parse import quote, urlencode

from starlette.requests import Request

from loopline.base.errors import Invalid
from loopline.interfaces.ui.runs.context import Log
from loopline.interfaces.ui.runs.question import OWN
from loopline.interfaces.ui.runs.told import Told
from loopline.store.runs.protocol import Chart

PLACE = "/runs/curves.json"
BUCKETS = 320
RUNS = 20
"""Lines of a chart at most."""
CHARTS = 12
"""Charts of a page; more come page by page."""

By = Literal["step", "time"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart that a page shows."""

    key: str
    address: str


def address(runs: Sequence[str], key: str) -> str:
    """Where the figures of a chart come from."""
    return f"{PLACE}?{urlencode({'run': list(runs[:RUNS]), 'key': key}, doseq=True, quote_via=quote)}"


def series(log: Log, run: Told, *, own: bool) -> list[str]:
    """Metrics of a run that have more than one point: of the machine and of cost (`own`), or all the others."""
    lengths = log.runs.lengths(run.id)
    return [key for key in run.metrics if key.startswith(OWN) == own and lengths.get(key, 0) > 1]


def charts(runs: Sequence[str], keys: Sequence[str], start: int) -> list[Drawn]:
    """The charts of a page."""
    return [Drawn(key, address(runs, key)) for key in keys[start : start + CHARTS]]


def start_of(request: Request) -> int:
    """The first chart that a page shows."""
    text = request.query_params.get("charts", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def figures(log: Log, request: Request) -> dict[str, Any]:
    """Lines of a metric, one for each run: `x` in steps, or in seconds since the run began.

    `by` is step or time; without it, steps, unless each run has a single one. `from` and `to` ask for a part.
    """
    given = request.query_params
    ids = list(dict.fromkeys(given.getlist("run")))
    if not 1 <= len(ids) <= RUNS:
        raise Invalid(f"a chart of {len(ids)} runs", why=f"it has 1 to {RUNS} lines", fix="leave some out")
    runs = log.told(log.runs.document(id) for id in ids)
    key, within = given.get("key", ""), _within(given.get("from"), given.get("to"))
    by = given.get("by", "")
    if by not in ("", "step", "time"):
        raise Invalid(f"a chart by {by!r:.100}", why="it goes by step or by time", fix="write step or time")
    drawn = [_chart(log, run, key, "time" if by == "time" else "step", within) for run in runs]
    if not by and within is None and _at_one_step(drawn):
        by = "time"
        drawn = [_chart(log, run, key, "time", None) for run in runs]
    by = by or "step"
    return {
        "key": key,
        "by": by,
        "running": any(run.running for run in runs),
        "lines": [
            {
                "run": run.id,
                "name": run.title,
                "x": one.steps if by == "step" else [(at - run.start_ms) / 1000 for at in one.steps],
                "least": one.least,
                "most": one.most,
                "last": one.last,
                "points": one.points,
            }
            for run, one in zip(runs, drawn, strict=True)
        ],
    }


def _at_one_step(drawn: Sequence[Chart]) -> bool:
    """Whether nothing but time tells the points of each line apart."""
    return all(len(set(one.steps)) < 2 for one in drawn) and any(one.points > 1 for one in drawn)


def _chart(log: Log, run: Told, key: str, by: By, within: tuple[float, float] | None) -> Chart:
    if within is None:
        return log.runs.chart(run.id, key, buckets=BUCKETS, by=by)
    low, high = within if by == "step" else (run.start_ms + 1000 * within[0], run.start_ms + 1000 * within[1])
    return log.runs.chart(run.id, key, buckets=BUCKETS, by=by, within=(_whole(floor(low)), _whole(ceil(high))))


def _whole(number: int) -> int:
    """The nearest number that a step or a time can be."""
    return max(-(2**63), min(2**63 - 1, number))


def _within(low: str | None, high: str | None) -> tuple[float, float] | None:
    if low is None and high is None:
        return None
    try:
        found = float(low or ""), float(high or "")
    except ValueError:
        found = float("nan"), float("nan")
    if not (isfinite(found[0]) and isfinite(found[1])):
        raise Invalid(f"the part {low!r:.40} to {high!r:.40}", why="its ends are numbers", fix="leave both out")
    return found
