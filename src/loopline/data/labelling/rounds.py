"""Rounds of a labelling: rows that are drawn, and whom they are put before.

Part of each round goes to two people; where they differ a third is asked.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import content_id, iso
from loopline.data.contracts.column_texts import UTC_TIME
from loopline.data.history.known import known
from loopline.data.labelling.guidelines import guideline_of
from loopline.data.nouns import LabelRound
from loopline.data.privacy.tombstones import current
from loopline.data.spec import TableSpec
from loopline.workspace import Workspace, verb

OWN = ("chance", "stratum", "twice", "event_time")
"""Columns of a round beside the unit and what people see."""


def ask(
    ws: Workspace,
    name: str,
    rows: pl.DataFrame,
    unit: str,
    *,
    strata: Mapping[str, int],
    twice: float = 0.2,
    why: str,
    seed: int = 0,
) -> LabelRound:
    """Have people asked about `rows`; for verbs, which draw them.

    Parameters
    ----------
    rows : DataFrame
        One row per unit, in the order to be asked, with `chance`, `stratum` and, if
        known, `event_time`; every other column is shown.
    twice : float
        Share of the rows that two people are asked about, at least one row.
    """
    guideline = guideline_of(ws, name)
    if guideline is None:
        raise NotFound(
            f"there is no guideline for {name}",
            why="people must know what they are asked",
            fix=f'loopline data label guideline {name} --question "..."',
        )
    if not rows.height:
        raise Invalid("there is no row to ask about", why="none was left to draw", fix="wait for more, or ask for less")
    if not 0 <= twice <= 1:
        raise Invalid(f"twice is {twice}", why="it is a share of the rows", fix="write for example 0.2")
    both = max(1, round(twice * rows.height)) if twice else 0
    frame = rows.with_columns(
        pl.col(unit).cast(pl.String),
        pl.Series("twice", [i < both for i in range(rows.height)]).shuffle(seed=seed),
    )
    if "event_time" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, UTC_TIME).alias("event_time"))
    blob = io.BytesIO()
    frame.rechunk().write_ipc(blob, compression="zstd")
    kept, at = ws.blobs.put(blob.getvalue()), ws.clock()
    id = content_id({"name": name, "rows": kept, "guideline": guideline.id, "at": iso(at)})
    return LabelRound(id, name, guideline.id, unit, kept, frame.height, both, dict(strata), why, ws.actor, at)


@verb("data.ask_rows")
def ask_rows(
    ws: Workspace,
    project: Path,
    tables: Mapping[str, TableSpec],
    name: str,
    *,
    table: str,
    unit: str,
    n: int = 100,
    twice: float = 0.2,
    seed: int = 0,
    hide: tuple[str, ...] = (),
) -> LabelRound:
    """Have people asked about `n` rows of a table, drawn at random from those never asked about.

    What they see is treated as the contract declares: columns that are, or may be,
    personal are masked.
    Columns of `hide`, such as an answer that is known already, are not shown.

    Raises
    ------
    NotFound
        If there is no such table, column or guideline.
    Invalid
        If no row is left.
    """
    from loopline.data.privacy.marks import visible
    from loopline.data.privacy.pseudonyms import secret
    from loopline.data.privacy.treatments import shown

    if table not in tables:
        raise NotFound(f"no table {table!r}", why=f"declared: {', '.join(sorted(tables))}", fix="correct the name")
    spec = tables[table]
    rows = known(ws, table, spec, ws.clock())
    if unit not in rows.collect_schema():
        raise NotFound(
            f"table {table} has no column {unit!r}",
            why="it names the rows",
            fix=f"name one of {', '.join(rows.collect_schema())}",
        )
    asked = already_asked(ws, name)
    left = rows.with_columns(pl.col(unit).cast(pl.String)).filter(
        pl.col(unit).is_not_null() & ~pl.col(unit).is_in(sorted(asked))
    )
    frame = left.unique(unit, keep="last", maintain_order=True).collect()
    drawn = frame.sample(min(n, frame.height), shuffle=True, seed=seed) if frame.height else frame
    event = pl.col(spec.event_time) if spec.event_time else pl.lit(None, UTC_TIME)
    declared = visible(ws, table, spec, project)
    key = secret(ws) if any(t.how == "pseudonym" for t in declared.values()) else None
    others = {c: t for c, t in declared.items() if c != unit}
    seen = shown(drawn.with_columns(event.alias("event_time")), others, key).drop(
        [column for column in hide if column in drawn.columns and column != unit]
    )
    chance = pl.lit(drawn.height / max(1, frame.height))
    seen = seen.with_columns(chance.alias("chance"), pl.lit("all").alias("stratum"))
    return ask(
        ws, name, seen, unit, strata={"all": frame.height}, twice=twice, why=f"drawn at random from {table}", seed=seed
    )


def already_asked(ws: Workspace, name: str) -> set[str]:
    """Units of all rounds of a labelling."""
    found: set[str] = set()
    for made in rounds_of(ws, name):
        found.update(rows_of(ws, made)[made.unit].to_list())
    return found


def rounds_of(ws: Workspace, name: str) -> list[LabelRound]:
    """Rounds of a labelling, oldest first."""
    return ws.records.find(LabelRound, name=name, newest_first=False)


def rows_of(ws: Workspace, made: LabelRound) -> pl.DataFrame:
    """The rows of a round."""
    return pl.read_ipc(ws.blobs.path(current(ws, made.rows)))
