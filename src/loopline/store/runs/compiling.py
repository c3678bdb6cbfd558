"""Filter trees and orders as SQL with bound values. No text of a user becomes part of a statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from loopline.base.errors import Invalid
from loopline.store.runs.filters import And, Compare, Or, Term, Tree
from loopline.store.runs.schema import HEAD
from loopline.store.runs.targets import Keyed, Target, Type

CONTEXT = "mlflow.data.context"
"""The tag of a use of data that a filter calls its context."""
NOWHERE = -1
"""The number of a key that nothing has."""
RANGES = ("=", "<", "<=", ">", ">=")


class SortKey(NamedTuple):
    """One thing to sort by; never null."""

    sql: str
    descending: bool
    type: type


class Driver(NamedTuple):
    """An index that yields the candidates of a comparison."""

    source: str
    where: str


class Statement:
    """A statement being written: its bound values, and the numbers of keys."""

    def __init__(
        self, connection: sqlite3.Connection, target: Target, datasets: Sequence[tuple[str | None, str | None]] = ()
    ) -> None:
        self._connection, self.target, self._datasets = connection, target, datasets
        self.values: list[Any] = []

    def bind(self, value: Any) -> str:
        """A placeholder for a value."""
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            value = float(value)
        self.values.append(value)
        return f"?{len(self.values)}"

    def key(self, name: str) -> str:
        """A placeholder for the number of a key."""
        row = self._connection.execute("SELECT id FROM keys WHERE name = ?", (name,)).fetchone()
        return self.bind(NOWHERE if row is None else row[0])

    # filters

    def condition(self, tree: Tree) -> str:
        """What holds for a row `r` that the tree fits; two-valued or null for no."""
        if isinstance(tree, And):
            return f"({' AND '.join(self.condition(part) for part in tree.parts)})"
        if isinstance(tree, Or):
            return f"({' OR '.join(self.condition(part) for part in tree.parts)})"
        if tree.kind == "attribute":
            column, type = self.attribute(tree.key)
            if tree.op in ("IS NULL", "IS NOT NULL"):
                return f"({column} {tree.op})"
            return self._compared(column, type, tree)
        if tree.kind == "dataset":
            return self._dataset(tree)
        keyed = self._keyed(tree.kind)
        inside = ""
        if tree.op not in ("IS NULL", "IS NOT NULL"):
            inside = f" AND {self._keyed_compared(keyed, tree, 'x')}"
        negated = "NOT " if tree.op == "IS NULL" else ""
        return (
            f"{negated}EXISTS (SELECT 1 FROM {keyed.table} x WHERE x.{keyed.owner} = {keyed.of}"
            f" AND x.key = {self.key(tree.key)}{self._measured_on(keyed)}{inside})"
        )

    def _measured_on(self, keyed: Keyed) -> str:
        """Which data a metric of a logged model must have been measured on."""
        if not keyed.many or not self._datasets:
            return ""
        return f" AND ({' OR '.join(self._same_data('x', one) for one in self._datasets)})"

    def _same_data(self, alias: str, dataset: tuple[str | None, str | None]) -> str:
        parts = [
            f"{alias}.{column} = {self.bind(value)}"
            for column, value in zip(("name", "digest"), dataset, strict=True)
            if value is not None
        ]
        return f"({' AND '.join(parts) or '1'})"

    def _keyed_compared(self, keyed: Keyed, tree: Compare, alias: str) -> str:
        if keyed.type == "number":
            return self._compared(f"{alias}.value", "number", tree)
        first = tree.value[0] if isinstance(tree.value, tuple) else tree.value
        if keyed.numbers and not isinstance(first, str):
            return self._compared(f"{alias}.number", "number", tree)
        return self._compared(f"{alias}.value", "text", tree)

    def _compared(self, column: str, type: Type, tree: Compare) -> str:
        value = tree.value
        values = value if isinstance(value, tuple) else (value,)
        wanted = str if type == "text" else (int, float)
        if not all(isinstance(one, wanted) for one in values) or (type == "number" and tree.op in ("LIKE", "ILIKE")):
            what = "a quoted text" if type == "text" else "a number"
            raise Invalid(
                f"{_named(tree)} is compared with {value!r:.100}",
                why=f"it takes {what}" + ("" if type == "text" else ", without quotes"),
                fix=f"write {what}",
            )
        if tree.op in ("LIKE", "ILIKE"):
            return f"matches({column}, {self.bind(value)}, {int(tree.op == 'ILIKE')})"
        if tree.op in ("IN", "NOT IN"):
            listed = f"{column} {tree.op} ({', '.join(self.bind(one) for one in values)})"
        else:
            listed = f"{column} {tree.op} {self.bind(value)}"
        # a NaN, kept as null, differs from every number; so does a param that is none
        if type == "number" and tree.op in ("!=", "NOT IN") and tree.kind != "attribute":
            return f"({column} IS NULL OR {listed})"
        return listed

    def _dataset(self, tree: Compare) -> str:
        if not self.target.datasets:
            raise Invalid(
                f"{_named(tree)} of a {self.target.what}", why="only runs have datasets in a filter", fix="leave it out"
            )
        columns = {"name": "d.name", "digest": "d.digest", "context": "i.value"}
        column = columns.get(tree.key.lower())
        if column is None:
            raise Invalid(
                f"{_named(tree)} is nothing to filter by",
                why="a dataset has a name, a digest and a context",
                fix="write datasets.name, datasets.digest or datasets.context",
            )
        row = f"i.key = {self.bind(CONTEXT if column == 'i.value' else '')}"
        inside = "" if tree.op in ("IS NULL", "IS NOT NULL") else f" AND {self._compared(column, 'text', tree)}"
        negated = "NOT " if tree.op == "IS NULL" else ""
        return (
            f"{negated}EXISTS (SELECT 1 FROM inputs i JOIN datasets d ON d.id = i.dataset"
            f" WHERE i.run = r.id AND {row}{inside})"
        )

    def attribute(self, key: str) -> tuple[str, Type]:
        """Column and type of an attribute; `Invalid` where there is none of the name."""
        name = self.target.aliases.get(key.lower(), key.lower())
        found = self.target.attributes.get(name)
        if found is None:
            raise Invalid(
                f"a {self.target.what} has no attribute {key!r:.100}",
                why=f"it has {', '.join(self.target.attributes)}",
                fix="write one of them; metrics, params and tags are written metrics.x, params.x, tags.x",
            )
        return found

    def _keyed(self, kind: str) -> Keyed:
        found = self.target.keyed.get(kind)
        if found is None:
            raise Invalid(
                f"a {self.target.what} has no {kind}s",
                why=f"it has {', '.join(sorted(self.target.keyed))}s and attributes",
                fix="write one of them",
            )
        return found

    # orders

    def sort_keys(self, terms: Sequence[Term]) -> tuple[list[SortKey], str]:
        """What to sort by, the newest and the id last; and the joins that this needs."""
        keys: list[SortKey] = []
        joins = ""
        seen = set()
        for place, term in enumerate(terms):
            if term.kind == "attribute":
                column, type = self.attribute(term.key)
                seen.add(column)
                keys += _nullable(column, term.descending, type)
                continue
            if term.kind == "dataset":
                raise Invalid("an order by a dataset", why="a run may have several", fix="order by something else")
            keyed, alias = self._keyed(term.kind), f"o{place}"
            if keyed.many:
                keys += _nullable(self._latest(keyed, term), term.descending, keyed.type)
                continue
            joins += (
                f" LEFT JOIN {keyed.table} {alias} ON {alias}.{keyed.owner} = {keyed.of}"
                f" AND {alias}.key = {self.key(term.key)}"
            )
            keys += keyed_keys(keyed, alias, term)
        if self.target.newest not in seen:
            keys.append(SortKey(self.target.newest, True, float))
        if self.target.id not in seen:
            keys.append(SortKey(self.target.id, False, float if self.target.id == "r.id" else str))
        return keys, joins

    def _latest(self, keyed: Keyed, term: Term) -> str:
        data = "" if term.dataset is None else f" AND {self._same_data('m', term.dataset)}"
        return (
            f"(SELECT m.value FROM {keyed.table} m WHERE m.{keyed.owner} = {keyed.of} AND m.key = {self.key(term.key)}"
            f"{data} ORDER BY m.step DESC, m.at DESC LIMIT 1)"
        )

    def after(self, keys: Sequence[SortKey], place: Sequence[Any]) -> str:
        """What holds for rows that come after a place."""
        condition = "0"
        for (sql, descending, _), value in reversed(list(zip(keys, place, strict=True))):
            beyond = "<" if descending else ">"
            bound = self.bind(value)
            condition = f"({sql} {beyond} {bound} OR ({sql} = {bound} AND {condition}))"
        (sql, descending, _), value = keys[0], place[0]
        return f"{sql} {'<=' if descending else '>='} {self.bind(value)} AND {condition}"

    # drivers

    def driver(self, tree: Compare, experiment: int) -> Driver | None:
        """The index that finds what a comparison is true of, if there is one."""
        keyed = self.target.keyed.get(tree.kind)
        if keyed is None or keyed.indexes is None or tree.op not in RANGES:
            return None
        number = not isinstance(tree.value, str)
        if keyed.type == "text" and not number and tree.op != "=":
            return None
        if keyed.type == "text" and number and not keyed.numbers:
            return None
        index = keyed.indexes[1 if keyed.type == "text" and number else 0]
        where = f"d.experiment = {self.bind(experiment)} AND d.key = {self.key(tree.key)}"
        if keyed.type == "text" and not number:  # the rest of the text is left to the filter itself
            where += f" AND substr(d.value, 1, {HEAD}) = {self.bind(_head(str(tree.value)))}"
        else:
            where += f" AND {self._keyed_compared(keyed, tree, 'd')}"
        if number and keyed.type == "text":
            where += " AND d.number IS NOT NULL"
        return Driver(f"{keyed.table} d INDEXED BY {index}", where)


def keyed_keys(keyed: Keyed, alias: str, term: Term) -> list[SortKey]:
    """What to sort by for a keyed value: those that are there (numbers, then NaN or other text), then the rest."""
    value, down = f"{alias}.value", term.descending
    if keyed.type == "number":
        rank = f"CASE WHEN {alias}.key IS NULL THEN 2 ELSE {value} IS NULL END"
        return [SortKey(rank, False, int), SortKey(f"coalesce({value}, 0)", down, float)]
    if term.as_number and keyed.numbers:
        number = f"{alias}.number"
        rank = f"CASE WHEN {alias}.key IS NULL THEN 2 ELSE {number} IS NULL END"
        text = f"CASE WHEN {number} IS NULL THEN coalesce({value}, '') ELSE '' END"
        return [
            SortKey(rank, False, int),
            SortKey(f"coalesce({number}, 0)", down, float),
            SortKey(text, down, str),
        ]
    return _nullable(value, down, "text")


def _nullable(sql: str, descending: bool, type: Type) -> list[SortKey]:
    nothing, kind = ("0", float) if type == "number" else ("''", str)
    if sql in ("r.start", "r.uuid", "r.created", "r.id"):
        return [SortKey(sql, descending, kind)]
    return [SortKey(f"({sql} IS NULL)", False, int), SortKey(f"coalesce({sql}, {nothing})", descending, kind)]


def _head(text: str) -> str:
    """What SQLite's substr makes of a text: it ends at a NUL."""
    return text.partition("\0")[0][:HEAD]


def _named(tree: Compare) -> str:
    return tree.key if tree.kind == "attribute" else f"{tree.kind}s.{tree.key}"[:200]
