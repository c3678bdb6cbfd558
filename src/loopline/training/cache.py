"""When a step need not run again: a key over everything that could change its answer."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import content_id, digest

PACKAGING = ("lightgbm", "numpy", "onnx", "onnxmltools", "onnxruntime", "polars", "scikit-learn", "skl2onnx")
"""Distributions that turn a fitted estimator into a bundle."""
VERSION = 1


@dataclass(frozen=True, slots=True)
class Closure:
    """The project's own code that a function can reach by import, and what that code imports.

    `files` maps each file to the digest of its syntax tree without comments and
    docstrings; `distributions` maps each imported distribution to its version.
    Imports made at run time by name are not seen.
    """

    files: dict[str, str]
    distributions: dict[str, str]

    @property
    def id(self) -> str:
        """One digest of both."""
        return content_id({"files": self.files, "distributions": self.distributions})


def closure(project: Path, ref: str) -> Closure:
    """The closure of `file.py:function`, by reading, not running, the code.

    Raises
    ------
    NotFound
        If the file does not exist.
    Invalid
        If a file of the closure is not Python.
    """
    folder = Path(project).resolve()
    start = folder / ref.partition(":")[0]
    if not start.is_file():
        raise NotFound(
            f"{start.name} is not in the project {folder.name}",
            why=f"loop.yaml names {ref}",
            fix=f"create {start.name}, or correct the name in loop.yaml",
        )
    files: dict[str, str] = {}
    outside: set[str] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(folder).as_posix()
        if name in files:
            continue
        tree = _parse(path, name)
        files[name] = digest(ast.dump(_without_docstrings(tree)).encode())
        for module, level in _imports(tree):
            found = list(_local(folder, path, module, level))
            waiting += found
            if not found and not level:
                outside.add(module.partition(".")[0])
    return Closure(dict(sorted(files.items())), _distributions(outside))


def environment() -> dict[str, Any]:
    """The interpreter, the platform and every installed distribution with its version."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "distributions": dict(_installed()),
    }


def relevant_environment() -> dict[str, Any]:
    """The part of the environment that decides the bits of a bundle, beside what the recipe imports."""
    installed = dict(_installed())
    return {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "platform": f"{platform.system()}-{platform.machine()}",
        "packaging": {name: installed.get(name) for name in PACKAGING},
    }


def step_key(
    code: Closure, *, step: str, inputs: Mapping[str, str], params: Mapping[str, Any], environment: str, seed: int
) -> str:
    """The key under which the answer of a step is found again.

    Parameters
    ----------
    code : Closure
    step : str
        Name of the step with the function it calls.
    inputs : mapping
        Name to content id of everything it reads.
    params : mapping
        JSON values.
    environment : str
        Content id of `relevant_environment()`.
    seed : int
    """
    return content_id(
        {
            "version": VERSION,
            "step": step,
            "code": code.id,
            "inputs": dict(inputs),
            "params": dict(params),
            "environment": environment,
            "seed": seed,
        }
    )


def _parse(path: Path, name: str) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=name)
    except SyntaxError as error:
        raise Invalid(
            f"{name}, line {error.lineno}: {error.msg}",
            why="the file is not valid Python",
            fix=f"mend {name}",
        ) from error


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str())), *rest]:
                    node.body = rest
    return tree


def _imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Modules a file may import, with the level of relative imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if base:
                yield base, node.level
            if base or node.level:
                for alias in node.names:
                    yield f"{base}.{alias.name}" if base else alias.name, node.level


def _local(folder: Path, importer: Path, module: str, level: int) -> Iterator[Path]:
    """The project files that importing `module` runs: its packages' `__init__` and itself."""
    root = folder
    if level:
        root = importer.parent
        for _ in range(level - 1):
            root = root.parent
        if root != folder and folder not in root.parents:
            return
    at = root
    for part in module.split("."):
        at = at / part
        if (at / "__init__.py").is_file():
            yield at / "__init__.py"
        elif at.with_suffix(".py").is_file():
            yield at.with_suffix(".py")
            return
        elif not at.is_dir():
            return


@functools.cache
def _installed() -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for item in importlib.metadata.distributions():
        name = item.metadata["Name"]
        if name:
            found.setdefault(name.lower(), item.version)
    return tuple(sorted(found.items()))


@functools.cache
def _owners() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _distributions(modules: set[str]) -> dict[str, str]:
    names = {owner for module in modules - sys.stdlib_module_names for owner in _owners().get(module, ())}
    return {name.lower(): importlib.metadata.version(name) for name in sorted(names)}
