"""What the table of runs shows, as CSV and JSON: every run that fits, with the columns of the table."""

from __future__ import annotations

import csv as comma_separated
import io
import json as notation
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from loopline.interfaces.ui.runs.context import Log
from loopline.interfaces.ui.runs.question import Field, Question
from loopline.interfaces.ui.runs.table import Page, groups, look, places
from loopline.interfaces.ui.runs.told import Told
from loopline.store.runs.checks import number

AT_ONCE = 500
HEAD = ("run_id", "run_name", "experiment", "status", "user", "start", "end")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so is run by spreadsheets; it gets a quote in front, numbers do not."""


def csv(log: Log, request: Request) -> Response:
    """Comma-separated, a head first; times in ISO 8601, UTC."""
    head, rows = _rows(log, Question.of(request.query_params))

    def lines() -> Iterator[str]:
        yield _lines([head])
        while some := list(islice(rows, AT_ONCE)):
            yield _lines([[_safe(value) for value in row] for row in some])

    return _sent(lines, "text/csv; charset=utf-8", "runs.csv")


def json(log: Log, request: Request) -> Response:
    """A list of objects; NaN and infinities as texts."""
    head, rows = _rows(log, Question.of(request.query_params))

    def parts() -> Iterator[str]:
        start = "["
        while some := list(islice(rows, AT_ONCE)):
            told = ({name: _sendable(value) for name, value in zip(head, row, strict=True)} for row in some)
            yield start + ",\n".join(notation.dumps(one, ensure_ascii=False) for one in told)
            start = ",\n"
        yield "[]\n" if start == "[" else "]\n"

    return _sent(parts, "application/json", "runs.json")


def _rows(log: Log, asked: Question) -> tuple[list[str], Iterator[list[Any]]]:
    """Head and rows; what is wrong with the question is known before the first row goes out."""
    asked = replace(asked, token="", rows=AT_ONCE)
    ids, names = places(log, asked)
    first = look(log, asked, ids)
    if asked.group:
        return _groups(log, asked, ids, first.columns)
    return [*HEAD, *map(str, first.columns)], _runs(log, asked, ids, names, first)


def _runs(log: Log, asked: Question, ids: list[str], names: dict[str, str], page: Page) -> Iterator[list[Any]]:
    columns = page.columns
    while True:
        for run in page.runs:
            yield [*_about(run, names), *(run.value(column) for column in columns)]
        if page.token is None:
            return
        page = look(log, replace(asked, token=page.token), ids)


def _groups(log: Log, asked: Question, ids: list[str], columns: list[Field]) -> tuple[list[str], Iterator[list[Any]]]:
    metrics, found = groups(log, asked, ids, columns)
    head = [asked.group, "runs"]
    for key in metrics:
        head += [f"{what} of {key}" for what in ("mean", "least", "most")]

    def rows() -> Iterator[list[Any]]:
        for one in found:
            spreads = (one.metrics.get(key) for key in metrics)
            figures = [(spread.mean, spread.least, spread.most) if spread else (None,) * 3 for spread in spreads]
            yield [one.value, one.runs, *(value for three in figures for value in three)]

    return head, rows()


def _about(run: Told, names: dict[str, str]) -> list[Any]:
    experiment = names.get(run.experiment, run.experiment)
    return [run.id, run.name, experiment, run.status.lower(), run.user, _iso(run.start_ms), _iso(run.end_ms)]


def _iso(ms: int | None) -> str | None:
    if ms is None:
        return None
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return str(ms)


def _lines(rows: list[list[Any]]) -> str:
    out = io.StringIO()
    comma_separated.writer(out).writerows(rows)
    return out.getvalue()


def _safe(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA) and number(value) is None:
        return "'" + value
    return value


def _sendable(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _sent(parts: Callable[[], Iterator[str]], kind: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return StreamingResponse(parts(), media_type=kind, headers=headers)
