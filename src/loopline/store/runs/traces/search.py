"""Search of traces: a filter and an order as SQL with bound values, and pages that hold while traces come and go."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from loopline.base.errors import Invalid
from loopline.store.runs import tokens
from loopline.store.runs.filters import And, Compare, Or, Tree, parse, parse_order
from loopline.store.runs.traces.protocol import NAME, RUN

LIMIT, TERMS = 10_000, 20
KINDS = {
    "attribute": "attribute", "attributes": "attribute", "attr": "attribute", "trace": "attribute",
    "traces": "attribute", "tag": "tag", "tags": "tag", "metadata": "metadata", "request_metadata": "metadata",
    "span": "span", "spans": "span", "feedback": "feedback", "feedbacks": "feedback", "expectation": "expectation",
    "expectations": "expectation",
}  # fmt: skip
"""What may stand before the dot of a name."""
PROMPTS = "mlflow.linkedPrompts"
"""The tag that lists prompts as JSON."""
_END = "t.start + t.duration"
NUMBERS = {
    "timestamp": "t.start", "timestamp_ms": "t.start", "request_time": "t.start",
    "execution_time": "t.duration", "execution_time_ms": "t.duration", "execution_duration": "t.duration",
    "end_time": _END, "end_time_ms": _END,
}  # fmt: skip
TEXTS = {
    "request_id": "t.uuid", "trace_id": "t.uuid", "status": "t.state", "state": "t.state",
    "client_request_id": "t.request", "experiment_id": "t.experiment",
}  # fmt: skip
SPANS = {"name": "s.name", "type": "s.type", "status": "s.status"}
_ORDERED = ("=", "!=", "<", "<=", ">", ">=")
_LIKE = ("LIKE", "ILIKE")


class _Key(NamedTuple):
    sql: str
    descending: bool
    type: type


def search(
    connection: sqlite3.Connection,
    experiments: Sequence[str],
    filter: str,
    order_by: Sequence[str],
    limit: int,
    token: str | None,
) -> tuple[list[int], str | None]:
    """Numbers of the traces that fit, in order, and the token of the next page (null on the last).

    Raises
    ------
    Invalid
        If the filter, the order, the limit or the token is none.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LIMIT:
        raise Invalid(
            f"{limit!r:.100} entries were asked for",
            why=f"a page has 1 to {LIMIT:,}",
            fix="ask for a whole number in between",
        )
    if len(order_by) > TERMS:
        raise Invalid(f"an order of {len(order_by)} terms", why=f"it may have {TERMS}", fix="leave some out")
    tree, asking, keys = parse(filter, KINDS), _Asking(), _order(order_by)
    asked = tokens.question("trace", sorted(set(experiments)), filter, list(order_by))
    where = [f"t.experiment IN ({', '.join(asking.bind(one) for one in dict.fromkeys(experiments)) or 'NULL'})"]
    if tree is not None:
        where.append(asking.condition(tree))
    if token:
        where.append(asking.after(keys, tokens.read(token, asked, [key.type for key in keys])))
    columns = ", ".join(key.sql for key in keys)
    order = ", ".join(f"{key.sql} DESC" if key.descending else key.sql for key in keys)
    rows = connection.execute(
        f"SELECT t.id, {columns} FROM traces t WHERE {' AND '.join(where)} ORDER BY {order} LIMIT {limit + 1}",
        asking.values,
    ).fetchall()
    following = tokens.write(asked, rows[limit - 1][1:]) if len(rows) > limit else None
    return [row[0] for row in rows[:limit]], following


def _order(terms: Sequence[str]) -> list[_Key]:
    """What to sort by, the newest and the id last; what is missing comes last."""
    keys: list[_Key] = []
    seen = set()
    for text in terms:
        term = parse_order(text, KINDS)
        name = term.key.lower()
        column: str
        kind: type
        if term.kind == "attribute" and name in NUMBERS:
            column, kind = NUMBERS[name], float
        elif term.kind == "attribute" and name in TEXTS:
            column, kind = TEXTS[name], str
        elif term.kind == "attribute" and name in ("name", "run_id"):
            table, key = ("trace_tags", NAME) if name == "name" else ("trace_metadata", RUN)
            column, kind = f"(SELECT x.value FROM {table} x WHERE x.trace = t.id AND x.key = '{key}')", str
        else:
            known = ", ".join((*NUMBERS, *TEXTS, "name", "run_id"))
            raise Invalid(f"an order by {text!r:.100}", why=f"traces are ordered by {known}", fix="write one of them")
        seen.add(column)
        nothing: Any = "0" if kind is float else "''"
        keys += [
            _Key(f"({column} IS NULL)", False, int),
            _Key(f"coalesce({column}, {nothing})", term.descending, kind),
        ]
    if "t.start" not in seen:
        keys.append(_Key("t.start", True, float))
    if "t.uuid" not in seen:
        keys.append(_Key("t.uuid", False, str))
    return keys


class _Asking:
    """A statement being written. No text of a user becomes part of it."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def bind(self, value: Any) -> str:
        """A placeholder for a value."""
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            value = float(value)
        self.values.append(value)
        return f"?{len(self.values)}"

    def after(self, keys: Sequence[_Key], place: Sequence[Any]) -> str:
        """What holds for rows that come after a place."""
        condition = "0"
        for (sql, descending, _), value in reversed(list(zip(keys, place, strict=True))):
            bound = self.bind(value)
            condition = f"({sql} {'<' if descending else '>'} {bound} OR ({sql} = {bound} AND {condition}))"
        return condition

    def condition(self, tree: Tree) -> str:
        """What holds for a trace `t` that the tree fits."""
        if isinstance(tree, (And, Or)):
            word = " AND " if isinstance(tree, And) else " OR "
            return f"({word.join(self.condition(part) for part in tree.parts)})"
        if tree.kind == "attribute":
            return self._attribute(tree)
        if tree.kind in ("tag", "metadata"):
            table = "trace_tags" if tree.kind == "tag" else "trace_metadata"
            return self._exists(f"{table} x", f"x.key = {self.bind(tree.key)}", "x.value", tree)
        if tree.kind == "span":
            return self._span(tree)
        return self._judged(tree)

    def _attribute(self, tree: Compare) -> str:
        name = tree.key.lower()
        if name in NUMBERS:
            if tree.op not in (*_ORDERED, "IS NULL", "IS NOT NULL"):
                raise _wrong(tree, "it is a number, compared with =, !=, <, <=, >, >=")
            return self._compared(NUMBERS[name], tree, number=True)
        if name in TEXTS:
            return self._compared(TEXTS[name], tree)
        if name == "name":
            return self._exists("trace_tags x", f"x.key = '{NAME}'", "x.value", tree)
        if name == "run_id":
            linked = self._exists("trace_runs x", "1", "x.run", tree)
            made_in = self._exists("trace_metadata x", f"x.key = '{RUN}'", "x.value", tree)
            return f"({linked} OR {made_in})"
        if name == "prompt":
            return self._prompt(tree)
        if name == "text":
            return self._span(Compare("span", "content", tree.op, tree.value))
        known = ", ".join((*NUMBERS, *TEXTS, "name", "run_id", "prompt", "text"))
        raise _wrong(tree, f"a trace has {known}")

    def _prompt(self, tree: Compare) -> str:
        """`prompt = 'name/3'`: one of the prompts that were linked to it."""
        name, slash, version = str(tree.value).rpartition("/")
        if tree.op != "=" or not slash:
            raise _wrong(tree, "it is compared as prompt = 'name/version'")
        return (
            f"EXISTS (SELECT 1 FROM trace_tags x, json_each(x.value) p WHERE x.trace = t.id AND x.key = '{PROMPTS}'"
            f" AND json_valid(x.value) AND json_extract(p.value, '$.name') = {self.bind(name)}"
            f" AND json_extract(p.value, '$.version') = {self.bind(version)})"
        )

    def _span(self, tree: Compare) -> str:
        part, dot, attribute = tree.key.partition(".")
        if part.lower() == "content" and not dot:
            if tree.op not in _LIKE:
                raise _wrong(tree, "what spans hold is searched by LIKE and ILIKE")
            return self._exists("spans s", "1", "s.json", tree, "s")
        if part.lower() in SPANS and not dot:
            return self._exists("spans s", "1", SPANS[part.lower()], tree, "s")
        if part.lower() in ("attribute", "attributes") and attribute:
            value = "json_extract(a.value, '$.value.' || (SELECT key FROM json_each(a.value, '$.value') LIMIT 1))"
            named = f"json_extract(a.value, '$.key') = {self.bind(attribute)}"
            source = "spans s, json_each(s.json, '$.attributes') a"
            return self._exists(source, named, f"CAST({value} AS TEXT)", tree, "s")
        raise _wrong(tree, f"a span has {', '.join(SPANS)}, content and attributes.<name>")

    def _judged(self, tree: Compare) -> str:
        """Feedback or an expectation by its name; a text is what was said, a number is compared as one."""
        where = f"x.kind = '{tree.kind}' AND x.name = {self.bind(tree.key)}"
        if isinstance(tree.value, (int, float)):
            if tree.op not in _ORDERED:
                raise _wrong(tree, "a number is compared with =, !=, <, <=, >, >=")
            where += " AND typeof(x.value + 0) IN ('integer', 'real') AND x.value GLOB '*[0-9]*'"
            return self._exists("judgements x", where, "CAST(x.value AS REAL)", tree, number=True)
        return self._exists("judgements x", where, "x.value", tree)

    def _exists(
        self, source: str, where: str, column: str, tree: Compare, alias: str = "x", *, number: bool = False
    ) -> str:
        if tree.op in ("IS NULL", "IS NOT NULL"):
            inside, negated = "1", "NOT " if tree.op == "IS NULL" else ""
        else:
            inside, negated = self._compared(column, tree, number=number), ""
        return f"{negated}EXISTS (SELECT 1 FROM {source} WHERE {alias}.trace = t.id AND {where} AND {inside})"

    def _compared(self, column: str, tree: Compare, *, number: bool = False) -> str:
        if tree.op in ("IS NULL", "IS NOT NULL"):
            return f"({column} {tree.op})"
        values = tree.value if isinstance(tree.value, tuple) else (tree.value,)
        if not all(isinstance(one, (int, float) if number else str) for one in values):
            raise _wrong(tree, "it takes a number, without quotes" if number else "it takes a quoted text")
        if tree.op in _LIKE:
            return f"matches({column}, {self.bind(tree.value)}, {int(tree.op == 'ILIKE')})"
        if tree.op in ("IN", "NOT IN"):
            return f"{column} {tree.op} ({', '.join(self.bind(one) for one in values)})"
        if tree.op not in _ORDERED or (not number and tree.op not in ("=", "!=")):
            raise _wrong(tree, "a text is compared with =, !=, LIKE, ILIKE, IN, NOT IN")
        return f"{column} {tree.op} {self.bind(tree.value)}"


def _wrong(tree: Compare, why: str) -> Invalid:
    named = tree.key if tree.kind == "attribute" else f"{tree.kind}.{tree.key}"
    return Invalid(
        f"the filter {named[:200]} {tree.op} cannot be asked of traces",
        why=why,
        fix="write for example `trace.status = 'ERROR' AND tag.team = 'risk' AND span.name LIKE '%call%'`",
    )
