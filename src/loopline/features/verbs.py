"""What can be done with features: compute and keep them, read them, cut a training set."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from loopline import data
from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import canonical, content_id, iso
from loopline.data.spec import TableSpec
from loopline.features.assemble import compute
from loopline.features.beside import ROW, Beside
from loopline.features.beside import beside as computed_beside
from loopline.features.nouns import FeatureRows, TrainingSet
from loopline.features.past import back, between, history, planned
from loopline.features.requests import request_doc
from loopline.features.spec import FeaturesSpec
from loopline.features.spine import plain_views, spine_rows
from loopline.features.split import Span, at_random, by_time, inside
from loopline.features.views import CONFIDENCE, Views, load_views
from loopline.framing.spec import FramingSpec
from loopline.training.spec import TrainingSpec
from loopline.workspace import Workspace, verb

FIRST = datetime.min.replace(tzinfo=UTC)
Frames = Mapping[str, pl.DataFrame]
_JUST_MADE: dict[str, tuple[str, datetime, datetime, pl.DataFrame]] = {}
"""Per workspace the span that was computed last: whoever asks for it next need not read it back."""


def table_of(views: Views) -> str:
    """The table that keeps the features of `views`."""
    return f"features/{views.id[:16]}"


def project_views(
    ws: Workspace,
    project: Path,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    *,
    frames: Frames | None = None,
) -> Views:
    """The views of a project; without any, the columns of its spine."""
    if features.views:
        return load_views(project, features.views)
    schema = _rows(ws, features.spine, tables, frames).collect_schema()
    return plain_views(framing, features.spine, tables[features.spine], schema)


@verb("features.materialise")
def materialise(
    ws: Workspace,
    project: Path,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    *,
    since: datetime,
    until: datetime,
    frames: Frames | None = None,
) -> FeatureRows:
    """Compute and keep the features of the spine rows due in `[since, until)`, once.

    What is kept already is not computed again, so a retry is safe and spans may
    overlap. The table holds the unit, `decision_time` and the features. Without a
    decision time all rows that are not kept yet are taken.

    Parameters
    ----------
    frames : mapping, optional
        Tables already in memory, all rows, instead of the workspace's.

    Raises
    ------
    Invalid
        If `until` lies ahead of the workspace's clock: not all is known yet.
    NotFound
        If a table holds nothing yet.
    """
    views = project_views(ws, project, framing, features, tables, frames=frames)
    if until > ws.clock():
        raise Invalid(
            f"features until {iso(until)} cannot be computed at {iso(ws.clock())}",
            why="what becomes known until then would be missing in them for ever",
            fix="choose an earlier `until`",
        )
    added = 0
    for low, high in _gaps(ws, views, since, until):
        rows = _computed(ws, views, framing, features, tables, low, high, frames)
        added += rows.height
        if (low, high) == (since, until):
            _JUST_MADE[str(ws.root)] = (table_of(views), since, until, rows)
        if rows.height or ws.tables.version(table_of(views)) is None:
            ws.tables.append(table_of(views), rows, key=f"{iso(low)}/{_end(high, framing, rows)}")
    id_ = content_id({"views": views.id, "since": iso(since), "until": iso(until)})
    before = ws.records.find(FeatureRows, id=id_, limit=1)
    return before[0] if before else FeatureRows(id_, views.id, table_of(views), since, until, added)


def _end(high: datetime, framing: FramingSpec, rows: pl.DataFrame) -> str:
    if framing.decision_time is not None:
        return iso(high)
    return content_id(sorted(rows[framing.unit].cast(pl.String).to_list()))


def _gaps(ws: Workspace, views: Views, since: datetime, until: datetime) -> list[Span]:
    """The parts of `[since, until)` that no record covers."""
    gaps, low = [], since
    for kept in sorted(ws.records.find(FeatureRows, views=views.id), key=lambda k: k.since):
        if kept.since >= until:
            break
        if kept.since > low:
            gaps.append((low, kept.since))
        low = max(low, kept.until)
    return [*gaps, (low, until)] if low < until else gaps


def _computed(
    ws: Workspace,
    views: Views,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    low: datetime,
    high: datetime,
    frames: Frames | None,
) -> pl.DataFrame:
    spec = tables[features.spine]
    spine = spine_rows(framing, _rows(ws, features.spine, tables, frames).collect())
    if framing.decision_time is not None:
        spine = spine.filter(pl.col("decision_time").is_between(low, high, closed="left"))
    elif (version := ws.tables.version(table_of(views))) is not None:
        kept = ws.tables.scan(table_of(views), version=version).select(framing.unit).collect()
        spine = spine.join(kept, on=framing.unit, how="anti", maintain_order="left")
    spine = planned(spine, spec, framing.unit)
    sources = {}
    first = spine["decision_time"].min() if spine.height else None
    for name in views.tables:
        if name not in tables:
            raise Invalid(
                f"a view reads a table {name!r} that loop.yaml does not declare",
                why=f"under data there are {', '.join(tables)}",
                fix=f"declare {name}, or correct the view's source",
            )
        rows = _rows(ws, name, tables, frames).collect()
        start = back(first, views.lookback) if isinstance(first, datetime) else low
        seen = views.available(name)
        rows = between(rows, tables[name], since=start, until=high, available=seen)
        sources[name] = history(rows, tables[name], seen)
    return compute(views, spine, sources, unit=framing.unit).sort("decision_time", framing.unit)


def _rows(ws: Workspace, name: str, tables: Mapping[str, TableSpec], frames: Frames | None) -> pl.LazyFrame:
    if frames is not None and name in frames:
        return frames[name].lazy()
    if ws.tables.version(name) is None:
        raise NotFound(f"table {name} holds nothing yet", why="no rows were ingested", fix="run `loopline data ingest`")
    return ws.tables.scan(name)


def read(
    ws: Workspace,
    views: Views,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Features that were materialised, for decision times in `[since, until)`.

    Returns
    -------
    DataFrame
        The unit, `decision_time` and the features, or `columns` of them; in no
        order to rely on. Empty when nothing was materialised.
    """
    made = _JUST_MADE.get(str(ws.root))
    if made is not None and columns is None and made[:3] == (table_of(views), since, until):
        return made[3]
    if ws.tables.version(table_of(views)) is None:
        return pl.DataFrame()
    rows = ws.tables.scan(table_of(views))
    at = pl.col("decision_time")
    if since is not None:
        rows = rows.filter(at >= max(since, FIRST))
    if until is not None:
        rows = rows.filter(at < until)
    return (rows if columns is None else rows.select(columns)).collect()


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
    training: TrainingSpec,
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
    schema = _rows(ws, features.spine, tables, None).collect_schema()
    asked = request_doc(project, spec.views, found, tables[features.spine], schema, unit=framing.unit)
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
    training: TrainingSpec,
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
    if framing.decision_time is None or _gaps(ws, views, FIRST, now):
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
    source = _rows(ws, spine, tables, None)
    if missing := [name for name in wanted if name not in source.collect_schema()]:
        raise Invalid(
            f"there is no column {missing[0]!r} to slice by",
            why="evaluation.slices (or a group of training) names it; it is no feature and no column of the spine",
            fix=f"columns of the spine: {', '.join(source.collect_schema().names())}",
        )
    version = planned(spine_rows(framing, source.collect()), tables[spine], framing.unit).select(framing.unit, *wanted)
    return rows.join(version, on=framing.unit, how="left", maintain_order="left")
