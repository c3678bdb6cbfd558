"""What a world delivers: rows as they become known, and the features that requests carry."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta

import polars as pl

from loopline import data, features
from loopline.base.code import calling_user_code, load_function
from loopline.features.spec import FeaturesSpec
from loopline.interfaces.demo.scenario import CorruptSpec, StarveSpec, midnight
from loopline.interfaces.demo.stream import Stream
from loopline.loop.project import Project
from loopline.workspace import Workspace

DAY = timedelta(days=1)


class Deliveries:
    """The producers around a deployment, with all they will ever send.

    Parameters
    ----------
    ws : Workspace
        What is delivered goes here.
    project : Project
        Declares the tables and views.
    seed : int
        Throws the dice of producers that fail.
    """

    def __init__(self, ws: Workspace, project: Project, seed: int) -> None:
        self._ws, self._project = ws, project
        self._frames: dict[str, pl.DataFrame] = {}
        self._known: dict[str, pl.Series] = {}
        self._delivered: datetime | None = None
        self._starving: list[StarveSpec] = []
        self._dice = random.Random(seed)
        self._ahead = ThreadPoolExecutor(1)
        self._made: dict[date, Future[pl.DataFrame]] = {}

    def prepare(self, broken: Sequence[tuple[CorruptSpec, date]]) -> None:
        """Read the sources, break what will arrive broken, and order all by when it becomes known."""
        root, tables = self._project.root, self._project.spec.data
        self._frames.update({name: data.load_source(root, table) for name, table in tables.items()})
        for corrupt, day in broken:
            function = load_function(root, corrupt.function)
            with calling_user_code(corrupt.function):
                self._frames[corrupt.table] = function(self._frames[corrupt.table], day)
        for name, table in tables.items():
            if table.known_at is not None:
                self._frames[name] = self._frames[name].sort(table.known_at, maintain_order=True)
                self._known[name] = self._frames[name][table.known_at]

    def stream(self, seed: int) -> Stream:
        """The same rows as they come between two deliveries."""
        return Stream(self._ws, self._project, self._frames, self._known, seed)

    def ingest(self) -> None:
        """Deliver what became known since the last delivery; tables without news are left alone."""
        now, news = self._ws.clock(), {}
        for name, table in self._project.spec.data.items():
            frame = self._frames[name]
            if table.known_at is None:
                if self._delivered is None:
                    news[name] = frame
                continue
            known = self._known[name]
            low = 0 if self._delivered is None else known.search_sorted(self._delivered, side="right")
            high = known.search_sorted(now, side="right")
            if high > low or self._delivered is None:
                news[name] = frame[low:high]
        self._delivered = now
        data.ingest(self._ws, self._project.root, self._project.spec.data, names=list(news), frames=news)

    def history(self, until: datetime) -> None:
        """Compute the features of all that was due before the first day."""
        self._materialise(datetime.min.replace(tzinfo=until.tzinfo), until)

    def ahead(self, day: date) -> None:
        """Begin with the features of a day: they depend on what its producers know, not on what is served."""
        self._made[day] = self._ahead.submit(self._materialise, midnight(day), midnight(day) + DAY)

    def rows(self, day: date, inputs: set[str], others: Sequence[tuple[str, ...]]) -> pl.DataFrame:
        """Units that are due on a day with their features.

        Parameters
        ----------
        inputs : set of str
            What the endpoint asks for.
        others : sequence of tuple of str
            View files of candidates, which may define inputs beyond the project's own.
        """
        since, until = midnight(day), midnight(day) + DAY
        made = self._made.pop(day, None)
        rows = made.result() if made is not None else self._materialise(since, until)
        extra = inputs - set(rows.columns)
        unit = self._project.spec.framing.unit
        for views in others:
            if extra:
                more = self._materialise(since, until, views)
                found = [c for c in more.columns if c in extra]
                rows = rows.join(more.select(unit, *found), on=unit)
                extra -= set(found)
        rows = rows.sort("decision_time", unit).with_columns(pl.col(pl.Float32).cast(pl.Float64))
        for starve in self._starving:
            rows = self._starve(rows, starve)
        return rows

    def starve(self, spec: StarveSpec) -> None:
        """From now on the producer of these inputs is mostly down."""
        self._starving.append(spec)

    def forget(self) -> None:
        """Let go of the tables in memory: the workspace holds what was delivered."""
        self._ahead.shutdown(cancel_futures=True)
        for held in (self._frames, self._known, self._made):
            held.clear()

    def _materialise(self, since: datetime, until: datetime, views: tuple[str, ...] | None = None) -> pl.DataFrame:
        spec = self._project.spec
        wanted = spec.features if views is None else FeaturesSpec(spine=spec.features.spine, views=views)
        root, tables = self._project.root, spec.data
        loaded = features.project_views(self._ws, root, spec.framing, wanted, tables, frames=self._frames)
        frames = self._recent(since, loaded.lookback)
        then = replace(self._ws, clock=lambda: until)
        features.materialise(then, root, spec.framing, wanted, tables, since=since, until=until, frames=frames)
        rows: pl.DataFrame = features.read(self._ws, loaded, since=since, until=until)
        return rows

    def _recent(self, since: datetime, lookback: timedelta) -> dict[str, pl.DataFrame]:
        """The frames without what is too old for any window of decisions from `since` on."""
        recent = dict(self._frames)
        if since.year > 1:
            for name, known in self._known.items():
                if name != self._project.spec.features.spine:
                    recent[name] = recent[name][known.search_sorted(since - lookback - DAY) :]
        return recent

    def _starve(self, rows: pl.DataFrame, starve: StarveSpec) -> pl.DataFrame:
        base = features.load_views(self._project.root, self._project.spec.features.views).names
        extra = features.load_views(self._project.root, starve.views).names
        names = [n for n in extra if n not in base and n in rows.columns]
        if not names:
            return rows
        dry = pl.Series([self._dice.random() < starve.share for _ in range(rows.height)])
        return rows.with_columns(pl.when(~dry).then(pl.col(n)).alias(n) for n in names)
