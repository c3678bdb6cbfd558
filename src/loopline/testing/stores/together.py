"""Acting at once, and the moment the suites live at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """`act(0) ... act(count - 1)`, begun together in threads."""
    gate = threading.Barrier(count)

    def begin(number: int) -> Any:
        gate.wait()
        return act(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))
