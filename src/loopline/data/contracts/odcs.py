"""Reading contracts: the Open Data Contract Standard 3.1, with lines in messages.

What the standard says about people and servers (owners, prices, descriptions) is
accepted and kept; what would be a rule and is not enforced here is refused, so
that no rule is written down and silently not kept.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, get_args

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from loopline.base.errors import Invalid
from loopline.data.contracts.rules import EXACT, Response, Severity

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
    mustBeLessThan mustBeLessOrEqualTo mustBeBetween engine implementation
    """
)


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


LARGEST, NODES, DEPTH = 2_000_000, 100_000, 60
"""Limits of a document: characters, values (aliases counted each time), nesting."""


def read_yaml(text: str, file: str) -> Any:
    """YAML 1.2 as plain data that still knows its lines; nothing is executed or multiplied."""
    if len(text) > LARGEST:
        raise Place(file).refuse(
            f"{len(text):,} characters", why=f"a contract has {LARGEST:,} at most", fix="refer to values by a table"
        )
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
    except RecursionError as error:
        raise Place(file).refuse("nested too deeply", why=f"{DEPTH} levels are read", fix="flatten it") from error
    except (ValueError, OverflowError) as error:
        raise Place(file).refuse(
            f"not YAML: {str(error)[:200]}", why="a value is none that YAML knows", fix="put it in quotes"
        ) from error
    _no_tags(doc, Place(file), [NODES], 0)
    return doc


def _no_tags(node: Any, place: Place, left: list[int], depth: int) -> None:
    left[0] -= 1
    if left[0] < 0 or depth > DEPTH:
        raise place.refuse(
            f"more than {NODES:,} values" if left[0] < 0 else f"more than {DEPTH} levels",
            why="aliases that stand in each other make a small file a huge one",
            fix="write the values out, without * and &",
        )
    tag = getattr(getattr(node, "tag", None), "value", None) if isinstance(node, (CommentedMap, CommentedSeq)) else None
    if isinstance(node, TaggedScalar) or tag:
        raise place.refuse("a YAML tag", why="tags can name code; only plain data is read", fix="remove the !tag")
    if isinstance(node, Mapping):
        for key in node:
            _no_tags(node[key], place.at(node, key), left, depth + 1)
    elif isinstance(node, list):
        for index, item in enumerate(node):
            _no_tags(item, place.at(node, index), left, depth + 1)


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


def carried(node: Any) -> Any:
    """The document as `plain` gives it, in JSON that is the same wherever it is read and written again.

    Numbers that are whole and beyond 2**53 - 1, and those that are not finite, stand as text; `literals.number`
    reads them.
    """
    if isinstance(node, Mapping):
        return {str(key): carried(item) for key, item in node.items()}
    if isinstance(node, (list, tuple)):
        return [carried(item) for item in node]
    value = plain(node)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return value if -EXACT < value < EXACT else str(value)


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
    severity: Any = node.get("severity", extras.get("severity", otherwise[0]))
    response: Any = extras.get("response", otherwise[1])
    severity = "warning" if severity == "warn" else severity
    response = "log" if response == "report" else response
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
