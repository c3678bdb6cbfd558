"""Reading contracts: the Open Data Contract Standard 3.1, with lines in messages.

What the standard says about people and servers (owners, prices, descriptions) is
accepted and kept; what would be a rule and is not enforced here is refused, so
that no rule is written down and silently not kept.
"""

from __future__ import annotations

import difflib
import io
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from loopline.base.errors import Invalid
from loopline.data.pattern import portable
from loopline.data.rules import EXACT, INT_MAX, INT_MIN, LOGICAL_TYPES, Between, Column, Response, Rule, Severity

VERSIONS = ("v3.1.0", "v3.0.2", "v3.0.1", "v3.0.0")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TOP = _words(
    """
    apiVersion kind id name version status schema tenant domain tags dataProduct description servers support
    price team roles slaProperties slaDefaultElement authoritativeDefinitions customProperties contractCreatedTs
    """
)
ABOUT = _words(
    """
    id name physicalName physicalType description businessName tags authoritativeDefinitions customProperties
    dataGranularityDescription relationships transformSourceObjects transformLogic transformDescription
    """
)
TABLE = ABOUT | {"logicalType", "properties", "quality"}
PROPERTY = ABOUT | _words(
    """
    logicalType logicalTypeOptions required unique primaryKey primaryKeyPosition partitioned
    partitionKeyPosition classification encryptedName criticalDataElement examples quality
    """
)
QUALITY = _words(
    """
    id name description type metric rule arguments unit dimension severity businessImpact customProperties tags
    authoritativeDefinitions method scheduler schedule mustBe mustBeGreaterThan mustBeGreaterOrEqualTo
    mustBeLessThan mustBeLessOrEqualTo mustBeBetween
    """
)
OPTIONS = {
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "string": frozenset({"minLength", "maxLength", "pattern"}),
    "timestamp": frozenset(
        {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "timezone", "defaultTimezone", "format"}
    ),
    "date": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "format"}),
}
OPTIONS["integer"] = OPTIONS["number"]


class Place:
    """Where in a document a value stands, so that a message can say it."""

    def __init__(self, file: str, path: str = "", line: int | None = None) -> None:
        self.file, self.path, self.line = file, path, line

    def at(self, owner: Any, key: Any) -> Place:
        """The place of `owner[key]`."""
        line = self.line
        if isinstance(owner, (CommentedMap, CommentedSeq)):
            try:
                found = owner.lc.key(key) if isinstance(owner, CommentedMap) else owner.lc.item(key)
                line = int(found[0]) + 1
            except (KeyError, IndexError, TypeError):
                pass
        name = str(key)
        if isinstance(owner, Sequence) and isinstance(owner[key], Mapping) and owner[key].get("name"):
            name = str(owner[key]["name"])
        return Place(self.file, f"{self.path}.{name}" if self.path else name, line)

    def refuse(self, what: str, *, why: str, fix: str) -> Invalid:
        """An error that starts with this place."""
        where = self.file + (f":{self.line}" if self.line else "") + (f" ({self.path})" if self.path else "")
        return Invalid(f"{where}: {what}", why=why, fix=fix)


def read_yaml(text: str, file: str) -> Any:
    """YAML 1.2 as plain data that still knows its lines; nothing is executed."""
    yaml = YAML(typ="rt", pure=True)
    try:
        doc = yaml.load(io.StringIO(text))
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise Place(file, "", line).refuse(
            "a key stands twice", why=str(error.problem).split(" with ")[0], fix="keep one of them"
        ) from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise Place(file, "", line).refuse(
            f"not YAML: {error.problem}", why="a contract is a YAML 1.2 document", fix="correct that line"
        ) from error
    except YAMLError as error:
        raise Place(file).refuse(f"not YAML: {error}", why="a contract is a YAML document", fix="correct it") from error
    _no_tags(doc, Place(file))
    return doc


def _no_tags(node: Any, place: Place) -> None:
    tag = getattr(getattr(node, "tag", None), "value", None) if isinstance(node, (CommentedMap, CommentedSeq)) else None
    if isinstance(node, TaggedScalar) or tag:
        raise place.refuse("a YAML tag", why="tags can name code; only plain data is read", fix="remove the !tag")
    if isinstance(node, Mapping):
        for key in node:
            _no_tags(node[key], place.at(node, key))
    elif isinstance(node, list):
        for index, item in enumerate(node):
            _no_tags(item, place.at(node, index))


def plain(node: Any) -> Any:
    """The document without its lines: dicts, lists and scalars, times as text."""
    if isinstance(node, Mapping):
        return {str(key): plain(item) for key, item in node.items()}
    if isinstance(node, (list, tuple)):
        return [plain(item) for item in node]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (str, int, float):
        if isinstance(node, kind):
            return kind(node)
    if isinstance(node, (datetime, date)):
        return node.isoformat()
    return node


def as_map(node: Any, place: Place, allowed: frozenset[str]) -> Mapping[str, Any]:
    """`node` as a mapping with known keys only."""
    if not isinstance(node, Mapping):
        raise place.refuse(f"{node!r} is not a mapping", why="keys are expected here", fix="write `key: value` lines")
    for key in node:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), sorted(allowed), n=1)
            raise place.at(node, key).refuse(
                f"unknown key {key!r}",
                why="nothing in a contract is accepted and ignored; allowed here: " + ", ".join(sorted(allowed)),
                fix=f"write {near[0]!r}" if near else "remove it, or keep it under customProperties",
            )
    return node


def as_list(node: Any, place: Place) -> list[Any]:
    """`node` as a list; nothing is an empty one."""
    if node is None:
        return []
    if not isinstance(node, list):
        raise place.refuse(f"{node!r} is not a list", why="a list is expected here", fix="start each item with `- `")
    return node


def custom(node: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """`customProperties` as a dict, from the standard's list of property and value."""
    listed = node.get("customProperties")
    result: dict[str, Any] = {}
    if listed is None:
        return result
    here = place.at(node, "customProperties")
    for index, item in enumerate(as_list(listed, here)):
        entry = as_map(item, here.at(listed, index), frozenset({"property", "value", "id", "description"}))
        result[str(entry.get("property"))] = plain(entry.get("value"))
    return result


def treatment(node: Mapping[str, Any], place: Place, otherwise: tuple[Severity, Response]) -> tuple[Severity, Response]:
    """Severity and response that `node` declares, else those around it."""
    extras = custom(node, place)
    severity = node.get("severity", extras.get("severity", otherwise[0]))
    response = extras.get("response", otherwise[1])
    for what, value, allowed in (
        ("severity", severity, get_args(Severity)),
        ("response", response, get_args(Response)),
    ):
        if value not in allowed:
            raise place.refuse(
                f"{what} {value!r}", why=f"a {what} is one of {', '.join(allowed)}", fix="use one of them"
            )
    return severity, response


def flag(node: Mapping[str, Any], key: str, place: Place) -> bool:
    """A yes-or-no key; false without it."""
    value = node.get(key, False)
    if not isinstance(value, (bool, int)) or value not in (0, 1):
        raise place.at(node, key).refuse(f"{key}: {value!r}", why="YAML 1.2 knows true and false", fix=f"{key}: true")
    return bool(value)


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
    key = flag(prop, "primaryKey", place)
    required = flag(prop, "required", place) or key
    rules: list[Rule] = []

    def add(rule_kind: str, value: Any = None, how: tuple[Severity, Response] = (severity, response)) -> None:
        same = sum(r.kind == rule_kind for r in rules)
        rules.append(Rule(f"{name}.{rule_kind}" + (f".{same + 1}" if same else ""), rule_kind, (name,), value, *how))

    if required:
        add("required")
    if kind is not None:
        add("logicalType", str(kind))
    zone = _options(prop, str(kind) if kind is not None else None, place, add)
    if flag(prop, "unique", place):
        add("unique")
    quality = as_list(prop.get("quality"), place.at(prop, "quality"))
    for index, item in enumerate(quality):
        here = place.at(prop, "quality").at(quality, index)
        rule_kind, value, how = read_quality(item, here, (severity, response), str(kind) if kind else None)
        if rule_kind == "rowCount":
            raise here.refuse("rowCount of a property", why="it counts the rows of a table", fix="move it to the table")
        if rule_kind == "":
            continue
        add(rule_kind, value, how)
    position = prop.get("primaryKeyPosition", -1)
    return Column(name, kind, required, zone), rules, key, int(position) if isinstance(position, int) else -1


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
    for name in ("minLength", "maxLength"):
        if name in options:
            length = options[name]
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


def read_pattern(value: Any, place: Place) -> str:
    """A pattern as written, once it is known to mean the same everywhere."""
    if not isinstance(value, str):
        raise place.refuse(f"pattern {value!r}", why="a pattern is text", fix="put it in single quotes")
    try:
        portable(value)
    except ValueError as error:
        raise place.refuse(
            str(error), why="patterns run in batch and per request, on two engines", fix="rewrite it without that"
        ) from error
    return str(value)


def bound(value: Any, kind: str, place: Place) -> int | float | date | datetime:
    """A bound of the column's type; numbers beyond 2**53 are not exact as floats."""
    if kind == "timestamp":
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise place.refuse(f"{value!r}", why="a bound is a time with zone", fix='write "2026-01-31T12:00:00Z"')
        return datetime.fromisoformat(moment.isoformat()).astimezone(UTC)
    if kind == "date":
        try:
            return value if type(value) is date else date.fromisoformat(str(value))
        except ValueError as error:
            raise place.refuse(f"{value!r} is not a date", why="a bound is a date", fix="2026-01-31") from error
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise place.refuse(f"{value!r} is not a finite number", why="bounds are numbers", fix="leave the bound out")
    if abs(value) > EXACT:
        raise place.refuse(f"{value!r}", why="bounds are exact up to 2**53", fix="leave the bound out")
    return int(value) if isinstance(value, int) else float(value)


def read_quality(
    node: Any, place: Place, otherwise: tuple[Severity, Response], kind: str | None
) -> tuple[str, Any, tuple[Severity, Response]]:
    """A quality rule as (kind, value, treatment); an empty kind for mere text."""
    item = as_map(node, place, QUALITY)
    how = treatment(item, place, otherwise)
    sort = item.get("type", "library")
    if sort == "text":
        return "", None, how
    if sort != "library":
        raise place.refuse(
            f"quality of type {sort!r}",
            why="only rules that run everywhere are accepted: type library (or text, for people)",
            fix="express it with metric: invalidValues, nullValues, duplicateValues or rowCount",
        )
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


def valid_values(node: Any, place: Place, kind: str | None) -> tuple[str | int | float | bool, ...]:
    """Allowed values, all of the column's type."""
    wanted: dict[str, tuple[type, ...]] = {
        "string": (str,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool, int),
    }
    if kind not in wanted:
        raise place.refuse(
            f"validValues of logicalType {kind}", why=f"only {', '.join(wanted)} are listed", fix="give the logicalType"
        )
    values: list[str | int | float | bool] = []
    for value in as_list(node, place):
        fits = isinstance(value, wanted[kind]) and (isinstance(value, bool) == (kind == "boolean"))
        if not fits or (kind in ("integer", "number") and not abs(value) <= EXACT):
            raise place.refuse(f"valid value {value!r}", why=f"the column is {kind}", fix="quote text, mind the type")
        values.append(plain(value))
    if not values:
        raise place.refuse("no valid values", why="every row would be refused", fix="list at least one")
    return tuple(values)


def between(item: Mapping[str, Any], place: Place) -> Between:
    """The limit of a quality rule from its mustBe... keys."""
    share = item.get("unit", "rows") in ("percent", "%")
    scale = 100 if share else 1
    least: float | None = None
    most: float | None = None
    least_open = most_open = False
    for key, value in item.items():
        if not str(key).startswith("mustBe"):
            continue
        ends = as_list(value, place.at(item, key)) if key == "mustBeBetween" else [value]
        for end in ends:
            if isinstance(end, bool) or not isinstance(end, (int, float)) or not INT_MIN <= end <= INT_MAX:
                raise place.at(item, key).refuse(f"{key}: {end!r}", why="a limit is a number", fix=f"{key}: 0")
        if key == "mustBe":
            least = most = ends[0] / scale
        elif key == "mustBeBetween" and len(ends) == 2:
            least, most = ends[0] / scale, ends[1] / scale
        elif key in ("mustBeGreaterThan", "mustBeGreaterOrEqualTo"):
            least, least_open = ends[0] / scale, key == "mustBeGreaterThan"
        elif key in ("mustBeLessThan", "mustBeLessOrEqualTo"):
            most, most_open = ends[0] / scale, key == "mustBeLessThan"
    if least is None and most is None:
        raise place.refuse("no limit", why="a library rule states what must be", fix="add `mustBe: 0`")
    return Between(least, most, least_open, most_open, share)
