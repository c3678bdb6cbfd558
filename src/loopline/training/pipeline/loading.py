"""Whether the modules that a process has loaded are still those of the files."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from loopline.base.clock import SystemClock
from loopline.base.code import load_module
from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import digest
from loopline.training.cache import closure

_BEGAN_NS = int(SystemClock()().timestamp() * 1e9)
_LOADED: dict[str, str] = {}
"""File to the digest of the bytes that a module of this process was made from."""
_MAINS: dict[str, dict[str, str] | None] = {}
"""File with its content, imported for its steps, to the digests of what it reached then.

Null where another module stood in the place of one of these: what the file was given is not what the project says.
"""
_importing: contextvars.ContextVar[str | None] = contextvars.ContextVar("importing", default=None)


def load(project: Path, ref: str) -> Any:
    """What `file.py:name` means, and a note of which of the project's modules were loaded meanwhile.

    Raises
    ------
    NotFound
        If the file does not define it.
    """
    file, _, name = ref.partition(":")
    mark = _mark(project, file)
    if mark is not None and mark not in _MAINS:
        reached = closure(project, file).sources
        _MAINS[mark] = None if _foreign(project, reached, file) else reached
    before = set(sys.modules)
    with importing(ref):
        module = load_module(project, file)
    for fresh in set(sys.modules) - before:
        path = _path(sys.modules[fresh])
        if path is not None and project in path.parents:
            _LOADED[str(path)] = digest(path.read_bytes())
    found = getattr(module, name, None)
    if found is None:
        raise NotFound(
            f"{file} defines no {name}",
            why=f"{ref} is to be run",
            fix=f"define {name} in {file}, or correct the name",
        )
    return found


@contextmanager
def importing(ref: str) -> Iterator[None]:
    """While a file is imported for its steps, no pipeline runs."""
    token = _importing.set(ref)
    try:
        yield
    finally:
        _importing.reset(token)


def refuse_while_importing(pipeline: str) -> None:
    """Refuse a run that a file starts whenever it is imported: it would start itself for ever."""
    if (ref := _importing.get()) is not None:
        raise Invalid(
            f"the pipeline {pipeline} is run when {ref.partition(':')[0]} is imported",
            why="the file is imported to find its steps",
            fix=f'put the call under `if __name__ == "__main__":`, or use `loopline pipeline run {ref}`',
        )


def stale(project: Path, sources: Mapping[str, str], main: str) -> list[str]:
    """Files whose modules this process has loaded from other bytes than `sources` says.

    Parameters
    ----------
    sources : mapping
        File of the project to the digest of its bytes.
    main : str
        The file that is imported anew for each content.
    """
    mark = _mark(project, main)
    if mark in _MAINS:
        made_with = _MAINS[mark]
        if made_with is None:
            return [main]
        if old := [name for name, now in sources.items() if made_with.get(name, now) != now]:
            return old
    return _foreign(project, sources, main)


def _foreign(project: Path, sources: Mapping[str, str], main: str) -> list[str]:
    """Files in whose place this process holds a module of other bytes, or of another project."""
    found = []
    for name, mark in sources.items():
        path = project / name
        if name == main or not name.endswith(".py"):
            continue
        loaded = _path(sys.modules.get(_module(name)))
        if loaded is not None and loaded != path:
            found.append(name)
        elif loaded is not None:
            known = _LOADED.get(str(path))
            if known is None:
                known = _LOADED[str(path)] = digest(path.read_bytes()) if _older(path) else ""
            if known != mark:
                found.append(name)
    return found


def _mark(project: Path, file: str) -> str | None:
    """A file with its content: each is imported once."""
    path = project / file
    return f"{path}:{digest(path.read_bytes())}" if path.is_file() else None


def _module(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def modules_of(project: Path) -> set[str]:
    """Files of the project that this process has loaded as modules."""
    paths = [path for module in sys.modules.copy().values() if (path := _path(module)) is not None]
    return {path.relative_to(project).as_posix() for path in paths if project in path.parents}


def _path(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if isinstance(file, str) and file.endswith(".py") else None


def _older(path: Path) -> bool:
    """Whether a file was last written before this process began; the moment of a change cannot be set by hand."""
    try:
        return path.stat().st_ctime_ns < _BEGAN_NS
    except OSError:
        return False
