"""How windows are cut where they are kept in tiles: the same offline and online."""

from __future__ import annotations

from datetime import timedelta

US = timedelta(microseconds=1)
STEPS = tuple(
    timedelta(**step) // US
    for step in (
        {"seconds": 1}, {"seconds": 5}, {"seconds": 15}, {"minutes": 1}, {"minutes": 5}, {"minutes": 15},
        {"minutes": 30}, {"hours": 1}, {"hours": 2}, {"hours": 6}, {"hours": 12}, {"days": 1},
    )
)  # fmt: skip
PARTS = 12
"""A window is at most one part in this many longer than it says."""


def hop(length_us: int, refresh_us: int | None) -> int:
    """Width of the tiles, in microseconds, of a window of `length_us` in a view with `refresh_us`.

    A view that is refreshed keeps its windows in tiles: the left edge is cut down to a multiple of the greatest
    step that is a twelfth of the window or less, counted from 1970 in UTC. Any other view has exact windows (1).
    """
    if refresh_us is None:
        return 1
    return max((step for step in STEPS if step * PARTS <= length_us), default=1)


def lookback(length: timedelta, refresh: timedelta | None) -> timedelta:
    """How old an event can be and still be inside a window."""
    return length + hop(length // US, None if refresh is None else refresh // US) * US
