"""Section `data` of `loop.yaml`."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from loopline.base.spec import Duration, Spec
from loopline.data.language.pattern import portable
from loopline.data.language.units import UNITS, convertible

Plain = bool | int | float | str
_SECRET = re.compile(r"://[^/@\s]*:(?P<password>[^@/\s]+)@")
_NAMED = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


class SourceSpec(Spec):
    """Rows of a database: a table, or a query."""

    url: str = Field(
        description="Address, as SQLAlchemy writes it; `${NAME}` stands for a variable of the environment.",
        examples=["postgresql://${DWH_USER}:${DWH_PASSWORD}@dwh/risk"],
    )
    table: str | None = Field(default=None, description="Table (or schema.table) whose rows are read.")
    query: str | None = Field(
        default=None, description="A SELECT; `:since` in it stands for the time up to which rows were taken."
    )

    @model_validator(mode="after")
    def _one(self) -> SourceSpec:
        if (self.table is None) == (self.query is None):
            raise ValueError("give exactly one of table and query")
        return self

    @field_validator("url")
    @classmethod
    def _no_secret(cls, value: str) -> str:
        if "://" not in value:
            raise ValueError("an address of a database begins with its kind, for example postgresql://dwh/risk")
        found = _SECRET.search(value)
        if found is not None and _NAMED.sub("", found["password"]):
            raise ValueError("a password does not belong in a file; write ${NAME} and set NAME in the environment")
        return value

    def __str__(self) -> str:
        return f"{self.table or 'a query'} of {self.url}"


class CleanSpec(Spec):
    """One repair of a column, or the rule that rows enter once. What was repaired is counted, and kept as it came."""

    column: tuple[str, ...] = Field(default=(), description="Column, or several.")
    trim: Literal[True] | None = Field(default=None, description="Take off spaces, tabs and line ends around a text.")
    replace: str | None = Field(default=None, description="Pattern whose every occurrence in a text is replaced.")
    by: str = Field(default="", description="What `replace` puts there.")
    map: dict[str, str] | None = Field(default=None, description="Texts, and what is written instead.")
    null: tuple[Plain, ...] | None = Field(default=None, description="Values that mean that there is none.")
    from_: str | None = Field(default=None, alias="from", description="Unit that numbers are given in.")
    to: str | None = Field(default=None, description="Unit that they are kept in.")
    times: float | None = Field(default=None, description="Factor that numbers are multiplied by.")
    plus: float = Field(default=0.0, description="What is added afterwards.")
    fill: Plain | None = Field(default=None, description="Value where there is none.")
    duplicates: tuple[str, ...] | Literal[True] | None = Field(
        default=None, description="Of rows that agree in these columns, or in all, the first enters; per `known_at`."
    )

    model_config = ConfigDict(populate_by_name=True)

    @field_validator("column", "duplicates", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("null", mode="before")
    @classmethod
    def _values(cls, value: object) -> object:
        return (value,) if isinstance(value, (str, bool, int, float)) else value

    @field_validator("replace")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None and re.fullmatch(portable(value), "") is not None:
            raise ValueError(f"{value!r} occurs between any two characters; write a pattern of one or more")
        return value

    @model_validator(mode="after")
    def _one_repair(self) -> CleanSpec:
        if len(self.kinds) != 1:
            raise ValueError("give exactly one of trim, replace, map, null, from/to, times, fill and duplicates")
        if (self.duplicates is None) == (not self.column):
            raise ValueError("duplicates names its own columns; every other repair needs `column`")
        if (self.from_ is None) != (self.to is None):
            raise ValueError("from and to belong together")
        if self.from_ is not None and self.to is not None and not convertible(self.from_, self.to):
            raise ValueError(f"{self.from_} cannot be given in {self.to}; units are {', '.join(sorted(UNITS))}")
        if self.times == 0:
            raise ValueError("times 0 would lose every value")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which repairs are named; one, when the declaration is right."""
        given = {
            "trim": self.trim, "replace": self.replace, "map": self.map, "null": self.null,
            "unit": self.from_ or self.to, "times": self.times, "fill": self.fill, "duplicates": self.duplicates,
        }  # fmt: skip
        return tuple(kind for kind, value in given.items() if value is not None)

    @property
    def rule(self) -> str:
        """What counts go under, after the column's name."""
        return "unit" if self.kinds[0] == "times" else self.kinds[0]


def _kind_of_source(value: object) -> str:
    return "[file]" if isinstance(value, str) else "[database]"


class TableSpec(Spec):
    """One table: rows that become known at their own time."""

    source: Annotated[
        Annotated[str, Tag("[file]")] | Annotated[SourceSpec, Tag("[database]")], Discriminator(_kind_of_source)
    ] = Field(
        description="File, pattern of files (CSV, Parquet, JSON lines, here or s3://, gs://, az://), Delta folder, "
        "`file.py:function` returning rows, or {url, table} of a database."
    )
    contract: str | None = Field(default=None, description="Open Data Contract Standard file.")
    event_time: str | None = Field(default=None, description="Column: when it happened.")
    known_at: str | None = Field(
        default=None, description="Column: when it could first be read; without it, when ingested."
    )
    key: tuple[str, ...] = Field(
        default=(), description="Columns that name a row; a later row with the same key corrects it."
    )
    zone: str | None = Field(
        default=None, description="Zone of times that carry none, for example UTC or Europe/Paris."
    )
    deleted: str | None = Field(default=None, description="Column: true in a row that says that its key is gone.")
    complete: bool = Field(
        default=False, description="The source lists every row there is: a key that it no longer lists is gone."
    )
    every: Duration | None = Field(default=None, description="How often news are looked for, for example 1h.")
    clean: tuple[CleanSpec, ...] = Field(
        default=(), description="Repairs, made in this order before the contract is checked."
    )

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

    @model_validator(mode="after")
    def _fits(self) -> TableSpec:
        if (self.deleted or self.complete) and not self.key:
            raise ValueError("deleted and complete need a key: it is keys that go")
        if self.complete and self.known_at is not None:
            raise ValueError("complete is for sources without known_at: with it, a row's absence has no time")
        for one in self.clean:
            if self.known_at in one.column:
                raise ValueError(f"clean cannot change {self.known_at}: it says what was known when")
        return self

    @property
    def tombstone(self) -> str | None:
        """Column that says that a key is gone; null where none does."""
        return self.deleted or (GONE if self.complete else None)


GONE = "deleted"
"""Column of tombstones where the source names none."""
