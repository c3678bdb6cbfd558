"""The stream of a world: events reach the online store refresh by refresh, and requests name entities."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline import features
from loopline.features.online import OnlineFeatures, Staged
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
        self._due: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
        self._thin: dict[str, float] = {}
        self._at: datetime | None = None
        self._ahead = ThreadPoolExecutor(1)
        self._staged: dict[datetime, Future[list[Staged]]] = {}
        self.step = timedelta(hours=1)

    def carry(self, files: Sequence[str], since: datetime) -> None:
        """From `since` on, keep the views of these files up to date; files that are carried already stay."""
        self._require_nothing_staged()
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
        self._require_nothing_staged()
        for file in spec.views:
            self._thin[features.load_views(self._project.root, (file,)).id] = spec.share

    def turns(self, since: datetime, until: datetime) -> Iterator[tuple[datetime, int, int]]:
        """The refreshes in `[since, until)` after which somebody asks, and which of the day's requests come then.

        A refresh after which nobody asks is left to the next one, which takes its events along.
        """
        due = self.requests((), since, until)["decision_time"].to_list()
        at = _floor(since, self.step)
        while at < until:
            low, high = bisect_left(due, at), bisect_left(due, at + self.step)
            if low < high:
                yield at, low, high
            at += self.step

    def requests(self, columns: Sequence[str], since: datetime, until: datetime) -> pl.DataFrame:
        """Units that are due in `[since, until)`: the unit, `decision_time` and what a request brings."""
        spec = self._project.spec
        spine, framing = spec.features.spine, spec.framing
        if self._due is None:
            times = features.spine_rows(framing, self._frames[spine])["decision_time"].dt.epoch("us").to_numpy()
            places = np.argsort(times, kind="stable")
            self._due = places, times[places]
        places, times = self._due
        low, high = (int(np.searchsorted(times, _micros(at), "left")) for at in (since, until))
        near = self._frames[spine][np.sort(places[low:high])]
        rows: pl.DataFrame = features.due_rows(framing, spec.data[spine], near, since, until)
        kept = dict.fromkeys((framing.unit, "decision_time", *(c for c in columns if c in rows.columns)))
        return rows.select(list(kept)).sort("decision_time", framing.unit)

    def ahead(self, since: datetime, until: datetime) -> None:
        """Begin to work out the refreshes of `[since, until)`: what they write depends on the producers alone."""
        for at, _, _ in self.turns(since, until):
            self._staged[at] = self._ahead.submit(self._stage, at)

    def go(self, to: datetime) -> None:
        """Let everything in that became known until `to`."""
        made = self._staged.pop(to, None)
        if made is None:
            self._require_nothing_staged()
        staged = self._stage(to) if made is None else made.result()
        for (_, online), one in zip(self._groups, staged, strict=True):
            online.write(one)

    def close(self) -> None:
        """End the work ahead."""
        self._ahead.shutdown(cancel_futures=True)

    def _stage(self, to: datetime) -> list[Staged]:
        """What each group writes to move on to `to`."""
        staged = []
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
            staged.append(online.stage(news, to))
        self._at = to
        return staged

    def _require_nothing_staged(self) -> None:
        if self._staged:
            raise RuntimeError(f"refreshes are staged from {min(self._staged)} on: they go first")

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
