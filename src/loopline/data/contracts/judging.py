"""Rows judged by a contract: counted, split into good and bad, or one at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from loopline.base.errors import Invalid
from loopline.base.ids import is_safe
from loopline.data.contracts.baseline import Baseline, classes
from loopline.data.contracts.compile_polars import broken_counts, broken_rows, totals, typed_value
from loopline.data.contracts.rules import Between, Reference, Rule
from loopline.data.contracts.terms import Terms
from loopline.data.nouns import Violation

BROKEN = "broken_rules"
"""Column of quarantined rows: ids of the rules that the row breaks."""
EXAMPLES, SEEN = 5, 200
"""Examples of a violation, and the broken rows that they are taken from."""
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Checked:
    """A frame, judged.

    `good` and `bad` are the frame's rows in their order; `bad` has one more
    column, `broken_rules`. Rows that break only warnings are good. In `good`, a value
    that broke a rule with the response `default` is the column's default.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    violations: tuple[Violation, ...]
    stopped: tuple[Violation, ...] = ()
    """Violations whose declared response is `stop`."""
    unjudged: tuple[str, ...] = ()
    """Rules that could not be judged: a table, a moment or enough rows were not there."""


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of files, judged and written apart."""

    rows: int
    quarantined: int
    counts: dict[str, int]
    """How often each judged rule is broken."""


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """One row, judged."""

    broken: tuple[str, ...]
    """Rules that the row breaks as it came, in contract order."""
    refused: tuple[str, ...]
    """Those among them that keep it from going on."""
    row: Mapping[str, object]
    """The row to go on with: defaults stand where the contract puts them."""


def _broken_total(rule: Rule, found: Sequence[Any], rows: int, at: datetime | None) -> int | None:
    """The count of a rule about a whole set of rows: 0 where kept, null where not judged."""
    value = rule.value
    if isinstance(value, Between):
        count = int(found[0])
        return 0 if value.holds(count, rows) else max(1, count)
    if isinstance(value, Baseline):
        far = value.broken(classes([int(n) for n in found], value))
        return None if far is None else max(1, rows) * far
    assert isinstance(value, timedelta)
    newest = found[0]
    return None if at is None or newest is None else max(1, rows) * (at - newest > value)


@lru_cache(maxsize=256)
def _compiled(
    rules: tuple[Rule, ...],
    types: tuple[tuple[str, str | None], ...],
    schema: tuple[tuple[str, Any], ...],
    per: tuple[str, ...],
    held: _Held,
    zoned: tuple[tuple[str, str | None], ...],
) -> tuple[dict[str, pl.Expr], list[pl.Expr], dict[str, list[pl.Expr]]]:
    kinds = dict(schema)
    declared, zones = dict(types), dict(zoned)
    marks = broken_rows(rules, kinds, per, held.values, declared, zones)
    return marks, broken_counts(rules, kinds, marks), totals(rules, kinds, declared, zones)


class _Held:
    """What other tables hold: the same object, the same compiled query."""

    def __init__(self, values: Mapping[str, pl.Series]) -> None:
        self.values = values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and (other.values is self.values or not (other.values or self.values))

    def __hash__(self) -> int:
        return id(self.values) if self.values else 0


Total = dict[str, list[pl.Expr]]


def _query(
    contract: Terms, schema: Mapping[str, pl.DataType], per: tuple[str, ...]
) -> tuple[dict[str, pl.Expr], list[pl.Expr], Total]:
    types, zones = tuple(contract.types.items()), tuple((c.name, c.zone) for c in contract.columns if c.zone)
    return _compiled(contract.rules, types, tuple(schema.items()), per, _Held(contract.held), zones)


def _flat(wanted: Total) -> list[pl.Expr]:
    return [part.alias(f"{id}\0{n}") for id, parts in wanted.items() for n, part in enumerate(parts)]


def gathered(contract: Terms, row: Mapping[str, Any], wanted: Collection[str], rows: int) -> dict[str, int]:
    """Counts by rule from one row of results; rules that were not judged are absent."""
    parts: dict[str, list[Any]] = {}
    for name, value in row.items():
        id, mark, _ = name.partition("\0")
        if mark and id:
            parts.setdefault(id, []).append(value)
    found: dict[str, int] = {}
    for rule in contract.rules:
        if rule.id in wanted:
            count = _broken_total(rule, parts[rule.id], rows, contract.at)
            if count is not None:
                found[rule.id] = count
        elif rule.id in row:
            found[rule.id] = int(row[rule.id] or 0)
        elif rule.kind != "reference":
            found[rule.id] = 0
    return found


def query(
    contract: Terms, schema: Mapping[str, pl.DataType], per: tuple[str, ...] = ()
) -> tuple[list[pl.Expr], set[str]]:
    """The aggregates that `gathered` reads, and the rules about whole sets among them."""
    _, sums, wanted = _query(contract, schema, per)
    return [*sums, *_flat(wanted), pl.len().alias("\0rows")], set(wanted)


def counts(contract: Terms, rows: pl.LazyFrame, per: tuple[str, ...]) -> dict[str, int]:
    """See `Contract.counts`."""
    exprs, wanted = query(contract, rows.collect_schema(), per)
    row = rows.select(exprs).collect().row(0, named=True)
    return gathered(contract, row, wanted, int(row["\0rows"]))


def _unread(contract: Terms, masks: pl.DataFrame, unreadable: pl.DataFrame) -> pl.DataFrame:
    """The masks, where values that could not be read are of the wrong type and not missing."""
    made = {name: masks[name] for name in masks.columns}
    for id in unreadable.columns:
        lost = unreadable[id]
        made[id] = lost | made[id].fill_null(False) if id in made else lost
        required = id.removesuffix("logicalType") + "required"
        if required in made:
            made[required] = made[required] & ~lost
    return pl.DataFrame({rule.id: made[rule.id] for rule in contract.rules if rule.id in made})


def check(
    contract: Terms, frame: pl.DataFrame, per: tuple[str, ...], unreadable: pl.DataFrame | None = None
) -> Checked:
    """See `Contract.check`."""
    marks, _, wanted = _query(contract, frame.schema, per)
    masks = frame.lazy().select(m.alias(id) for id, m in marks.items()).collect() if marks else pl.DataFrame()
    unreadable = pl.DataFrame() if unreadable is None else unreadable
    if unreadable.width:
        masks = _unread(contract, masks, unreadable)
    row: dict[str, Any] = {id: masks[id].sum() for id in masks.columns}
    if wanted:
        row |= frame.select(_flat(wanted)).row(0, named=True)
        for id in unreadable.columns:
            column = id.removesuffix(".logicalType")
            nulls = [rule.id for rule in contract.rules if rule.kind == "nullValues" and rule.column == column]
            row |= {f"{name}\x000": row[f"{name}\x000"] - int(unreadable[id].sum()) for name in nulls}
    found = gathered(contract, row, wanted, frame.height)
    unjudged = tuple(rule.id for rule in contract.rules if rule.id not in found)
    broken = [rule for rule in contract.rules if found.get(rule.id)]
    if not broken:
        return Checked(frame, with_broken(frame.clear(), {}), (), (), unjudged)
    masks = masks.select(rule.id for rule in broken if rule.id in masks.columns)
    violations = tuple(_violation(rule, found[rule.id], frame, masks) for rule in broken)
    stopped = tuple(v for v, r in zip(violations, broken, strict=True) if r.refuses and r.response == "stop")
    refusing = [rule.id for rule in broken if rule.refuses and rule.id in masks.columns]
    good, bad = frame, with_broken(frame.clear(), {})
    if refusing:
        out = masks.select(pl.any_horizontal(refusing).fill_null(False).alias("out"))["out"]
        bad = with_broken(frame[out.arg_true()], masks.filter(out).to_dict())
        good = frame.filter(~out)
    if mends := [rule for rule in broken if rule.mends and rule.id in masks.columns]:
        masks = masks.filter(~out) if refusing else masks
        good = _mended(contract, good, masks, mends)
    return Checked(good, bad, violations, stopped, unjudged)


def split(contract: Terms, rows: pl.LazyFrame, good: Path, bad: Path, per: tuple[str, ...]) -> Split:
    """See `Contract.split`."""
    schema = rows.collect_schema()
    marks, _, wanted = _query(contract, schema, per)
    refusing = [r.id for r in contract.rules if r.refuses and r.id in marks]
    mends = [r for r in contract.rules if r.mends and r.id in marks]
    judged = rows.with_columns(mark.fill_null(False).alias(f"\0{id}") for id, mark in marks.items())
    out = pl.any_horizontal([f"\0{id}" for id in refusing]) if refusing else pl.lit(False)
    ids = [pl.when(f"\0{id}").then(pl.lit(id)) for id in marks]
    broken = pl.concat_list(ids).list.drop_nulls() if ids else pl.lit(None, pl.List(pl.String))
    kept = judged.filter(~out)
    if mends:
        kept = kept.with_columns(_defaults(contract, schema, mends, {r.id: pl.col(f"\0{r.id}") for r in mends}))
    drop = [f"\0{id}" for id in marks]
    tally = judged.select(
        *(pl.col(f"\0{id}").sum().alias(id) for id in marks),
        *_flat(wanted),
        pl.len().alias("\0rows"),
        out.sum().alias("\0out"),
    )
    sinks = [
        kept.drop(drop).sink_parquet(good, lazy=True, mkdir=True),
        judged.filter(out).with_columns(broken.alias(BROKEN)).drop(drop).sink_parquet(bad, lazy=True, mkdir=True),
    ]
    results = pl.collect_all([tally, *sinks], engine="streaming")
    row = results[0].row(0, named=True)
    total = int(row["\0rows"])
    return Split(total, int(row["\0out"] or 0), gathered(contract, row, wanted, total))


def _mended(contract: Terms, good: pl.DataFrame, masks: pl.DataFrame, rules: Sequence[Rule]) -> pl.DataFrame:
    beside = masks.select(pl.col(r.id).fill_null(False).alias(f"\0{r.id}") for r in rules)
    made = _defaults(contract, good.schema, rules, {r.id: pl.col(f"\0{r.id}") for r in rules})
    return pl.concat([good, beside], how="horizontal").with_columns(made).drop(beside.columns)


def _defaults(
    contract: Terms, schema: Mapping[str, pl.DataType], rules: Sequence[Rule], marks: Mapping[str, pl.Expr]
) -> list[pl.Expr]:
    """The columns of `rules`, with the default where one of them is broken."""
    made = []
    for column in contract.columns:
        own = [marks[rule.id] for rule in rules if rule.columns[0] == column.name]
        if own and column.type is not None:
            value = typed_value(column.name, schema.get(column.name), column.type, column.zone)
            made.append(
                pl.when(pl.any_horizontal(own)).then(pl.lit(column.default)).otherwise(value).alias(column.name)
            )
    return made


def judge_row(contract: Terms, row: Mapping[str, object]) -> RowVerdict:
    """See `Contract.judge_row`."""
    row = contract.read_row(row)
    broken = contract.row_rules()(row)
    if not broken:
        return RowVerdict((), (), row)
    rules = {rule.id: rule for rule in contract.rules}
    refused = tuple(id for id in broken if rules[id].refuses)
    mended = {rules[id].columns[0] for id in broken if rules[id].mends}
    if mended:
        row = {**row, **{c.name: c.default for c in contract.columns if c.name in mended}}
    return RowVerdict(tuple(broken), refused, row)


def held_values(contract: Terms, rule: Rule, table: pl.DataFrame | pl.LazyFrame) -> pl.Series:
    """The values of another table that a reference asks for, each once, typed as the contract's own columns.

    A struct where there are several columns; rows with a missing value are left out.
    """
    assert isinstance(rule.value, Reference)
    schema = table.collect_schema()
    if lacking := [name for name in rule.value.columns if name not in schema]:
        raise Invalid(
            f"{rule.id} refers to {rule.value.table}.{lacking[0]}, which is not there",
            why=f"table {rule.value.table} has {', '.join(schema.names())}",
            fix="correct the relationship in the contract",
        )
    pairs = zip(rule.columns, rule.value.columns, strict=True)
    exprs = [typed_value(there, schema[there], str(contract.types[mine])).alias(mine) for mine, there in pairs]
    found = table.lazy().select(exprs).drop_nulls().unique().collect()
    return found.to_struct(rule.id) if len(rule.columns) > 1 else found.to_series()


def row_values(values: pl.Series) -> frozenset[object]:
    """What a reference holds as Python values; times in microseconds since 1970."""

    def plain(value: object) -> object:
        return (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value

    if values.dtype == pl.Struct:
        return frozenset(tuple(plain(v) for v in row.values()) for row in values.to_list())
    return frozenset(plain(v) for v in values.to_list())


def with_broken(rows: pl.DataFrame, masks: Mapping[str, pl.Series]) -> pl.DataFrame:
    """The rows, of which each breaks a rule, with the ids of those; `masks` has one Boolean column a rule."""
    if not masks:
        return rows.with_columns(pl.lit(None, pl.List(pl.String)).alias(BROKEN))
    places = [mask.arg_true() for mask in masks.values()]
    rules = [pl.repeat(n, place.len(), dtype=pl.Int32, eager=True) for n, place in enumerate(places)]
    found = pl.DataFrame({"row": pl.concat(places), "rule": pl.concat(rules)}).sort("row", maintain_order=True)
    named = found.select("row", pl.Series("id", list(masks)).gather(found["rule"]))
    lists = named.group_by("row", maintain_order=True).agg("id")["id"]
    return rows.with_columns(lists.alias(BROKEN))


def _violation(rule: Rule, count: int, frame: pl.DataFrame, masks: pl.DataFrame) -> Violation:
    examples: list[Any] = []
    there = [name for name in rule.columns if name in frame.columns]
    if rule.id in masks.columns and there and rule.kind != "required":
        shown = frame.select(there)[masks[rule.id].arg_true().head(SEEN)].unique(maintain_order=True)
        if rule.kind in ("primaryKey", "reference", "check") and len(there) > 1:
            examples = [" ".join(map(str, row)) for row in shown.head(EXAMPLES).rows()]
        else:
            examples = [_shown(v) for v in shown.to_series().head(EXAMPLES).to_list()]
    return Violation(rule.id, rule.column, rule.severity, count, tuple(examples[:EXAMPLES]))


def _shown(value: Any) -> Any:
    """An example that any JSON document can hold."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if is_safe(value) else str(value)
    if isinstance(value, float):  # a great one that is whole is written as an integer, and read back as one
        return value if abs(value) < 2**53 else str(value)
    text = value if isinstance(value, str) else value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def refusal(violations: Sequence[Violation], table: str, quarantine: str | None) -> Invalid:
    """The error for violations whose response is `stop`."""
    first = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return Invalid(
        f"{table}: {describe(first)}{more}",
        why="the contract stops ingestion on this rule; no row was taken in",
        fix=f"look at table {quarantine}, mend the source, and ingest again"
        if quarantine
        else "mend the source, and ingest again",
    )


def describe(violation: Violation) -> str:
    """One line: rule, column, count, examples."""
    shown = ", ".join(repr(e) for e in violation.examples)
    column = f" in column {violation.column}" if violation.column else ""
    return f"{violation.rule} broken {violation.count:,} times{column}" + (f", for example {shown}" if shown else "")


def quarantine_of(name: str) -> str:
    """The table that holds the refused rows of `name`, each with the rules that it broke."""
    return f"quarantine/{name}"
