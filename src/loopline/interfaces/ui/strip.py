"""The model's life on one line of time: geometry for a drawing made on the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from loopline.interfaces.ui import states
from loopline.interfaces.ui.timeline import Event, Story

WIDTH, LEFT, RIGHT = 1160.0, 86.0, 14.0
LEAST = 5.0
TICKS = 9
STEPS = (1, 2, 7, 14, 30, 61, 91, 182, 365)


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time."""

    x: float
    width: float
    tone: str
    title: str
    href: str
    sign: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment."""

    x: float
    tone: str
    label: str
    title: str
    href: str


@dataclass(frozen=True, slots=True)
class Strip:
    """Everything that is drawn, in units of the drawing."""

    width: float
    cycles: tuple[Bar, ...]
    releases: tuple[Mark, ...]
    incidents: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    summary: str


def strip(told: Sequence[Story], between: Sequence[Event], now: datetime) -> Strip | None:
    """The drawing of a life; null before anything has happened."""
    starts = [story.at for story in told] + [event.at for event in between]
    if not starts:
        return None
    first = min(starts) - timedelta(hours=12)
    last = max(now, *starts) + timedelta(hours=12)

    def x(at: datetime) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * ((at - first) / (last - first)), 1)

    cycles = []
    for story in told:
        said = states.state(story.cycle.state)
        end = story.ended or now
        title = f"cycle {story.number}, {said.words}: {story.outcome}"
        width = max(LEAST, x(end) - x(story.at))
        cycles.append(Bar(x(story.at), width, said.tone, title, f"/retraining/{story.number}", said.sign))
    releases = [
        (release, story.version.number if story.version else None, f"/retraining/{story.number}")
        for story in told
        for release in story.releases
    ]
    releases += [
        (event.release, event.version.number if event.version else None, "/registry")
        for event in between
        if event.release is not None
    ]
    marks = [
        Mark(
            x(release.at),
            "bad" if release.act == "rollback" else "good",
            str(number or "?"),
            f"version {number} {'rolled back to' if release.act == 'rollback' else 'released'}, {release.at:%Y-%m-%d}",
            href,
        )
        for release, number, href in releases
    ]
    incidents = [
        Bar(
            x(event.incident.opened_at),
            max(LEAST, x(event.resolution.at if event.resolution else now) - x(event.incident.opened_at)),
            "quiet" if event.resolution else "bad",
            f"{'resolved' if event.resolution else 'open'} incident: {event.incident.title}",
            f"/monitoring#incident-{event.incident.id[:12]}",
        )
        for event in between
        if event.kind == "opened" and event.incident is not None
    ]
    counts = f"{len(cycles)} cycles, {len(marks)} releases and {len(incidents)} incidents"
    summary = f"{counts} from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    return Strip(WIDTH, tuple(cycles), tuple(marks), tuple(incidents), _ticks(first, last, x), summary)


def _ticks(first: datetime, last: datetime, x: Callable[[datetime], float]) -> tuple[tuple[float, str], ...]:
    days = (last - first) / timedelta(days=1)
    step = next((s for s in STEPS if days / s <= TICKS), STEPS[-1])
    at = first.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    ticks: list[tuple[float, str]] = []
    while at < last:
        ticks.append((x(at), f"{at:%Y-%m-%d}" if not ticks or (at.month == 1 and step > 30) else f"{at:%m-%d}"))
        at += timedelta(days=step)
    return tuple(ticks)
