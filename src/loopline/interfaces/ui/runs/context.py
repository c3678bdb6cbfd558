"""What the pages of runs are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopline.store.runs.protocol import Experiment, RunLog, View
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
