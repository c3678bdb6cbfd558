"""Measuring in CPU time, best of a few, and saying it in one JSON line, as `run.py` reads it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable


def cpu_seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of the whole process, best of a few."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def cpu_us(call: Callable[[int], object], n: int, repeats: int = 3) -> float:
    """CPU microseconds of one call, best of a few rounds of `n`; each call is told its number."""

    def round_of_calls() -> None:
        for i in range(n):
            call(i)

    return cpu_seconds(round_of_calls, repeats) / n * 1e6


def line(
    bench: str,
    ours: float,
    baseline: float | None,
    unit: str,
    target: float | str,
    *,
    ok: bool | None = None,
    digits: int = 4,
    **more: object,
) -> None:
    """One result; without `ok` it is so when `ours` is at most `target`."""
    fine = ok if ok is not None else ours <= float(target)
    other = None if baseline is None else round(baseline, digits)
    ratio = None if not baseline else round(ours / baseline, 4)
    doc = {"bench": bench, "ours": round(ours, digits), "baseline": other, "unit": unit, "ratio": ratio}
    print(json.dumps(doc | {"target": target, "ok": bool(fine)} | more), flush=True)
