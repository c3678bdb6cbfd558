"""The list of experiments."""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request

from loopline.base.errors import Invalid, NotFound
from loopline.interfaces.ui.runs import cells
from loopline.interfaces.ui.runs.context import Log
from loopline.store.runs.protocol import Found
from loopline.training.tracking.left import left_behind

ROWS = 100


def page(log: Log, request: Request) -> dict[str, Any]:
    """Experiments with how many runs they have, the newest first."""
    given = request.query_params
    filter, view = given.get("filter", "").strip(), "deleted" if given.get("view") == "deleted" else "active"
    error: Invalid | None = None
    try:
        found = log.runs.search_experiments(
            filter=filter,
            view="deleted" if view == "deleted" else "active",
            limit=ROWS,
            token=given.get("token") or None,
        )
    except Invalid as wrong:
        error, found = wrong, Found([], None)
    gone = _left(log)
    lines = [
        {
            "experiment": one,
            "runs": log.runs.count_runs([one.id]),
            "running": log.runs.count_runs([one.id], filter="status = 'RUNNING'") - gone[one.id],
            "tags": {key: value for key, value in one.tags.items() if not key.startswith("mlflow.")},
        }
        for one in found.items
    ]
    following = {"filter": filter, "view": view, "token": found.token}
    return {
        "lines": lines,
        "filter": filter,
        "view": view,
        "error": error,
        "status": 422 if error else 200,
        "following": f"/experiments?{urlencode(following, quote_via=quote)}" if found.token else None,
        "cells": cells,
    }


def _left(log: Log) -> Counter[str]:
    """By experiment, how many runs are called running while nobody writes them."""
    counts: Counter[str] = Counter()
    for id in left_behind(log.ws):
        try:
            run = log.runs.run(id)
        except NotFound:  # nothing of it was delivered yet
            continue
        counts[run.experiment] += run.status == "RUNNING" and run.stage == "active"
    return counts
