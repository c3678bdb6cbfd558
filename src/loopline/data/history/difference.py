"""What changed between two snapshots."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from loopline.data.history.digest import row_hashes
from loopline.data.history.manifest import entry_of, find_snapshot, manifest, state_of
from loopline.data.history.profiles import profile
from loopline.data.nouns import ColumnShift, Difference, Snapshot, TableDifference
from loopline.workspace import Workspace, query

EXAMPLES = 5
NOTABLE = 0.1
"""Distance between two distributions from which a column is said to have shifted."""


@query("data.diff")
def diff(ws: Workspace, a: str, b: str) -> Difference:
    """What changed from snapshot `a` to `b`: schema, contract, rows by key, and how columns are spread.

    Rows are compared as each snapshot knew them: the newest version of each key. A
    row without a key has none to be found by, so it is added or removed as a whole.

    Parameters
    ----------
    a, b : str
        Tags, ids, or beginnings of ids.

    Raises
    ------
    NotFound
        If a snapshot is not there, or a file that it pinned is gone.
    """
    one, two = find_snapshot(ws, a), find_snapshot(ws, b)
    before, after = manifest(ws, one), manifest(ws, two)
    changes = [_table(ws, one, two, name) for name in sorted(set(before) & set(after)) if before[name] != after[name]]
    return Difference(
        a=one.id,
        b=two.id,
        tables=tuple(changes),
        only_in_a=tuple(sorted(set(before) - set(after))),
        only_in_b=tuple(sorted(set(after) - set(before))),
    )


def _table(ws: Workspace, one: Snapshot, two: Snapshot, name: str) -> TableDifference:
    before, after = entry_of(ws, one, name), entry_of(ws, two, name)
    old, new = before["schema"], after["schema"]
    key = tuple(after.get("key", ()))
    same = before["digest"] == after["digest"]
    left = state_of(ws, one, name)
    right = left if same else state_of(ws, two, name)
    if same:
        counts = _Counts(0, 0, 0, left.select(pl.len()).collect().item(), {}, ())
        shifts: tuple[ColumnShift, ...] = ()
    else:
        ignored = [c for c in {before["known_at"], after["known_at"]} if c not in key]
        counts = changed(left.drop(ignored, strict=False), right.drop(ignored, strict=False), key)
        shifts = shifted(left, right)
    return TableDifference(
        table=name,
        columns_added={c: t for c, t in new.items() if c not in old},
        columns_removed={c: t for c, t in old.items() if c not in new},
        columns_retyped={c: (old[c], new[c]) for c in old if c in new and old[c] != new[c]},
        contract_changed=before["contract"] != after["contract"],
        key=key,
        added=counts.added,
        removed=counts.removed,
        changed=counts.changed,
        unchanged=counts.unchanged,
        changed_columns=counts.columns,
        examples=counts.examples,
        shifts=shifts,
    )


class _Counts:
    def __init__(
        self,
        added: int,
        removed: int,
        changed: int,
        unchanged: int,
        columns: dict[str, int],
        examples: tuple[tuple[str, ...], ...],
    ) -> None:
        self.added, self.removed, self.changed, self.unchanged = added, removed, changed, unchanged
        self.columns, self.examples = columns, examples


def changed(left: pl.LazyFrame, right: pl.LazyFrame, key: tuple[str, ...]) -> _Counts:
    """Rows added, removed, changed and unchanged between two states of a table.

    With a key, each names at most one row on either side. Without, rows are
    compared whole, as often as they occur.
    """
    if not key:
        return _whole(left, right)
    one, two = left.collect(), right.collect()
    mine = one.select(key).with_columns(_hash(one).alias("h1"))
    theirs = two.select(key).with_columns(_hash(two).alias("h2"))
    both = mine.join(theirs, on=list(key), how="full", coalesce=True, nulls_equal=True)
    added, removed = both.filter(pl.col("h1").is_null()), both.filter(pl.col("h2").is_null())
    differing = both.filter(pl.col("h1") != pl.col("h2")).select(key)
    columns = {}
    if differing.height:
        x = differing.join(one, on=list(key), how="left", nulls_equal=True, maintain_order="left")
        y = differing.join(two, on=list(key), how="left", nulls_equal=True, maintain_order="left")
        for column in dict.fromkeys([*one.columns, *two.columns]):
            if column in key:
                continue
            count = _differ(x, y, column)
            if count:
                columns[column] = count
    unchanged = both.height - added.height - removed.height - differing.height
    shown = tuple(
        (what, *map(str, row))
        for what, rows in (("added", added), ("removed", removed), ("changed", differing))
        for row in rows.select(key).sort(key).head(EXAMPLES).rows()
    )
    return _Counts(added.height, removed.height, differing.height, unchanged, columns, shown)


def _whole(left: pl.LazyFrame, right: pl.LazyFrame) -> _Counts:
    one = pl.DataFrame({"h": _hash(left.collect())}).group_by("h").len("a")
    two = pl.DataFrame({"h": _hash(right.collect())}).group_by("h").len("b")
    both = one.join(two, on="h", how="full", coalesce=True).select(
        pl.col("a").cast(pl.Int64).fill_null(0), pl.col("b").cast(pl.Int64).fill_null(0)
    )
    kept = int(both.select(pl.min_horizontal("a", "b").sum()).item())
    return _Counts(int(both["b"].sum()) - kept, int(both["a"].sum()) - kept, 0, kept, {}, ())


def _hash(rows: pl.DataFrame) -> pl.Series:
    return pl.Series(row_hashes(rows)[0])


def _differ(x: pl.DataFrame, y: pl.DataFrame, column: str) -> int:
    if column not in x.columns or column not in y.columns:
        present = x if column in x.columns else y
        return present.height - present[column].null_count()
    if x.schema[column] != y.schema[column]:
        one, two = _hash(x.select(column)), _hash(y.select(column))
        return int((one != two).sum())
    return int(x[column].ne_missing(y[column]).sum())


def shifted(left: pl.LazyFrame, right: pl.LazyFrame) -> tuple[ColumnShift, ...]:
    """How columns are spread before and after; those that moved most first.

    `distance` lies between 0 and 1: the greatest gap between the two distribution
    functions for numbers (Kolmogorov-Smirnov over 20 bins), half the sum of
    differences of shares for texts and Booleans (total variation over the most
    frequent values), the change of the share of nulls if that is more.
    """
    one, two = left.collect(), right.collect()
    if not one.height or not two.height:
        return ()
    found = []
    mine, theirs = profile(one)["columns"], profile(two)["columns"]
    for name in mine:
        if name not in theirs:
            continue
        a, b = mine[name], theirs[name]
        nulls = (a["nulls"] / one.height, b["nulls"] / two.height)
        numbers = "mean" in a and "mean" in b
        spread = _numbers(one[name], two[name]) if numbers else _words(one[name], two[name])
        distance = max(abs(nulls[0] - nulls[1]), spread)
        if distance > 0:
            means = (a.get("mean"), b.get("mean")) if numbers else (None, None)
            found.append(
                ColumnShift(
                    name,
                    round(distance, 6),
                    distance >= NOTABLE,
                    nulls_a=round(nulls[0], 6),
                    nulls_b=round(nulls[1], 6),
                    mean_a=_rounded(means[0]),
                    mean_b=_rounded(means[1]),
                )
            )
    return tuple(sorted(found, key=lambda s: (-s.distance, s.column)))


def _numbers(a: pl.Series, b: pl.Series) -> float:
    x, y = (s.cast(pl.Float64).fill_nan(None).drop_nulls() for s in (a, b))
    if not x.len() or not y.len():
        return 0.0
    cuts = pl.concat([x, y]).filter(pl.concat([x, y]).is_finite())
    points = sorted({q for i in range(1, 20) if (q := cuts.quantile(i / 20)) is not None})
    return max((abs(_share(x, p) - _share(y, p)) for p in points), default=0.0)


def _share(values: pl.Series, upto: float) -> float:
    return int((values <= upto).sum()) / values.len()


def _words(a: pl.Series, b: pl.Series) -> float:
    if a.dtype.is_nested() or a.dtype.is_temporal() or a.dtype == pl.Binary or a.dtype != b.dtype:
        return 0.0
    x, y = (s.drop_nulls().cast(pl.String) for s in (a, b))
    if not x.len() or not y.len() or max(x.n_unique(), y.n_unique()) > 1000:
        return 0.0
    one, two = _shares(x), _shares(y)
    return 0.5 * sum(abs(one.get(v, 0.0) - two.get(v, 0.0)) for v in one | two)


def _shares(values: pl.Series) -> dict[str, float]:
    counts = values.rename("value").value_counts(name="n").rows()
    return {value: count / values.len() for value, count in counts}


def _rounded(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 6)
