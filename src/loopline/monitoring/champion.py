"""Which labelled days speak of the present champion."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta

from loopline.monitoring.quality import DayCounts, trailing

FEWEST_DAYS = 7
"""Labelled days below which a champion is not judged: intervals between fewer days mean little."""


def champion_quality(
    days: Mapping[date, DayCounts], *, released: datetime, until: datetime, over: timedelta
) -> dict[str, tuple[float, float, float]] | None:
    """Trailing quality of the present champion's own answers.

    Answers of an earlier champion say nothing about this one, so the window
    begins anew with each release.

    Parameters
    ----------
    days : mapping
        Counts of the champion's own answers by UTC day.
    released : datetime
        When it took over, UTC; the day of the change does not count.
    until : datetime
        End of the window, UTC.
    over : timedelta
        Length of the window.

    Returns
    -------
    dict or None
        Metric to (value, low, high) with 90 % intervals between days; null
        with fewer than seven labelled days.
    """
    first = max(released.date(), (until - over).date())
    kept = [counts for day, counts in sorted(days.items()) if day >= first and counts.rows]
    return trailing(kept) if len(kept) >= FEWEST_DAYS else None
