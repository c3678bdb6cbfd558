"""Views as a JSON document and back: how their expressions travel with a model.

The bundle of a model carries this document, so that server and edge compute its features by the same trees
that made the training rows: from the request's own columns alone, or with what the online store holds of
the entities that the request names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from loopline.base.errors import Invalid
from loopline.base.ids import content_id, moment
from loopline.base.spec import duration
from loopline.features.expr import AGGREGATES, LEAVES, PARTS, SUMMARIES, Expr, literal
from loopline.features.functions import FrameFunction, RowFunction
from loopline.features.operators import OPERATORS
from loopline.features.views import View, Views, together

Calls = Callable[[Mapping[str, Any]], RowFunction]
Makers = Callable[[Mapping[str, Any]], FrameFunction]
FORMAT = 1
_LENGTHS = ("ttl", "refresh", "freshness")
_COUNTS = {"not": 1, "is_null": 1, "category": 1, "abs": 1, "floor": 1, "log1p": 1, "lower": 1, "strip": 1, "length": 1}
_COUNTS |= {"when": 3, "cast": 2, "starts_with": 2, "local": 3, "col": 1, "lit": 1}


def portable(views: Views) -> bool:
    """Whether the views need nothing but the request: no table, no function of the project."""
    trees = (tree for one in views.views for _, tree in one.features)
    return not any(node.op in LEAVES or node.op == "call" for tree in trees for node in tree.walk())


def travels(views: Views) -> bool:
    """Whether a document can hold the views: no function of the project is called in them."""
    trees = (tree for one in views.views for _, tree in one.features)
    called = any(node.op == "call" for tree in trees for node in tree.walk())
    return not called and all(one.maker is None for one in views.views)


def to_doc(views: Views) -> dict[str, Any]:
    """The views as JSON.

    Raises
    ------
    Invalid
        If a feature calls a function of the project, which does not travel.
    """
    if not travels(views):
        raise Invalid(
            "these features cannot travel with a model",
            why="one of them calls a function of the project",
            fix="write it as an expression",
        )
    return {"format": FORMAT, "id": views.id, "views": [_doc(one) for one in views.views]}


def _doc(one: View) -> list[Any]:
    features = [[name, tree.doc()] for name, tree in one.features]
    if one == View(one.name, None, (), None, one.features):
        return [one.name, features]
    reads = {
        "source": one.source,
        "on": [list(pair) for pair in one.on],
        **{name: _micros(getattr(one, name)) for name in _LENGTHS if getattr(one, name) is not None},
    }
    if one.on_stale != "serve":
        reads["on_stale"] = one.on_stale
    if one.available_at is not None:
        reads["available_at"] = one.available_at
    if one.external:
        reads["external"] = True
    return [one.name, features, reads]


def _view(name: Any, features: Any, reads: Mapping[str, Any] | None = None) -> View:
    trees = tuple((str(feature), _tree(tree)) for feature, tree in features)
    if reads is None:
        return View(str(name), None, (), None, trees)
    if reads.get("on_stale", "serve") not in ("serve", "default", "refuse"):
        raise _broken(f"{reads['on_stale']!r} is nothing to do with an old value")
    ttl, refresh, freshness = (timedelta(microseconds=int(reads[key])) if key in reads else None for key in _LENGTHS)
    return View(
        str(name),
        None if reads["source"] is None else str(reads["source"]),
        tuple((str(mine), str(theirs)) for mine, theirs in reads["on"]),
        ttl,
        trees,
        refresh,
        freshness,
        on_stale=reads.get("on_stale", "serve"),
        available_at=reads.get("available_at"),
        external=bool(reads.get("external", False)),
    )


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)


def from_doc(doc: Mapping[str, Any]) -> Views:
    """The views that `to_doc` wrote; they compute the same and have the same id.

    Raises
    ------
    Invalid
        If the document is none, names an operator that is not in the table, or is
        not what its id says.
    """
    if doc.get("format") != FORMAT:
        raise _broken(f"its format is {doc.get('format')!r}, this Loopline reads {FORMAT}")
    try:
        views = together(_view(*one) for one in doc["views"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise _broken(f"{type(error).__name__}: {error}") from error
    if views.id != doc.get("id"):
        raise _broken("its id is that of other expressions")
    return views


def written_view(doc: Mapping[str, Any], calls: Calls, makers: Makers, *, name: str) -> View:
    """The view that `View.doc` wrote, which says no name of its own.

    Parameters
    ----------
    calls, makers : callable
        The functions of the project that a document names: of a row, and of whole frames.

    Raises
    ------
    Invalid
        If the document is none, or is not what the view says of itself.
    """
    try:
        outside = doc.get("external", False)
        length = {key: None if doc.get(key) is None else duration(doc[key]) for key in _LENGTHS}
        made = View(
            name,
            doc["source"],
            tuple((mine, theirs) for mine, theirs in doc["on"]),
            features=tuple((feature, _tree(tree, calls)) for feature, tree in doc["features"]),
            on_stale=doc.get("on_stale", "serve"),
            available_at=doc.get("available_at"),
            external=bool(outside),
            maker=makers(outside) if isinstance(outside, Mapping) else None,
            **length,
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise _broken(f"{type(error).__name__}: {error}") from error
    if content_id(made.doc()) != content_id(doc):
        raise _broken("they are those of another definition")
    return made


def _no_calls(doc: Mapping[str, Any]) -> RowFunction:
    raise _broken("'call' is not an operator of a request")


def _tree(doc: Any, calls: Calls = _no_calls) -> Expr:
    op, *args = doc
    if op in LEAVES:
        return _leaf(op, args, calls)
    if op == "call":
        return Expr("call", (calls(args[0]), *(_tree(arg, calls) for arg in args[1:])))
    if op not in OPERATORS:
        raise _broken(f"{op!r} is not an operator of a request")
    if len(args) != _COUNTS.get(op, 2) and op != "is_in":
        raise _broken(f"{op} has {len(args)} arguments")
    match op:
        case "lit":
            return literal(moment(args[0]["time"]) if isinstance(args[0], Mapping) else args[0])
        case "col":
            return Expr("col", (str(args[0]),))
        case "is_in":
            return _tree(args[0], calls).is_in(args[1:])
        case "cast":
            return _tree(args[0], calls).cast(args[1])
        case "starts_with":
            return _tree(args[0], calls).starts_with(args[1])
        case "local":
            if args[1] not in PARTS:
                raise _broken(f"{args[1]!r} is not a part of a wall clock")
            return _tree(args[0], calls)._local(args[1], args[2])
    return Expr(op, tuple(_tree(arg, calls) for arg in args))


def _leaf(op: str, args: Sequence[Any], calls: Calls) -> Expr:
    inner, rest = _tree(args[0], calls), list(args[1:])
    match op:
        case "latest" | "lookup" if not rest:
            return Expr(op, (inner,))
        case "last_n" if len(rest) == 2 and type(rest[0]) is int and rest[1] in SUMMARIES:
            return Expr(op, (inner, *rest))
        case _ if op in AGGREGATES and len(rest) == 1 and type(rest[0]["us"]) is int and rest[0]["us"] > 0:
            return Expr(op, (inner, timedelta(microseconds=rest[0]["us"])))
    raise _broken(f"{op} has other arguments than it takes")


def _broken(why: str) -> Invalid:
    return Invalid(
        f"the features that travel with the model cannot be read: {why}",
        why="they are computed by exactly the expressions that made the training rows, or not at all",
        fix="pip install --upgrade loopline, or train the model again",
    )
