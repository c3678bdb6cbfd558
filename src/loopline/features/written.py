"""Expressions as one writes them, from their documents."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from loopline.base.ids import content_id
from loopline.base.spec import duration_text
from loopline.features.expr import ARITHMETIC, COMPARISONS

_INFIX = {**{op: op for op in (*ARITHMETIC, *COMPARISONS)}, "and": "&", "or": "|"}
_WINDOWS = ("total", "mean", "share", "minimum", "maximum", "distinct")
_METHODS = ("is_null", "category", "log1p", "abs", "floor", "lower", "strip", "length")


def text_of(doc: Any) -> str:
    """The expression that `Expr.doc` describes, near to the Python that made it."""
    op, *args = doc
    match op:
        case "col":
            return f"col({args[0]!r})"
        case "lit":
            return str(args[0]["time"]) if isinstance(args[0], Mapping) else repr(args[0])
        case "not":
            return f"~{text_of(args[0])}"
        case "fill":
            return f"{text_of(args[0])}.fill({text_of(args[1])})"
        case "cast" | "starts_with":
            return f"{text_of(args[0])}.{op}({args[1]!r})"
        case "is_in":
            return f"{text_of(args[0])}.is_in({args[1:]!r})"
        case "local":
            return f"{text_of(args[0])}.{args[1]}({args[2]!r})"
        case "minutes":
            return f"minutes_between({text_of(args[0])}, {text_of(args[1])})"
        case "when" | "least" | "greatest" | "latest" | "lookup":
            return f"{op}({', '.join(map(text_of, args))})"
        case "count":
            where = "" if args[0] == ["lit", True] else f", where={text_of(args[0])}"
            return f"count({_length(args[1])}{where})"
        case "last_n":
            return f"last_n({text_of(args[0])}, {args[1]}, {args[2]!r})"
        case "call":
            return f"{args[0]['name']}({', '.join(map(text_of, args[1:]))})"
    if op in _INFIX:
        return f"({text_of(args[0])} {_INFIX[op]} {text_of(args[1])})"
    if op in _WINDOWS:
        return f"{op}({text_of(args[0])}, {_length(args[1])})"
    assert op in _METHODS, op
    return f"{text_of(args[0])}.{op}()"


def _length(doc: Mapping[str, int]) -> str:
    return repr(duration_text(timedelta(microseconds=doc["us"])))


def versions(doc: Mapping[str, Any]) -> dict[str, str]:
    """Content id of each feature's own definition, from what `Views.doc` gave."""
    found: dict[str, str] = {}
    for one in doc["views"]:
        shared = {key: value for key, value in one.items() if key != "features"}
        found |= {name: content_id({**shared, "feature": tree}) for name, tree in one["features"]}
    return found
