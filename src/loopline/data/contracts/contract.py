"""A contract: what rows of a table must be, and what happens to those that are not."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from ruamel.yaml import YAML

from loopline.base.errors import NotFound
from loopline.base.ids import content_id
from loopline.data.contracts import judging, odcs
from loopline.data.contracts.baseline import Baseline
from loopline.data.contracts.compile_row import RowRules, compile_row
from loopline.data.contracts.judging import BROKEN, EXAMPLES, Checked, RowVerdict, Split, describe, refusal
from loopline.data.contracts.odcs import Place, as_list, as_map
from loopline.data.contracts.odcs_columns import read_column
from loopline.data.contracts.odcs_quality import read_links, read_quality, read_service
from loopline.data.contracts.row_texts import RowReader, row_reader
from loopline.data.contracts.rules import COLUMN_KINDS, LINK_KINDS, Between, Column, Reference, Response, Rule, Severity
from loopline.data.language.numbers import exact
from loopline.data.language.pattern import portable
from loopline.data.language.relation import KINDS, Relation, parse

if TYPE_CHECKING:
    from loopline.data.spec import TableSpec

__all__ = [
    "BROKEN",
    "EXAMPLES",
    "Checked",
    "Contract",
    "RowVerdict",
    "Split",
    "contract_of",
    "describe",
    "refusal",
]


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
    held: Mapping[str, pl.Series] = field(default_factory=dict, compare=False, repr=False)
    """Values of other tables, by id of the reference that asks for them; see `beside`."""
    at: datetime | None = field(default=None, compare=False)
    """The moment that freshness is judged at; null leaves it unjudged."""

    @functools.cached_property
    def id(self) -> str:
        """Content id of what the contract demands."""
        return content_id(
            {
                "columns": sorted(
                    [c.name, c.type, c.required, c.zone, *([] if c.default is None else [str(c.default)])]
                    for c in self.columns
                ),
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
                fix=f"create {path.name}, or draft one: loopline data contract draft",
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
        rules += _table_rules(schema, here, how, columns)
        rules += _services(top, schema, place, how, columns, rules)
        rules.sort(key=lambda rule: rule.kind in LINK_KINDS)  # in the order in which a row is judged
        _compilable(rules, here)
        return cls(
            name=str(schema["name"]),
            version=str(top.get("version", "")),
            columns=tuple(columns),
            rules=tuple(rules),
            doc=odcs.carried(doc),
        )

    def to_yaml(self) -> str:
        """The document as YAML; reading it back gives an equal contract."""
        yaml = YAML(typ="rt", pure=True)
        yaml.width = 4096
        yaml.indent(mapping=2, sequence=4, offset=2)
        out = io.StringIO()
        yaml.dump(self.doc, out)
        return out.getvalue()

    def beside(
        self, tables: Mapping[str, pl.DataFrame | pl.LazyFrame] | None = None, *, at: datetime | None = None
    ) -> Contract:
        """The same contract, knowing the tables that it refers to and the moment it judges at.

        Without them, references and freshness are not judged, and `Checked.unjudged`
        says so.

        Raises
        ------
        Invalid
            If a table lacks a column that a reference names.
        """
        held = dict(self.held)
        for rule in self.rules:
            if isinstance(rule.value, Reference) and rule.value.table in (tables or {}):
                held[rule.id] = judging.held_values(self, rule, (tables or {})[rule.value.table])
        return replace(self, held=held, at=at or self.at)

    @functools.cached_property
    def needs(self) -> tuple[str, ...]:
        """The tables that its references name."""
        return tuple(dict.fromkeys(r.value.table for r in self.rules if isinstance(r.value, Reference)))

    @functools.cached_property
    def types(self) -> dict[str, str | None]:
        """Declared logical type by column."""
        return {column.name: column.type for column in self.columns}

    @functools.cached_property
    def _row(self) -> RowRules:
        return compile_row(self.rules, {id: judging.row_values(values) for id, values in self.held.items()})

    def row_rules(self) -> RowRules:
        """The function from one row, its moments and dates read, to the ids of the rules it breaks."""
        return self._row

    @functools.cached_property
    def _read(self) -> RowReader:
        return row_reader(self.columns)

    def read_row(self, row: Mapping[str, object]) -> Mapping[str, object]:
        """A row of JSON with its moments and dates read from text, as files of text are read.

        What cannot be read stays text, and `judge_row` then names `<column>.logicalType`.
        """
        return self._read(row)

    def judge_row(self, row: Mapping[str, object]) -> RowVerdict:
        """One row as a request brings it: what it breaks, whether it may go on, and with which values.

        Texts are read as the moments and dates that are declared, as by `read_row`.
        """
        return judging.judge_row(self, row)

    def select(self, columns: Sequence[str]) -> Contract:
        """The rules that `columns` alone keep or break in one row, under the same ids: for requests."""
        rules = tuple(
            rule
            for rule in self.rules
            if rule.kind in (*COLUMN_KINDS, *LINK_KINDS) and all(name in columns for name in rule.columns)
        )
        return replace(self, columns=tuple(c for c in self.columns if c.name in columns), rules=rules)

    def counts(self, rows: pl.LazyFrame, *, per: Sequence[str] = ()) -> dict[str, int]:
        """How often each rule is broken, in one pass; also from files, larger than memory.

        For rules about the whole set the count is the number of rows by which it was
        judged when it is broken (at least 1), else 0. A rule that could not be judged is
        absent.
        """
        return judging.counts(self, rows, tuple(per))

    def check(self, frame: pl.DataFrame, *, per: Sequence[str] = (), unreadable: pl.DataFrame | None = None) -> Checked:
        """Judge every row and take out those that break a rule with severity `error`.

        A text is judged as the moment or date that it names, where one is declared, and stays the text it is.

        Parameters
        ----------
        frame : DataFrame, n rows
            A declared column that it lacks counts as missing everywhere.
        per : sequence of column names
            `unique` compares rows only where these are equal: pass the column of
            the time a row became known, and corrections are no duplicates.
        unreadable : DataFrame of Booleans, n rows, optional
            Which values could not be read as their type and stand as null in `frame`,
            by rule `<column>.logicalType`: they are of the wrong type, not missing.

        Notes
        -----
        One pass over the columns; then over one bit a row and broken rule.
        """
        return judging.check(self, frame, tuple(per), unreadable)

    def split(self, rows: pl.LazyFrame, good: Path, bad: Path, *, per: Sequence[str] = ()) -> Split:
        """As `check`, from files to two Parquet files, in the memory of a few batches.

        Rules that compare rows with each other hold their columns in memory.
        """
        return judging.split(self, rows, Path(good), Path(bad), tuple(per))

    def zone(self, column: str) -> str | None:
        """The zone declared for times of `column` that carry none."""
        return next((c.zone for c in self.columns if c.name == column), None)


def _canonical(rule: Rule) -> list[Any]:
    value: Any = rule.value
    if isinstance(value, Between):
        value = [value.least, value.most, value.least_open, value.most_open, value.share]
    elif isinstance(value, Reference):
        value = [value.table, list(value.columns)]
    elif isinstance(value, Relation):
        value = value.text
    elif isinstance(value, Baseline):
        ends = [str(v) for v in (*value.edges, *value.values)]
        value = [value.distance, f"{value.at_most}", ends, [f"{s}" for s in value.shares], value.rows]
    elif isinstance(value, timedelta):
        value = f"{value.total_seconds()}"
    elif isinstance(value, tuple):
        value = sorted(map(str, value))
    elif value is not None and not isinstance(value, str):
        value = _number(value) if isinstance(value, (int, float)) else value.isoformat()
    return [rule.kind, list(rule.columns), value, rule.severity, rule.response]


def _number(value: float) -> str:
    return f"{float(value)}" if exact(value) else str(value)


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
        column, own, in_key, position = read_column(item, spot, how)
        if any(c.name == column.name for c in columns):
            raise spot.refuse(f"column {column.name} twice", why="each has one set of rules", fix="merge them")
        columns.append(column)
        rules += own
        if in_key:
            keys.append((position if position > 0 else 10**6, index, column.name))
    if keys:
        names = tuple(name for _, _, name in sorted(keys))
        rules.append(Rule("+".join(names) + ".primaryKey", "primaryKey", names, None, *_beyond(how)))
    return columns, rules


def _beyond(how: tuple[Severity, Response]) -> tuple[Severity, Response]:
    """How a rule is treated that a default cannot mend."""
    return how[0], "quarantine" if how[1] == "default" else how[1]


def _table_rules(
    schema: Mapping[str, Any], here: Place, how: tuple[Severity, Response], columns: Sequence[Column]
) -> list[Rule]:
    """The rules of `relationships` and `quality` of a table."""
    types = {column.name: column.type for column in columns}
    rules: list[Rule] = []
    for names, reference, treated in read_links(schema, here, _beyond(how)):
        for name in names:
            if KINDS.get(types.get(name) or "") is None:
                raise here.at(schema, "relationships").refuse(
                    f"a relationship from {name!r}",
                    why=f"it is not a declared column of a plain type; declared: {', '.join(types)}",
                    fix="declare the column with its logicalType",
                )
        rules.append(Rule("+".join(names) + ".reference", "reference", names, reference, *treated))
    quality = as_list(schema.get("quality"), here)
    for index, item in enumerate(quality):
        spot = here.at(schema, "quality").at(quality, index)
        kind, value, treated = read_quality(item, spot, how, None)
        if kind == "check":
            name, text = value
            try:
                relation = parse(text, types)
            except ValueError as error:
                raise spot.refuse(
                    f"relation {name}: {error}",
                    why="a relation is between declared columns of fitting types",
                    fix='write for example "arrived >= departed or cancelled"',
                ) from error
            rules.append(Rule(f"check.{name}", "check", relation.columns, relation, *treated))
        elif kind == "rowCount":
            same = sum(r.kind == kind for r in rules)
            rules.append(Rule(kind + (f".{same + 1}" if same else ""), kind, (), value, *treated))
        elif kind:
            raise spot.refuse(f"{kind} of a table", why="it judges a column", fix="move it to the property")
    return rules


def _services(
    top: Mapping[str, Any],
    schema: Mapping[str, Any],
    place: Place,
    how: tuple[Severity, Response],
    columns: Sequence[Column],
    rules: Sequence[Rule],
) -> list[Rule]:
    """Freshness that the contract promises under `slaProperties`."""
    found = []
    for name, age in read_service(top, str(schema["name"]), place).items():
        column = next((c for c in columns if c.name == name), None)
        if column is None or column.type != "timestamp":
            raise place.at(top, "slaProperties").refuse(
                f"freshness of {name!r}",
                why="it is no declared timestamp of the table",
                fix="name a property of logicalType timestamp",
            )
        if not any(r.id == f"{name}.freshness" for r in rules):
            found.append(Rule(f"{name}.freshness", "freshness", (name,), age, *_beyond(how)))
    return found


def _compilable(rules: Sequence[Rule], place: Place) -> None:
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            raise place.refuse(f"two rules called {rule.id}", why="a report names rules by their id", fix="rename one")
        seen.add(rule.id)
        if rule.kind == "pattern":
            try:
                pl.Series([""]).str.contains(f"^(?:{portable(str(rule.value))})$")
            except pl.exceptions.PolarsError as error:
                raise place.refuse(
                    f"pattern {rule.value!r} of {rule.columns[0]} is too large",
                    why=str(error).split("\n")[0],
                    fix="repeat less",
                ) from error
    compile_row(rules)


def contract_of(project: Path, name: str, spec: TableSpec) -> Contract | None:
    """The contract of a table; null when it has none."""
    return Contract.load(Path(project) / spec.contract, table=name) if spec.contract else None
