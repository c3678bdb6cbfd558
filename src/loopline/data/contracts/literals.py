"""Values in a contract: bounds, patterns, categories and limits, of the type that their column has."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from loopline.data.contracts.odcs import Place, as_list, plain
from loopline.data.contracts.rules import EXACT, INT_MAX, INT_MIN, Between
from loopline.data.language.numbers import MOST
from loopline.data.language.pattern import matcher

_NUMBER = re.compile(r"-?[0-9]{1,4300}(?:\.[0-9]{1,40})?(?:e[-+]?[0-9]{1,3})?", re.ASCII)


def read_pattern(value: Any, place: Place) -> str:
    """A pattern as written, once it is known to mean the same everywhere."""
    if not isinstance(value, str):
        raise place.refuse(f"pattern {value!r}", why="a pattern is text", fix="put it in single quotes")
    try:
        matcher(value)
    except ValueError as error:
        raise place.refuse(
            str(error), why="patterns run in batch and per request, on two engines", fix="rewrite it without that"
        ) from error
    return str(value)


def number(value: Any) -> Any:
    """A value as it was written in a contract; the number, where `odcs.carried` keeps one beyond 2**53 as text."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return value
    found = int(value) if value.lstrip("-").isdecimal() else float(value)
    return found if abs(found) >= EXACT else value


def bound(value: Any, kind: str, place: Place) -> int | float | date | datetime:
    """A bound of the column's type."""
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
    value = number(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) == math.inf:
        raise place.refuse(f"{value!r} is not a finite number", why="bounds are numbers", fix="leave the bound out")
    return int(value) if isinstance(value, int) else float(value)


def valid_values(
    node: Any, place: Place, kind: str | None, *, most: float = math.inf
) -> tuple[str | int | float | bool, ...]:
    """Listed values, all of the column's type; numbers up to `most`."""
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
    for given in as_list(node, place):
        value = number(given) if kind in ("integer", "number") else given
        fits = isinstance(value, wanted[kind]) and (isinstance(value, bool) == (kind == "boolean"))
        if not fits or (kind in ("integer", "number") and not abs(value) <= min(most, MOST)):
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
        ends = [number(e) for e in (as_list(value, place.at(item, key)) if key == "mustBeBetween" else [value])]
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
