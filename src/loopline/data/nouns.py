"""The nouns of data."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loopline.base.nouns import noun


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken contract rule: which, where, how often, for example."""

    rule: str
    column: str | None
    severity: str
    count: int
    examples: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Mixed:
    """A column of no declared type whose values are written as several kinds, and which is kept as text."""

    column: str
    kind: str
    """What its values promise: `numbers`, `dates`, ..."""
    values: int
    """That are written as that."""
    others: int
    """That are not."""
    line: int
    """Of the file, where the first of these stands."""
    examples: tuple[str, ...] = ()
    """Some of these, in their order."""
    source: str = ""
    """The file."""


@noun("ingestion")
@dataclass(frozen=True, slots=True)
class Ingestion:
    """Rows of one source that entered one table, up to `known_to`."""

    id: str
    table: str
    version: int
    rows: int
    quarantined: int
    known_from: datetime | None
    known_to: datetime
    violations: tuple[Violation, ...] = ()
    quarantine: str | None = None
    """Table that holds the refused rows, each with the rules it broke."""
    digest: str = ""
    """Order-free digest of all rows of the table after this ingestion."""
    greatest: datetime | None = None
    """Greatest `known_at` of the table after this ingestion."""
    cleaned: dict[str, int] = field(default_factory=dict)
    """Repairs made, by rule (`<column>.<rule>`); what they changed is kept as it came in table `raw/<name>`."""
    waiting: int = 0
    """Rows that were not taken because they say that they become known later."""
    gone: int = 0
    """Of the rows, those that say that a key is gone."""
    late: int = 0
    """Of the rows, those that came late: their source says an earlier time, and they are known from now on."""
    superseded: int = 0
    """Rows that came late and are not taken, because a newer row of their key is known already."""
    differing: int = 0
    """Rows that are not taken, because other values are known under the same key and time."""
    lost: dict[str, datetime] = field(default_factory=dict)
    """Columns that the source has no longer, and up to when it had them; told once, and null in rows from then on."""
    expired: int = 0
    """Rows that are not taken, because they are as old as those that were let go of."""
    mixed: tuple[Mixed, ...] = ()
    """Columns that are new and kept as text, because not all of their values are what most, or the first, promise."""


@noun("readmission")
@dataclass(frozen=True, slots=True)
class Readmission:
    """Refused rows of one table that were judged again."""

    id: str
    table: str
    contract: str | None
    """Id of the contract that judged them."""
    rows: int
    """That entered, known from then on."""
    superseded: int
    """That would be good, but stand in the table already, or were corrected since."""
    kept: int
    """That are refused still."""
    by: str
    at: datetime


@noun("snapshot")
@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows that will never change again: tables as known at `known_to`.

    `id` covers schema, contract, row count, greatest `known_at` and an order-free
    digest of the rows, and so is the same wherever the same rows are.
    """

    id: str
    tables: dict[str, str]
    """Table name to the content id of its rows known then."""
    rows: dict[str, int]
    known_to: datetime
    manifest: str
    """Blob digest of the manifest: versions, files, profiles."""


@noun("pii_mark")
@dataclass(frozen=True, slots=True)
class PiiMark:
    """A person's word on what a column holds."""

    id: str
    table: str
    column: str
    pii: str | None
    """Class of personal data; null: it is not personal."""
    by: str
    at: datetime
    reason: str = ""


@noun("tombstone")
@dataclass(frozen=True, slots=True)
class Tombstone:
    """Bytes that are gone because somebody had to be erased from them."""

    id: str
    """Digest of the blob that was here."""
    replaced_by: str | None
    """Digest of the blob without the subject; null when nothing was left."""
    rows: int
    """Taken out."""
    proof: str
    """The erasure that did it."""
    at: datetime


@noun("guideline")
@dataclass(frozen=True, slots=True)
class Guideline:
    """What people who label are asked, and how they decide; a changed one is a new version."""

    id: str
    name: str
    """Of the labelling it belongs to."""
    number: int
    question: str
    answers: tuple[str, ...]
    text: str
    by: str
    at: datetime


@noun("label_round")
@dataclass(frozen=True, slots=True)
class LabelRound:
    """Rows that people are asked about, each drawn with a known chance."""

    id: str
    name: str
    guideline: str
    unit: str
    """Column that names a row."""
    rows: str
    """Blob digest of an Arrow IPC file: the unit, `chance`, `stratum`, `twice`, `event_time` and what people see."""
    asked: int
    twice: int
    """Of the rows, those that two people are asked about."""
    strata: dict[str, int]
    """Rows in each stratum of the population that was drawn from."""
    why: str
    by: str
    at: datetime


@noun("label_answer")
@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """What one person said about one row; a later answer of the same person replaces it."""

    id: str
    round: str
    unit: str
    value: str | None
    """One of the guideline's answers; null: it cannot be told."""
    by: str
    at: datetime
    note: str = ""
    replaces: str | None = None
    """The answer that the same person gave before, which counts no more; null for their first."""


@dataclass(frozen=True, slots=True)
class SnapshotCard:
    """A snapshot at a glance."""

    id: str
    tags: tuple[str, ...]
    rows: dict[str, int]
    known_to: datetime


@dataclass(frozen=True, slots=True)
class ColumnShift:
    """How differently a column is spread in two snapshots."""

    column: str
    distance: float
    """Between 0 (alike) and 1."""
    notable: bool
    nulls_a: float
    """Share of rows without a value."""
    nulls_b: float
    mean_a: float | None
    mean_b: float | None


@dataclass(frozen=True, slots=True)
class TableDifference:
    """What changed in one table."""

    table: str
    columns_added: dict[str, str]
    """Column to type."""
    columns_removed: dict[str, str]
    columns_retyped: dict[str, tuple[str, str]]
    contract_changed: bool
    key: tuple[str, ...]
    added: int
    removed: int
    changed: int
    """Rows whose key stands in both, with other values."""
    unchanged: int
    changed_columns: dict[str, int]
    """In how many of the changed rows each column differs."""
    examples: tuple[tuple[str, ...], ...]
    """`added`, `removed` or `changed`, and the key."""
    shifts: tuple[ColumnShift, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from one snapshot to another."""

    a: str
    b: str
    tables: tuple[TableDifference, ...]
    """Those that differ."""
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]


@noun("upkeep")
@dataclass(frozen=True, slots=True)
class Upkeep:
    """What compaction or retention did to the files of one table, or would do."""

    id: str
    table: str
    what: str
    """`compact` or `retain`."""
    files_before: int
    files_after: int
    bytes_freed: int
    """Of the table's folder; bytes that a snapshot pinned stay on the disk for it."""
    bytes_pinned: int
    """Of the files that went, those that snapshots hold on to."""
    done: bool
    at: datetime
