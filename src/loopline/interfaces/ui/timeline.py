"""The life of a model: cycles with their decisions, moves by hand, incidents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from loopline.base.errors import Invalid
from loopline.evaluation.nouns import Report
from loopline.features import refuse_leaks
from loopline.features.nouns import LeakageReport, ParityReport
from loopline.interfaces.ui.context import Here, number_of
from loopline.monitoring.nouns import Incident, Resolution
from loopline.registry.nouns import Release, Version
from loopline.retraining.nouns import Cycle, Transition
from loopline.retraining.states import ENDS

KEY_STATES = ENDS | {"TRIAGE", "DATA_INCIDENT", "AWAIT_APPROVAL", "ROLLOUT", "ROLLING_BACK"}
"""States whose entering is news; the steps between are work."""


@dataclass(frozen=True, slots=True)
class Story:
    """One cycle with all that belongs to it."""

    cycle: Cycle
    moves: tuple[Transition, ...]
    """Oldest first."""
    version: Version | None
    report: Report | None
    releases: tuple[Release, ...]
    parity: ParityReport | None = None
    """The newest comparison of the version's own answers with the tables."""

    @property
    def number(self) -> int:
        """Which pass through the loop this is."""
        return number_of(self.cycle.id)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.cycle.state in ENDS

    @property
    def at(self) -> datetime:
        """When it began."""
        return self.cycle.started_at

    @property
    def ended(self) -> datetime | None:
        """When it ended; null while it runs."""
        return self.moves[-1].at if self.over and self.moves else None

    @property
    def why(self) -> str:
        """Why it began."""
        return self.moves[0].why if self.moves else self.cycle.trigger

    @property
    def outcome(self) -> str:
        """Why it is where it is."""
        return self.moves[-1].why if self.moves else ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something between the cycles."""

    at: datetime
    kind: str
    """`opened`, `resolved` or `release`."""
    incident: Incident | None = None
    resolution: Resolution | None = None
    release: Release | None = None
    version: Version | None = None


def stories(here: Here) -> list[Story]:
    """Every cycle, oldest first."""
    moves: dict[str, list[Transition]] = defaultdict(list)
    for move in here.ws.records.find(Transition, newest_first=False, loop=here.name):
        moves[move.cycle].append(move)
    releases = here.releases()
    versions = {v.id: v for v in here.versions()}
    compared = _compared(here)
    made = []
    for cycle in here.cycles():
        own = tuple(sorted(moves[cycle.id], key=lambda m: m.generation))
        mine = tuple(r for r in releases if r.reason.startswith(f"cycle {cycle.id}:"))
        report = here.known(Report, cycle.changes.get("report"))
        id = cycle.changes.get("version", "")
        made.append(Story(cycle, own, versions.get(id), report, mine, compared.get(id)))
    return made


def _compared(here: Here) -> dict[str, ParityReport]:
    """By version, the newest parity report about its own answers."""
    found: dict[str, ParityReport] = {}
    for report in here.ws.records.find(ParityReport, endpoint=here.name):
        if len(report.versions) == 1:
            found.setdefault(report.versions[0], report)
    return found


def leaks(here: Here, story: Story) -> LeakageReport | None:
    """The search for leaks in the rows of a cycle: of its training set, or the one that it failed by."""
    used = story.cycle.changes.get("training_set")
    if used:
        reports = here.ws.records.find(LeakageReport, limit=1, training_set=used)
        return reports[0] if reports else None
    if story.cycle.state != "FAILED":
        return None
    for report in here.ws.records.find(LeakageReport):
        try:
            refuse_leaks(report)
        except Invalid as refusal:
            if refusal.what in story.outcome:
                return report
    return None


def events(here: Here, told: list[Story]) -> list[Event]:
    """What happened between the cycles, oldest first: incidents, and releases that no cycle made."""
    found: list[Event] = []
    for incident, resolution in here.incidents():
        found.append(Event(incident.opened_at, "opened", incident, resolution))
        if resolution is not None:
            found.append(Event(resolution.at, "resolved", incident, resolution))
    versions = {v.id: v for v in here.versions()}
    by_cycles = {release.id for story in told for release in story.releases}
    found += [
        Event(release.at, "release", release=release, version=versions.get(release.version))
        for release in here.releases()
        if release.id not in by_cycles
    ]
    return sorted(found, key=lambda event: event.at)


WORK = frozenset({"SNAPSHOT", "TRAIN", "EVALUATE", "GATE"})
"""States that only lead on to the next."""


def grouped(moves: Sequence[Transition]) -> list[tuple[Transition, ...]]:
    """Decisions in order, those that were only work put together."""
    groups: list[tuple[Transition, ...]] = []
    for move in moves:
        if groups and move.after in WORK and groups[-1][-1].after in WORK:
            groups[-1] = (*groups[-1], move)
        else:
            groups.append((move,))
    return groups


def news(here: Here, limit: int) -> list[Transition]:
    """The newest decisions that changed something people care about, newest first."""
    recent = here.ws.records.find(Transition, loop=here.name, limit=12 * limit)
    return [move for move in recent if move.after in KEY_STATES][:limit]
