"""The rows that a check needs, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import polars as pl

from loopline.data.history.known import known_column
from loopline.data.labelling.outcomes import label_table
from loopline.data.labelling.outcomes import labels as labels_known
from loopline.data.spec import TableSpec
from loopline.framing.spec import FramingSpec
from loopline.monitoring.memory import Memory, Read
from loopline.monitoring.tables import Look, read_from
from loopline.monitoring.windows import between
from loopline.serving.log import refused_table
from loopline.serving.log import table as log_table
from loopline.workspace import Workspace


def read_window(
    ws: Workspace,
    endpoint: str,
    framing: FramingSpec,
    tables: Mapping[str, TableSpec],
    look: Look,
    memory: Memory,
) -> tuple[pl.DataFrame | None, Read | None, pl.DataFrame | None, dict[str, pl.DataFrame]]:
    """The window's answers and how far they are read, its new labels, the rows needed of each table that holds any."""

    def table(name: str) -> pl.DataFrame | None:
        if ws.tables.version(name) is None:
            return None
        time = pl.col(known_column(tables[name]))
        after = read_from(look, memory, name)
        needed = (time > after) & (time <= look.until)
        mark = memory.version_known_by(name, after)
        if mark is not None:
            return between(ws.tables.added(name, after=mark), after, look.until, known_column(tables[name]))
        return ws.tables.scan(name).filter(needed).collect()

    frames = {name: frame for name in tables if (frame := table(name)) is not None}
    outcomes, fresh = label_table(framing, tables), None
    if outcomes in frames:
        fresh = labels_known(ws, framing, tables, look.until, since=look.since, rows=frames[outcomes].lazy())
    rows, read = _read_answers(ws, log_table(endpoint), look, memory)
    return rows, read, fresh, frames


def _read_answers(ws: Workspace, name: str, look: Look, memory: Memory) -> tuple[pl.DataFrame | None, Read | None]:
    """The answers decided in the window, and how far the log is read now.

    Answers that came since the last check are read from their files alone, unless
    one that was there already is for a decision as late as this window.
    """
    version = ws.tables.version(name)
    if version is None:
        return None, None
    decided, last = pl.col("decision_time"), memory.read
    if last is not None and (last.latest is None or last.latest < look.since):
        rows = ws.tables.added(name, after=last.version)
        times = [last.latest, rows["decision_time"].max()]
    else:
        every = ws.tables.scan(name)
        rows = every.filter(decided >= look.since).collect()
        times = [rows["decision_time"].max()]
    latest = max((t for t in times if isinstance(t, datetime)), default=None)
    rows = rows.filter((decided >= look.since) & (decided < look.until))
    return rows, Read(version, latest)


def read_refused(ws: Workspace, endpoint: str, look: Look) -> pl.DataFrame | None:
    """The requests due in the window that nobody answered; null where none ever was."""
    name = refused_table(endpoint)
    if ws.tables.version(name) is None:
        return None
    due = pl.col("decision_time")
    wanted = ws.tables.scan(name).filter((due >= look.since) & (due < look.until))
    return wanted.select("prediction_id", "routed", "broken").collect()
