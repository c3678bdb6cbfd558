"""What the pages of runs are given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from loopline.interfaces.ui.runs.told import Told, told
from loopline.store.runs.protocol import Experiment, RunLog, View
from loopline.training.tracking.left import left_behind
from loopline.workspace import Workspace

if TYPE_CHECKING:
    from loopline.loop.project import Project

LISTED = 1_000
"""Experiments that are read at once."""


@dataclass(frozen=True, slots=True)
class Log:
    """A workspace's run log, and the project whose pages stand beside those of runs (null under `loopline track`)."""

    ws: Workspace
    project: Project | None = None

    @property
    def runs(self) -> RunLog:
        """The run log."""
        return self.ws.runs

    def told(self, documents: Iterable[bytes]) -> list[Told]:
        """What documents of runs tell, and of those that are called running whether somebody writes them."""
        runs = [told(one) for one in documents]
        if not any(one.status == "RUNNING" for one in runs):
            return runs
        left = left_behind(self.ws)
        return [replace(one, left=left.get(one.id, "")) if one.status == "RUNNING" else one for one in runs]

    def run(self, id: str) -> Told:
        """One run.

        Raises
        ------
        NotFound
            If it is not there.
        """
        return self.told([self.runs.document(id)])[0]

    def experiments(self, view: View = "active") -> list[Experiment]:
        """Every experiment, the newest first."""
        found: list[Experiment] = []
        token: str | None = None
        while True:
            page = self.runs.search_experiments(view=view, limit=LISTED, token=token)
            found += page.items
            token = page.token
            if token is None:
                return found
