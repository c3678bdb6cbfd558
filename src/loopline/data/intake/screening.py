"""Which rows enter a table: by its contract, by its key, and by what it holds already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.data.contracts.compile_polars import broken_rows
from loopline.data.contracts.contract import BROKEN, EXAMPLES, Checked, Contract
from loopline.data.contracts.rules import SET_KINDS, TOTAL_KINDS, Rule
from loopline.data.history.digest import U64, row_hashes
from loopline.data.history.known import KNOWN_AT, known, known_column, standing
from loopline.data.intake.columns import align
from loopline.data.nouns import Violation
from loopline.data.sources.json_types import apart, given_types
from loopline.data.spec import TableSpec

if TYPE_CHECKING:
    from loopline.workspace import Workspace

NO_CONTRACT = Contract("", "", (), (), {})
PLACE = "\0row"


def judge(
    rows: pl.DataFrame,
    unreadable: pl.DataFrame,
    text: pl.DataFrame,
    name: str,
    spec: TableSpec,
    contract: Contract | None,
    *,
    typed: bool = False,
) -> Checked:
    """The rows by their contract, and by the key of the table.

    `bad` holds the rows as the source wrote them, all as text, so that a refused
    value of any type can be kept and read; where its values have types (`typed`),
    those that broke the declared one are told beside.
    """
    per = (known_column(spec),)
    unique = key_rule(spec, contract)
    rules = with_needed(rows, spec, contract or NO_CONTRACT)
    if not unreadable.width and unique is None:
        checked = rules.check(rows, per=per)
        if not checked.violations:
            return Checked(rows, as_text(apart(text.clear())[0]), ())
    place = pl.Series(PLACE, range(rows.height), dtype=pl.Int64)
    numbered = rows.with_columns(place)
    checked = rules.check(numbered, per=per, unreadable=unreadable)
    good, refused = checked.good, [checked.bad.select(PLACE, BROKEN)]
    violations = [_with_texts(v, unreadable, text) for v in checked.violations]
    if unique is not None:
        surplus = good.select(broken_rows((unique,), good.schema, per)[unique.id].fill_null(False).alias("x"))["x"]
        if surplus.any():
            again = good.filter(surplus)
            refused.append(again.select(PLACE, pl.lit([unique.id], pl.List(pl.String)).alias(BROKEN)))
            shown = again.select(spec.key).unique(maintain_order=True).head(5).rows()
            violations.append(
                Violation(
                    unique.id,
                    spec.key[0] if len(spec.key) == 1 else None,
                    "error",
                    again.height,
                    tuple(" ".join(map(str, row)) for row in shown),
                )
            )
            good = good.filter(~surplus)
    bad = pl.concat(refused).sort(PLACE)
    source = text[bad[PLACE]]
    kept = as_text(apart(source)[0])
    if typed and bad.height and contract is not None:
        told = given_types(source, bad[BROKEN], contract.types)
        kept = kept.with_columns(told) if told.null_count() < told.len() else kept
    return Checked(
        good.drop(PLACE), kept.with_columns(bad[BROKEN].list.join(", ")), merged(violations), checked.stopped
    )


def _with_texts(violation: Violation, unreadable: pl.DataFrame, text: pl.DataFrame) -> Violation:
    """A violation with the texts that could not be read as its examples."""
    if violation.rule not in unreadable.columns or violation.column not in text.columns:
        return violation
    given = text[violation.column].filter(unreadable[violation.rule])
    lost = (given.cast(pl.String) if given.dtype.is_temporal() else given).unique(maintain_order=True).head(EXAMPLES)
    shown = (*map(str, lost.to_list()), *(e for e in violation.examples if e is not None))
    return replace(violation, examples=shown[:EXAMPLES])


def as_text(rows: pl.DataFrame) -> pl.DataFrame:
    if not rows.height:
        return pl.DataFrame(schema=dict.fromkeys(rows.columns, pl.String))
    nested = [
        pl.struct(pl.col(name).alias("v")).struct.json_encode().alias(name) if dtype.is_nested() else pl.col(name)
        for name, dtype in rows.schema.items()
    ]
    return rows.select(nested).cast(pl.String, strict=False)


def merged(violations: list[Violation]) -> tuple[Violation, ...]:
    by_rule: dict[str, Violation] = {}
    for v in violations:
        old = by_rule.get(v.rule)
        by_rule[v.rule] = (
            v if old is None else replace(old, count=old.count + v.count, examples=(*old.examples, *v.examples)[:5])
        )
    return tuple(by_rule.values())


def with_needed(rows: pl.DataFrame, spec: TableSpec, contract: Contract) -> Contract:
    """The contract with a rule for each column that the table is declared by and that `rows` lack a value of.

    A row without its key, its event time or when it became known belongs to nothing and
    to no moment, whatever a contract says of the column, or leaves unsaid.
    """
    named = dict.fromkeys(c for c in (*spec.key, spec.event_time, spec.known_at) if c is not None)
    own = [Rule(f"{c}.required", "required", (c,)) for c in named if c in rows.columns and rows[c].null_count()]
    said = {r.id: r for r in contract.rules}
    own = [r for r in own if r.id not in said or not said[r.id].refuses]
    if not own:
        return contract
    ids = {r.id for r in own}
    return replace(contract, rules=(*own, *(r for r in contract.rules if r.id not in ids)))


def key_rule(spec: TableSpec, contract: Contract | None) -> Rule | None:
    """The rule that a key names one row per moment, unless the contract says it already."""
    if not spec.key:
        return None
    if contract and any(r.kind in ("unique", "primaryKey") and set(r.columns) == set(spec.key) for r in contract.rules):
        return None
    return Rule("+".join(spec.key) + ".key", "primaryKey", spec.key)


def set_rules(spec: TableSpec, contract: Contract | None) -> tuple[Rule, ...]:
    """The rules that judge a row beside other rows, the key of the table among them."""
    own = key_rule(spec, contract)
    found = [r for r in contract.rules if r.kind in SET_KINDS and r.refuses] if contract else []
    return (*found, own) if own is not None else tuple(found)


def without_totals(contract: Contract | None) -> Contract | None:
    """The contract without the rules that judge all rows together, which a batch cannot know."""
    if contract is None or not any(r.kind in TOTAL_KINDS for r in contract.rules):
        return contract
    return replace(contract, rules=tuple(r for r in contract.rules if r.kind not in TOTAL_KINDS))


def totals(contract: Contract, rows: pl.LazyFrame, per: Sequence[str]) -> tuple[list[Violation], list[Violation]]:
    """What the rules about all rows together say of a stream: all that are broken, and those that stop."""
    rules = tuple(r for r in contract.rules if r.kind in TOTAL_KINDS)
    counts = replace(contract, rules=rules).counts(rows, per=per)
    broken = [(r, Violation(r.id, r.column, r.severity, counts[r.id])) for r in rules if counts.get(r.id)]
    return [v for _, v in broken], [v for r, v in broken if r.response == "stop"]


class Seen:
    """The values that earlier batches of one ingestion brought, by their hashes.

    Two hashes of 64 bits stand for a value: 16 bytes for each row and rule.
    """

    def __init__(self, rules: Sequence[Rule], per: Sequence[str]) -> None:
        self.rules, self.per = rules, tuple(per)
        self._hashes: dict[str, _Hashes] = {}

    def surplus(self, rows: pl.DataFrame) -> dict[str, pl.Series]:
        """By rule id, which rows repeat a value of an earlier batch; remembers all of them."""
        found: dict[str, pl.Series] = {}
        for rule in self.rules:
            columns = [c for c in (*rule.columns, *(p for p in self.per if p not in rule.columns)) if c in rows.columns]
            mine = rows.select(columns)
            whole = mine.select(pl.all_horizontal(pl.col(list(rule.columns)).is_not_null())).to_series().to_numpy()
            hashes = row_hashes(mine)
            order = np.argsort(hashes[0])  # neighbours are looked for side by side: far fewer misses of the cache
            first, second, whole = hashes[0][order], hashes[1][order], whole[order]
            known = self._hashes.setdefault(rule.id, _Hashes())
            again = known.hold(first, second) & whole
            if again.any():
                marks = np.empty_like(again)
                marks[order] = again
                found[rule.id] = pl.Series(marks)
            fresh = whole & ~again
            known.add(first[fresh], second[fresh])
        return found


class _Hashes:
    """Pairs of hashes in sorted runs, each at least twice as long as the next: adding n costs n log n in all."""

    def __init__(self) -> None:
        self._runs: list[tuple[U64, U64]] = []

    def add(self, first: U64, second: U64) -> None:
        while self._runs and self._runs[-1][0].size < 2 * first.size:
            before = self._runs.pop()
            first, second = np.concatenate([before[0], first]), np.concatenate([before[1], second])
        order = np.argsort(first, kind="stable")
        self._runs.append((first[order], second[order]))

    def hold(self, first: U64, second: U64) -> npt.NDArray[np.bool_]:
        found = np.zeros(first.size, np.bool_)
        for run, other in self._runs:
            if not run.size:
                continue
            at = np.searchsorted(run, first)
            for step in (0, 1):  # two values share the first hash once in 10**19 pairs; three never
                place = np.minimum(at + step, run.size - 1)
                found |= (run[place] == first) & (other[place] == second)
        return found


class Held:
    """The rows that a table holds, to be counted off against the rows of a source."""

    def __init__(self, rows: pl.LazyFrame | None, spec: TableSpec, name: str, schema: Mapping[str, str]) -> None:
        self.schema = schema
        self._there = Counted([])
        if rows is not None:
            if spec.key:
                rows = standing(rows, spec.key, KNOWN_AT, name, spec.tombstone)
            gone = [c for c in (KNOWN_AT, spec.tombstone if not spec.deleted else None) if c]
            held = rows.drop(gone, strict=False)
            self._there = Counted([_hashed(part) for part in held.collect_batches(chunk_size=500_000)])

    def fresh(self, rows: pl.DataFrame) -> pl.Series:
        """Which rows the table does not hold yet, counting equal rows."""
        return self._there.fresh(_hashed(align(rows, self.schema)))


class Counted:
    """How many rows of each content there are, to be counted off; with `once`, one stands for any number."""

    def __init__(self, hashes: Sequence[pl.Series], *, once: bool = False) -> None:
        self.once = once
        self._there = pl.concat(hashes).alias("h").to_frame().group_by("h").len("n") if hashes else None

    def fresh(self, hashes: pl.Series) -> pl.Series:
        """Which contents are more than there are."""
        if self._there is None:
            return pl.Series("fresh", [True] * hashes.len(), dtype=pl.Boolean)
        if self.once:
            return ~hashes.is_in(self._there["h"].implode())
        mine = hashes.alias("h").to_frame().with_columns(pl.int_range(pl.len()).over("h").alias("nth"))
        joined = mine.join(self._there, on="h", how="left", maintain_order="left")
        used = mine.group_by("h").len("used")
        rest = pl.col("n").cast(pl.Int64) - pl.col("used").fill_null(0).cast(pl.Int64)
        self._there = self._there.join(used, on="h", how="left").select(
            "h", pl.max_horizontal(rest, pl.lit(0)).alias("n")
        )
        return joined.select((pl.col("nth") >= pl.col("n").fill_null(0)).alias("fresh"))["fresh"]


def _hashed(rows: pl.DataFrame) -> pl.Series:
    return pl.Series("h", row_hashes(rows)[0])


def beside(
    ws: Workspace, contract: Contract | None, name: str, tables: Mapping[str, TableSpec], now: datetime
) -> Contract | None:
    """The contract with what it needs beside the rows: the tables that it refers to, as known now, and the moment."""
    if contract is None:
        return None
    needed = [t for t in contract.needs if t in tables and ws.tables.version(t) is not None]
    return contract.beside({t: known(ws, t, tables[t], now).collect() for t in needed}, at=now)
