"""Steps written in a notebook: their cells, and what these reach by name."""

from __future__ import annotations

import ast
import builtins
import importlib.metadata
import inspect
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid
from loopline.base.ids import content_id, digest
from loopline.training import cache

NOTEBOOK = "notebook"
FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""Functions of this process that a step names as `notebook:function`."""


def in_notebook() -> bool:
    """Whether this process runs a notebook or a Python prompt."""
    return "ipykernel" in sys.modules or hasattr(builtins, "__IPYTHON__") or hasattr(sys, "ps1")


def closure(project: Path, function: Callable[..., Any]) -> cache.Closure:
    """The cells that a function reaches: functions and classes by their source, values by their content.

    Modules of the project count with all they reach; other modules by the version of their distribution.

    Raises
    ------
    Invalid
        If it reaches a value that has no content to compare, such as a frame or a connection.
    """
    files: dict[str, str] = {}
    sources: dict[str, str] = {}
    outside: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [(function.__name__, function)]
    while waiting:
        name, value = waiting.pop()
        label = f"{NOTEBOOK}:{name}"
        if label in files:
            continue
        value = getattr(value, "function", value) if type(value).__name__ == "Step" else value
        module = value if isinstance(value, types.ModuleType) else _module_of(value)
        if module is not None:
            file = Path(getattr(module, "__file__", None) or "/")
            if file.suffix == ".py" and project in file.resolve().parents:
                found = cache.closure(project, file.resolve().relative_to(project).as_posix())
                files |= found.files
                sources |= found.sources
                outside |= found.distributions
            else:
                outside |= _distribution(module.__name__)
        elif isinstance(value, (types.FunctionType, type)):
            source = _source(value, name)
            tree = ast.parse(source)
            for node in ast.walk(tree):
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    node.decorator_list = [item for item in node.decorator_list if "step" not in ast.dump(item)]
            files[label] = digest(ast.dump(cache.without_docstrings(tree)).encode())
            around = value.__globals__ if isinstance(value, types.FunctionType) else vars(sys.modules["__main__"])
            words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            waiting += [(word, around[word]) for word in sorted(words) if word in around and word != name]
        else:
            files[label] = _content(name, value, function.__name__)
    return cache.Closure(dict(sorted(files.items())), dict(sorted(outside.items())), sources)


def _module_of(value: Any) -> types.ModuleType | None:
    """The module that brings a function or class; null for those of the notebook itself."""
    if not isinstance(value, (types.FunctionType, types.BuiltinFunctionType, type)):
        return None
    if isinstance(value, types.FunctionType) and "ipykernel" in value.__code__.co_filename:
        return None
    module = sys.modules.get(value.__module__ or "")
    return None if module is None or module.__name__ == "__main__" else module


def _source(value: Any, name: str) -> str:
    try:
        return textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError) as error:
        raise Invalid(
            f"the source of {name} cannot be read",
            why="a step runs again when its code changes, so its code must be there to compare",
            fix="write it into a cell of the notebook, or into a file",
        ) from error


def _content(name: str, value: Any, function: str) -> str:
    from loopline.training.pipeline.values import pack_params

    try:
        return content_id(pack_params(value, name))
    except Invalid as error:
        raise Invalid(
            f"the step {function} reads {name}, a {type(value).__name__}, from the notebook around it",
            why="what a step reads must be told apart when it changes",
            fix=f"hand it over: give {function} a parameter {name}",
        ) from error


def _distribution(module: str) -> dict[str, str]:
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return {}
    return {owner.lower(): importlib.metadata.version(owner) for owner in cache.owners(top)}
