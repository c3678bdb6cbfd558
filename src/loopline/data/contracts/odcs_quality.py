"""Quality rules, relationships and freshness of a contract.

What the standard has no words for is `type: custom` with `engine: loopline`:

    quality:                                    # of a table
      - {type: custom, engine: loopline, name: in-order, implementation: "arrived >= departed"}
    quality:                                    # of a property
      - {type: custom, engine: loopline, implementation: {freshness: 3h}}
      - type: custom
        engine: loopline
        implementation: {distribution: psi, atMost: 0.25, edges: [1, 5, 20], shares: [.2, .5, .2, .1], rows: 500}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, get_args

from loopline.base.spec import duration
from loopline.data.contracts.baseline import ROWS, Baseline, Distance
from loopline.data.contracts.literals import between, number, read_pattern, valid_values
from loopline.data.contracts.odcs import QUALITY, Place, as_list, as_map, plain, treatment
from loopline.data.contracts.rules import EXACT, Reference, Response, Severity

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")


def read_quality(
    node: Any, place: Place, otherwise: tuple[Severity, Response], kind: str | None
) -> tuple[str, Any, tuple[Severity, Response]]:
    """A quality rule as (kind, value, treatment); an empty kind for mere text."""
    if isinstance(node, Mapping) and (node.get("type") not in (None, "text", "library", "custom") or "query" in node):
        raise place.refuse(
            f"quality of type {node.get('type', 'sql')!r}",
            why="only rules that run everywhere are accepted: library, custom with engine loopline, text for people",
            fix="express it with metric: invalidValues, nullValues, duplicateValues or rowCount, or as a relation",
        )
    item = as_map(node, place, QUALITY)
    inherited = otherwise[0], "quarantine" if otherwise[1] == "default" else otherwise[1]
    column_rule = item.get("metric") == "invalidValues" or item.get("rule") == "invalidValues"
    how = treatment(item, place, otherwise if column_rule else inherited)
    if how[1] == "default" and not column_rule:
        raise place.refuse(
            "response default",
            why="a default stands in for one value, which this rule does not judge",
            fix="response: quarantine, stop or log",
        )
    sort = item.get("type", "library")
    if sort == "text":
        return "", None, how
    if sort == "custom":
        return (*read_custom(item, place, kind), how)
    metric = item.get("metric", item.get("rule"))
    limit = between(item, place)
    if metric in ("nullValues", "missingValues"):
        if item.get("arguments"):
            raise place.refuse("arguments", why="missing means null or NaN here", fix="remove them")
        return "nullValues", limit, how
    if metric == "rowCount":
        return "rowCount", limit, how
    if limit.most not in (0, 0.0) or limit.most_open:
        raise place.refuse(
            f"{metric} with a limit other than 0", why="each broken row is judged", fix="write mustBe: 0 and a severity"
        )
    if metric == "duplicateValues":
        return "unique", None, how
    if metric == "invalidValues":
        here = place.at(item, "arguments")
        arguments = as_map(item.get("arguments") or {}, here, frozenset({"validValues", "pattern"}))
        if len(arguments) != 1:
            raise here.refuse("invalidValues", why="it needs its arguments", fix="arguments: {validValues: [a, b]}")
        if "pattern" in arguments:
            if kind != "string":
                raise here.refuse("a pattern", why="patterns judge text", fix="declare logicalType: string")
            return "pattern", read_pattern(arguments["pattern"], here), how
        return "validValues", valid_values(arguments["validValues"], here, kind), how
    raise place.refuse(
        f"metric {metric!r}",
        why="known: nullValues, invalidValues, duplicateValues, rowCount",
        fix="use one of them",
    )


def read_custom(item: Mapping[str, Any], place: Place, kind: str | None) -> tuple[str, Any]:
    """A rule of engine `loopline`: a relation as (name, text), a freshness, or a baseline."""
    if item.get("engine") != "loopline":
        raise place.refuse(
            f"a rule of engine {item.get('engine')!r}",
            why="it would be written down and not kept here",
            fix="express it with engine: loopline, or keep it in another file",
        )
    given = item.get("implementation")
    here = place.at(item, "implementation") if "implementation" in item else place
    if isinstance(given, str):
        name = item.get("name", item.get("id"))
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise here.refuse(
                f"a relation named {name!r}",
                why="its name is in the rule id: letters, digits, _ and -",
                fix="add `name: arrives-after-it-departs`",
            )
        return "check", (str(name), str(given))
    doc = as_map(given, here, frozenset({"freshness", "distribution", "atMost", "edges", "values", "shares", "rows"}))
    if "freshness" in doc:
        if kind != "timestamp" or len(doc) != 1:
            raise here.refuse("a freshness", why="it is the age of the newest time", fix="put it at a timestamp, alone")
        return "freshness", _age(doc["freshness"], here)
    return "distribution", _baseline(doc, here, kind)


def _age(value: Any, place: Place) -> Any:
    try:
        age = duration(str(value))
    except (ValueError, OverflowError) as error:
        raise place.refuse(f"freshness {value!r}", why=str(error), fix="write for example 3h or 1d") from error
    if age.total_seconds() <= 0:
        raise place.refuse(f"freshness {value!r}", why="nothing is newer than now", fix="write for example 3h")
    return age


def _baseline(doc: Mapping[str, Any], place: Place, kind: str | None) -> Baseline:
    distance: Any = doc.get("distribution")
    if distance not in get_args(Distance):
        raise place.refuse(f"distribution {distance!r}", why=f"known: {', '.join(get_args(Distance))}", fix="use psi")
    if ("edges" in doc) == ("values" in doc):
        raise place.refuse("a baseline", why="it has edges or values, one of them", fix="edges: [1, 5, 20]")
    edges: tuple[float, ...] = ()
    values: tuple[Any, ...] = ()
    if "edges" in doc:
        edges = _numbers(doc, "edges", place)
        if kind not in ("integer", "number") or sorted(set(edges)) != list(edges):
            raise place.refuse("edges", why="they cut numbers into classes, in ascending order", fix="sort them")
    else:
        values = valid_values(doc["values"], place, kind, most=EXACT)
    shares = _numbers(doc, "shares", place)
    classes = len(edges or values) + 1
    if len(shares) != classes or min(shares) < 0 or abs(sum(shares) - 1) > 0.01:
        raise place.refuse(
            f"{len(shares)} shares that sum to {sum(shares):g}",
            why=f"there are {classes} classes (the last one is the rest), and shares sum to 1",
            fix="draft the contract again from data: loopline data contract draft",
        )
    at_most, rows = number(doc.get("atMost")), number(doc.get("rows", ROWS))
    if isinstance(at_most, bool) or not isinstance(at_most, (int, float)) or not 0 < at_most < math.inf:
        raise place.refuse(f"atMost: {at_most!r}", why="a distance is a positive number", fix="atMost: 0.25")
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise place.refuse(f"rows: {rows!r}", why="it is the least number of rows that tell", fix=f"rows: {ROWS}")
    return Baseline(distance, float(at_most), shares, edges, values, int(rows))


def _numbers(doc: Mapping[str, Any], key: str, place: Place) -> tuple[float, ...]:
    given = [number(value) for value in as_list(doc.get(key), place)]
    if not given or any(isinstance(v, bool) or not isinstance(v, (int, float)) or not math.isfinite(v) for v in given):
        raise place.refuse(f"{key}: {plain(given)}", why="finite numbers are needed", fix=f"{key}: [0.5, 0.5]")
    return tuple(float(v) for v in given)


def read_references(
    node: Mapping[str, Any], place: Place, otherwise: tuple[Severity, Response]
) -> list[tuple[Reference, tuple[Severity, Response]]]:
    """The foreign keys of a property."""
    listed = as_list(node.get("relationships"), place)
    found = []
    for index, item in enumerate(listed):
        here = place.at(node, "relationships").at(listed, index)
        doc = as_map(item, here, frozenset({"type", "to", "customProperties"}))
        _foreign(doc, here)
        table, columns = _target([doc.get("to")], here)
        found.append((Reference(table, columns), _treated(doc, here, otherwise)))
    return found


def read_links(
    schema: Mapping[str, Any], place: Place, otherwise: tuple[Severity, Response]
) -> list[tuple[tuple[str, ...], Reference, tuple[Severity, Response]]]:
    """The foreign keys of a table, which may have several columns: (columns, reference, treatment)."""
    listed = as_list(schema.get("relationships"), place)
    found = []
    for index, item in enumerate(listed):
        here = place.at(schema, "relationships").at(listed, index)
        doc = as_map(item, here, frozenset({"type", "from", "to", "customProperties"}))
        _foreign(doc, here)
        given = [doc.get(key) for key in ("from", "to")]
        ends = [list(end) if isinstance(end, list) else [end] for end in given]
        own = schema.get("name")
        mine = tuple(str(v).removeprefix(f"{own}.") for v in ends[0])
        table, columns = _target(ends[1], here)
        if len(mine) != len(columns) or len(set(mine)) != len(mine):
            raise here.refuse("from and to", why="each column refers to one other", fix="give as many, in order")
        found.append((mine, Reference(table, columns), _treated(doc, here, otherwise)))
    return found


def _foreign(doc: Mapping[str, Any], place: Place) -> None:
    if doc.get("type", "foreignKey") != "foreignKey":
        raise place.refuse(f"type {doc['type']!r}", why="a relationship is a foreignKey", fix="type: foreignKey")


def _treated(doc: Mapping[str, Any], place: Place, otherwise: tuple[Severity, Response]) -> tuple[Severity, Response]:
    severity, response = treatment(doc, place, otherwise)
    if response == "default":
        raise place.refuse("response default", why="several tables are involved", fix="response: quarantine")
    return severity, response


def _target(ends: Any, place: Place) -> tuple[str, tuple[str, ...]]:
    pairs = [str(end).partition(".") for end in ends]
    tables = {table for table, _, _ in pairs}
    if len(tables) != 1 or not all(table and column for table, _, column in pairs):
        raise place.refuse(
            f"a relationship to {', '.join(map(str, ends))}",
            why="it names columns of one table",
            fix="to: table.column",
        )
    return tables.pop(), tuple(column for _, _, column in pairs)


_UNITS = {"d": 86400, "day": 86400, "days": 86400, "h": 3600, "hour": 3600, "hours": 3600, "m": 60, "min": 60,
          "minutes": 60, "s": 1, "seconds": 1}  # fmt: skip


def read_service(top: Mapping[str, Any], table: str, place: Place) -> dict[str, Any]:
    """Freshness in `slaProperties`, by column of `table`: how old its newest time may be."""
    found: dict[str, Any] = {}
    listed = as_list(top.get("slaProperties"), place)
    for index, item in enumerate(listed):
        here = place.at(top, "slaProperties").at(listed, index)
        if not isinstance(item, Mapping) or item.get("property") != "freshness":
            continue
        owner, _, column = str(item.get("element", "")).partition(".")
        seconds = _UNITS.get(str(item.get("unit", "")).lower())
        if not owner or not column or seconds is None:
            raise here.refuse(
                "a freshness",
                why="it needs a column and a unit of time",
                fix="element: table.column, value: 3, unit: h",
            )
        if owner == table:
            try:
                found[column] = _age(f"{int(float(item['value']) * seconds)}s", here)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise here.refuse("a freshness", why="its value is a number", fix="value: 3, unit: h") from error
    return found
