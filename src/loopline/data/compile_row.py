"""A contract as one straight-line Python function, for one row at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from loopline.data.pattern import portable
from loopline.data.rules import INT_MAX, INT_MIN, Rule, row_rules

RowRules = Callable[[Mapping[str, object]], list[str]]

_ODD = object()


def plain_value(value: Any) -> Any:
    """A subclass or a foreign scalar as the builtin it stands for.

    Decimals become floats; what stands for nothing here becomes a value that
    breaks every `logicalType`.
    """
    kind = value.__class__
    if kind in (int, float, str, bool, datetime, date, time, list, dict):
        return value
    if isinstance(value, Decimal):
        return float(value) if not value.is_snan() else float("nan")
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return plain_value(value.item()) if value.item().__class__ is not kind else _ODD
    if isinstance(value, datetime):
        return value
    for base in (int, float, str):
        if isinstance(value, base):
            return base(value)
    if isinstance(value, (date, time, dict, list)):
        return value
    return _ODD


def compile_row(rules: Sequence[Rule]) -> RowRules:
    """A function from a row to the ids of the rules it breaks, in contract order.

    A key that the row lacks counts as missing. Values are judged as `rules.py`
    says, the same as in batch. About 0.1 microseconds a rule.
    """
    names: dict[str, Any] = {
        "plain": plain_value,
        "ODD": _ODD,
        "UTC": UTC,
        "datetime": datetime,
        "date": date,
        "time": time,
        "Z": INT_MIN,
        "Y": INT_MAX,
        "TOP": float(2**63),
    }
    lines = ["def broken(row):", "    out = []", "    get = row.get"]
    for column, own in row_rules(rules).items():
        lines += [f"    v = get({column!r})", *_column(own, names)]
    lines.append("    return out")
    exec(compile("\n".join(lines), "<contract>", "exec"), names)
    function: RowRules = names["broken"]
    return function


def _column(rules: list[Rule], names: dict[str, Any]) -> list[str]:
    kinds = {rule.kind: rule for rule in rules}
    declared = str(kinds["logicalType"].value) if "logicalType" in kinds else None
    required = f"out.append({kinds['required'].id!r})" if "required" in kinds else "pass"
    wrong = f"out.append({kinds['logicalType'].id!r})" if declared else "pass"
    checks = [line for rule in rules for line in _check(rule, declared, names)]
    exact = {
        "string": "str",
        "number": "float",
        "integer": "int",
        "boolean": "bool",
        "timestamp": "datetime",
        "date": "date",
        "time": "time",
        "object": "dict",
        "array": "list",
    }
    lines = [
        "    if v is None:",
        f"        {required}",
        "    else:",
    ]
    if declared is None:
        return [*lines, "        if v != v:", f"            {required}"]
    first = exact[declared]
    lines += [
        f"        if v.__class__ is not {first}:",
        "            v = plain(v)",
        "        if v.__class__ is float and v != v:",
        f"            {required}",
    ]
    tests = {
        "string": "v.__class__ is str",
        "number": "v.__class__ is float or (v.__class__ is int and Z <= v <= Y)",
        "integer": "(v.__class__ is int and Z <= v <= Y) or (v.__class__ is float and -TOP <= v < TOP and v == int(v))",
        "boolean": "v.__class__ is bool",
        "timestamp": "isinstance(v, datetime) and v.utcoffset() is not None",
        "date": "isinstance(v, date) and not isinstance(v, datetime)",
        "time": "isinstance(v, time) and v.tzinfo is None",
        "object": "isinstance(v, dict)",
        "array": "isinstance(v, list)",
    }
    lines += [f"        elif not ({tests[declared]}):", f"            {wrong}"]
    if checks:
        lines += ["        else:", *[f"            {line}" for line in checks]]
    return lines


def _check(rule: Rule, declared: str | None, names: dict[str, Any]) -> list[str]:
    constant = f"c{len(names)}"
    tests = {
        "minimum": f"v < {constant}",
        "exclusiveMinimum": f"v <= {constant}",
        "maximum": f"v > {constant}",
        "exclusiveMaximum": f"v >= {constant}",
        "minLength": f"len(v) < {constant}",
        "maxLength": f"len(v) > {constant}",
        "pattern": f"not {constant}(v)",
        "validValues": f"v not in {constant}",
    }
    if rule.kind not in tests:
        return []
    value: Any = rule.value
    if rule.kind == "pattern":
        value = re.compile(portable(str(value))).fullmatch
    elif rule.kind == "validValues":
        assert isinstance(value, tuple)
        value = frozenset(value)
    names[constant] = value
    return [f"if {tests[rule.kind]}: out.append({rule.id!r})"]
