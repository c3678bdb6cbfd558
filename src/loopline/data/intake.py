"""What happens to rows between a source and a table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from loopline.base.errors import Invalid
from loopline.base.ids import content_id, iso, moment
from loopline.base.nouns import to_doc
from loopline.data.columns import align, canonical, read_declared, require_columns
from loopline.data.compile_polars import broken_rows
from loopline.data.contract import BROKEN, Checked, Contract, refusal
from loopline.data.digest import RowsDigest, row_hashes, rows_digest
from loopline.data.history import KNOWN_AT, known_column, latest
from loopline.data.nouns import Ingestion, Violation
from loopline.data.rules import Rule
from loopline.data.spec import TableSpec
from loopline.data.times import UTC_TIME, to_utc

if TYPE_CHECKING:
    from loopline.store.records.protocol import Pointer
    from loopline.store.tables.protocol import Tables

POINTER = "ingested"
QUARANTINE = "quarantine/"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a table has come: what the next ingestion and a snapshot start from."""

    known_to: datetime | None = None
    version: int | None = None
    digest: RowsDigest = field(default_factory=RowsDigest)
    greatest: datetime | None = None
    seen: int = 0
    """Source rows known by `known_to`, of the source as it was then."""
    first: datetime | None = None
    """Least `known_at` of the source as it was then."""
    schema: dict[str, str] = field(default_factory=dict)
    generation: int = 0

    @classmethod
    def of(cls, pointer: Pointer | None) -> Progress:
        """What the records say; nothing yet without a pointer."""
        if pointer is None:
            return cls()
        doc = pointer.doc
        return cls(
            known_to=moment(doc["known_to"]),
            version=doc["version"],
            digest=RowsDigest.parse(doc["digest"]),
            greatest=moment(doc["greatest"]) if doc["greatest"] else None,
            seen=doc["seen"],
            first=moment(doc["first"]) if doc["first"] else None,
            schema=doc["schema"],
            generation=pointer.generation,
        )

    def doc(self) -> dict[str, Any]:
        """What the pointer keeps."""
        return {
            "known_to": iso(self.known_to) if self.known_to else None,
            "version": self.version,
            "digest": str(self.digest),
            "greatest": iso(self.greatest) if self.greatest else None,
            "seen": self.seen,
            "first": iso(self.first) if self.first else None,
            "schema": self.schema,
        }


def catch_up(tables: Tables, name: str, spec: TableSpec, recorded: Progress) -> Progress:
    """Progress after rows that were appended but not recorded (a crash in between).

    An append is whole, and held everything known by its greatest `known_at`, so
    that time is how far the table really came.
    """
    version = tables.version(name)
    if version == recorded.version:
        return recorded
    if version is None:
        raise Invalid(
            f"table {name} is gone",
            why=f"the records say that it reached version {recorded.version}",
            fix=f"restore the folder tables/{name} from a backup",
        )
    rows = tables.scan(name, version=version).collect()
    greatest = rows[known_column(spec)].max()
    assert greatest is None or isinstance(greatest, datetime)
    reached = max((t for t in (recorded.known_to, greatest) if t is not None), default=None)
    return replace(
        recorded,
        known_to=reached,
        version=version,
        digest=rows_digest(rows),
        greatest=greatest,
        schema={k: str(v) for k, v in rows.schema.items()},
    )


def take(
    tables: Tables,
    name: str,
    spec: TableSpec,
    contract: Contract | None,
    source: pl.DataFrame,
    recorded: Progress,
    now: datetime,
) -> tuple[Ingestion, Progress]:
    """Bring the news of `source` into table `name`: rows known in (last, now].

    `source` may hold all rows there ever were, or news alone. A row that says it
    was known before the last ingestion, and was not there then, came late: it is
    left out, since what was known at a time never changes afterwards, and reported
    as `<known_at>.late`.
    """
    before = catch_up(tables, name, spec, recorded)
    require_columns(source, name, spec, contract)
    if spec.known_at is None:
        return _take_unseen(tables, name, spec, contract, source, before, now)
    time = to_utc(source.select(spec.known_at), name, spec, contract)[spec.known_at]
    known = (time <= now).fill_null(False)
    first = time.min()
    assert first is None or isinstance(first, datetime)
    extra: tuple[Violation, ...] = ()
    chosen = known
    if before.known_to is not None:
        old = (time <= before.known_to).fill_null(False)
        chosen = known & ~old
        same = first is not None and before.first is not None and first <= before.first
        late = int(old.sum()) - (before.seen if same else 0)
        if late > 0:
            extra = (Violation(f"{spec.known_at}.late", spec.known_at, "warning", late),)
    before = replace(before, seen=int(known.sum()), first=first)
    news = source if chosen.all() else source.filter(chosen)
    read, unreadable = read_declared(news, contract)
    rows = align(canonical(to_utc(read, name, spec, contract), name), before.schema)
    return _admit(tables, name, spec, contract, (rows, unreadable, news), extra, before, now)


def _take_unseen(
    tables: Tables,
    name: str,
    spec: TableSpec,
    contract: Contract | None,
    source: pl.DataFrame,
    before: Progress,
    now: datetime,
) -> tuple[Ingestion, Progress]:
    """As `take`, for a table that does not say when its rows were known: rows it does not hold."""
    read, unreadable = read_declared(source, contract)
    rows = align(canonical(to_utc(read, name, spec, contract), name), before.schema)
    fresh = _unseen(tables, name, spec, rows, before)
    rows = rows.filter(fresh).with_columns(pl.lit(now).cast(UTC_TIME).alias(KNOWN_AT))
    unreadable = unreadable.filter(fresh) if unreadable.width else unreadable
    return _admit(tables, name, spec, contract, (rows, unreadable, source.filter(fresh)), (), before, now)


def _admit(
    tables: Tables,
    name: str,
    spec: TableSpec,
    contract: Contract | None,
    news: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame],
    extra: tuple[Violation, ...],
    before: Progress,
    now: datetime,
) -> tuple[Ingestion, Progress]:
    checked = judge(*news, name, spec, contract)
    quarantine = _set_aside(tables, name, checked.bad, now)
    if checked.stopped:
        raise refusal(checked.stopped, name, quarantine)
    return _append(tables, name, spec, checked, (*checked.violations, *extra), quarantine, before, now)


def _append(
    tables: Tables,
    name: str,
    spec: TableSpec,
    checked: Checked,
    violations: tuple[Violation, ...],
    quarantine: str | None,
    before: Progress,
    now: datetime,
) -> tuple[Ingestion, Progress]:
    good = checked.good
    added = rows_digest(good)
    facts: dict[str, Any] = {
        "table": name,
        "rows": good.height,
        "quarantined": checked.bad.height,
        "known_from": before.known_to,
        "known_to": now,
        "violations": violations,
        "quarantine": quarantine,
    }
    version = before.version
    if good.height or version is None:
        key = content_id(to_doc({"table": name, "digest": str(added), "after": before.version}))
        version = tables.append(name, good, key=key).version
    newest = good[known_column(spec)].max()
    times = [t for t in (before.greatest, newest) if isinstance(t, datetime)]
    schema = before.schema | {k: str(v) for k, v in good.schema.items()} if good.height or not before.schema else None
    after = replace(
        before,
        known_to=now,
        version=version,
        digest=before.digest + added,
        greatest=max(times, default=None),
        schema=schema or before.schema,
    )
    id = content_id(to_doc({**facts, "version": version, "digest": str(added)}))
    return Ingestion(id=id, version=version, digest=str(after.digest), greatest=after.greatest, **facts), after


def judge(
    rows: pl.DataFrame,
    unreadable: pl.DataFrame,
    text: pl.DataFrame,
    name: str,
    spec: TableSpec,
    contract: Contract | None,
) -> Checked:
    """The rows by their contract, and by the key of the table.

    `bad` holds the rows as the source wrote them, all as text, so that a refused
    value of any type can be kept and read.
    """
    per = (known_column(spec),)
    key_rule = _key_rule(spec, contract)
    rules = contract or NO_CONTRACT
    lost = unreadable.select(pl.any_horizontal(pl.all()).alias("lost"))["lost"] if unreadable.width else None
    if lost is None and key_rule is None:
        checked = rules.check(rows, per=per)
        if not checked.violations:
            return Checked(rows, _as_text(text.clear()), ())
    place = pl.Series("\0row", range(rows.height), dtype=pl.Int64)
    numbered = rows.with_columns(place)
    if lost is not None and lost.any():
        numbered = numbered.filter(~lost)
    checked = rules.check(numbered, per=per)
    good, violations, refused = checked.good, list(checked.violations), [checked.bad.select("\0row", BROKEN)]
    if key_rule is not None:
        surplus = good.select(broken_rows((key_rule,), good.schema, per)[key_rule.id].fill_null(False).alias("x"))["x"]
        if surplus.any():
            again = good.filter(surplus)
            refused.append(again.select("\0row", pl.lit([key_rule.id], pl.List(pl.String)).alias(BROKEN)))
            shown = again.select(spec.key).unique(maintain_order=True).head(5).rows()
            violations.append(
                Violation(
                    key_rule.id,
                    spec.key[0] if len(spec.key) == 1 else None,
                    "error",
                    again.height,
                    tuple(" ".join(map(str, row)) for row in shown),
                )
            )
            good = good.filter(~surplus)
    stopped = list(checked.stopped)
    if lost is not None and lost.any():
        refused.append(_unread(unreadable, place, lost))
        for rule_id in unreadable.columns:
            column = rule_id.removesuffix(".logicalType")
            rule = next((r for r in contract.rules if r.id == rule_id), None) if contract else None
            shown = text[column].filter(unreadable[rule_id]).unique(maintain_order=True).head(5).to_list()
            found = Violation(rule_id, column, "error", int(unreadable[rule_id].sum()), tuple(map(str, shown)))
            violations.append(found)
            if rule is not None and rule.response == "stop":
                stopped.append(found)
    bad = pl.concat(refused).sort("\0row")
    kept = _as_text(text[bad["\0row"]])
    return Checked(
        good.drop("\0row"), kept.with_columns(bad[BROKEN].list.join(", ")), _merged(violations), tuple(stopped)
    )


def _unread(unreadable: pl.DataFrame, place: pl.Series, lost: pl.Series) -> pl.DataFrame:
    ids = [pl.when(pl.col(c)).then(pl.lit(c)) for c in unreadable.columns]
    broken = unreadable.filter(lost).select(pl.concat_list(ids).list.drop_nulls().alias(BROKEN))
    return broken.select(place.filter(lost), pl.col(BROKEN))


def _as_text(rows: pl.DataFrame) -> pl.DataFrame:
    if not rows.height:
        return pl.DataFrame(schema=dict.fromkeys(rows.columns, pl.String))
    nested = [
        pl.struct(pl.col(name).alias("v")).struct.json_encode().alias(name) if dtype.is_nested() else pl.col(name)
        for name, dtype in rows.schema.items()
    ]
    return rows.select(nested).cast(pl.String, strict=False)


def _merged(violations: list[Violation]) -> tuple[Violation, ...]:
    by_rule: dict[str, Violation] = {}
    for v in violations:
        old = by_rule.get(v.rule)
        by_rule[v.rule] = (
            v if old is None else replace(old, count=old.count + v.count, examples=(*old.examples, *v.examples)[:5])
        )
    return tuple(by_rule.values())


def _key_rule(spec: TableSpec, contract: Contract | None) -> Rule | None:
    """The rule that a key names one row per moment, unless the contract says it already."""
    if not spec.key:
        return None
    if contract and any(r.kind in ("unique", "primaryKey") and set(r.columns) == set(spec.key) for r in contract.rules):
        return None
    return Rule("+".join(spec.key) + ".key", "primaryKey", spec.key)


def _set_aside(tables: Tables, name: str, bad: pl.DataFrame, now: datetime) -> str | None:
    if not bad.height:
        return None
    table = QUARANTINE + name
    key = content_id({"table": table, "digest": str(rows_digest(bad))})
    tables.append(table, bad.with_columns(pl.lit(now).cast(UTC_TIME).alias("refused_at")), key=key)
    return table


def _unseen(tables: Tables, name: str, spec: TableSpec, rows: pl.DataFrame, before: Progress) -> pl.Series:
    """Which rows the table does not hold yet, counting equal rows.

    With a key, the newest version of each key is what the table holds.
    """
    rows = align(rows, before.schema)
    if before.version is None:
        return pl.Series("fresh", [True] * rows.height, dtype=pl.Boolean)
    held = tables.scan(name, version=before.version)
    if spec.key:
        held = latest(held, spec.key, KNOWN_AT, name)
    there = _hashed(held.collect().drop(KNOWN_AT)).group_by("h").len("n")
    mine = _hashed(rows).with_columns(pl.int_range(pl.len()).over("h").alias("nth"))
    joined = mine.join(there, on="h", how="left", maintain_order="left")
    return joined.select((pl.col("nth") >= pl.col("n").fill_null(0)).alias("fresh"))["fresh"]


def _hashed(rows: pl.DataFrame) -> pl.DataFrame:
    first, _ = row_hashes(rows)
    return pl.DataFrame({"h": first})


NO_CONTRACT = Contract("", "", (), (), {})
