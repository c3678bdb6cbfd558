"""Rows as they arrive: typed decoding with the contract inside it.

A row that keeps the whole contract of every version behind the endpoint is
decoded and checked in one pass [about 1 us]; any other row is read again by
`judge`, which names every rule it breaks. Both give the same answer on every row.

Rules
-----
`missing:<input>` and `null:<input>` (an input that was never null in training),
`type:<input>`: the row cannot be answered. `unseen:<input>` (a category outside
the vocabulary) and `range:<input>` (outside what training saw): recorded, and
answered. An input that may be null may also be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Annotated, Any, Literal, Union

import msgspec
import numpy as np

from loopline.training.encoding import Input

SOMETIMES = 0.05
"""Inputs that were null in more than this share of the training rows are not counted as missing."""

UNAVAILABLE = "unavailable:"
"""Begins the rule that a row breaks when what it needs cannot be read just now."""

AHEAD = "ahead:"
"""Begins the rule that a row breaks when the store stands after its decision time."""

HARD = ("missing:", "null:", "type:")

Values = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A row as one version reads it."""

    values: Values
    """In the order of the model's columns; null for null, unseen and wrong."""
    broken: tuple[str, ...]
    hard: bool
    """Whether a broken rule keeps the row from being answered."""
    row: Mapping[str, Any] | None = field(default=None, compare=False)
    """The request's own columns, repaired, where the inputs were made from them."""


class Inputs:
    """The inputs of one version: how its rows are read, and what is expected of them."""

    raw = False
    """Whether rows are kept as they come, because the inputs are made from them."""
    brought: tuple[str, ...] = ()
    """The columns of a request that are logged beside its inputs, because these cannot tell them."""
    unit: str | None = None
    """The column of a request that names its entity; null where requests bring the inputs themselves."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self.inputs = tuple(inputs)
        self.codes = {i.name: {c: float(n) for n, c in enumerate(i.categories)} for i in inputs if i.kind == "category"}
        self.bounds = {i.name: bounds(i) for i in inputs}
        self.rarely_null = tuple(n for n, i in enumerate(inputs) if i.null_share <= SOMETIMES)
        self.values: Callable[[Any], Values] = _reader(self.inputs, self.codes)

    def judge(self, row: Mapping[str, Any], due_us: int = 0) -> Judged:
        """Read a row of plain JSON values that is due at `due_us` (UTC), naming every rule it breaks."""
        values: list[float | None] = []
        broken: list[str] = []
        for spec in self.inputs:
            value, rule = self._judge_one(spec, row)
            values.append(value)
            if rule:
                broken.append(f"{rule}:{spec.name}")
        return Judged(tuple(values), leading(broken), any(rule.startswith(HARD) for rule in broken))

    def judge_many(self, rows: Sequence[Mapping[str, Any]], due_us: Sequence[int]) -> list[Judged]:
        """As `judge`, for several rows."""
        return [self.judge(row, due) for row, due in zip(rows, due_us, strict=True)]

    def _judge_one(self, spec: Input, row: Mapping[str, Any]) -> tuple[float | None, str | None]:
        value = row.get(spec.name)
        if value is None:
            if spec.nullable:
                return None, None
            return None, "null" if spec.name in row else "missing"
        if spec.kind == "number":
            if not isinstance(value, (int, float)):
                return None, "type"
            if value != value:
                return None, None if spec.nullable else "null"
            low, high = self.bounds[spec.name]
            return float(value), None if low <= value <= high else "range"
        if not isinstance(value, (str, int)):
            return None, "type"
        code = self.codes[spec.name].get(text(value))
        return code, "unseen" if code is None else None

    @property
    def asked(self) -> dict[str, str]:
        """Name and datatype (of the Open Inference Protocol) of what a request brings."""
        return {spec.name: "BYTES" if spec.kind == "category" else "FP32" for spec in self.inputs}

    @property
    def nothing(self) -> Values:
        """The values of a row that cannot be read."""
        return (None,) * len(self.inputs)

    def quick(
        self, names: Sequence[str]
    ) -> Callable[[Sequence[float | str | None]], tuple[Values, tuple[str, ...]] | None]:
        """Straight-line code from values under `names` to the model's columns and the recorded rules they break.

        Null where a rule is broken that keeps the row from being answered, or that `judge` has to look for.
        """
        known: dict[str, Any] = {}
        lines, parts = [], []
        for n, spec in enumerate(self.inputs):
            part = f"v{n}"
            lines.append(f"    {part} = given[{names.index(spec.name)}]")
            null = "" if spec.nullable else "\n        return None"
            if spec.kind == "category":
                known[f"c{n}"], known[f"r{n}"] = self.codes[spec.name].get, (f"unseen:{spec.name}",)
                lines.append(f"    if {part} is not None:\n        code = c{n}({part})\n        if code is None:")
                lines.append(f"            if type({part}) is not str:\n                return None")
                lines.append(f"            told += r{n}\n        {part} = code")
            else:
                known[f"l{n}"], known[f"h{n}"] = self.bounds[spec.name]
                known[f"r{n}"] = (f"range:{spec.name}",)
                lines.append(f"    if {part} is not None:\n        if not l{n} <= {part} <= h{n}:")
                lines.append(f"            if {part} != {part}:\n                return None")
                lines.append(f"            told += r{n}")
            lines += [f"    else:{null}"] if null else []
            parts.append(part)
        body = "\n".join(lines)
        exec(f"def read(given):\n    told = ()\n{body}\n    return ({', '.join(parts)},), told", known)
        made: Callable[[Sequence[float | str | None]], tuple[Values, tuple[str, ...]] | None] = known["read"]
        return made

    def surprising(self, values: Values) -> bool:
        """Whether an input is null that hardly ever was in training."""
        return any(values[n] is None for n in self.rarely_null)


def leading(broken: Sequence[str], grave: Collection[str] = ()) -> tuple[str, ...]:
    """Rules in their order, those first that keep the row from being answered: `grave` are such besides `HARD`."""
    if len(broken) < 2:
        return tuple(broken)
    return tuple(sorted(broken, key=lambda rule: not (rule in grave or rule.startswith((*HARD, UNAVAILABLE)))))


def text(value: str | int) -> str:
    """A category as training read it: Booleans and whole numbers as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def bounds(spec: Input) -> tuple[float, float]:
    """The range of a number: what float32 rounds into what training saw; infinite where it saw none."""
    if spec.low is None or spec.high is None:
        return -inf, inf
    low, high = np.float32(spec.low), np.float32(spec.high)
    below, above = np.nextafter(low, np.float32(-inf)), np.nextafter(high, np.float32(inf))
    return (float(low) + float(below)) / 2, (float(high) + float(above)) / 2


def shown_range(spec: Input) -> tuple[float, float] | None:
    """The range of a number as people read it: the shortest decimals that are the same float32; null where unknown.

    What is let through reaches half a float32 step further; see `bounds`.
    """
    if spec.low is None or spec.high is None:
        return None
    return float(str(np.float32(spec.low))), float(str(np.float32(spec.high)))


def expected_rise(canary: Inputs, champion: Inputs) -> float:
    """How much oftener a healthy canary meets a surprising null, because it has more inputs."""
    old = {champion.inputs[n].name for n in champion.rarely_null}
    new = [canary.inputs[n] for n in canary.rarely_null]
    return min(sum(i.null_share for i in new if i.name not in old), 0.9)


def _reader(inputs: Sequence[Input], codes: Mapping[str, Mapping[str, float]]) -> Callable[[Any], Values]:
    """Straight-line code from a decoded row to the model's columns."""
    names: dict[str, Any] = {}
    parts = []
    for n, spec in enumerate(inputs):
        if spec.kind == "category":
            names[f"c{n}"] = codes[spec.name].get
            parts.append(f"c{n}(row.{attribute(spec.name)})")
        else:
            parts.append(f"row.{attribute(spec.name)}")
    exec(f"def values(row):\n    return ({''.join(p + ', ' for p in parts)})", names)
    made: Callable[[Any], Values] = names["values"]
    return made


def attribute(name: str) -> str:
    """An attribute name for any input name."""
    return "f_" + name.encode().hex()


def row_type(versions: Sequence[Inputs], others: Sequence[Inputs] = ()) -> type[msgspec.Struct]:
    """A type that decodes exactly the rows that break no rule of any of `versions`.

    What only `others` read is kept as it comes; keys that nobody reads are ignored.
    """
    by_name: dict[str, list[Input]] = {}
    for version in versions:
        for spec in version.inputs:
            by_name.setdefault(spec.name, []).append(spec)
    fields: list[Any] = []
    for name, specs in by_name.items():
        kind = _kind(specs)
        if all(s.nullable for s in specs):
            fields.append((attribute(name), Union[kind, None], None))  # noqa: UP007
        else:
            fields.append((attribute(name), kind))
    for name in {i.name for other in others for i in other.inputs} - by_name.keys():
        fields.append((attribute(name), Any, msgspec.UNSET))
        by_name[name] = []
    fields.sort(key=len)  # those without a default come first
    return msgspec.defstruct("Row", fields, rename={attribute(name): name for name in by_name}, gc=False)


def _kind(specs: Sequence[Input]) -> Any:
    kinds = {s.kind for s in specs}
    if len(kinds) > 1:  # one version reads it as text, another as a number: always judged
        return Annotated[int, msgspec.Meta(gt=0, lt=0)]
    if kinds == {"category"}:
        common = set(specs[0].categories).intersection(*(s.categories for s in specs[1:]))
        if not common:
            return Annotated[int, msgspec.Meta(gt=0, lt=0)]
        return Literal[tuple(sorted(common))]
    edges = [bounds(s) for s in specs]
    low, high = max(e[0] for e in edges), min(e[1] for e in edges)
    limits = msgspec.Meta(ge=None if low == -inf else low, le=None if high == inf else high)
    return Annotated[float, limits]
