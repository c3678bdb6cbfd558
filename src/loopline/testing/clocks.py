"""Clocks for tests: one that stands still until told, one that ticks at each look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from loopline.base.clock import ManualClock


class TickingClock:
    """A clock that moves on by `step` each time it is read: no two moments are equal."""

    def __init__(
        self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), *, step: timedelta = timedelta(milliseconds=1)
    ) -> None:
        self._next, self._step = start.astimezone(UTC), step

    def __call__(self) -> datetime:
        now, self._next = self._next, self._next + self._step
        return now


__all__ = ["ManualClock", "TickingClock"]
