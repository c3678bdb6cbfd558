"""Section `data` of `loop.yaml`."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from loopline.base.spec import Spec


class TableSpec(Spec):
    """One table: rows that become known at their own time."""

    source: str = Field(description="A file (CSV, Parquet, JSON lines) or `file.py:function` returning a frame.")
    contract: str | None = Field(None, description="Open Data Contract Standard file.")
    event_time: str | None = Field(None, description="Column: when it happened.")
    known_at: str | None = Field(None, description="Column: when it could first be read; without it, when ingested.")
    key: tuple[str, ...] = Field((), description="Columns that name a row; a later row with the same key corrects it.")
    zone: str | None = Field(None, description="Zone of times that carry none, for example UTC or Europe/Paris.")

    @field_validator("key", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError, OSError) as error:
                raise ValueError(f"{value!r} is not a time zone; write for example UTC or Europe/Paris") from error
        return value
