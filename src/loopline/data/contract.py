"""A contract: what rows of a table must be, and what happens to those that are not."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from ruamel.yaml import YAML

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import content_id
from loopline.data import odcs
from loopline.data.compile_polars import broken_counts, broken_rows, total_holds, totals
from loopline.data.compile_row import RowRules, compile_row
from loopline.data.nouns import Violation
from loopline.data.odcs import Place, as_list, as_map
from loopline.data.pattern import portable
from loopline.data.rules import Between, Column, Response, Rule, Severity

BROKEN = "broken_rules"
"""Column of quarantined rows: ids of the rules that the row breaks."""
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Checked:
    """A frame, judged.

    `good` and `bad` are the frame's rows in their order; `bad` has one more
    column, `broken_rules`. Rows that break only warnings are good.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    violations: tuple[Violation, ...]
    stopped: tuple[Violation, ...] = ()
    """Violations whose declared response is `stop`."""


@dataclass(frozen=True)
class Contract:
    """Rules of one table, read from an Open Data Contract Standard document.

    `id` covers the rules, not their wording or order: two contracts with the same
    id judge every row alike.
    """

    name: str
    version: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    doc: dict[str, Any]

    @functools.cached_property
    def id(self) -> str:
        """Content id of what the contract demands."""
        return content_id(
            {
                "columns": sorted([c.name, c.type, c.required, c.zone] for c in self.columns),
                "rules": sorted(([r.id, *_canonical(r)] for r in self.rules), key=lambda row: str(row[0])),
            }
        )

    @classmethod
    def load(cls, path: Path, *, table: str | None = None) -> Contract:
        """Read a contract file; `table` picks one of several schemas.

        Raises
        ------
        NotFound
            If there is no such file.
        Invalid
            With file and line, if it is not a contract this version can keep.
        """
        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise NotFound(
                f"no contract at {path.name}: {error.strerror}",
                why="loop.yaml names it",
                fix=f"create {path.name}, or draft one: loopline data draft",
            ) from error
        return _parsed(data, path.name, table)

    @classmethod
    def from_doc(cls, doc: Mapping[str, Any], *, file: str = "contract", table: str | None = None) -> Contract:
        """The contract that a document declares (plain dicts, or YAML with lines)."""
        place = Place(file)
        top = as_map(doc, place, odcs.TOP)
        if top.get("kind") != "DataContract":
            raise place.refuse(f"kind: {top.get('kind')!r}", why="not a data contract", fix="kind: DataContract")
        if top.get("apiVersion") not in odcs.VERSIONS:
            raise place.at(top, "apiVersion").refuse(
                f"apiVersion: {top.get('apiVersion')!r}",
                why=f"read here: {', '.join(odcs.VERSIONS)}",
                fix="apiVersion: v3.1.0",
            )
        outer = odcs.treatment(top, place, ("error", "quarantine"))
        schema, here = _schema(top, place, table)
        how = odcs.treatment(schema, here, outer)
        columns, rules = _columns(schema, here, how)
        quality = as_list(schema.get("quality"), here)
        for index, item in enumerate(quality):
            spot = here.at(schema, "quality").at(quality, index)
            kind, value, treated = odcs.read_quality(item, spot, how, None)
            if kind not in ("rowCount", ""):
                raise spot.refuse(f"{kind} of a table", why="it judges a column", fix="move it to the property")
            if kind:
                same = sum(r.kind == kind for r in rules)
                rules.append(Rule(kind + (f".{same + 1}" if same else ""), kind, (), value, *treated))
        _compilable(rules, here)
        return cls(
            name=str(schema["name"]),
            version=str(top.get("version", "")),
            columns=tuple(columns),
            rules=tuple(rules),
            doc=odcs.plain(doc),
        )

    def to_yaml(self) -> str:
        """The document as YAML; reading it back gives an equal contract."""
        yaml = YAML(typ="rt", pure=True)
        yaml.width = 120
        yaml.indent(mapping=2, sequence=4, offset=2)
        out = io.StringIO()
        yaml.dump(self.doc, out)
        return out.getvalue()

    @functools.cached_property
    def _row(self) -> RowRules:
        return compile_row(self.rules)

    def row_rules(self) -> RowRules:
        """The function from one row to the ids of the rules it breaks."""
        return self._row

    def counts(self, rows: pl.LazyFrame, *, per: Sequence[str] = ()) -> dict[str, int]:
        """How often each rule is broken, in one pass; works on any window of a log.

        For `nullValues` and `rowCount` the count is the number of rows by which the
        limit was judged when it is broken (at least 1), else 0.
        """
        schema = rows.collect_schema()
        row, _ = _run(self, rows, schema, tuple(per))
        return row

    def check(self, frame: pl.DataFrame, *, per: Sequence[str] = ()) -> Checked:
        """Judge every row and take out those that break a rule with severity `error`.

        Parameters
        ----------
        frame : DataFrame, n rows
            A declared column that it lacks counts as missing everywhere.
        per : sequence of column names
            `unique` compares rows only where these are equal: pass the column of
            the time a row became known, and corrections are no duplicates.

        Notes
        -----
        One pass when nothing is broken; a second one over the broken rules else.
        """
        counts, marks = _run(self, frame.lazy(), frame.schema, tuple(per))
        broken = [rule for rule in self.rules if counts[rule.id]]
        if not broken:
            return Checked(frame, _with_broken(frame.clear(), {}), ())
        masks = {rule.id: marks[rule.id] for rule in broken if rule.id in marks}
        found = frame.select(*(mask.fill_null(False).alias(id) for id, mask in masks.items())) if masks else None
        violations = tuple(_violation(rule, counts[rule.id], frame, found) for rule in broken)
        stopped = tuple(v for v, r in zip(violations, broken, strict=True) if r.refuses and r.response == "stop")
        refusing = [rule.id for rule in broken if rule.refuses and rule.id in masks]
        if found is None or not refusing:
            return Checked(frame, _with_broken(frame.clear(), {}), violations, stopped)
        out = found.select(pl.any_horizontal(refusing).alias("out"))["out"]
        bad = _with_broken(frame.filter(out), {id: found[id].filter(out) for id in masks})
        return Checked(frame.filter(~out), bad, violations, stopped)

    def zone(self, column: str) -> str | None:
        """The zone declared for times of `column` that carry none."""
        return next((c.zone for c in self.columns if c.name == column), None)


def _canonical(rule: Rule) -> list[Any]:
    value: Any = rule.value
    if isinstance(value, Between):
        value = [value.least, value.most, value.least_open, value.most_open, value.share]
    elif isinstance(value, tuple):
        value = sorted(map(str, value))
    elif value is not None and not isinstance(value, str):
        value = f"{float(value)}" if isinstance(value, (int, float)) else value.isoformat()
    return [rule.kind, list(rule.columns), value, rule.severity, rule.response]


@functools.lru_cache(maxsize=64)
def _parsed(data: bytes, file: str, table: str | None) -> Contract:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Place(file).refuse("not UTF-8 text", why="YAML is text", fix="save it as UTF-8") from error
    return Contract.from_doc(odcs.read_yaml(text, file), file=file, table=table)


def _schema(top: Mapping[str, Any], place: Place, table: str | None) -> tuple[Mapping[str, Any], Place]:
    listed = as_list(top.get("schema"), place.at(top, "schema"))
    here = place.at(top, "schema") if "schema" in top else place
    named = [(item, here.at(listed, index)) for index, item in enumerate(listed)]
    tables = [(as_map(item, at, odcs.TABLE), at) for item, at in named]
    for item, at in tables:
        if not isinstance(item.get("name"), str):
            raise at.refuse("a schema without name", why="it names the table", fix="add `name: <table>`")
    chosen = [pair for pair in tables if pair[0]["name"] == table] if len(tables) > 1 else tables
    if len(chosen) != 1:
        names = ", ".join(str(item["name"]) for item, _ in tables) or "none"
        raise here.refuse(
            f"no one schema for {table or 'the table'}; found: {names}",
            why="a contract judges one table",
            fix=f"name one schema {table or '<table>'}",
        )
    return chosen[0]


def _columns(
    schema: Mapping[str, Any], place: Place, how: tuple[Severity, Response]
) -> tuple[list[Column], list[Rule]]:
    columns: list[Column] = []
    rules: list[Rule] = []
    keys: list[tuple[int, int, str]] = []
    properties = as_list(schema.get("properties"), place)
    here = place.at(schema, "properties") if properties else place
    for index, item in enumerate(properties):
        spot = here.at(properties, index)
        column, own, in_key, position = odcs.read_column(item, spot, how)
        if any(c.name == column.name for c in columns):
            raise spot.refuse(f"column {column.name} twice", why="each has one set of rules", fix="merge them")
        columns.append(column)
        rules += own
        if in_key:
            keys.append((position if position > 0 else 10**6, index, column.name))
    if keys:
        names = tuple(name for _, _, name in sorted(keys))
        rules.append(Rule("+".join(names) + ".primaryKey", "primaryKey", names, None, *how))
    return columns, rules


def _compilable(rules: Sequence[Rule], place: Place) -> None:
    compile_row(rules)
    for rule in rules:
        if rule.kind == "pattern":
            try:
                pl.Series([""]).str.contains(f"^(?:{portable(str(rule.value))})$")
            except pl.exceptions.PolarsError as error:
                raise place.refuse(
                    f"pattern {rule.value!r} of {rule.columns[0]} is too large",
                    why=str(error).split("\n")[0],
                    fix="repeat less",
                ) from error


@functools.lru_cache(maxsize=256)
def _compiled(id: str, rules: tuple[Rule, ...], schema: tuple[tuple[str, Any], ...], per: tuple[str, ...]) -> Any:
    kinds = dict(schema)
    marks = broken_rows(rules, kinds, per)
    sums = broken_counts(rules, kinds, marks)
    sums += [value.alias(id) for id, value in totals(rules, kinds).items()]
    return marks, [*sums, pl.len().alias("\0rows")]


def _run(
    contract: Contract, rows: pl.LazyFrame, schema: Mapping[str, pl.DataType], per: tuple[str, ...]
) -> tuple[dict[str, int], dict[str, pl.Expr]]:
    marks, sums = _compiled(contract.id, contract.rules, tuple(schema.items()), per)
    row = rows.select(sums).collect().row(0, named=True)
    total = int(row["\0rows"])
    counts: dict[str, int] = {}
    for rule in contract.rules:
        value = int(row.get(rule.id) or 0)
        if rule.kind in ("nullValues", "rowCount"):
            value = 0 if total_holds(rule, value, total) else max(1, value)
        counts[rule.id] = value
    return counts, marks


def _with_broken(rows: pl.DataFrame, masks: Mapping[str, pl.Series]) -> pl.DataFrame:
    if not masks:
        return rows.with_columns(pl.lit(None, pl.List(pl.String)).alias(BROKEN))
    named = pl.DataFrame(
        {str(i): pl.select(pl.when(mask).then(pl.lit(id))).to_series() for i, (id, mask) in enumerate(masks.items())}
    )
    return rows.with_columns(named.select(pl.concat_list(pl.all()).list.drop_nulls().alias(BROKEN)).to_series())


def _violation(rule: Rule, count: int, frame: pl.DataFrame, masks: pl.DataFrame | None) -> Violation:
    examples: list[Any] = []
    if masks is not None and rule.id in masks.columns:
        there = [name for name in rule.columns if name in frame.columns]
        shown = frame.select(there).filter(masks[rule.id]).head(1000)
        if rule.kind == "primaryKey":
            examples = [
                " ".join(map(str, row)) for row in shown.select(rule.columns).unique(maintain_order=True).rows()
            ]
        elif rule.kind != "required" and rule.columns[0] in frame.columns:
            examples = [_shown(v) for v in shown[rule.columns[0]].unique(maintain_order=True).head(EXAMPLES).to_list()]
    return Violation(rule.id, rule.column, rule.severity, count, tuple(examples[:EXAMPLES]))


def _shown(value: Any) -> Any:
    """An example that any JSON document can hold."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= 2**53 else str(value)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
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
