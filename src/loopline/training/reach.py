"""The part of a module that a function can reach by name: what a step depends on in its own file."""

from __future__ import annotations

import ast
from collections.abc import Iterator

MARKS = frozenset({"pipeline", "step"})
"""Decorators that say how a function is run, not what it answers."""
_BY_NAME = frozenset({"eval", "exec", "globals", "vars", "__import__", "import_module", "getattr"})
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def reachable(tree: ast.Module, name: str) -> ast.Module:
    """The module with only what the top-level function `name` can reach.

    Kept are the function, the definitions, plain values and imports whose names it
    uses, or those it uses use, and every statement that may do something of its own.
    Left out are other functions and classes without a base, values and imports that only
    these use, and what runs only as a script. A module that looks names up at run time (`eval`,
    `globals`, `getattr` on one of its modules, ...) is kept whole.
    """
    if any(isinstance(node, ast.Name) and node.id in _BY_NAME for node in ast.walk(tree)):
        return tree
    body = [node for node in tree.body if not _as_script(node)]
    everything = [used for node in body for used in _uses(node)]
    binds = [_binds(node, everything) for node in body]
    kept = {at for at, names in enumerate(binds) if names is None or name in names}
    waiting = sorted(kept)
    while waiting:
        uses = _uses(body[waiting.pop()])
        for at, names in enumerate(binds):
            if at not in kept and names is not None and not names.isdisjoint(uses):
                kept.add(at)
                waiting.append(at)
    found = [_unmarked(node) if name in (binds[at] or ()) else node for at, node in enumerate(body) if at in kept]
    return ast.Module(body=found, type_ignores=[])


def _binds(node: ast.stmt, everything: list[str]) -> frozenset[str] | None:
    """The names a statement gives, where it does nothing else; null where it must be kept."""
    if isinstance(node, _DEFINITIONS):
        told = isinstance(node, ast.ClassDef) and (node.bases or node.keywords)  # its base hears that it is defined
        busy = told or any(not _is_mark(item) for item in node.decorator_list)
        return None if busy else frozenset({node.name})
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        names = frozenset((alias.asname or alias.name.partition(".")[0]) for alias in node.names)
        used = "*" not in names and not names.isdisjoint(everything)
        return names if used else None
    if isinstance(node, (ast.Assign, ast.AnnAssign)) and (node.value is None or _is_plain(node.value)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if all(isinstance(target, ast.Name) for target in targets):
            return frozenset(target.id for target in targets if isinstance(target, ast.Name))
    return None


def _uses(node: ast.stmt) -> list[str]:
    """Names that a statement reads, words of annotations written as text among them."""
    found: list[str] = []
    for part in _parts(node):
        if isinstance(part, ast.Name):
            found.append(part.id)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value.isidentifier():
            found.append(part.value)
    return found


def _parts(node: ast.stmt) -> Iterator[ast.AST]:
    marks = node.decorator_list if isinstance(node, _DEFINITIONS) else []
    left_out = {id(part) for mark in marks if _is_mark(mark) for part in ast.walk(mark)}
    return (part for part in ast.walk(node) if id(part) not in left_out)


def _is_plain(value: ast.expr) -> bool:
    busy = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.Subscript, ast.Attribute)
    return not any(isinstance(part, busy) for part in ast.walk(value))


def _is_mark(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    named = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
    return named in MARKS


def _as_script(node: ast.stmt) -> bool:
    """`if __name__ == "__main__":`, which does not run where the module is imported."""
    if not isinstance(node, ast.If) or node.orelse or not isinstance(node.test, ast.Compare):
        return False
    left, right = node.test.left, node.test.comparators
    return (
        isinstance(left, ast.Name)
        and left.id == "__name__"
        and len(right) == 1
        and isinstance(right[0], ast.Constant)
        and right[0].value == "__main__"
        and isinstance(node.test.ops[0], ast.Eq)
    )


def _unmarked(node: ast.stmt) -> ast.stmt:
    if isinstance(node, _DEFINITIONS):
        node.decorator_list = [item for item in node.decorator_list if not _is_mark(item)]
    return node
