"""What users declare: frozen, strict, self-describing."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from loopline.base.ids import content_id

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|w)\s*")


class Spec(BaseModel):
    """Base of every declaration: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_timedelta="float")

    @property
    def id(self) -> str:
        """Content id; keys left at their defaults do not count."""
        return content_id(self.model_dump(mode="json", exclude_defaults=True))


def duration(text: str) -> timedelta:
    """Parse `90s`, `15m`, `2h`, `28d` or `4w`.

    Raises
    ------
    ValueError
        If the text is not a number followed by one of those units.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write for example 90s, 15m, 2h, 28d or 4w")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def duration_text(value: timedelta) -> str:
    """The shortest text that `duration` reads back as `value`."""
    seconds = value.total_seconds()
    for unit in ("w", "d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0 and not (unit == "w" and seconds % 604800):
            count = int(seconds // _UNITS[unit])
            return f"{count * 7}d" if unit == "w" else f"{count}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def length_text(value: timedelta | float) -> str:
    """A length of time (a number: seconds) for people, in its one or two largest units; the rest is dropped.

    Below a second it has two figures.
    """
    left = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if left < 0:
        return "\N{MINUS SIGN}" + length_text(-left)
    if 0 < left < 1:
        return f"{left:.2g} s" if left >= 0.001 else "< 0.001 s"
    if left < 60:
        return f"{left:.1f} s" if left < 10 and left != int(left) else f"{left:.0f} s"
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count:.0f} {unit}")
        if len(parts) == 2 or (parts and not count):
            break
    return " ".join(parts)


def _duration(value: Any) -> Any:
    if isinstance(value, (int, float)):
        raise ValueError(f"{value!r} has no unit; write for example 90s, 15m, 2h, 28d or 4w")
    return duration(value) if isinstance(value, str) else value


def _share(value: Any) -> Any:
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return value


def _check_share(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("a share lies between 0% and 100%")
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(duration_text, when_used="json")]
"""A length of time, written `28d`."""

Share = Annotated[
    float, BeforeValidator(lambda v: _check_share(_share(v)) if isinstance(_share(v), (int, float)) else v)
]
"""A share, written `5%` or `0.05`."""
