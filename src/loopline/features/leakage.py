"""The search for leaks that comes before every training."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import get_args

import polars as pl

from loopline import data
from loopline.base.errors import Invalid
from loopline.base.ids import content_id
from loopline.data.labelling.outcomes import label_table
from loopline.data.privacy.tombstones import current
from loopline.data.spec import TableSpec
from loopline.features import leakage_columns, leakage_rows, recompute
from loopline.features.assemble import compute
from loopline.features.expr import LEAVES
from loopline.features.nouns import Leak, LeakageReport, TrainingSet
from loopline.features.past import KNOWN, back, between, history, planned, timeless, times
from loopline.features.spec import CutSpec, FeaturesSpec, Leaks
from loopline.features.spine import label_columns, spine_rows
from loopline.features.verbs import project_views
from loopline.features.views import Views
from loopline.framing.spec import FramingSpec
from loopline.workspace import Workspace, verb

VERSION = 5
CUTS, ROWS = 4, 150
"""Moments to cut the history at, and rows to compare at each."""
SAMPLE = 30_000
"""Rows whose times are compared, evenly spaced."""
ASKED = 100_000
"""Rows by which single columns are asked what they know of the label, evenly spaced."""
KINDS: tuple[str, ...] = get_args(Leaks)
Tables = Mapping[str, TableSpec]


@verb("features.leaks")
def leaks(
    ws: Workspace,
    project: Path,
    *,
    framing: FramingSpec,
    features: FeaturesSpec,
    training: CutSpec,
    tables: Mapping[str, TableSpec],
    training_set: TrainingSet,
    views: tuple[str, ...] | None = None,
) -> LeakageReport:
    """Search the rows of a training set for leaks: what they could not know when their prediction was due.

    Features of sampled rows are built again from the history cut at their decision
    time; columns are asked what they alone know of the label and how they came to
    know it; splits and times are compared. The same question has the same report.

    Parameters
    ----------
    views : tuple of str, optional
        Files with views instead of those of `features`, as the set was made with.
    """
    spec = features if views is None else FeaturesSpec(spine=features.spine, views=views)
    asked = {
        "version": VERSION,
        "training_set": training_set.id,
        "problem": framing.id,
        "leakage": training.leakage.model_dump(mode="json"),
    }
    if known := ws.records.find(LeakageReport, id=content_id(asked), limit=1):
        return known[0]
    search = _Search(ws, project, framing, spec, training, tables, training_set)
    found = tuple(_accepted(leak, training) for leak in search.all())
    return LeakageReport(
        id=content_id(asked),
        training_set=training_set.id,
        findings=tuple(sorted(found, key=lambda leak: (not leak.refuses, leak.kind, leak.column or ""))),
        checked=tuple(kind for kind in KINDS if kind not in search.skipped),
        skipped=search.skipped,
        recomputed_rows=search.recomputed,
        not_features=search.not_features(),
        created_at=ws.clock(),
    )


def refuse_leaks(report: LeakageReport) -> None:
    """Let nobody train on rows that leak.

    Raises
    ------
    Invalid
        Naming every finding that is not accepted, and what to do about each.
    """
    found = report.refusing
    if not found:
        return
    names = ", ".join(dict.fromkeys(leak.column or leak.kind for leak in found))
    kinds = dict.fromkeys(f"kind: {leak.kind}" + (f", column: {leak.column}" if leak.column else "") for leak in found)
    accept = ", ".join(f'{{{kind}, reason: "..."}}' for kind in kinds)
    raise Invalid(
        f"the training rows leak in {len(found)} place{'s' if len(found) > 1 else ''}: {names}",
        why="\n".join(f"{leak.kind}: {leak.evidence}" for leak in found),
        fix="\n".join(
            [
                *dict.fromkeys(leak.fix for leak in found),
                f"or, if it is none: `training.leakage: {{accept: [{accept}]}}` in loop.yaml",
            ]
        ),
    )


def _accepted(leak: Leak, training: CutSpec) -> Leak:
    for one in training.leakage.accept:
        if one.kind == leak.kind and one.column in (None, leak.column):
            return replace(leak, accepted=one.reason)
    return leak


class _Search:
    """One training set and what it came from."""

    def __init__(
        self,
        ws: Workspace,
        project: Path,
        framing: FramingSpec,
        features: FeaturesSpec,
        training: CutSpec,
        tables: Tables,
        training_set: TrainingSet,
    ) -> None:
        self.ws, self.framing, self.training, self.tables, self.set = ws, framing, training, tables, training_set
        self.spine, self.views_given = features.spine, bool(features.views)
        self.views: Views = project_views(ws, project, framing, features, tables)
        self.frame = pl.read_ipc(ws.blobs.path(current(ws, training_set.frame)))
        self.some = self.frame.gather_every(-(-self.frame.height // SAMPLE)).select(
            framing.unit, "decision_time", "label", "split"
        )
        self.skipped: dict[str, str] = {}
        self.recomputed = 0
        self._loaded: dict[str, pl.DataFrame] = {}

    def not_features(self) -> dict[str, str]:
        """Columns of the rows that are no features because they are times, where every other column is one."""
        if self.views_given:
            return {}
        named = {self.framing.unit, *_times(self.tables[self.spine]), "decision_time"}
        if self.framing.label.table in (None, self.spine):
            named |= label_columns(self.framing.label.value)
        named |= set(re.findall(r"\w+", self.framing.decision_time or ""))
        schema = self._schema(self.spine)
        return {name: "a time" for name, kind in schema.items() if kind.is_temporal() and name not in named}

    def all(self) -> Iterator[Leak]:
        names, categories = self.set.features, self.set.categorical
        frame, answers = self._with_answers()
        yield from leakage_columns.columns(frame, names, categories, answers=answers, seed=self.training.seed)
        yield from leakage_rows.rows(self.frame, names, self.framing.unit, self._grouped())
        if self.framing.decision_time is None:
            timed = ("time_overlap", "early_label", "future_known_at", "own_outcome", "reads_future")
            self.skipped |= dict.fromkeys(timed, "framing.decision_time is not given")
            return
        yield from self._labels()
        yield from self._late()
        yield from self._own()
        yield from self._future()

    def _grouped(self) -> Sequence[str]:
        wanted = (self.training.split.group, *self.training.leakage.groups)
        return [name for name in wanted if name is not None and name in self.frame.columns]

    def _with_answers(self) -> tuple[pl.DataFrame, list[str]]:
        """Rows of the frame with the numbers that the label is cut from, where it is cut from any."""
        asked = self.frame.gather_every(-(-self.frame.height // ASKED))
        table = label_table(self.framing, self.tables)
        schema, unit = self._schema(table), self.framing.unit
        names = [c for c in sorted(label_columns(self.framing.label.value)) if c in schema and schema[c].is_numeric()]
        if not names or unit not in schema:
            return asked, []
        rows = self.ws.tables.scan(table).select(unit, *(c for c in names if c != unit)).collect()
        numbers = [c for c in names if rows[c].n_unique() > 2]
        if not numbers:
            return asked, []
        renamed = {c: f"_answer_{c}" for c in numbers}
        mine = rows.select(unit, *numbers).join(asked.select(unit), on=unit, how="semi", maintain_order="left")
        last = mine.unique(unit, keep="last", maintain_order=True).rename(renamed)
        joined = asked.join(last, on=unit, how="left", maintain_order="left")
        return joined, list(renamed.values())

    def _labels(self) -> Iterator[Leak]:
        table = label_table(self.framing, self.tables)
        if table == self.spine:
            read = self._answers_read(table)
            if not read:
                self.skipped["early_label"] = f"answers stand in {table} itself, without a time of their own"
            for seen, names in read.items():
                known = self._of_some(table, (*_times(self.tables[table]), *([seen] if seen else ())))
                moments = known[seen] if seen else times(known, self.tables[table])[1]
                rows = known.select(self.framing.unit, known_at=moments)
                yield from leakage_rows.answers_read(self.some, rows, self.framing.unit, table, names)
            return
        answers = data.labels(self.ws, self.framing, self.tables, self.ws.clock())
        yield from leakage_rows.early_labels(self.some, answers, self.framing.unit, table)

    def _answers_read(self, table: str) -> dict[str | None, list[str]]:
        """Features made of the label's columns in the rows to predict, by `available_at` of their view."""
        answers = label_columns(self.framing.label.value)
        found: dict[str | None, list[str]] = {}
        for view in self.views.views:
            for name, tree in view.features if view.source == table else ():
                leaves = [leaf for leaf in tree.walk() if leaf.op in LEAVES]
                columns = {node.args[0] for leaf in leaves for node in leaf.args[0].walk() if node.op == "col"}
                if columns & answers and name in self.set.features:
                    found.setdefault(view.available_at, []).append(name)
        return found

    def _late(self) -> Iterator[Leak]:
        spec = self.tables[self.spine]
        if spec.known_at is None:
            self.skipped["future_known_at"] = f"data.{self.spine} declares no known_at"
            return
        rows = self._of_some(self.spine, _times(spec))
        rows = rows.select(self.framing.unit, _known=times(rows, spec)[1])
        yield from leakage_rows.late_rows(rows, self.framing.unit, "_known", self.some, self.spine, spec.known_at)

    def _own(self) -> Iterator[Leak]:
        unit = self.framing.unit
        for name in self.views.tables:
            spec, schema = self.tables[name], self._schema(name)
            if name == self.spine or timeless(spec) or unit not in schema:
                continue
            numbers = [c for c, dtype in schema.items() if dtype.is_numeric() and c != unit]
            rows = self._of_some(name, (*numbers, *_times(spec)))
            event, known = times(rows, spec)
            enter = pl.DataFrame({"a": event, "b": known}).select(_enter=pl.max_horizontal("a", "b"))
            facts = rows.select(unit, *numbers).hstack(enter)
            yield from leakage_rows.own_outcomes(self.some, facts, unit, name, bound=leakage_columns.STRONG)

    def _future(self) -> Iterator[Leak]:
        if not self.views.tables:
            self.skipped["reads_future"] = f"every feature is a column of {self.spine}"
            return
        unit = self.framing.unit
        ordered = self.frame.select(unit, "decision_time").sort("decision_time", maintain_order=True)
        at = recompute.moments(ordered["decision_time"], CUTS, self.training.seed)
        sampled = pl.concat(
            [ordered.filter(pl.col("decision_time") <= moment).tail(ROWS).select(unit) for moment in at]
        ).unique()
        spine_now = self.ws.tables.scan(self.spine)
        rows = spine_now.join(sampled.lazy(), on=unit, how="semi", maintain_order="left").collect()
        spine = planned(spine_rows(self.framing, rows), self.tables[self.spine], unit)
        kept = self.frame.select(unit, *self.set.features).join(sampled, on=unit, how="semi")
        done = self._compared(spine, kept, at, None)
        self.recomputed = done.rows
        if not done.differing:
            return
        whole = self._compared(spine, kept, at, self.ws.clock())
        stale = {name for name in done.differing if name in whole.differing}
        for leak in recompute.leaks(done):
            if leak.column not in stale:
                yield leak
                continue
            yield replace(
                leak,
                kind="changed_since",
                evidence=f"{leak.column} was computed before rows came that count for it: {leak.evidence}",
                fix="nothing, if those rows came late; the features of those days are kept as they were known",
                blocking=False,
            )

    def _compared(
        self, spine: pl.DataFrame, kept: pl.DataFrame, at: Sequence[datetime], until: datetime | None
    ) -> recompute.Recomputed:
        """Features built again with the tables cut at each moment, or at `until`."""
        lookback = self.views.lookback + timedelta(days=2)

        def cut(moment: datetime) -> Mapping[str, pl.DataFrame]:
            first = spine.filter(pl.col("decision_time") <= moment)["decision_time"].sort().tail(ROWS).min()
            assert isinstance(first, datetime)
            past = {}
            for name in self.views.tables:
                spec = self.tables[name]
                seen, since = self.views.available(name), back(first, lookback)
                rows = between(self._rows(name), spec, since=since, until=until or moment, available=seen)
                past[name] = history(rows, spec, seen)
            return past

        return recompute.recompute(
            lambda due, past: compute(self.views, due, past, unit=self.framing.unit),
            spine,
            kept,
            cut,
            unit=self.framing.unit,
            features=self.set.features,
            at=at,
            rows=ROWS,
        )

    def _rows(self, name: str) -> pl.DataFrame:
        """All rows of a table, with the columns that the views and the past of the table are made of."""
        if name not in self._loaded:
            rows = self.ws.tables.scan(name)
            read = self.views.reads(name)
            if read is not None:
                spec = self.tables[name]
                more = (*_times(spec), *spec.key, *([spec.tombstone] if spec.tombstone else ()))
                rows = rows.select(c for c in rows.collect_schema().names() if c in {*read, *more})
            self._loaded[name] = rows.collect()
        return self._loaded[name]

    def _of_some(self, name: str, columns: Iterable[str]) -> pl.DataFrame:
        """The rows of a table about `some` units, in the order they came: the unit and those of `columns` it has."""
        rows, unit = self.ws.tables.scan(name), self.framing.unit
        wanted = [c for c in rows.collect_schema().names() if c == unit or c in set(columns)]
        some = self.some.select(unit).lazy()
        return rows.select(wanted).join(some, on=unit, how="semi", maintain_order="left").collect()

    def _schema(self, name: str) -> pl.Schema:
        return self.ws.tables.scan(name).collect_schema()


def _times(spec: TableSpec) -> tuple[str, ...]:
    """Columns that say when rows of a table happened and were known."""
    return tuple(dict.fromkeys(c for c in (spec.event_time, spec.known_at, KNOWN) if c))
