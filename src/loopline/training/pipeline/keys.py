"""The key of a step: everything its answer depends on, part by part, so that a change can be named."""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopline.base import settings
from loopline.base.ids import content_id, digest
from loopline.training import cache
from loopline.training.pipeline import live
from loopline.training.pipeline.declare import Step

VERSION = 1
_CPU = Path("/proc/cpuinfo")
_WORDS = {
    "code": ("{0} changed", "{0} is reached now", "{0} is no longer reached"),
    "distributions": ("{0} {1} became {2}", "{0} {2} is needed now", "{0} is no longer needed"),
    "params": ("param {0} was {1}, is {2}", "param {0} is new: {2}", "param {0} is gone"),
    "environment": ("{0} was {1}, is {2}", "{0} is {2}", "{0} is gone"),
    "variables": (
        "environment variable {0} changed",
        "it reads the environment variable {0} now",
        "it no longer reads the environment variable {0}",
    ),
}
"""How a part that changed, came or went is told: name, before, now."""


def code_of(project: Path, called: Step[Any, Any]) -> cache.Closure:
    """The code that a step reaches: of its file in the project, or of its cells in a notebook."""
    if called.file is None:
        return live.closure(project, called.function)
    return cache.closure(project, ref_of(project, called), only=True, extra=called.options.extra_files)


def ref_of(project: Path, called: Step[Any, Any]) -> str:
    """The step as `file.py:function`; `notebook:function` where it has no file."""
    name = called.function.__name__
    file = called.file
    if file is None:
        return f"{live.NOTEBOOK}:{name}"
    return f"{file.relative_to(project).as_posix()}:{name}"


def parts(
    ref: str,
    code: cache.Closure,
    *,
    inputs: Mapping[str, str],
    params: Mapping[str, Any],
    seed: int,
    variables: tuple[str, ...] = (),
    bitwise: bool = False,
) -> dict[str, Any]:
    """All that the answer of a step depends on, by name.

    Parameters
    ----------
    inputs : mapping
        Argument to the digest of what another step, or a file, hands it.
    params : mapping
        Argument to its packed value.
    variables : tuple of str
        Environment variables it reads; their values are kept as digests.
    bitwise : bool
        Whether the processor counts.
    """
    return {
        "version": VERSION,
        "step": ref,
        "code": code.files,
        "distributions": _distributions(tuple(code.distributions)),
        "inputs": dict(sorted(inputs.items())),
        "params": dict(sorted(params.items())),
        "environment": _environment(),
        "platform": processor() if bitwise else None,
        "seed": seed,
        "variables": {name: _digest(settings.secret(name)) for name in sorted(variables)},
    }


def key_of(found: Mapping[str, Any]) -> str:
    """The key that the parts make."""
    return content_id(found)


def differences(before: Mapping[str, Any], now: Mapping[str, Any], made_by: Mapping[str, str]) -> tuple[str, ...]:
    """What differs between the parts of two keys, in words; empty when nothing does.

    Parameters
    ----------
    made_by : mapping
        Argument to the step whose answer it is.
    """
    told: list[str] = []
    for part in ("code", "distributions"):
        told += _changed(before[part], now[part], *_WORDS[part])
    for name, now_is in now["inputs"].items():
        if before["inputs"].get(name) != now_is:
            source = f"{made_by[name]} answered something else" if name in made_by else "its content changed"
            told.append(f"input {name}: {source}" if name in before["inputs"] else f"input {name} is new")
    told += [f"input {name} is gone" for name in before["inputs"] if name not in now["inputs"]]
    for part in ("params", "environment", "variables"):
        told += _changed(before[part], now[part], *_WORDS[part])
    if before["platform"] != now["platform"]:
        told.append("it runs on another processor")
    if before["seed"] != now["seed"]:
        told.append(f"the seed was {before['seed']}, is {now['seed']}")
    if before["step"] != now["step"]:
        told.append(f"it was {before['step']}, is {now['step']}")
    if before["version"] != now["version"]:
        told.append("Loopline makes keys differently now")
    return tuple(told)


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], other: str, new: str, gone: str) -> list[str]:
    told = []
    for name in sorted({*before, *now}):
        if name not in before:
            told.append(new.format(name, None, _short(now[name])))
        elif name not in now:
            told.append(gone.format(name))
        elif before[name] != now[name]:
            told.append(other.format(name, _short(before[name]), _short(now[name])))
    return told


def _short(value: Any) -> str:
    if isinstance(value, dict) and "text" in value:
        return str(value["text"])
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@functools.lru_cache(256)
def _distributions(names: tuple[str, ...]) -> dict[str, str]:
    return cache.requirements(names)


@functools.cache
def _environment() -> dict[str, str]:
    return {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "platform": f"{platform.system()}-{platform.machine()}",
    }


@functools.cache
def processor() -> dict[str, str]:
    """What decides the last bits of arithmetic: the processor, its instructions and the kernels chosen for it."""
    lines = _CPU.read_text().splitlines() if _CPU.exists() else []
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    return {
        "model": found.get("model name", platform.processor()),
        "flags": digest(found.get("flags", found.get("Features", "")).encode())[:16],
        "kernels": settings.secret("OPENBLAS_CORETYPE") or "",
        "threads": settings.secret("OMP_NUM_THREADS") or "",
    }


def _digest(value: str | None) -> str | None:
    return None if value is None else digest(value.encode())
