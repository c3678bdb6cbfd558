"""Delta tables that others write: read where they are, never written."""

from __future__ import annotations

import polars as pl

from loopline.base.ids import content_id
from loopline.store.tables.handle import Handle


def foreign_table(place: str) -> tuple[str, pl.LazyFrame]:
    """What names the content of a Delta table now, and its rows at that version.

    Raises what Delta raises: the caller knows what the table is to its user.
    """
    table = Handle(place)
    return content_id([str(table.metadata().id), table.version()]), pl.scan_delta(table)
