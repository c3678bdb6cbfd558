"""Columns computed elsewhere: a table that others fill, or a function of whole frames.

Both join like any view: of the rows that were known at the decision time the newest event counts. How
the values came about is not ours to compute again, and parity says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from loopline.base.code import calling_user_code
from loopline.base.errors import Invalid
from loopline.data.spec import TableSpec
from loopline.features.expr import Expr, latest
from loopline.features.functions import FrameFunction, text_of
from loopline.features.past import EVENT, KNOWN, history
from loopline.features.views import Entity, OnStale, View, view


def external_view(
    name: str,
    *,
    source: str,
    entity: Entity,
    columns: Sequence[str] = (),
    categories: Sequence[str] = (),
    ttl: str,
    freshness: str | None = None,
    on_stale: OnStale = "serve",
    available_at: str | None = None,
) -> View:
    """Features that another system computes and writes to a table: a SQL model, a dataframe, a pipeline.

    Parameters
    ----------
    source : str
        Table of `loop.yaml` with `known_at` (and `event_time`, where it differs).
    entity, ttl, freshness, on_stale, available_at
        As of `view`.
    columns : sequence of str
        Columns that are features as they are: numbers or truths.
    categories : sequence of str
        Columns that are text.

    Raises
    ------
    Invalid
        If no column is named, or the parts do not fit together.
    """
    made = view(
        entity=entity, source=source, ttl=ttl, freshness=freshness, on_stale=on_stale, available_at=available_at
    )(_named(name, columns, categories))
    return _outside(made, None)


def frame_view(
    *,
    inputs: Sequence[str],
    entity: Entity,
    columns: Sequence[str] = (),
    categories: Sequence[str] = (),
    ttl: str,
) -> Callable[[Callable[..., pl.DataFrame]], View]:
    """Make a function of whole frames a view.

    The function gets one frame per table of `inputs`: every version of every row
    that was known by the end of the span that is computed, with `event_time`,
    `known_at` and `superseded_at`. It returns rows with the entity's columns,
    `event_time`, `known_at` (UTC) and the values. A row is seen from its
    `known_at` on, so the function says honestly when a value could be known.

    Parameters
    ----------
    inputs : sequence of str
        Tables of `loop.yaml`.
    entity, ttl
        As of `view`.
    columns, categories : sequence of str
        Columns of the result that are features: numbers or truths, and text.

    Raises
    ------
    Invalid
        If no column is named, or it cannot be called with so many frames.
    """

    def wrap(function: Callable[..., pl.DataFrame]) -> View:
        name = function.__name__
        try:
            inspect.signature(function).bind(*inputs)
        except TypeError as error:
            raise Invalid(
                f"{name} cannot be a frame view: {error}",
                why=f"it is called with the frames of {', '.join(inputs) or 'no table'}",
                fix="give it one parameter for each of them",
            ) from error
        made = view(entity=entity, source=f"{name}()", ttl=ttl)(_named(name, columns, categories))
        return _outside(made, FrameFunction(name, text_of(function), tuple(inputs), function))

    return wrap


def _named(name: str, columns: Sequence[str], categories: Sequence[str]) -> Callable[[], Mapping[str, Expr]]:
    if not columns and not categories:
        raise Invalid(
            f"{name} names no columns",
            why="each column that is named becomes a feature",
            fix='write for example columns=("score",)',
        )

    def features() -> Mapping[str, Expr]:
        return {c: latest(c) for c in columns} | {c: latest(c).category() for c in categories}

    features.__name__ = name
    return features


def _outside(made: View, maker: FrameFunction | None) -> View:
    return View(
        made.name, made.source, made.on, made.ttl, made.features, made.refresh, made.freshness, made.on_stale,
        made.available_at, external=True, maker=maker,
    )  # fmt: skip


def frame_rows(one: View, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The rows that a frame view's function makes of its tables, as `history` returns those of a table.

    Raises
    ------
    UserCodeError
        If the function raises.
    Invalid
        If it returns no frame, or one that lacks a column or a zone.
    """
    assert one.maker is not None
    maker = one.maker
    if missing := [name for name in maker.inputs if name not in tables]:
        raise Invalid(
            f"the frame view {one.name} reads a table {missing[0]!r} that is not given",
            why=f"there are {', '.join(tables) or 'none'}",
            fix="declare it under `data` in loop.yaml, or correct the view's inputs",
        )
    with calling_user_code(maker.name):
        made = maker.function(*(tables[name] for name in maker.inputs))
    if not isinstance(made, pl.DataFrame):
        raise Invalid(
            f"{maker.name} returned {type(made).__name__}",
            why="a frame view returns a Polars frame",
            fix="end it with `return frame`",
        )
    needed = [pair[1] for pair in one.on] + [EVENT, KNOWN] + _columns(one)
    if lacking := [name for name in dict.fromkeys(needed) if name not in made.columns]:
        raise Invalid(
            f"the frame of {maker.name} lacks {', '.join(lacking)}",
            why="rows are joined by the entity, counted by event_time and seen from known_at on",
            fix=f"its columns are {', '.join(made.columns)}",
        )
    spec = TableSpec.model_validate({"source": "frame", "event_time": EVENT, "known_at": KNOWN})
    return history(made.select(*dict.fromkeys(needed)), spec)


def _columns(one: View) -> list[Any]:
    return [node.args[0] for leaf in one.leaves() for node in leaf.args[0].walk() if node.op == "col"]
