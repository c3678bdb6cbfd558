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
- `reference` asks whether the values stand in another table; a row with a missing
  value in the columns asks nothing. `check` relates columns of one row (see
  `relation.py`); where a value that it needs is missing or of the wrong type, it
  says nothing.
- `unique` and `primaryKey` are broken by *surplus* rows: of n rows with equal
  values, all but the first. Rows with a missing value in the columns are not
  compared.
- `nullValues`, `rowCount`, `freshness` and `distribution` judge a set of rows and
  mark none of them.
- Every rule judges the row as it came, before any default is put in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from loopline.data.contracts.baseline import Baseline
from loopline.data.language.relation import Relation

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
Response = Literal["quarantine", "stop", "default", "log"]

COLUMN_KINDS = (
    "required",
    "logicalType",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    "validValues",
)
"""Rules that one value alone keeps or breaks."""
LINK_KINDS = ("reference", "check")
"""Rules that one row keeps or breaks by several values, or by what another table holds."""
SET_KINDS = ("unique", "primaryKey")
"""Rules that mark rows, but only beside other rows."""
TOTAL_KINDS = ("nullValues", "rowCount", "freshness", "distribution")
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
class Reference:
    """Columns of another table in which the values of a row must stand."""

    table: str
    columns: tuple[str, ...]


Value = Bound | timedelta | str | tuple[Literalish, ...] | Between | Reference | Relation | Baseline | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Its `id` is the same in every report, log and alarm."""

    id: str
    kind: str
    columns: tuple[str, ...]
    value: Value = None
    severity: Severity = "error"
    response: Response = "quarantine"

    @property
    def column(self) -> str | None:
        """The one column it is about; null for several or none."""
        return self.columns[0] if len(self.columns) == 1 else None

    @property
    def refuses(self) -> bool:
        """Whether a row that breaks it is taken out."""
        return self.severity == "error" and self.response in ("quarantine", "stop")

    @property
    def mends(self) -> bool:
        """Whether the value that breaks it is replaced by the column's default."""
        return self.response == "default" and self.kind in COLUMN_KINDS


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the contract declares it."""

    name: str
    type: LogicalType | None
    required: bool
    zone: str | None = None
    """Zone of its times that carry none."""
    default: Any = None
    """What rules with the response `default` put in; null without one."""


def column_rules(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    """The rules that one value alone can break, by column, in reporting order."""
    by_column: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.kind in COLUMN_KINDS:
            by_column.setdefault(rule.columns[0], []).append(rule)
    return by_column
