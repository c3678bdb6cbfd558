"""The stream of a world: events reach the online store refresh by refresh, and requests name entities."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline import features
from loopline.features.online import OnlineFeatures
from loopline.features.requests import space_of
from loopline.features.views import Views
from loopline.interfaces.demo.scenario import StarveSpec
from loopline.loop.project import Project
from loopline.workspace import Workspace

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Stream:
    """What producers send between two loads of the tables, applied at each refresh.

    Parameters
    ----------
    ws : Workspace
        Its online store is written.
    project : Project
        Declares tables and views.
    frames, known : dict
        All that the producers will ever send, in order of its known time, and that time.
    seed : int
        Throws the dice of producers that fail.
    """

    def __init__(
        self, ws: Workspace, project: Project, frames: dict[str, pl.DataFrame], known: dict[str, pl.Series], seed: int
    ) -> None:
        self._ws, self._project, self._frames, self._known = ws, project, frames, known
        self._dice = random.Random(seed)
        self._groups: list[tuple[Views, OnlineFeatures]] = []
        self._times: dict[str, npt.NDArray[np.int64]] = {}
        self._thin: dict[str, float] = {}
        self._at: datetime | None = None
        self.step = timedelta(hours=1)

    def carry(self, files: Sequence[str], since: datetime) -> None:
        """From `since` on, keep the views of these files up to date; files that are carried already stay."""
        for file in files:
            group = features.load_views(self._project.root, (file,))
            if any(group.id == known.id for known, _ in self._groups) or not group.tables:
                continue
            online = OnlineFeatures(self._ws.online, group, tables=dict(self._project.spec.data), space=space_of(group))
            refreshes = [view.refresh for view in group.views if view.refresh is not None]
            self.step = min([self.step, *refreshes])
            first = since - group.lookback - DAY
            rows = {name: self._between(name, first, since) for name in group.tables}
            online.apply_all(rows, _floor(since, self.step))
            self._groups.append((group, online))

    def starve(self, spec: StarveSpec) -> None:
        """From now on the producer of these views is mostly down."""
        for file in spec.views:
            self._thin[features.load_views(self._project.root, (file,)).id] = spec.share

    def refreshes(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """The moments in `[since, until)` at which the store moves on."""
        at = _floor(since, self.step)
        while at < until:
            yield at
            at += self.step

    def requests(self, columns: Sequence[str], since: datetime, until: datetime) -> pl.DataFrame:
        """Units that are due in `[since, until)`: the unit, `decision_time` and what a request brings."""
        spec = self._project.spec
        spine, framing = spec.features.spine, spec.framing
        rows: pl.DataFrame = features.due_rows(framing, spec.data[spine], self._frames[spine], since, until)
        kept = dict.fromkeys((framing.unit, "decision_time", *(c for c in columns if c in rows.columns)))
        return rows.select(list(kept)).sort("decision_time", framing.unit)

    def go(self, to: datetime) -> None:
        """Let everything in that became known until `to`."""
        for group, online in self._groups:
            share = self._thin.get(group.id, 0.0)
            news = {}
            for name in group.tables:
                if name in self._known:
                    rows = self._between(name, self._at or to, to)
                    if rows.height and share:
                        rows = rows.filter(pl.Series([self._dice.random() >= share for _ in range(rows.height)]))
                    if rows.height:
                        news[name] = rows
            online.apply_all(news, to)
        self._at = to

    def _between(self, name: str, after: datetime, until: datetime) -> pl.DataFrame:
        """Rows of a table that became known in (after, until]; all of one without times."""
        if name not in self._known:
            return self._frames[name]
        if name not in self._times:
            self._times[name] = self._known[name].dt.epoch("us").to_numpy()
        low, high = (int(np.searchsorted(self._times[name], _micros(at), "right")) for at in (after, until))
        return self._frames[name].slice(low, high - low)


def _micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _floor(at: datetime, step: timedelta) -> datetime:
    return at - (at - EPOCH) % step
