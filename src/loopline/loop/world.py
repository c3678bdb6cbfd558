"""The world that policies are replayed in: its rows as they were due, and their labels as they became known."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.errors import Invalid
from loopline.base.ids import iso
from loopline.serving.inputs import Inputs
from loopline.serving.release import KINDS
from loopline.training.bundle import Bundle, load_bundle
from loopline.training.nouns import Model
from loopline.training.packages.trust import trust_of
from loopline.workspace import Workspace

if TYPE_CHECKING:
    from loopline.loop.project import Project

CHUNK = timedelta(days=31)
FAR = np.iinfo(np.int64).max


class World:
    """All rows from `since` on that have come in so far, in order of decision time.

    Rows are numbered through. Labels are held for all of them, features for those of
    the last extension only: what was scored before stays scored.

    Attributes
    ----------
    day : int64 array, n
        Days since 1970 (UTC) of the rows' decision times.
    label : float64 array, n
        1, 0, or NaN for void and not known.
    known : int64 array, n
        Microseconds of the label's `known_at`; the greatest integer where there is none.
    bounds : dict
        Day to the numbers of its first row and of the one after its last.
    """

    def __init__(self, ws: Workspace, project: Project, since: datetime) -> None:
        self._ws, self._project, self._reached = ws, project, since
        self._spine = pl.DataFrame()
        self._rows = pl.DataFrame()
        self._first = 0
        self.day: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.label: npt.NDArray[np.float64] = np.empty(0)
        self.known: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.bounds: dict[date, tuple[int, int]] = {}
        self._usable: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def extend(self, to: datetime) -> list[date]:
        """Take in the rows decided before `to`, and all labels that are known now; the days that came."""
        from loopline import features

        ws, project, spec = self._ws, self._project, self._project.spec
        if to > self._reached:
            views = features.project_views(ws, project.root, spec.framing, spec.features, spec.data)
            given = (ws, project.root, spec.framing, spec.features, spec.data)
            made = min(to, ws.clock())
            if made > self._reached:
                features.materialise(*given, since=self._reached, until=made)
            rows = features.read(ws, views, since=self._reached, until=to)
            if rows.height:
                self._rows = rows.sort("decision_time", spec.framing.unit)
                self._first = self._spine.height
                self._spine = pl.concat([self._spine, self._rows.select(spec.framing.unit, "decision_time")])
            self._reached = to
        known = set(self.bounds)
        self._label()
        return [day for day in self.bounds if day not in known]

    def _label(self) -> None:
        from loopline import data

        spec = self._project.spec
        labels = data.labels(self._ws, spec.framing, spec.data, self._ws.clock())
        labels = labels.select(spec.framing.unit, "label", "known_at")
        usable = labels.filter(pl.col("label").is_not_null())["known_at"].dt.epoch("us").sort()
        self._usable = usable.to_numpy().astype(np.int64)
        if not self._spine.height:
            return
        rows = self._spine.join(labels, on=spec.framing.unit, how="left", maintain_order="left")
        self.day = rows["decision_time"].dt.epoch("d").to_numpy().astype(np.int64)
        self.label = rows["label"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        self.known = rows["known_at"].dt.epoch("us").fill_null(FAR).to_numpy().astype(np.int64)
        for number in np.unique(self.day):
            low, high = np.searchsorted(self.day, [number, number + 1])
            self.bounds[datetime.fromtimestamp(int(number) * 86_400, tz=UTC).date()] = (int(low), int(high))

    def require_labels(self, since: datetime, until: datetime) -> None:
        """Refuse a stretch in which nothing can be judged."""
        if not len(self.label) or np.isnan(self.label).all():
            raise Invalid(
                f"nothing to replay between {iso(since)} and {iso(until)}",
                why="the workspace holds no labelled rows there",
                fix="ingest the data first, or name other moments",
            )

    def new_labels(self, after: datetime, until: datetime) -> int:
        """Labels that became known in (after, until]."""
        ends = [int(moment.timestamp() * 1e6) for moment in (after, until)]
        low, high = np.searchsorted(self._usable, ends, side="right")
        return int(high - low)

    def entities(self, day: date) -> list[str]:
        """The units of a day's rows."""
        low, high = self.bounds[day]
        return self._spine[self._project.spec.framing.unit].slice(low, high - low).cast(pl.String).to_list()

    def features(self, day: date) -> pl.DataFrame:
        """The features of a day of the last extension."""
        low, high = self.bounds[day]
        return self._rows.slice(low - self._first, high - low)

    def chunk(self, low: int) -> tuple[int, pl.DataFrame]:
        """Rows from number `low` on to be scored at once, and the number after the last."""
        end = int(np.searchsorted(self.day, self.day[low] + CHUNK.days))
        return end, self._rows.slice(low - self._first, end - low)


class Scored:
    """A model's scores of the world's rows, computed a month at a time when asked for."""

    def __init__(self, model: Model, bundle: Bundle, world: World) -> None:
        self.model, self._bundle, self._world = model, bundle, world
        self._scores: npt.NDArray[np.float64] = np.empty(0)

    @property
    def threshold(self) -> float:
        return self._bundle.threshold

    @property
    def inputs(self) -> Inputs:
        """What a request to the model is held to."""
        return Inputs(self._bundle.inputs)

    def bad(self, day: date) -> npt.NDArray[np.int64]:
        """What guardrails count of requests that bring a day's features, (n, `KINDS`) of 0 and 1.

        Nothing fails and nothing is slow here: inputs are what can be bad of them.
        """
        rows, inputs = self._world.features(day), self.inputs
        void = np.isnan(self._bundle.matrix(rows))
        wrong = [rows[one.name].is_null().to_numpy() for one in inputs.inputs if not one.nullable]
        found = np.zeros((rows.height, len(KINDS)), dtype=np.int64)
        found[:, KINDS.index("missing")] = void[:, list(inputs.rarely_null)].any(axis=1)
        found[:, KINDS.index("contract")] = np.any(wrong, axis=0) if wrong else 0
        return found

    def __call__(self, day: date) -> npt.NDArray[np.float64]:
        low, high = self._world.bounds[day]
        if high > len(self._scores):
            grown = np.full(len(self._world.day), np.nan)
            grown[: len(self._scores)] = self._scores
            self._scores = grown
        if np.isnan(self._scores[low:high]).any():
            end, rows = self._world.chunk(low)
            self._scores[low:end] = self._bundle.predict(rows)
        return self._scores[low:high]


def scored(ws: Workspace, model: Model, world: World) -> Scored:
    """The scores of a model whose bundle the workspace holds."""
    return Scored(model, load_bundle(ws.blobs.path(model.bundle), trust_of(ws.id)), world)
