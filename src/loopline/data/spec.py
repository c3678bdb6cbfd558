"""Section `data` of `loop.yaml`."""

from __future__ import annotations

from pydantic import Field

from loopline.base.spec import Spec


class TableSpec(Spec):
    """One table: rows that become known at their own time."""

    source: str = Field(description="A file (CSV, Parquet, JSON lines) or `file.py:function` returning a frame.")
    contract: str | None = Field(None, description="Open Data Contract Standard file.")
    event_time: str | None = Field(None, description="Column: when it happened.")
    known_at: str | None = Field(None, description="Column: when it could first be read; without it, when ingested.")
    key: tuple[str, ...] = Field((), description="Columns that name a row; a later row with the same key corrects it.")
