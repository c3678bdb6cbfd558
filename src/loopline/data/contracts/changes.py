"""What differs between two contracts, and who must care.

A change *narrows* when a row that was good can now be refused: those who write the
data must care. It *widens* when a row that was refused can now come: those who read
it must care. Either breaks somebody, so a version says which.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from ruamel.yaml import YAML

from loopline.base.errors import Invalid, NotFound
from loopline.data.contracts.baseline import Baseline
from loopline.data.contracts.contract import Contract
from loopline.data.contracts.literals import bound
from loopline.data.contracts.odcs import Place
from loopline.data.contracts.rules import Between, Rule

Effect = Literal["narrows", "widens", "both", "handling", "words"]
Verdict = Literal["same", "compatible", "breaks writers", "breaks readers", "breaks both"]
_ORDER = {"info": 0, "warning": 1, "error": 2}
_WIDER: dict[tuple[str, str], Effect] = {("integer", "number"): "widens", ("number", "integer"): "narrows"}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: of a rule, a column or the words around them."""

    rule: str
    column: str | None
    before: str | None
    after: str | None
    effect: Effect
    """`handling`: another severity or response; `words`: nothing that is enforced."""

    def __str__(self) -> str:
        both = f"{self.before} -> {self.after}" if self.before and self.after else self.after or f"no {self.before}"
        return f"{self.rule}: {both}"


@dataclass(frozen=True, slots=True)
class ContractChange:
    """All that differs between two contracts of one table."""

    before: str
    after: str
    """Content ids of what each demands; a verdict may be the same with other words."""
    changes: tuple[Change, ...]
    verdict: Verdict
    next_version: str
    """The version that the changed contract should carry: major where it breaks somebody, minor where
    rules changed, patch for words."""


def compare_contracts(before: Contract, after: Contract) -> ContractChange:
    """What changed from `before` to `after`, rule by rule, with a verdict.

    `compatible` changes keep every good row good and let no refused row in: severities,
    responses, words, columns that are declared anew and demand nothing.
    """
    found: list[Change] = []
    old, new = {r.id: r for r in before.rules}, {r.id: r for r in after.rules}
    known, declared = before.types, after.types
    for name in declared.keys() - known.keys():
        found.append(Change(name, name, None, "a new column", "handling"))
    for name in known.keys() - declared.keys():
        found.append(Change(name, name, "column", None, "widens"))
    for id in dict.fromkeys([*old, *new]):
        one, two = old.get(id), new.get(id)
        if one is None and two is not None:
            found.append(Change(id, two.column, None, said(two), _effect(two, "narrows")))
        elif two is None and one is not None:
            found.append(Change(id, one.column, said(one), None, _effect(one, "widens")))
        elif one is not None and two is not None and one != two:
            found += _changed(one, two)
    for column in after.columns:
        was = next((c for c in before.columns if c.name == column.name), None)
        if was is not None and (was.default, was.zone) != (column.default, column.zone):
            words = [f"default {c.default}, zone {c.zone}" for c in (was, column)]
            found.append(Change(column.name, column.name, words[0], words[1], "handling"))
    if not found and before.doc != after.doc:
        found.append(Change("words", None, None, "descriptions or owners", "words"))
    effects = {change.effect for change in found}
    narrows, widens = bool(effects & {"narrows", "both"}), bool(effects & {"widens", "both"})
    verdict: Verdict = "same"
    if narrows or widens:
        verdict = "breaks both" if narrows and widens else "breaks writers" if narrows else "breaks readers"
    elif found:
        verdict = "compatible"
    rules_changed = bool(effects - {"words"})
    return ContractChange(
        before.id,
        after.id,
        tuple(sorted(found, key=lambda c: (c.effect == "words", c.rule))),
        verdict,
        next_version(before.version, major=narrows or widens, minor=rules_changed, patch=bool(found)),
    )


def next_version(version: str, *, major: bool, minor: bool, patch: bool) -> str:
    """The next semantic version; what is none counts as 0.0.0."""
    parts = version.split(".")
    numbers = [int(p) for p in parts] if len(parts) == 3 and all(p.isdecimal() for p in parts) else [0, 0, 0]
    if major:
        return f"{numbers[0] + 1}.0.0"
    if minor:
        return f"{numbers[0]}.{numbers[1] + 1}.0"
    return f"{numbers[0]}.{numbers[1]}.{numbers[2] + int(patch)}"


def _effect(rule: Rule, effect: Effect) -> Effect:
    """A rule that refuses nothing narrows and widens nothing."""
    return effect if rule.refuses else "handling"


def _changed(one: Rule, two: Rule) -> list[Change]:
    found = []
    if one.value != two.value or one.columns != two.columns:
        effect = _shift(one, two)
        if not one.refuses and not two.refuses:
            effect = "handling"
        found.append(Change(two.id, two.column, said(one), said(two), effect))
    if (one.severity, one.response) != (two.severity, two.response):
        effect = "handling" if one.refuses == two.refuses else "narrows" if two.refuses else "widens"
        words = [f"{r.severity}, {r.response}" for r in (one, two)]
        found.append(Change(two.id, two.column, words[0], words[1], effect))
    return found


def _shift(one: Rule, two: Rule) -> Effect:
    """Whether the values that keep `two` are more or fewer than those that keep `one`."""
    old: Any = one.value
    new: Any = two.value
    if one.columns != two.columns or (type(old) is not type(new) and not _numbers(old, new)):
        return "both"
    if one.kind == "logicalType":
        return _WIDER.get((old, new), "both")
    if one.kind == "validValues":
        lost, gained = set(old) - set(new), set(new) - set(old)
        return "both" if lost and gained else "narrows" if lost else "widens" if gained else "handling"
    if one.kind in ("minimum", "exclusiveMinimum", "minLength", "minItems"):
        return "narrows" if new > old else "widens"
    if one.kind in ("maximum", "exclusiveMaximum", "maxLength", "maxItems"):
        return "narrows" if new < old else "widens"
    if isinstance(old, timedelta):
        return "narrows" if new < old else "widens"
    if isinstance(old, Between):
        return _interval(old, new)
    if isinstance(old, Baseline) and (old.edges, old.values, old.shares) == (new.edges, new.values, new.shares):
        return "narrows" if (new.at_most, new.rows) <= (old.at_most, old.rows) else "widens"
    return "both"


def _numbers(*values: object) -> bool:
    return all(isinstance(v, (int, float)) for v in values)


def _interval(old: Between, new: Between) -> Effect:
    if old.share != new.share:
        return "both"

    def ends(b: Between) -> tuple[tuple[float, bool], tuple[float, bool]]:
        low = -math.inf if b.least is None else b.least
        high = math.inf if b.most is None else b.most
        return (low, b.least_open), (high, not b.most_open)

    (low, high), (least, most) = ends(old), ends(new)
    narrower, wider = least > low or most < high, least < low or most > high
    return "both" if narrower and wider else "narrows" if narrower else "widens"


def said(rule: Rule) -> str:
    """What a rule demands, in a few words."""
    value: Any = rule.value
    if value is None:
        return rule.kind
    if isinstance(value, Between):
        value = _ends(value)
    elif isinstance(value, Baseline):
        value = f"{value.distance} <= {value.at_most:g} from {len(value.shares)} classes"
    elif hasattr(value, "text"):
        value = value.text
    elif hasattr(value, "table"):
        value = f"{value.table}({', '.join(value.columns)})"
    elif isinstance(value, tuple):
        shown = ", ".join(map(str, value[:12]))
        value = f"{shown}, ... ({len(value)})" if len(value) > 12 else shown
    text = f"{rule.kind} {value}"
    return text if len(text) <= 300 else text[:297] + "..."


def _ends(value: Between) -> str:
    """`at most 13% of the rows`, `more than 3`."""

    def shown(end: float) -> str:
        return f"{end * 100:.6g}% of the rows" if value.share else f"{end:g}"

    least = f"{'more than' if value.least_open else 'at least'} {shown(value.least)}" if value.least is not None else ""
    most = f"{'less than' if value.most_open else 'at most'} {shown(value.most)}" if value.most is not None else ""
    return " and ".join(part for part in (least, most) if part) or "anything"


def propose_acceptance(contract: Contract, rule_id: str, values: Sequence[Any] = ()) -> Contract:
    """The contract changed so that what broke `rule_id` is good: a proposal, for a person to review.

    Bounds and lengths move to the outermost of `values`; categories gain them;
    `required` goes; a pattern, a relation, a reference or `unique` becomes a warning,
    since no value says what it should have been.
    The version goes up as the change asks.

    Parameters
    ----------
    values : sequence
        The broken values to accept, of the column's type or as text, as quarantine keeps them.

    Raises
    ------
    NotFound
        If the contract has no such rule.
    Invalid
        If a value is not of the column's type, or there is none where one is needed.
    """
    doc = copy.deepcopy(contract.doc)
    _accept(contract, doc, rule_id, values)
    return Contract.from_doc(doc, table=contract.name)


def accepted_text(contract: Contract, text: str, rule_id: str, values: Sequence[Any] = ()) -> str:
    """As `propose_acceptance`, on the YAML that `contract` was read from; comments stay."""
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    doc = yaml.load(io.StringIO(text))
    _accept(contract, doc, rule_id, values)
    out = io.StringIO()
    yaml.dump(doc, out)
    return out.getvalue()


def _accept(contract: Contract, doc: Any, rule_id: str, values: Sequence[Any]) -> None:
    """Change the document in place."""
    rule = next((r for r in contract.rules if r.id == rule_id), None)
    if rule is None:
        raise NotFound(
            f"contract {contract.name} has no rule {rule_id!r}",
            why=f"it has {', '.join(r.id for r in contract.rules[:20])}",
            fix="name one of them",
        )
    schema = next((s for s in doc["schema"] if s["name"] == contract.name), doc["schema"][0])
    prop = next((p for p in schema.get("properties", []) if p["name"] == rule.column), None)
    if prop is not None and rule.kind in _OUTERMOST:
        _move_bound(contract, rule, prop, values)
    elif prop is not None and rule.kind == "validValues":
        _add_values(contract, rule, prop, values)
    elif prop is not None and rule.kind == "required" and prop.get("required"):
        del prop["required"]
    else:
        _only_warn(rule, schema, prop)
    changed = Contract.from_doc(doc, table=contract.name)
    change = compare_contracts(contract, changed)
    if change.verdict == "same":
        raise Invalid(
            f"{rule_id} would stay as it is", why="these values keep it already", fix="name values that break it"
        )
    doc["version"] = change.next_version


_OUTERMOST = {
    "minimum": min,
    "exclusiveMinimum": min,
    "minLength": min,
    "minItems": min,
    "maximum": max,
    "exclusiveMaximum": max,
    "maxLength": max,
    "maxItems": max,
}


def _as_number(value: Any) -> float:
    """A number as YAML writes it: whole ones without a point, whatever their size."""
    try:
        return int(str(value))
    except ValueError:
        number = float(value)
        return int(number) if number == int(number) and abs(number) < 2**53 else number


def _typed(contract: Contract, rule: Rule, values: Sequence[Any]) -> list[Any]:
    """Values as the column's type writes them in YAML."""
    kind = contract.types.get(rule.columns[0])
    if not values:
        raise Invalid(f"no values to accept for {rule.id}", why="a bound moves to a value", fix="name the values")
    made: list[Any] = []
    for value in values:
        try:
            if kind == "integer":
                made.append(int(value))
            elif kind == "number":
                made.append(_as_number(value))
            elif kind == "boolean":
                made.append(value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()])
            else:
                made.append(value.isoformat() if hasattr(value, "isoformat") else str(value))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise Invalid(
                f"{value!r} is not a value of {rule.columns[0]}",
                why=f"the column is {kind}; a value of another type breaks its logicalType",
                fix="accept values of that type, or change the logicalType by hand",
            ) from error
    return made


def _move_bound(contract: Contract, rule: Rule, prop: Any, values: Sequence[Any]) -> None:
    options, limit = prop["logicalTypeOptions"], rule.value
    found: list[Any]
    if rule.kind in ("minLength", "maxLength"):
        found = [len(str(v)) for v in _typed(contract, rule, values)]
    elif rule.kind in ("minItems", "maxItems"):
        found = [len(v) for v in values]
    else:
        found = _typed(contract, rule, values)
    kind = contract.types.get(rule.columns[0])
    if kind in ("timestamp", "date"):
        found = [bound(v, kind, Place("values")) for v in found]
    outermost = _OUTERMOST[rule.kind](found)
    keeps = outermost >= limit if _OUTERMOST[rule.kind] is min else outermost <= limit
    inclusive = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}.get(rule.kind, rule.kind)
    if keeps and (inclusive == rule.kind or outermost != limit):
        return
    if inclusive != rule.kind:
        del options[rule.kind]
    options[inclusive] = outermost.isoformat() if hasattr(outermost, "isoformat") else outermost


def _add_values(contract: Contract, rule: Rule, prop: Any, values: Sequence[Any]) -> None:
    assert isinstance(rule.value, tuple)
    mine = [r.id for r in contract.rules if r.column == rule.column and r.kind == "validValues"].index(rule.id)
    listed = [q for q in prop["quality"] if "validValues" in (q.get("arguments") or {})][mine]["arguments"]
    listed["validValues"].extend(v for v in dict.fromkeys(_typed(contract, rule, values)) if v not in rule.value)


def _only_warn(rule: Rule, schema: Any, prop: Any) -> None:
    """Have the rule be reported and refuse nothing."""
    if rule.kind == "check":
        owner = next(q for q in schema["quality"] if q.get("name", q.get("id")) == rule.id.removeprefix("check."))
        owner["severity"] = "warning"
        return
    listed = (prop if prop is not None and prop.get("relationships") else schema).get("relationships") or []
    if rule.kind == "reference" and len(listed) == 1:
        extras = [e for e in listed[0].get("customProperties", []) if e.get("property") != "severity"]
        listed[0]["customProperties"] = [*extras, {"property": "severity", "value": "warning"}]
        return
    mild = {"metric": "duplicateValues", "mustBe": 0, "severity": "warning"}
    if rule.kind == "pattern" and prop is not None:
        mild = {"metric": "invalidValues", "arguments": {"pattern": rule.value}, "mustBe": 0, "severity": "warning"}
    declared = {"unique": prop, "pattern": (prop or {}).get("logicalTypeOptions")}.get(rule.kind)
    if prop is None or not declared or rule.kind not in declared or rule.id != f"{rule.column}.{rule.kind}":
        raise Invalid(
            f"{rule.id} cannot be accepted by one click",
            why=f"a {rule.kind} says what the table is; to give it up is a decision about its readers",
            fix="change the contract by hand, then: loopline data contract diff",
        )
    del declared[rule.kind]
    if prop.get("logicalTypeOptions") == {}:
        del prop["logicalTypeOptions"]
    prop.setdefault("quality", []).append(mild)
