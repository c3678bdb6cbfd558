"""Properties of a contract as columns and rules."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from loopline.data.contracts.compile_row import compile_row
from loopline.data.contracts.literals import bound, number, read_pattern
from loopline.data.contracts.odcs import PROPERTY, Place, as_list, as_map, custom, flag, treatment
from loopline.data.contracts.odcs_quality import read_quality, read_references
from loopline.data.contracts.rules import COLUMN_KINDS, LOGICAL_TYPES, Column, Response, Rule, Severity
from loopline.data.language.numbers import exact
from loopline.data.language.relation import KINDS

OPTIONS = {
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "string": frozenset({"minLength", "maxLength", "pattern"}),
    "array": frozenset({"minItems", "maxItems"}),
    "timestamp": frozenset(
        {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "timezone", "defaultTimezone", "format"}
    ),
    "date": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "format"}),
}
OPTIONS["integer"] = OPTIONS["number"]


def read_column(node: Any, place: Place, otherwise: tuple[Severity, Response]) -> tuple[Column, list[Rule], bool, int]:
    """A property as a column, its rules, whether it is in the primary key, and where."""
    prop = as_map(node, place, PROPERTY)
    name = prop.get("name")
    if not isinstance(name, str) or not name:
        raise place.refuse("a property without name", why="rules are named after columns", fix="add `name: <column>`")
    name = str(name)
    kind = prop.get("logicalType")
    if kind is not None and kind not in LOGICAL_TYPES:
        near = difflib.get_close_matches(str(kind), LOGICAL_TYPES, n=1)
        raise place.at(prop, "logicalType").refuse(
            f"logicalType {kind!r}", why=f"allowed: {', '.join(LOGICAL_TYPES)}", fix=f"write {(near or ['string'])[0]}"
        )
    severity, response = treatment(prop, place, otherwise)
    beyond = severity, "quarantine" if response == "default" else response
    key = flag(prop, "primaryKey", place)
    required = flag(prop, "required", place) or key
    rules: list[Rule] = []

    def add(rule_kind: str, value: Any = None, how: tuple[Severity, Response] | None = None) -> None:
        how = how or ((severity, response) if rule_kind in COLUMN_KINDS else beyond)
        same = sum(r.kind == rule_kind for r in rules)
        rules.append(Rule(f"{name}.{rule_kind}" + (f".{same + 1}" if same else ""), rule_kind, (name,), value, *how))

    if required:
        add("required")
    if kind is not None:
        add("logicalType", str(kind))
    zone = _options(prop, str(kind) if kind is not None else None, place, add)
    if flag(prop, "unique", place):
        add("unique")
    for target, how in read_references(prop, place, beyond):
        if kind not in KINDS:
            raise place.refuse(
                "a reference", why=f"the logicalType is {kind}", fix=f"declare one of {', '.join(KINDS)}"
            )
        add("reference", target, how)
    quality = as_list(prop.get("quality"), place.at(prop, "quality"))
    for index, item in enumerate(quality):
        here = place.at(prop, "quality").at(quality, index)
        rule_kind, value, how = read_quality(item, here, (severity, response), str(kind) if kind else None)
        if rule_kind in ("rowCount", "check"):
            raise here.refuse(f"{rule_kind} of a property", why="it is about whole rows", fix="move it to the table")
        if rule_kind == "":
            continue
        add(rule_kind, value, how)
    position = number(prop.get("primaryKeyPosition", -1))
    column = Column(name, kind, required, zone, _default(prop, kind, rules, place))
    return column, rules, key, int(position) if isinstance(position, int) else -1


def _default(prop: Mapping[str, Any], kind: str | None, rules: Sequence[Rule], place: Place) -> Any:
    """The value that stands in for a broken one; it keeps the rules of its column."""
    given = custom(prop, place).get("default")
    needed = [rule.id for rule in rules if rule.mends]
    if given is None:
        if needed:
            raise place.refuse(
                f"{needed[0]} has the response default, and there is none",
                why="a default is never guessed",
                fix="add customProperties: [{property: default, value: ...}] to the property",
            )
        return None
    value = bound(given, kind, place) if kind in ("timestamp", "date") else given
    value = number(value) if kind in ("integer", "number") else value
    fits = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "timestamp": datetime, "date": date}
    wanted: Any = fits.get(kind or "")
    if wanted is None or not isinstance(value, wanted) or isinstance(value, bool) != (kind == "boolean"):
        raise place.refuse(f"default {given!r}", why=f"the column is {kind}", fix="give a value of that type")
    if kind == "number":
        if not exact(value):
            raise place.refuse(f"default {given!r}", why="no 64-bit float is this number", fix="choose another")
        value = float(value)
    if broken := compile_row([r for r in rules if r.kind in COLUMN_KINDS])({prop["name"]: value}):
        raise place.refuse(f"default {given!r} breaks {broken[0]}", why="a default mends a row", fix="choose another")
    return value


def _options(prop: Mapping[str, Any], kind: str | None, place: Place, add: Any) -> str | None:
    given = prop.get("logicalTypeOptions")
    if given is None:
        return None
    here = place.at(prop, "logicalTypeOptions")
    allowed = OPTIONS.get(kind or "")
    if allowed is None:
        raise here.refuse(
            f"logicalTypeOptions of logicalType {kind}",
            why=f"options are enforced for {', '.join(sorted(OPTIONS))}",
            fix="give the logicalType, or remove the options",
        )
    options = as_map(given, here, allowed)
    for name in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        if name in options:
            add(name, bound(options[name], kind or "", here.at(options, name)))
    for name in ("minLength", "maxLength", "minItems", "maxItems"):
        if name in options:
            length = number(options[name])
            if isinstance(length, bool) or not isinstance(length, int) or length < 0:
                raise here.at(options, name).refuse(f"{name}: {length!r}", why="lengths count", fix=f"{name}: 10")
            add(name, int(length))
    if "pattern" in options:
        add("pattern", read_pattern(options["pattern"], here.at(options, "pattern")))
    zone = options.get("defaultTimezone")
    if zone is not None:
        try:
            ZoneInfo(str(zone))
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise here.at(options, "defaultTimezone").refuse(
                f"{zone!r} is not a time zone", why="names of the IANA database", fix="for example Europe/Paris"
            ) from error
        return str(zone)
    return None
