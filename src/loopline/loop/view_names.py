"""Names that the text of a file of views takes from elsewhere: tables, and columns of the spine and of sources.

The file is not run: only names that stand there as plain text are looked at, and only in functions that are
decorated with `view`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SPINE_TIMES = ("decision_time",)
SOURCE_TIMES = ("event_time", "known_at", "superseded_at")
LEAVES = ("latest", "lookup", "last_n", "count", "total", "mean", "share", "minimum", "maximum", "distinct")
"""Functions whose columns are those of the view's source."""
COLUMN_FIRST = frozenset(LEAVES) - {"count"}
"""Those whose first argument may be the name of a column."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with a view, and the names there are."""

    what: str
    allowed: tuple[str, ...] = ()


def wrong_views(
    text: bytes, file: str, tables: Mapping[str, tuple[str, ...] | None], spine: str, *, online: bool
) -> Iterator[Wrong]:
    """Names in views that are nowhere.

    Parameters
    ----------
    tables : mapping
        Declared tables with their columns; null where these are not cheap to tell.
    online : bool
        Whether requests read the views from the online store, which needs `refresh`.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return  # told by whoever looks for functions
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for made in node.decorator_list:
            if isinstance(made, ast.Call) and _called(made) == "view":
                given = {one.arg: one.value for one in made.keywords if one.arg is not None}
                yield from _wrong(node, f"{file}, line {node.lineno}: view {node.name}", given, tables, spine, online)


def _wrong(
    function: ast.FunctionDef,
    place: str,
    given: Mapping[str, ast.expr],
    tables: Mapping[str, tuple[str, ...] | None],
    spine: str,
    online: bool,
) -> Iterator[Wrong]:
    named = given.get("source")
    source = _text(named)
    if source is not None and source not in tables:
        yield Wrong(f"{place}: no table is called {source!r}", tuple(tables))
        return
    own, theirs = tables.get(spine), tables.get(source) if source is not None else None
    for inside, name in dict.fromkeys(_columns(function)):
        if inside:
            table, head = source, None if theirs is None else (*theirs, *SOURCE_TIMES)
        elif named is None:
            table, head = spine, None if own is None else (*own, *SPINE_TIMES)
        else:  # an expression that gets a name first may stand within a window later
            table = f"neither {spine} nor {source}"
            head = None if own is None or theirs is None else (*own, *SPINE_TIMES, *theirs, *SOURCE_TIMES)
        if head is not None and name not in head:
            has = "has" if table.startswith("neither ") else "has no"  # type: ignore[union-attr]
            yield Wrong(f"{place}: {table} {has} column {name!r}", tuple(dict.fromkeys(head)))
    leaves = {_called(one) for one in ast.walk(function) if isinstance(one, ast.Call)} & {*LEAVES} - {"lookup"}
    if online and source is not None and leaves and "refresh" not in given:
        yield Wrong(f'{place}: the online store needs refresh=, for example refresh="1h"')


def _columns(function: ast.FunctionDef) -> Iterator[tuple[bool, str]]:
    """Columns that a view names: whether of its source, and which."""
    waiting: list[tuple[bool, ast.AST]] = [(False, one) for one in function.body]
    while waiting:
        inside, node = waiting.pop()
        if isinstance(node, ast.Call):
            called = _called(node)
            first = _text(node.args[0]) if node.args else None
            if called == "col" and first is not None:
                yield inside, first
            if called in LEAVES:
                if called in COLUMN_FIRST and first is not None:
                    yield True, first
                inside = True
        waiting += [(inside, one) for one in ast.iter_child_nodes(node)]


def _called(call: ast.Call) -> str | None:
    if isinstance(call.func, ast.Name):
        return call.func.id
    return call.func.attr if isinstance(call.func, ast.Attribute) else None


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
