"""The table of runs, and the groups they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from loopline.base.errors import Invalid
from loopline.base.figures import figures
from loopline.interfaces.ui.runs import cells
from loopline.interfaces.ui.runs.context import Log
from loopline.interfaces.ui.runs.question import OWN, SIZES, Field, Question, narrowed, written
from loopline.interfaces.ui.runs.told import Told
from loopline.interfaces.ui.words import NOTHING
from loopline.store.runs.grouping import METRICS
from loopline.store.runs.protocol import Group

SHOWN_METRICS, SHOWN_PARAMS = 5, 4
"""Columns that are taken where nobody has chosen."""
FEW = 0.1
"""What fewer runs have, in proportion to the commonest of its kind, is no column unless it is chosen."""
OFFERED = 200
"""Names of each kind that a page offers as columns; others can be written."""
GROUPS = 500
"""Groups of a page at most."""
ATTRIBUTES = ("user_id", "run_id", "end_time", "artifact_uri")
"""Columns that are not there without being chosen."""
NAMED = 300
"""Experiments that the list of a page names."""


@dataclass(frozen=True, slots=True)
class Page:
    """Runs of a page with what is shown of them."""

    runs: list[Told]
    columns: list[Field]
    token: str | None


def chosen(asked: Question, runs: Sequence[Told]) -> list[Field]:
    """The columns: those that are asked for, else what most of these runs have, and what is sorted and grouped by."""
    if asked.column:
        return list(dict.fromkeys(Field.of(text) for text in asked.column))
    found = [Field("metric", key) for key in _commonest((one.metrics for one in runs), SHOWN_METRICS, but=OWN)]
    found += [Field("param", key) for key in _commonest((one.params for one in runs), SHOWN_PARAMS)]
    for text in (asked.order, asked.group):
        if text:
            found.append(Field.of(text))
    return [one for one in dict.fromkeys(found) if one.kind != "attribute" or one.key in ATTRIBUTES]


def _commonest(told: Iterable[Iterable[str]], most: int, but: tuple[str, ...] = ()) -> list[str]:
    counts: Counter[str] = Counter()
    for keys in told:
        counts.update(key for key in keys if not (but and key.startswith(but)))
    least = max(counts.values(), default=0) * FEW
    first = sorted((key for key in counts if counts[key] >= least), key=lambda key: (-counts[key], key))[:most]
    return sorted(first)


def places(log: Log, asked: Question) -> tuple[list[str], dict[str, str]]:
    """Ids of the experiments that are asked, and the names of all.

    Raises
    ------
    NotFound
        If one of them is not there.
    """
    names = {one.id: one.name for one in log.experiments("active" if asked.view == "active" else "all")}
    for id in asked.experiment:
        if id not in names:
            names[id] = log.runs.experiment(id).name
    return list(asked.experiment or names), names


def look(log: Log, asked: Question, ids: Sequence[str]) -> Page:
    """One page of the answer.

    Raises
    ------
    Invalid
        If the filter, the order or a column is not of the language.
    """
    order = (asked.order,) if asked.order else ()
    found = log.runs.search_runs(
        ids, filter=asked.filter, order_by=order, view=asked.view, limit=asked.rows, token=asked.token or None
    )
    runs = log.told(found.items)
    return Page(runs, chosen(asked, runs), found.token)


def groups(log: Log, asked: Question, ids: Sequence[str], columns: Sequence[Field]) -> tuple[list[str], list[Group]]:
    """The metrics that are summed up, and the groups with them."""
    metrics = [one.key for one in columns if one.kind == "metric"][:METRICS]
    return metrics, log.runs.group_runs(ids, by=asked.group, filter=asked.filter, view=asked.view, metrics=metrics)


def page(log: Log, request: Request) -> dict[str, Any]:
    """The table; a question that cannot be read is told beside its field."""
    asked = Question.of(request.query_params)
    ids, names = places(log, asked)
    shown: dict[str, Any] = {"page": Page([], [], None), "lines": [], "heads": [], "grouped": None, "total": None}
    error: Invalid | None = None
    try:
        found = look(log, asked, ids)
        shown |= {"page": found, "total": log.runs.count_runs(ids, filter=asked.filter, view=asked.view)}
        shown |= {"lines": _lines(found)}
        shown |= {"heads": [_head(asked, column) for column in found.columns]}
        if asked.group:
            shown["grouped"] = _grouped(asked, *groups(log, asked, ids, found.columns))
    except Invalid as wrong:
        error = wrong
    following = shown["page"].token
    keep = tuple(str(one) for one in shown["page"].columns)
    return {
        **shown,
        "asked": asked,
        "error": error,
        "status": 422 if error else 200,
        "names": names,
        "listed": dict(list(names.items())[:NAMED]),
        "sizes": SIZES,
        "offered": _offered(log, ids, keep),
        "following": asked.address(token=following, column=keep) if following else None,
        "csv": asked.address("/runs.csv", token=""),
        "json": asked.address("/runs.json", token=""),
        "plotted": asked.address("/runs/compare", token=""),
        "cells": cells,
    }


def _lines(found: Page) -> list[dict[str, Any]]:
    """Runs with their cells."""
    columns = [_column(one, [run.value(one) for run in found.runs]) for one in found.columns]
    return [{"run": run, "cells": [column[at] for column in columns]} for at, run in enumerate(found.runs)]


def _column(column: Field, values: Sequence[str | float | int | None]) -> list[tuple[str, Any]]:
    """Kinds of cells and what they say; two numbers of a column look equal only where they are."""
    if column.kind != "metric":
        return [_cell(value) for value in values]
    texts = figures([None if value is None else float(value) for value in values])
    return [("n", NOTHING if text is None else cells.minus(text)) for text in texts]


def _cell(value: str | float | int | None) -> tuple[str, Any]:
    """Kind of cell and what it says."""
    if value is None:
        return "t", NOTHING
    if isinstance(value, int):
        return "t", cells.at(value)
    return "t", cells.cut(str(value), 48)


def _head(asked: Question, column: Field) -> dict[str, Any]:
    return {
        "field": column,
        "name": cells.cut(column.key, 40),
        "sorted": asked.sorted_by(column),
        "address": asked.address(order=asked.turned(column)),
    }


def _grouped(asked: Question, metrics: list[str], found: list[Group]) -> dict[str, Any]:
    """Groups as lines: value, address of its runs, count, spread of each metric."""
    field = Field.of(asked.group)
    lines = []
    for one in found[:GROUPS]:
        inside = asked.address(group="", filter=narrowed(asked.filter, str(field), one.value))
        lines.append({"group": one, "address": inside, "spreads": [one.metrics.get(key) for key in metrics]})
    return {"field": field, "metrics": metrics, "lines": lines, "left_out": max(0, len(found) - GROUPS)}


def _offered(log: Log, ids: Sequence[str], keep: tuple[str, ...]) -> list[tuple[str, list[tuple[str, str, bool]], int]]:
    """What may be a column, by kind: field, name and whether it is one; and how many more there are."""
    known = log.runs.columns(ids)
    found = []
    for name, kind in (("metrics", "metric"), ("params", "param"), ("tags", "tag")):
        fields = [(written(kind, key), cells.cut(key, 60)) for key in known[name]]
        fields.sort(key=lambda one: one[0] not in keep)
        told_of = [(text, key, text in keep) for text, key in fields[:OFFERED]]
        found.append((name, told_of, max(0, len(fields) - OFFERED)))
    found.append(("attributes", [(key, key, key in keep) for key in ATTRIBUTES], 0))
    return found
