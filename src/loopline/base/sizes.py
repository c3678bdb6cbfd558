"""Numbers of bytes, as people write and read them."""

from __future__ import annotations

import re

UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def size(text: str) -> int:
    """Parse `500MB`, `2GiB` or a plain number of bytes.

    Raises
    ------
    ValueError
        If it is no number followed by one of the units.
    """
    match = _SIZE.fullmatch(text)
    unit = UNITS.get(match[2].lower() or "b") if match is not None else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is no size; write for example 500MB, 10GB or 2GiB")
    return int(float(match[1]) * unit)


def size_text(count: int) -> str:
    """A number of bytes in its largest unit of ten: `1.2 MB`."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if round(value, 1) < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
