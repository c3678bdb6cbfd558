"""The list of traces."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request

from loopline.base.errors import Invalid
from loopline.governance.traced import has_traces
from loopline.interfaces.ui.runs import cells
from loopline.interfaces.ui.runs.context import Log
from loopline.interfaces.ui.runs.question import literal
from loopline.interfaces.ui.states import Said
from loopline.store.runs.protocol import Found
from loopline.store.runs.traces.protocol import NAME, Trace

PLACE = "/traces"
ROWS = 100
NAMED = 300
"""Experiments that the list of a page names."""
STATES = {
    "OK": Said("ok", "good"),
    "ERROR": Said("error", "bad"),
    "IN_PROGRESS": Said("goes on", "busy"),
    "STATE_UNSPECIFIED": Said("not said", "quiet"),
}
ORDERS = {"": "newest first", "timestamp_ms ASC": "oldest first", "execution_time_ms DESC": "longest first"}
"""What a trace can be sorted by, in words."""


def page(log: Log, request: Request) -> dict[str, Any]:
    """Traces that fit, the newest first; a filter that cannot be read is told beside its field."""
    given = request.query_params
    asked = {name: given.get(name, "").strip() for name in ("experiment", "filter", "order")}
    names = {one.id: one.name for one in log.experiments()}
    if asked["experiment"] and asked["experiment"] not in names:
        names[asked["experiment"]] = log.runs.experiment(asked["experiment"]).name
    error: Invalid | None = None
    found = Found([], None)
    try:
        if has_traces(log.ws):
            found = log.ws.traces.search(
                [asked["experiment"]] if asked["experiment"] else list(names),
                filter=asked["filter"],
                order_by=[asked["order"]] if asked["order"] else [],
                limit=ROWS,
                token=given.get("token") or None,
            )
    except Invalid as wrong:
        error = wrong
    return {
        "lines": [_line(one, names) for one in found.items],
        "asked": asked,
        "further": bool(given.get("token")),
        "error": error,
        "status": 422 if error else 200,
        "names": names,
        "listed": dict(list(names.items())[:NAMED]),
        "orders": ORDERS,
        "following": _address(**asked, token=found.token) if found.token else None,
        "first": _address(**asked),
        "failed": _address(**{**asked, "filter": narrowed(asked["filter"])}),
        "any": has_traces(log.ws),
        "cells": cells,
    }


def of_run(log: Log, run: str) -> tuple[int, str] | None:
    """How many traces belong to a run (a page of them at most), and the address that lists them; null if none."""
    if not has_traces(log.ws):
        return None
    filter = f"run_id = {literal(run)}"
    ids = [one.id for one in log.experiments("all")]
    found = log.ws.traces.search(ids, filter=filter, limit=ROWS)
    return (len(found.items), _address(filter=filter)) if found.items else None


def name_of(trace: Trace) -> str:
    """What a trace is called: by its name, else its id."""
    return trace.tags.get(NAME) or trace.id


def narrowed(filter: str) -> str:
    """A filter that leaves only what failed."""
    failed = "status = 'ERROR'"
    return failed if not filter else filter if failed in filter else f"({filter}) AND {failed}"


def _line(trace: Trace, names: dict[str, str]) -> dict[str, Any]:
    return {
        "trace": trace,
        "name": name_of(trace),
        "experiment": names.get(trace.experiment, trace.experiment),
        "state": STATES[trace.state],
        "seconds": None if trace.duration_ms is None else trace.duration_ms / 1000,
    }


def _address(**asked: str | None) -> str:
    given = {name: value for name, value in asked.items() if value}
    return PLACE + ("?" + urlencode(given, quote_via=quote) if given else "")
