"""What was erased: blobs that were written again without a subject, and subjects whose rows stay out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from loopline.base.errors import NotFound
from loopline.data.nouns import Tombstone
from loopline.data.privacy.pseudonyms import secret
from loopline.data.privacy.treatments import token

if TYPE_CHECKING:
    from loopline.workspace import Workspace

ERASED = "erased"
"""Pointers of this kind are named by the keyed token of an erased value; their doc has the columns it stood in."""
_LONGEST = 1000


def current(ws: Workspace, digest: str) -> str:
    """The digest under which the bytes of `digest` are kept now.

    The same, unless rows were erased from them; null content is `NotFound`.

    Raises
    ------
    NotFound
        If all of it was erased.
    """
    for _ in range(_LONGEST):
        if digest in ws.blobs:
            return digest
        found = ws.records.find(Tombstone, id=digest, limit=1)
        if not found:
            return digest  # never here: the reader of the blob says so
        if found[0].replaced_by is None:
            raise NotFound(
                f"the blob {digest[:12]} was erased",
                why=f"erasure {found[0].proof[:12]} took it away on {found[0].at:%Y-%m-%d}",
                fix="make it again from rows that are there",
            )
        digest = found[0].replaced_by
    raise NotFound(f"the blob {digest[:12]} is not there", why="its tombstones form a circle", fix="report this")


def means(values: Mapping[str, Collection[str]], schema: Mapping[str, pl.DataType]) -> pl.Expr | None:
    """Rows in which one of the columns holds one of its values, compared as text; null when none of them is there."""
    parts = [
        pl.col(column).cast(pl.String).is_in(sorted(wanted))
        for column, wanted in values.items()
        if wanted and column in schema and not schema[column].is_nested() and schema[column] != pl.Binary
    ]
    return pl.any_horizontal(parts).fill_null(False) if parts else None


def stay_out(ws: Workspace, frame: pl.DataFrame, key: bytes | None = None) -> tuple[pl.DataFrame, int]:
    """`frame` without rows of subjects that were erased, and how many those were.

    A source outside still has them and would bring them back. The records hold no
    value of a subject, only keyed tokens, which need the workspace's secret.
    """
    pointers = ws.records.pointers(ERASED)
    if not pointers or not frame.height:
        return frame, 0
    if key is None:
        key = secret(ws)
    by_column: dict[str, set[str]] = {}
    for pointer in pointers:
        for column in pointer.doc["columns"]:
            by_column.setdefault(column, set()).add(pointer.name)
    wanted = {c: _matching(frame[c], tokens, key) for c, tokens in by_column.items() if c in frame.columns}
    meant = means(wanted, frame.schema)
    if meant is None:
        return frame, 0
    rest = frame.filter(~meant)
    return rest, frame.height - rest.height


def _matching(series: pl.Series, tokens: Collection[str], key: bytes) -> Sequence[str]:
    """The values of a column whose token is one of `tokens`."""
    if series.dtype.is_nested() or series.dtype == pl.Binary:
        return []
    values = series.drop_nulls().cast(pl.String).unique().to_list()
    return [value for value in values if token(key, ERASED, value) in tokens]
