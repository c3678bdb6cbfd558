"""How a step is run, as a user writes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from loopline.base.errors import Invalid
from loopline.base.spec import duration

_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


@dataclass(frozen=True, slots=True)
class Options:
    """How a step is run. None of it changes what the step answers."""

    retries: int = 0
    backoff_s: float = 1.0
    timeout_s: float | None = None
    cpus: float = 1.0
    gpus: int = 0
    memory: int | None = None
    volatile: bool = False
    bitwise: bool = False
    extra_files: tuple[str, ...] = ()
    env: tuple[str, ...] = ()


def several(value: tuple[str, ...] | list[str] | str) -> tuple[str, ...]:
    """One text or several, as several."""
    return (value,) if isinstance(value, str) else tuple(value)


def seconds(what: str, value: str | float | timedelta) -> float:
    """A time above zero; `what` names it where it is none."""
    try:
        found = duration(value).total_seconds() if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise Invalid(f"{what}={value!r} cannot be: {error}", why="it is a time", fix="write for example 5m") from error
    if found <= 0:
        raise Invalid(f"{what}={value!r} cannot be", why="it is a time above zero", fix="write for example 5m")
    return found


def byte_count(value: str | int) -> int:
    """A size, also with its unit."""
    if isinstance(value, int):
        return value
    number = value.strip().rstrip("BbKkMmGgIi ")
    unit = value.strip()[len(number) :].strip().upper() or "B"
    try:
        return int(float(number) * _SIZES[unit])
    except (ValueError, KeyError) as error:
        raise Invalid(
            f"memory={value!r} cannot be", why="it is a size", fix="write for example 2GiB or 500MB"
        ) from error
