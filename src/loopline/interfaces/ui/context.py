"""What every page is given, and reads that several pages share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from loopline.base.errors import LooplineError, NotFound
from loopline.base.nouns import from_doc
from loopline.governance.served_as import differences
from loopline.loop import facts
from loopline.loop.project import Project
from loopline.monitoring.nouns import Incident, Quality, Resolution
from loopline.registry.nouns import Release, Version
from loopline.retraining.nouns import Cycle
from loopline.workspace import Workspace

N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class Here:
    """The workspace and the project whose pages these are."""

    ws: Workspace
    project: Project

    @property
    def name(self) -> str:
        """The loop's name: of its model and its endpoint too."""
        return self.project.name

    @property
    def now(self) -> datetime:
        """The workspace's present moment, UTC."""
        return self.ws.clock()

    def known(self, cls: type[N], id: str | None) -> N | None:
        """The noun with that id; null when the records hold none."""
        if not id:
            return None
        try:
            return self.ws.records.get(cls, id)
        except NotFound:
            return None

    def logged(self, run: str) -> bool:
        """Whether the run log knows a run, so that its page can be linked to."""
        try:
            self.ws.runs.document(run)
        except LooplineError:
            return False
        return True

    def differs(self, version: Version) -> list[str]:
        """What a version reads of requests otherwise than the project says now."""
        spec = self.project.spec
        served = spec.serving.features
        return differences(self.ws, self.project.root, spec.framing, spec.features, spec.data, version, served)

    def champion(self) -> tuple[Version, Release] | None:
        """The version in production and the release that put it there."""
        return facts.champion(self.ws, self.name)

    def cycle(self) -> Cycle | None:
        """The running cycle; null when the loop is idle."""
        return facts.current_cycle(self.ws, self.name)

    def cycles(self) -> list[Cycle]:
        """Every cycle of this loop, oldest first."""
        found = [from_doc(Cycle, row.doc) for row in self.ws.records.rows(facts.CYCLE)]
        return sorted((c for c in found if c.loop == self.name), key=lambda c: (c.started_at, number_of(c.id)))

    def made_by_cycles(self, what: str) -> dict[str, int]:
        """Ids of the reports (or models) that cycles made, with the cycle's number; replays make others."""
        return {c.changes[what]: number_of(c.id) for c in self.cycles() if c.changes.get(what)}

    def versions(self) -> list[Version]:
        """Every registered version, newest first."""
        return sorted(self.ws.records.find(Version, name=self.name), key=lambda v: -v.number)

    def releases(self) -> list[Release]:
        """Every move of `production`, oldest first."""
        return self.ws.records.find(Release, newest_first=False, name=self.name, alias=facts.ALIAS)

    def incidents(self) -> list[tuple[Incident, Resolution | None]]:
        """Every incident with what ended it; open ones first, then the newest."""
        ended = {r.incident: r for r in self.ws.records.find(Resolution)}
        found = [(i, ended.get(i.id)) for i in self.ws.records.find(Incident)]
        return sorted(found, key=lambda pair: (pair[1] is not None, -pair[0].opened_at.timestamp()))

    def quality(self) -> Quality | None:
        """Trailing quality of the present champion; null before its first labelled window."""
        found = self.ws.records.find(Quality, limit=1, endpoint=self.name)
        held = self.champion()
        if not found or (held is not None and found[0].over_to <= held[1].at):
            return None
        return found[0]


def number_of(cycle_id: str) -> int:
    """The number at the end of a cycle's id."""
    tail = cycle_id.rpartition("/")[2]
    return int(tail) if tail.isdigit() else 0
