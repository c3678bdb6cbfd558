"""What can be done with features: compute and keep them, and read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import content_id, iso, moment
from loopline.base.locks import alone
from loopline.data.spec import TableSpec
from loopline.features.assemble import compute
from loopline.features.nouns import FeatureRows
from loopline.features.past import back, between, history, planned
from loopline.features.spec import FeaturesSpec
from loopline.features.spine import plain_views, spine_rows
from loopline.features.split import Span
from loopline.features.views import Views, load_views
from loopline.framing.spec import FramingSpec
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
    schema = rows_of(ws, features.spine, tables, frames).collect_schema()
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
    with alone(ws.root / "run" / "materialise" / f"{views.id}.lock"):
        for low, high in gaps(ws, views, since, until):
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


def gaps(ws: Workspace, views: Views, since: datetime, until: datetime) -> list[Span]:
    """The parts of `[since, until)` that no record covers, and no rows that were appended and are not recorded yet."""
    covered = [(kept.since, kept.until) for kept in ws.records.find(FeatureRows, views=views.id)]
    gaps, low = [], since
    for first, end in sorted([*covered, *_appended(ws, table_of(views))]):
        if first >= until:
            break
        if first > low:
            gaps.append((low, first))
        low = max(low, end)
    return [*gaps, (low, until)] if low < until else gaps


def _appended(ws: Workspace, table: str) -> Iterator[Span]:
    """The spans whose rows stand in a table of features, by the keys they were appended under."""
    for key in ws.tables.keys(table):
        with contextlib.suppress(ValueError):
            first, end = map(moment, key.split("/"))
            yield first, end


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
    spine = spine_rows(framing, rows_of(ws, features.spine, tables, frames).collect())
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
        rows = rows_of(ws, name, tables, frames).collect()
        start = back(first, views.lookback) if isinstance(first, datetime) else low
        seen = views.available(name)
        rows = between(rows, tables[name], since=start, until=high, available=seen)
        sources[name] = history(rows, tables[name], seen)
    return compute(views, spine, sources, unit=framing.unit).sort("decision_time", framing.unit)


def rows_of(ws: Workspace, name: str, tables: Mapping[str, TableSpec], frames: Frames | None) -> pl.LazyFrame:
    """The rows of a table: those given, else those of the workspace."""
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
