"""The rules of a contract, in one vocabulary for every place that enforces them.

What a rule means is pinned here, once:

- *Missing* is null or NaN, whatever the type. A missing value breaks `required`
  and nothing else.
- A value of the wrong type breaks `logicalType` and nothing else.
- `integer` takes integers and whole floats that fit 64 signed bits; `number`
  takes floats, infinities too, and integers that fit 64 signed bits. A Boolean
  is neither. `timestamp` takes times with a zone, never naive ones.
- Bounds are exact and include their end unless named exclusive. Lengths count
  Unicode code points. `pattern` must match the whole text (see `pattern.py`).
- `unique` and `primaryKey` are broken by *surplus* rows: of n rows with equal
  values, all but the first. Rows with a missing value in the columns are not
  compared.
- `nullValues` and `rowCount` judge a set of rows and mark none of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

LogicalType = Literal["string", "integer", "number", "boolean", "timestamp", "date", "time", "object", "array"]
LOGICAL_TYPES: tuple[LogicalType, ...] = (
    "string",
    "integer",
    "number",
    "boolean",
    "timestamp",
    "date",
    "time",
    "object",
    "array",
)
Severity = Literal["error", "warning", "info"]
Response = Literal["quarantine", "stop", "report"]

ROW_KINDS = (
    "required",
    "logicalType",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "validValues",
)
"""Rules that one row alone keeps or breaks."""
SET_KINDS = ("unique", "primaryKey")
"""Rules that mark rows, but only beside other rows."""
TOTAL_KINDS = ("nullValues", "rowCount")
"""Rules about a whole set of rows."""

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
EXACT = 2**53
"""Integers up to here are the same number as a float."""

Bound = int | float | date | datetime
Literalish = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Between:
    """A closed or open interval; null means no end on that side."""

    least: float | None = None
    most: float | None = None
    least_open: bool = False
    most_open: bool = False
    share: bool = False
    """Whether the ends are shares of the rows (0 to 1), not counts."""

    def holds(self, count: int, rows: int) -> bool:
        """Whether `count` of `rows` lies inside; a share of no rows is 0."""
        value = (count / rows if rows else 0.0) if self.share else float(count)
        if self.least is not None and (value < self.least or (self.least_open and value == self.least)):
            return False
        return not (self.most is not None and (value > self.most or (self.most_open and value == self.most)))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Its `id` is the same in every report, log and alarm."""

    id: str
    kind: str
    columns: tuple[str, ...]
    value: Bound | int | str | tuple[Literalish, ...] | Between | None = None
    severity: Severity = "error"
    response: Response = "quarantine"

    @property
    def column(self) -> str | None:
        """The one column it is about; null for several or none."""
        return self.columns[0] if len(self.columns) == 1 else None

    @property
    def refuses(self) -> bool:
        """Whether a row that breaks it is taken out."""
        return self.severity == "error" and self.response != "report"


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the contract declares it."""

    name: str
    type: LogicalType | None
    required: bool
    zone: str | None = None
    """Zone of its times that carry none."""


def row_rules(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    """The rules that one row alone can break, by column, in reporting order."""
    by_column: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.kind in ROW_KINDS:
            by_column.setdefault(rule.columns[0], []).append(rule)
    return by_column
