"""A contract as one straight-line Python function, for one row at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from loopline.data.contracts.rules import INT_MAX, INT_MIN, LINK_KINDS, Rule, column_rules
from loopline.data.language.pattern import matcher
from loopline.data.language.relation import Relation

RowRules = Callable[[Mapping[str, object]], list[str]]

_ODD = object()
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


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


def compile_row(rules: Sequence[Rule], held: Mapping[str, Collection[object]] | None = None) -> RowRules:
    """A function from a row to the ids of the rules it breaks, in contract order.

    A key that the row lacks counts as missing. Values are judged as `rules.py`
    says, the same as in batch. `held` has, by id of a reference, the values that the
    other table holds (times in microseconds since 1970); a reference without them is
    left out.

    A row whose values are builtins of the declared types and keep every rule is seen
    by one Boolean expression; any other row is judged again, rule by rule.
    """
    held = held or {}
    names: dict[str, Any] = {
        "plain": plain_value,
        "UTC": UTC,
        "datetime": datetime,
        "date": date,
        "time": time,
        "Z": INT_MIN,
        "Y": INT_MAX,
        "TOP": float(2**63),
        "ANY": frozenset({str, int, bool, datetime, date, time, list, dict}),
        "moment": lambda v: (v - _EPOCH) // _MICROSECOND,
    }
    columns = column_rules(rules)
    links = [r for r in rules if r.kind in LINK_KINDS and (r.kind == "check" or r.id in held)]
    places = {name: f"v{i}" for i, name in enumerate(columns)}
    types = {name: str(r.value) for name, own in columns.items() for r in own if r.kind == "logicalType"}
    reads: list[str] = []
    tests: list[str] = []
    slow = ["def judge(row):", "    out = []", "    get = row.get"]
    for name, own in columns.items():
        kinds = {r.kind: r for r in own}
        good = {r: _good(r, places[name], names) for r in own if r.kind not in ("required", "logicalType")}
        reads.append(f"{places[name]} = " + (f"row[{name!r}]" if "required" in kinds else f"get({name!r})"))
        tests.append(_quick(places[name], types.get(name), kinds, list(good.values())))
        slow += [f"    {places[name]} = get({name!r})", *_slow(places[name], types.get(name), kinds, good)]
    after = [line for rule in links for line in _link(rule, places, types, names, held)]
    fast = ["def broken(row):", "    get = row.get", "    try:", *(f"        {read}" for read in reads), "        pass"]
    fast += ["    except KeyError:", "        return judge(row)", f"    if {' and '.join(tests) or 'True'}:"]
    fast += ["        out = []", *("    " + line for line in after), "        return out", "    return judge(row)"]
    exec(compile("\n".join([*slow, *after, "    return out", *fast]), "<contract>", "exec"), names)
    function: RowRules = names["broken"]
    return function


_CLASS = {
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
_TYPE = {
    "string": "{v}.__class__ is str",
    "number": "{v}.__class__ is float or ({v}.__class__ is int and Z <= {v} <= Y)",
    "integer": "({v}.__class__ is int and Z <= {v} <= Y) or "
    "({v}.__class__ is float and -TOP <= {v} < TOP and {v} == int({v}))",
    "boolean": "{v}.__class__ is bool",
    "timestamp": "isinstance({v}, datetime) and {v}.utcoffset() is not None",
    "date": "isinstance({v}, date) and not isinstance({v}, datetime)",
    "time": "isinstance({v}, time) and {v}.tzinfo is None",
    "object": "isinstance({v}, dict)",
    "array": "isinstance({v}, list)",
}
_QUICK = {
    "number": "({v}.__class__ is float and {v} == {v} or {v}.__class__ is int and Z <= {v} <= Y)",
    "integer": "{v}.__class__ is int and Z <= {v} <= Y",
    "timestamp": "{v}.__class__ is datetime and ({v}.tzinfo is UTC or {v}.utcoffset() is not None)",
    "time": "{v}.__class__ is time and {v}.tzinfo is None",
}
_BOUNDED = {
    "number": "({v}.__class__ is float or {v}.__class__ is int)",
    "integer": "{v}.__class__ is int",
}
_LOW, _HIGH = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}


def _quick(v: str, declared: str | None, kinds: Mapping[str, Rule], good: Sequence[str]) -> str:
    """True of a builtin value that breaks nothing; where it is false, `_slow` decides."""
    if declared is None:
        test = f"({v}.__class__ in ANY or {v}.__class__ is float and {v} == {v})"
    else:
        ends = [kinds[k].value for k in kinds if k in _LOW or k in _HIGH]
        closed = bool(_LOW & kinds.keys()) and bool(_HIGH & kinds.keys()) and _narrow(ends)
        form = _BOUNDED if closed and declared in _BOUNDED else _QUICK
        test = form.get(declared, f"{{v}}.__class__ is {_CLASS[declared]}").format(v=v)
    test = " and ".join([test, *good])
    return test if "required" in kinds else f"({v} is None or {test})"


def _narrow(ends: Sequence[Any]) -> bool:
    """Whether what lies between bounds fits 64 bits."""
    return all(isinstance(end, (int, float)) and INT_MIN <= end <= INT_MAX for end in ends)


def _slow(v: str, declared: str | None, kinds: Mapping[str, Rule], good: Mapping[Rule, str]) -> list[str]:
    """Lines that append what a value breaks, and leave null where it is missing or of another type."""
    required = f"out.append({kinds['required'].id!r})" if "required" in kinds else "pass"
    absent = [f"    if {v} is None:", f"        {required}", "    else:"]
    if declared is None:
        return [*absent, f"        if (w := plain({v})).__class__ is float and w != w:", f"            {required}"]
    return [
        *absent,
        f"        if {v}.__class__ is not {_CLASS[declared]}:",
        f"            {v} = plain({v})",
        f"        if {v}.__class__ is float and {v} != {v}:",
        f"            {v} = None",
        f"            {required}",
        f"        elif not ({_TYPE[declared].format(v=v)}):",
        f"            {v} = None",
        f"            out.append({kinds['logicalType'].id!r})",
        *(["        else:"] if good else []),
        *(f"            if not ({test}): out.append({rule.id!r})" for rule, test in good.items()),
    ]


def _good(rule: Rule, v: str, names: dict[str, Any]) -> str:
    """Whether a present value of the right type keeps a rule."""
    value: Any = rule.value
    if rule.kind == "pattern":
        value = matcher(str(value))
    elif rule.kind == "validValues":
        value = frozenset(value)
    constant = repr(value)
    if value.__class__ not in (int, float):
        constant = f"c{len(names)}"
        names[constant] = value
    forms = {
        "minimum": "{v} >= {c}",
        "exclusiveMinimum": "{v} > {c}",
        "maximum": "{v} <= {c}",
        "exclusiveMaximum": "{v} < {c}",
        "minLength": "len({v}) >= {c}",
        "maxLength": "len({v}) <= {c}",
        "minItems": "len({v}) >= {c}",
        "maxItems": "len({v}) <= {c}",
        "pattern": "{c}({v})",
        "validValues": "{v} in {c}",
    }
    return forms[rule.kind].format(v=v, c=constant)


def _link(
    rule: Rule,
    places: Mapping[str, str],
    types: Mapping[str, str],
    names: dict[str, Any],
    held: Mapping[str, Collection[object]],
) -> list[str]:
    """Lines that judge a rule about several values, each null where it is missing or of another type."""
    constant = f"c{len(names)}"
    if rule.kind == "check":
        assert isinstance(rule.value, Relation)
        names[constant] = rule.value.function()
        arguments = ", ".join(places[name] for name in rule.value.columns)
        return [f"    if {constant}({arguments}) is False: out.append({rule.id!r})"]
    names[constant] = held[rule.id]
    present = " and ".join(f"{places[name]} is not None" for name in rule.columns)
    convert = {"timestamp": "moment({})", "number": "float({})"}
    values = [convert.get(types[name], "{}").format(places[name]) for name in rule.columns]
    value = values[0] if len(values) == 1 else f"({', '.join(values)})"
    return [f"    if {present} and {value} not in {constant}: out.append({rule.id!r})"]
