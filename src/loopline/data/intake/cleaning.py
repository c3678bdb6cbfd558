"""Cleaning, declared once: the same repairs on a frame, on one row and on logs.

What a repair means is pinned here:

- Repairs of texts (`trim`, `replace`, `map`, `null` and `fill` with a text) come first, in their order, and touch
  texts alone; then repairs of values (`unit`, `times`, `null` and `fill` with a number or a Boolean), in theirs.
  Between the two, texts are read as the contract declares them.
- `trim` takes off space, tab, line feed, carriage return, form feed and vertical tab; `replace` takes patterns on
  which both engines agree (see `pattern.py`); `map` and `null` compare whole texts.
- Missing is null or NaN. Only `fill` changes it. Numbers compare as numbers, whatever their type; a Boolean is none.
- `unit` and `times` give floats: `value * factor + offset`, each step rounded as IEEE 754 says.
- `duplicates` is about rows beside others: one row alone has none. Null equals null.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from loopline.base.errors import Invalid
from loopline.data.language.pattern import portable
from loopline.data.language.units import conversion
from loopline.data.spec import CleanSpec

BLANKS = " \t\n\r\f\v"
Row = dict[str, Any]
Step = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Rows after their repairs, and which rows each rule changed."""

    rows: pl.DataFrame
    changed: dict[str, pl.Series] = field(default_factory=dict)
    """Rule id (`<column>.<rule>`) to one Boolean per row; only rules that changed something."""


def is_textual(rule: CleanSpec) -> bool:
    """Whether a rule belongs to the repairs of texts."""
    kind = rule.rule
    if kind == "null":
        return all(isinstance(value, str) for value in rule.null or ())
    return kind in ("trim", "replace", "map") or (kind == "fill" and isinstance(rule.fill, str))


def clean_texts(frame: pl.DataFrame, rules: Sequence[CleanSpec], table: str = "rows") -> Cleaned:
    """Repair texts. Rows and their order stay."""
    return _cleaned(frame, [r for r in rules if r.rule != "duplicates" and is_textual(r)], table)


def clean_values(frame: pl.DataFrame, rules: Sequence[CleanSpec], table: str = "rows") -> Cleaned:
    """Repair numbers and Booleans, once texts were read. Rows and their order stay."""
    return _cleaned(frame, [r for r in rules if r.rule != "duplicates" and not is_textual(r)], table)


def clean(frame: pl.DataFrame, rules: Sequence[CleanSpec], table: str = "rows") -> Cleaned:
    """All repairs of rows that already have their types, such as logged requests; duplicates stay.

    Raises
    ------
    Invalid
        If a rule about numbers meets a column of another type.
    """
    texts = clean_texts(frame, rules, table)
    values = clean_values(texts.rows, rules, table)
    return Cleaned(values.rows, merged(texts.changed, values.changed))


def merged(*changed: Mapping[str, pl.Series]) -> dict[str, pl.Series]:
    """Changes of several passes, by rule."""
    found: dict[str, pl.Series] = {}
    for one in changed:
        for rule, mask in one.items():
            found[rule] = mask if rule not in found else found[rule] | mask
    return found


def _cleaned(frame: pl.DataFrame, rules: Sequence[CleanSpec], table: str) -> Cleaned:
    changed: dict[str, pl.Series] = {}
    for rule in rules:
        for name in rule.column:
            if name not in frame.columns:
                continue
            before = frame[name]
            expression = _expression(rule, name, before, table)
            if expression is None:
                continue
            after = frame.select(expression.alias(name)).to_series()
            mask = _differs(before, after)
            if mask.any():
                found = f"{name}.{rule.rule}"
                changed[found] = mask if found not in changed else changed[found] | mask
                frame = frame.with_columns(after)
            elif before.dtype != after.dtype:
                frame = frame.with_columns(after)
    return Cleaned(frame, changed)


def _differs(before: pl.Series, after: pl.Series) -> pl.Series:
    if before.dtype == pl.Null:
        return after.is_not_null()
    wide = before.cast(after.dtype) if before.dtype != after.dtype else before
    if wide.dtype.is_float():
        wide, after = wide.fill_nan(None), after.fill_nan(None)
    return wide.ne_missing(after)


def _expression(rule: CleanSpec, name: str, column: pl.Series, table: str) -> pl.Expr | None:
    """The repair of one column; null where its type is not the rule's concern."""
    dtype, value = column.dtype, pl.col(name)
    text = dtype == pl.String
    number = dtype.is_integer() or dtype.is_float()
    match rule.rule:
        case "trim":
            return value.str.strip_chars(BLANKS) if text else None
        case "replace":
            return value.str.replace_all(occurrences(rule, r"\z"), rule.by.replace("$", "$$")) if text else None
        case "map":
            given = rule.map or {}
            return value.replace(list(given), list(given.values())) if text else None
        case "null":
            return _nulled(rule, value, text, number, dtype)
        case "unit":
            if dtype == pl.Null:
                return value.cast(pl.Float64)
            if not number:
                raise Invalid(
                    f"{table}.{name} holds {dtype}, not numbers",
                    why=f"clean: {{column: {name}, ...}} converts its unit",
                    fix=f"declare {name} as number in the contract of {table}, so that its texts are read as numbers",
                )
            factor, offset = factors(rule)
            return value.cast(pl.Float64) * factor + offset
        case _:
            return _filled(rule, name, value, dtype, table)


def _nulled(rule: CleanSpec, value: pl.Expr, text: bool, number: bool, dtype: pl.DataType) -> pl.Expr | None:
    given = rule.null or ()
    if text:
        words = [v for v in given if isinstance(v, str)]
        return pl.when(~value.is_in(words)).then(value) if words else None
    if dtype == pl.Boolean:
        flags = [v for v in given if isinstance(v, bool)]
        return pl.when(~value.is_in(flags)).then(value) if flags else None
    if not number:
        return None
    numbers = [v for v in given if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if dtype.is_integer():
        whole = [int(v) for v in numbers if v == int(v) and -(2**63) <= v < 2**63]
        return pl.when(~value.is_in(pl.lit(pl.Series(whole, dtype=pl.Int64)).implode())).then(value) if whole else None
    real = [float(v) for v in numbers]
    return pl.when(~value.is_in(pl.lit(pl.Series(real, dtype=pl.Float64)).implode())).then(value) if real else None


def _filled(rule: CleanSpec, name: str, value: pl.Expr, dtype: pl.DataType, table: str) -> pl.Expr | None:
    given = rule.fill
    if dtype == pl.Null:
        return pl.lit(given).alias(name)
    fits = (
        dtype == pl.String
        if isinstance(given, str)
        else dtype == pl.Boolean
        if isinstance(given, bool)
        else dtype.is_numeric()
    )
    if not fits:
        raise Invalid(
            f"{table}.{name} holds {dtype}; {given!r} cannot fill it",
            why="a column has one type",
            fix=f"fill it with a value of that type, or declare the type of {name} in the contract of {table}",
        )
    if dtype.is_float():
        return value.fill_nan(None).fill_null(float(given))  # type: ignore[arg-type]
    if dtype.is_integer() and isinstance(given, float) and given != int(given):
        return value.cast(pl.Float64).fill_null(given)
    return value.fill_null(int(given) if dtype.is_integer() else given)  # type: ignore[arg-type]


def occurrences(rule: CleanSpec, end: str) -> str:
    """The pattern of `replace`; `^` and `$` hold to the ends of the text, `end` as the engine writes the last one."""
    given = rule.replace or ""
    body = given.removeprefix("^")
    last = body.endswith("$") and (len(body[:-1]) - len(body[:-1].rstrip("\\"))) % 2 == 0
    return ("^" if body != given else "") + f"(?:{portable(given)})" + (end if last else "")


def factors(rule: CleanSpec) -> tuple[float, float]:
    """Factor and offset of a rule about units."""
    if rule.from_ is not None and rule.to is not None:
        return conversion(rule.from_, rule.to)
    assert rule.times is not None
    return rule.times, rule.plus


def compile_cleaning(rules: Sequence[CleanSpec]) -> Callable[[Mapping[str, Any]], Row]:
    """The same repairs for one row: a mapping of values, as a request carries them.

    Returns
    -------
    callable
        Gives a new dict; keys that the rules do not name stay as they are, and a key that is absent stays absent.
        A value of the wrong type is left for the contract to refuse.
    """
    ordered = [r for r in rules if r.rule != "duplicates" and is_textual(r)]
    ordered += [r for r in rules if r.rule != "duplicates" and not is_textual(r)]
    steps = [(name, _step(rule)) for rule in ordered for name in rule.column]

    def clean_row(row: Mapping[str, Any]) -> Row:
        out = dict(row)
        for name, step in steps:
            if name in out:
                out[name] = step(out[name])
        return out

    return clean_row


def _step(rule: CleanSpec) -> Step:
    match rule.rule:
        case "trim":
            return lambda v: v.strip(BLANKS) if isinstance(v, str) else v
        case "replace":
            find, by = re.compile(occurrences(rule, r"\Z")), rule.by
            return lambda v: find.sub(lambda _: by, v) if isinstance(v, str) else v
        case "map":
            given = rule.map or {}
            return lambda v: given.get(v, v) if isinstance(v, str) else v
        case "null":
            return _null_step(rule.null or ())
        case "unit":
            factor, offset = factors(rule)
            return lambda v: float(v) * factor + offset if _is_number(v) else v
    fill = rule.fill
    return lambda v: fill if v is None or v != v else v


def _null_step(given: Sequence[Any]) -> Step:
    words = {v for v in given if isinstance(v, str)}
    flags = {v for v in given if isinstance(v, bool)}
    numbers = {v for v in given if _is_number(v)}

    def step(value: Any) -> Any:
        kind = words if isinstance(value, str) else flags if isinstance(value, bool) else numbers
        return None if value is not None and value in kind else value

    return step


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
