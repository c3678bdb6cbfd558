"""Profiles as bytes."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from loopline.base.errors import Invalid
from loopline.monitoring.profile import Cells, Column, CountProfile, Counts, NumberProfile, Profile, TextProfile

LAYOUT = 1


def pack(parts: Sequence[Profile]) -> bytes:
    """Profiles (the consecutive parts of a window) as one compressed record."""
    cells: list[Cells] = []
    counts: list[Counts] = []
    head: list[dict[str, Any]] = []
    for part in parts:
        columns: dict[str, Any] = {}
        for name, column in part.columns.items():
            if isinstance(column, NumberProfile):
                cells.append(column.cells)
                counts.append(column.counts)
                moments = [column.total, column.squares, column.low, column.high]
                plain = [v if math.isfinite(v) else None for v in moments]
                columns[name] = ["n", column.rows, column.null, column.nan, column.inf, *plain, column.cells.size]
            elif isinstance(column, TextProfile):
                columns[name] = ["t", column.rows, column.null, column.values, column.hashed]
            else:
                columns[name] = ["c", column.rows, column.null]
        head.append({"rows": part.rows, "columns": columns})
    text = json.dumps({"layout": LAYOUT, "parts": head}, separators=(",", ":"), ensure_ascii=True).encode()
    body = b"".join(
        [len(text).to_bytes(4, "little"), text]
        + [c.astype("<u2").tobytes() for c in cells]
        + [c.astype("<i8").tobytes() for c in counts]
    )
    return zlib.compress(body, 1)


def unpack(data: bytes) -> list[Profile]:
    """What `pack` wrote."""
    plain = zlib.decompress(data)
    start = 4 + int.from_bytes(plain[:4], "little")
    doc = json.loads(plain[4:start])
    if doc["layout"] != LAYOUT:
        raise Invalid(
            f"a profile of layout {doc['layout']}",
            why=f"this Loopline reads layout {LAYOUT}",
            fix="check the window again, so that it is profiled anew",
        )
    size = sum(c[-1] for part in doc["parts"] for c in part["columns"].values() if c[0] == "n")
    cells = np.frombuffer(plain, "<u2", size, start)
    counts = np.frombuffer(plain, "<i8", size, start + 2 * size)
    at = 0
    parts = []
    for part in doc["parts"]:
        columns: dict[str, Column] = {}
        for name, (kind, *rest) in part["columns"].items():
            if kind == "n":
                rows, null, nan, inf, total, squares, low, high, used = rest
                columns[name] = NumberProfile(
                    rows,
                    null,
                    nan,
                    inf,
                    math.inf if total is None else total,
                    math.inf if squares is None else squares,
                    math.inf if low is None else low,
                    -math.inf if high is None else high,
                    cells[at : at + used],
                    counts[at : at + used],
                )
                at += used
            elif kind == "t":
                columns[name] = TextProfile(rest[0], rest[1], rest[2], tuple(rest[3]))
            else:
                columns[name] = CountProfile(*rest)
        parts.append(Profile(part["rows"], columns))
    return parts
