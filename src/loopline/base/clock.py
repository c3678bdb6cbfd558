"""Time, injected. No other module asks the machine what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the present moment, in UTC with zone."""

    def __call__(self) -> datetime: ...


class SystemClock:
    """The machine's clock."""

    def __call__(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that moves when it is told to, for tests and replays."""

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)

    def __call__(self) -> datetime:
        return self._now

    def set(self, moment: datetime) -> None:
        """Move to `moment`; a clock never runs backwards."""
        self._now = max(self._now, moment.astimezone(UTC))

    def advance(self, by: timedelta) -> None:
        """Move forward by `by`."""
        self.set(self._now + by)


def monotonic() -> float:
    """Seconds that never go backwards, for latencies and time-outs."""
    return time.perf_counter()


ticks = time.perf_counter_ns
"""Nanoseconds that never go backwards: `monotonic` for those who ask a million times a second."""
