"""The search language of registered models and versions, over what is there.

It reads the filters of runs (with OR, IN and parentheses) and weighs them here: nothing of a filter becomes SQL.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from loopline.interfaces.mlflow.errors import invalid
from loopline.store.runs.filters import And, Compare, Or, Tree, parse, parse_order

IS_PROMPT = "mlflow.prompt.is_prompt"
NUMBERS = frozenset(
    {"version_number", "creation_timestamp", "last_updated_timestamp", "created_time", "last_update_time"}
)
MODEL_FIELDS = frozenset({"name", "creation_timestamp", "last_updated_timestamp"})
VERSION_FIELDS = MODEL_FIELDS | {"version_number", "run_id", "source_path"}

T = TypeVar("T")


class Seen(NamedTuple):
    """What a filter may look at."""

    fields: Mapping[str, Any]
    tags: Mapping[str, str]
    prompt: bool


def matcher(text: str | None, fields: frozenset[str]) -> Callable[[Seen], bool]:
    """Whether something is what a filter asks for; prompts only where it asks for them."""
    tree = parse(text or "")
    asks_prompts = False
    for one in _leaves(tree):
        _check(one, fields)
        asks_prompts |= one.kind == "tag" and one.key == IS_PROMPT
    if asks_prompts:
        return lambda seen: _holds(tree, seen)
    return lambda seen: not seen.prompt and _holds(tree, seen)


def ordering(terms: Sequence[str] | None, fields: frozenset[str]) -> list[tuple[str, bool]]:
    """Fields to sort by, each with whether it falls; two terms for one field are refused."""
    found: list[tuple[str, bool]] = []
    for text in terms or ():
        term = parse_order(text)
        key = "last_updated_timestamp" if term.key == "timestamp" else term.key
        if term.kind != "attribute" or key not in fields - {"source_path", "run_id"}:
            raise invalid(f"Invalid order_by clause {text[:200]!r}: it names none of {', '.join(sorted(fields))}.")
        if key in {name for name, _ in found}:
            raise invalid(f"`order_by` contains duplicate fields: {key}")
        found.append((key, term.descending))
    return found


def ordered(items: list[T], key: Callable[[T], Mapping[str, Any]], terms: list[tuple[str, bool]]) -> list[T]:
    """Items by the terms, the first one first; those that are equal stay as they were."""
    for name, descending in reversed(terms):
        items.sort(key=lambda item: key(item)[name], reverse=descending)
    return items


def paged(items: list[T], most: int, token: str | None, asked: str) -> tuple[list[T], str | None]:
    """One page, and the token of the next; a token is good for the question it was given for."""
    start = 0
    if token:
        try:
            start, of = json.loads(base64.urlsafe_b64decode(token.encode()))
        except (ValueError, TypeError, binascii.Error, UnicodeError):
            raise invalid(f"Invalid page token {token[:100]!r}.") from None
        if of != asked or not isinstance(start, int) or start < 0:
            raise invalid("Invalid page token: it was given for another question.")
    page, after = items[start : start + most], start + most
    more = base64.urlsafe_b64encode(json.dumps([after, asked]).encode()).decode() if after < len(items) else None
    return page, more


def _leaves(tree: Tree | None) -> list[Compare]:
    if tree is None:
        return []
    if isinstance(tree, Compare):
        return [tree]
    return [one for part in tree.parts for one in _leaves(part)]


def _check(one: Compare, fields: frozenset[str]) -> None:
    if one.kind == "tag":
        if one.op in ("<", "<=", ">", ">=") or not isinstance(one.value, (str, tuple, type(None))):
            raise invalid(f"Invalid comparison of tag {one.key[:250]!r}: tags are texts.")
        return
    if one.kind != "attribute" or one.key not in fields:
        raise invalid(f"Invalid attribute key {one.key[:250]!r} specified. Valid keys are {sorted(fields)}.")
    values = one.value if isinstance(one.value, tuple) else (one.value,)
    if one.key in NUMBERS:
        if one.op in ("LIKE", "ILIKE") or any(not isinstance(value, (int, float)) for value in values):
            raise invalid(f"Invalid comparison of {one.key}: it is a number.")
    elif one.op in ("<", "<=", ">", ">=") or any(not isinstance(value, str) for value in values):
        raise invalid(f"Invalid comparison of {one.key}: it is a text, compared by =, !=, LIKE, ILIKE, IN or NOT IN.")


def _holds(tree: Tree | None, seen: Seen) -> bool:
    if tree is None:
        return True
    if isinstance(tree, And):
        return all(_holds(part, seen) for part in tree.parts)
    if isinstance(tree, Or):
        return any(_holds(part, seen) for part in tree.parts)
    if tree.kind == "tag" and tree.key == IS_PROMPT:
        found: Any = "true" if seen.prompt else "false"
    else:
        found = seen.tags.get(tree.key) if tree.kind == "tag" else seen.fields[tree.key]
    return _compared(tree, found)


def _compared(one: Compare, found: Any) -> bool:
    if one.op in ("IS NULL", "IS NOT NULL"):
        return (found is None) == (one.op == "IS NULL")
    if found is None:
        return False
    if one.op == "LIKE" or one.op == "ILIKE":
        return _like(str(one.value), one.op == "ILIKE")(found)
    value: Any = one.value
    match one.op:
        case "=":
            return bool(found == value)
        case "!=":
            return bool(found != value)
        case "IN":
            return found in value
        case "NOT IN":
            return found not in value
        case "<":
            return bool(found < value)
        case "<=":
            return bool(found <= value)
        case ">":
            return bool(found > value)
    return bool(found >= value)


@lru_cache(maxsize=256)
def _like(pattern: str, either_case: bool) -> Callable[[str], bool]:
    """`%` is any text, `_` any letter. Each part between `%` is sought once, leftmost: no pattern takes long."""
    flags = re.DOTALL | (re.IGNORECASE if either_case else 0)
    parts = ["".join("." if c == "_" else re.escape(c) for c in part) for part in pattern.split("%")]
    if len(parts) == 1:
        whole = re.compile(parts[0], flags)
        return lambda text: whole.fullmatch(text) is not None
    first, *middle, ends = (re.compile(part, flags) for part in parts)
    shortest = len(pattern) - pattern.rindex("%") - 1

    def holds(text: str) -> bool:
        begin = first.match(text)
        if begin is None:
            return False
        at = begin.end()
        for part in middle:
            found = part.search(text, at)
            if found is None:
                return False
            at = found.end()
        return len(text) - shortest >= at and ends.fullmatch(text, len(text) - shortest) is not None

    return holds
