"""Views as a JSON document and back: how their expressions travel with a model.

A bundle of a model whose features need nothing but the request carries this document, so that server and
edge compute them from the request's own columns by the same trees that made the training rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopline.base.errors import Invalid
from loopline.base.ids import moment
from loopline.features.expr import LEAVES, PARTS, Expr, literal
from loopline.features.operators import OPERATORS
from loopline.features.views import View, Views, together

FORMAT = 1
_COUNTS = {"not": 1, "is_null": 1, "category": 1, "abs": 1, "floor": 1, "log1p": 1, "lower": 1, "strip": 1, "length": 1}
_COUNTS |= {"when": 3, "cast": 2, "starts_with": 2, "local": 3, "col": 1, "lit": 1}


def portable(views: Views) -> bool:
    """Whether the views need nothing but the request: no table, no function of the project."""
    trees = (tree for one in views.views for _, tree in one.features)
    return not any(node.op in LEAVES or node.op == "call" for tree in trees for node in tree.walk())


def to_doc(views: Views) -> dict[str, Any]:
    """The views as JSON.

    Raises
    ------
    Invalid
        If a feature needs a table or a function of the project, which do not travel.
    """
    if not portable(views):
        raise Invalid(
            "these features cannot travel with a model",
            why="one of them reads a table or calls a function of the project",
            fix="serve them from the online store, or write them as expressions of the request",
        )
    features = [[one.name, [[name, tree.doc()] for name, tree in one.features]] for one in views.views]
    return {"format": FORMAT, "id": views.id, "views": features}


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
        views = together(
            View(str(name), None, (), None, tuple((str(feature), _tree(tree)) for feature, tree in features))
            for name, features in doc["views"]
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise _broken(f"{type(error).__name__}: {error}") from error
    if views.id != doc.get("id"):
        raise _broken("its id is that of other expressions")
    return views


def _tree(doc: Any) -> Expr:
    op, *args = doc
    if op not in OPERATORS or op == "call" or op in LEAVES:
        raise _broken(f"{op!r} is not an operator of a request")
    if len(args) != _COUNTS.get(op, 2) and op != "is_in":
        raise _broken(f"{op} has {len(args)} arguments")
    match op:
        case "lit":
            return literal(moment(args[0]["time"]) if isinstance(args[0], Mapping) else args[0])
        case "col":
            return Expr("col", (str(args[0]),))
        case "is_in":
            return _tree(args[0]).is_in(args[1:])
        case "cast":
            return _tree(args[0]).cast(args[1])
        case "starts_with":
            return _tree(args[0]).starts_with(args[1])
        case "local":
            if args[1] not in PARTS:
                raise _broken(f"{args[1]!r} is not a part of a wall clock")
            return _tree(args[0])._local(args[1], args[2])
    return Expr(op, tuple(_tree(arg) for arg in args))


def _broken(why: str) -> Invalid:
    return Invalid(
        f"the features that travel with the model cannot be read: {why}",
        why="they are computed by exactly the expressions that made the training rows, or not at all",
        fix="pip install --upgrade loopline, or train the model again",
    )
