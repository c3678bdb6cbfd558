"""Cutting a training set: labelled rows with what was known of each, in train and test."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from loopline import data
from loopline.base.errors import Invalid
from loopline.base.ids import canonical, content_id, iso
from loopline.data.spec import TableSpec
from loopline.features.beside import ROW, Beside
from loopline.features.beside import beside as computed_beside
from loopline.features.nouns import TrainingSet
from loopline.features.past import planned
from loopline.features.requests import keys_read, request_doc
from loopline.features.spec import CutSpec, FeaturesSpec
from loopline.features.spine import spine_rows
from loopline.features.split import Span, at_random, by_time, inside
from loopline.features.verbs import FIRST, gaps, materialise, project_views, read, rows_of
from loopline.features.views import CONFIDENCE, Views
from loopline.framing.spec import FramingSpec
from loopline.workspace import Workspace, verb


def _same_unit(ws: Workspace, framing: FramingSpec, spine: str, tables: Mapping[str, TableSpec], now: datetime) -> int:
    """Rows of the spine known now beyond one for each unit: earlier versions, or a unit that names too little."""
    known = pl.col(data.known_column(tables[spine]))
    units = ws.tables.scan(spine).filter(known <= now).select(framing.unit)
    return int(units.select(pl.len() - pl.col(framing.unit).n_unique()).collect().item())


@verb("features.training_set")
def training_set(
    ws: Workspace,
    project: Path,
    *,
    framing: FramingSpec,
    features: FeaturesSpec,
    training: CutSpec,
    tables: Mapping[str, TableSpec],
    evaluation_slices: Sequence[str] = (),
    views: tuple[str, ...] | None = None,
    beside: str | None = None,
    excluded_windows: Sequence[Span] = (),
    at: datetime | None = None,
) -> TrainingSet:
    """Labelled rows with what was known at each row's decision time, cut into train and test.

    By time the test part is the last `split.test` of labelled decision times
    before `at`; the train part is all before that, or its newest `training.window`.
    Without a decision time a share is held out at random. Features that are not
    kept yet are materialised.

    Parameters
    ----------
    evaluation_slices : sequence of str
        Columns of the spine to carry along.
    views : tuple of str, optional
        Files with views instead of those of `features`.
    beside : str, optional
        Training set of a champion that is judged on the same rows. Its features that
        these views drop or define otherwise are computed for the held-out rows, as
        they were defined then, in columns `champion:<name>`; what cannot be computed
        any more is told in `missing`.
    excluded_windows : sequence of (from, to)
        Rows due in there are left out: what was known then was wrong.
    at : datetime, optional
        As known at this moment; the workspace's now by default.

    Raises
    ------
    Invalid
        If there is no labelled row, or a slice is no column.
    """
    now = min(at or ws.clock(), ws.clock())
    spec = features if views is None else FeaturesSpec(spine=features.spine, views=views)
    found = project_views(ws, project, framing, spec, tables)
    grouped = [c for c in (training.split.group, *training.leakage.groups) if c is not None and c != framing.unit]

    def of_champion(rows: pl.DataFrame) -> Beside:
        if beside is None:
            return Beside()
        files = tuple(dict.fromkeys((*spec.views, *features.views)))
        return computed_beside(
            ws, project, framing, features, files, tables, own=found, champion=beside, rows=rows, now=now
        )

    kept = _kept(
        ws,
        _labelled(ws, project, framing, features, spec, tables, found, (*evaluation_slices, *grouped), now),
        framing,
        training,
        inside(excluded_windows),
        now,
        of_champion,
    )
    if same := _same_unit(ws, framing, features.spine, tables, now):
        kept.excluded["same_unit"] = same
    ws.blobs.put(canonical(found.doc()))  # its digest is the id of the views
    snapshot = data.snapshot(replace(ws, clock=lambda: now), tables, project=project)
    spine = rows_of(ws, features.spine, tables, None)
    schema = spine.collect_schema()
    unnamed = _ever_null(spine, [name for name in keys_read(found) if name in schema])
    asked = request_doc(project, spec.views, found, tables[features.spine], schema, unit=framing.unit, unnamed=unnamed)
    return TrainingSet(
        id=content_id(
            {
                "frame": kept.frame,
                "views": found.id,
                "snapshot": snapshot.id,
                "features": list(found.names),
                "excluded": kept.excluded,
                **({"beside": beside, "missing": kept.missing} if kept.beside else {}),
            }
        ),
        snapshot=snapshot.id,
        frame=kept.frame,
        features=found.names,
        categorical=found.categorical,
        views=found.id,
        train_rows=kept.sizes.get("train", 0),
        test_rows=kept.sizes.get("test", 0),
        train_to=kept.train_to or snapshot.known_to,
        test_to=kept.test_to or snapshot.known_to,
        excluded=kept.excluded,
        request=None if asked is None else ws.blobs.put(canonical(asked)),
        beside=beside if kept.beside else None,
        missing=kept.missing,
    )


def _ever_null(rows: pl.LazyFrame, names: Sequence[str]) -> list[str]:
    """Those of some columns that are null in some row."""
    if not names:
        return []
    found = rows.select(pl.col(names).is_null().any()).collect().row(0, named=True)
    return [name for name in names if found[name]]


class _Kept(NamedTuple):
    """The rows of a training set, written down; the frames they came from are free."""

    frame: str
    sizes: dict[str, int]
    train_to: datetime | None
    test_to: datetime | None
    excluded: dict[str, int]
    beside: bool
    """Whether a champion has features that these rows' own views do not make."""
    missing: dict[str, str]


def _labelled(
    ws: Workspace,
    project: Path,
    framing: FramingSpec,
    features: FeaturesSpec,
    spec: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    found: Views,
    slices: Sequence[str],
    now: datetime,
) -> pl.DataFrame:
    """Features, slices and label of every row due before `now`; `_answered` where there is an answer, if only void."""
    rows = _features(ws, project, framing, spec, tables, found, now)
    rows = _with_slices(ws, rows, framing, features.spine, tables, slices)
    known = data.labels(ws, framing, tables, now)
    sure = [pl.col("confidence").alias(CONFIDENCE)] if "confidence" in known.columns else []
    answers = known.select(framing.unit, "label", *sure, pl.lit(True).alias("_answered"))
    return rows.join(answers, on=framing.unit, how="left", maintain_order="left")


def _kept(
    ws: Workspace,
    rows: pl.DataFrame,
    framing: FramingSpec,
    training: CutSpec,
    incident: pl.Expr,
    now: datetime,
    of_champion: Callable[[pl.DataFrame], Beside],
) -> _Kept:
    counted = rows.select(
        unlabelled=pl.col("_answered").is_null().sum(),
        void=(pl.col("_answered").is_not_null() & pl.col("label").is_null()).sum(),
        incident=(pl.col("label").is_not_null() & incident).sum(),
    ).row(0, named=True)
    good = rows.filter(pl.col("label").is_not_null() & ~incident).drop("_answered")
    del rows
    if not good.height:
        raise Invalid(
            f"there is no labelled row at {iso(now)}",
            why=", ".join(f"{n:,} {reason}" for reason, n in counted.items()),
            fix="wait for outcomes, or check framing.label and the tables' times",
        )
    if framing.decision_time is None or training.split.by == "random":
        cut = at_random(good, training.split, framing.unit, training.seed)
    else:
        cut = by_time(good, training.split, training.window)
    height, train_to, test_to = good.height, cut.train_to, cut.test_to
    frame = _in_order(cut.frame, framing.unit)
    del good, cut
    held = frame.select(framing.unit, "decision_time", "split").with_row_index(ROW).filter(pl.col("split") == "test")
    champion = of_champion(held.drop("split"))
    if champion.frame is not None:
        frame = frame.with_row_index(ROW).join(champion.frame, on=ROW, how="left", maintain_order="left").drop(ROW)
    frame = frame.rechunk()
    blob = io.BytesIO()
    frame.write_ipc(blob, compression="zstd")
    sizes = dict(frame["split"].value_counts().iter_rows())
    outside = height - frame.height
    return _Kept(
        ws.blobs.put(blob.getvalue()),
        sizes,
        train_to,
        test_to,
        {**counted, "outside_window": outside},
        bool(champion.names),
        champion.missing,
    )


def _in_order(rows: pl.DataFrame, unit: str) -> pl.DataFrame:
    """The rows by `decision_time`, then unit; themselves where they surely are."""
    at, name = pl.col("decision_time"), pl.col(unit)
    rising = (at > at.shift(1)) | ((at == at.shift(1)) & (name > name.shift(1)))
    done = rows.select(rising.slice(1).fill_null(False).all()).item()
    return rows if done else rows.sort("decision_time", unit)


def _features(
    ws: Workspace,
    project: Path,
    framing: FramingSpec,
    spec: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    views: Views,
    now: datetime,
) -> pl.DataFrame:
    """Features of all rows due before `now`, materialised where they are not."""
    if framing.decision_time is None or gaps(ws, views, FIRST, now):
        materialise(ws, project, framing, spec, tables, since=FIRST, until=now)
    return read(ws, views, until=None if framing.decision_time is None else now)


def _with_slices(
    ws: Workspace,
    rows: pl.DataFrame,
    framing: FramingSpec,
    spine: str,
    tables: Mapping[str, TableSpec],
    slices: Sequence[str],
) -> pl.DataFrame:
    wanted = [name for name in dict.fromkeys(slices) if name not in rows.columns]
    if not wanted:
        return rows
    source = rows_of(ws, spine, tables, None)
    if missing := [name for name in wanted if name not in source.collect_schema()]:
        raise Invalid(
            f"there is no column {missing[0]!r} to slice by",
            why="evaluation.slices (or a group of training) names it; it is no feature and no column of the spine",
            fix=f"columns of the spine: {', '.join(source.collect_schema().names())}",
        )
    version = planned(spine_rows(framing, source.collect()), tables[spine], framing.unit).select(framing.unit, *wanted)
    return rows.join(version, on=framing.unit, how="left", maintain_order="left")
