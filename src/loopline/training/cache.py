"""When a step need not run again: a key over everything that could change its answer."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import content_id, digest, file_digest
from loopline.training.reach import reachable

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
    sources: dict[str, str] = field(default_factory=dict, compare=False)
    """File to the digest of its bytes, as they were read."""

    @property
    def id(self) -> str:
        """One digest of both."""
        return content_id({"files": self.files, "distributions": self.distributions})


def closure(project: Path, ref: str, *, only: bool = False, extra: Iterable[str] = ()) -> Closure:
    """The closure of `file.py:function`, by reading, not running, the code.

    Parameters
    ----------
    only : bool
        Leave out of the function's own file what it cannot reach by name.
    extra : iterable of str
        Further files of the project that it reads or imports by name, such as
        `queries/*.sql`; Python files come with what they import.

    Raises
    ------
    NotFound
        If the file does not exist, or a pattern of `extra` fits none.
    Invalid
        If a file of the closure is not Python.
    """
    folder = Path(project).resolve()
    file, _, function = ref.partition(":")
    start = folder / file
    if not start.is_file():
        raise NotFound(
            f"{start.name} is not in the project {folder.name}",
            why=f"{ref} is to be run",
            fix=f"create {start.name}, or correct the name",
        )
    files: dict[str, str] = {}
    sources: dict[str, str] = {}
    outside: set[str] = set()
    waiting = [start]
    for path in _extra(folder, extra):
        if path.suffix == ".py":
            waiting.append(path)
        else:
            name = path.relative_to(folder).as_posix()
            files[name] = sources[name] = file_digest(path)
    while waiting:
        path = waiting.pop()
        name = path.relative_to(folder).as_posix()
        if name in files:
            continue
        source = path.read_bytes()
        sources[name] = digest(source)
        files[name], imported = _read(source, name, function if only and path == start else None)
        for module, level in imported:
            found = list(_local(folder, path, module, level))
            waiting += found
            if not found and not level:
                outside.add(module.partition(".")[0])
    return Closure(dict(sorted(files.items())), _distributions(outside), sources)


def _extra(folder: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        found = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
        if not found:
            raise NotFound(
                f"{pattern} fits no file of the project {folder.name}",
                why="extra_files names files that a step depends on",
                fix="correct the pattern, or take it out",
            )
        yield from found


@functools.lru_cache(1024)
def _read(source: bytes, name: str, function: str | None) -> tuple[str, tuple[tuple[str, int], ...]]:
    """The digest of a file's code, or of what a function of it reaches, and the modules that this imports."""
    tree = _parse(source, name)
    if function is not None:
        tree = reachable(tree, function)
    return digest(ast.dump(without_docstrings(tree)).encode()), tuple(_imports(tree))


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


def _parse(source: bytes, name: str) -> ast.Module:
    try:
        return ast.parse(source, filename=name)
    except SyntaxError as error:
        raise Invalid(
            f"{name}, line {error.lineno}: {error.msg}",
            why="the file is not valid Python",
            fix=f"mend {name}",
        ) from error


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree without docstrings; it is changed."""
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
    names = {owner for module in modules - sys.stdlib_module_names for owner in owners(module)}
    return {name.lower(): importlib.metadata.version(name) for name in sorted(names)}


@functools.cache
def owners(module: str) -> tuple[str, ...]:
    """Distributions that bring a module; the one of the same name is found without reading all others."""
    try:
        record = importlib.metadata.distribution(module).read_text("RECORD") or ""
        if f"\n{module}/__init__.py," in f"\n{record}":
            return (str(importlib.metadata.distribution(module).metadata["Name"]),)
    except importlib.metadata.PackageNotFoundError:
        pass
    return tuple(_owners().get(module, ()))


def requirements(names: Iterable[str]) -> dict[str, str]:
    """The installed distributions that those named need, and these again, with their versions; extras do not count."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        version, needs = _needs(name)
        if version is not None:
            found[name] = version
            waiting += needs
    return dict(sorted(found.items()))


@functools.cache
def _needs(name: str) -> tuple[str | None, tuple[str, ...]]:
    try:
        meta = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return None, ()
    needs = [text for text in meta.get_all("Requires-Dist") or () if "extra" not in text.partition(";")[2]]
    return meta["Version"], tuple(re.split(r"[^A-Za-z0-9._-]", text.strip(), maxsplit=1)[0].lower() for text in needs)
