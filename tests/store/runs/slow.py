"""A run log in dictionaries: slow and obvious."""

import math
import operator
import re
import struct
from dataclasses import dataclass, field

from loopline.store.runs.filters import And, Compare

OPS = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def bits(value):
    return struct.pack("<d", value)


@dataclass
class SlowRun:
    id: str
    experiment: str
    start: int
    name: str = ""
    user: str = ""
    status: str = "RUNNING"
    stage: str = "active"
    end: int | None = None
    points: dict = field(default_factory=dict)
    params: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    datasets: dict = field(default_factory=dict)

    def log(self, key, value, at, step):
        series = self.points.setdefault(key, [])
        if (bits(value), at, step) not in {(bits(v), t, s) for v, t, s in series}:
            series.append((value, at, step))

    def latest(self, key):
        """Greatest by (step, time, value), NaN the least of values; null where nothing was logged."""
        best = None
        for value, at, step in self.points.get(key, []):
            rank = (step, at, not math.isnan(value), 0 if math.isnan(value) else value)
            if best is None or rank > best[0]:
                best = (rank, value)
        return None if best is None else best[1]


def number(text):
    if re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", text, re.ASCII):
        return float(text) if math.isfinite(float(text)) else None
    return None


def like(text, pattern, any_case):
    """The textbook recursion."""
    if any_case:
        text, pattern = text.lower(), pattern.lower()
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(like(text[place:], pattern[1:], False) for place in range(len(text) + 1))
    return bool(text) and pattern[0] in ("_", text[0]) and like(text[1:], pattern[1:], False)


def compare(found, op, value):
    if op == "IS NULL":
        return found is None
    if op == "IS NOT NULL":
        return found is not None
    if found is None:
        return False
    if op in ("LIKE", "ILIKE"):
        return like(found, value, op == "ILIKE")
    if op == "IN":
        return found in value
    if op == "NOT IN":
        return found not in value
    return OPS[op](found, value)


def fits(tree, run):
    """Whether a run fits a filter, comparison by comparison."""
    if tree is None:
        return True
    if not isinstance(tree, Compare):
        return (all if isinstance(tree, And) else any)(fits(part, run) for part in tree.parts)
    first = tree.value[0] if isinstance(tree.value, tuple) else tree.value
    if tree.kind == "metric":
        return compare(run.latest(tree.key), tree.op, tree.value)
    if tree.kind == "tag":
        return compare(run.tags.get(tree.key), tree.op, tree.value)
    if tree.kind == "dataset":
        fields = {"name": 0, "digest": 1, "context": 2}
        return any(compare(row[fields[tree.key]], tree.op, tree.value) for row in run.datasets.values())
    if tree.kind == "param":
        found = run.params.get(tree.key)
        if found is not None and first is not None and not isinstance(first, str):
            value = number(found)
            if value is None:
                return tree.op in ("!=", "NOT IN")
            return compare(value, tree.op, tree.value)
        return compare(found, tree.op, tree.value)
    columns = {
        "run_id": run.id, "run_name": run.name, "status": run.status, "user_id": run.user,
        "start_time": run.start, "end_time": run.end,
    }  # fmt: skip
    return compare(columns[tree.key], tree.op, tree.value)


class Reversed:
    """Sorts the other way round."""

    def __init__(self, value):
        self.value = value

    def __lt__(self, other):
        return other.value < self.value

    def __eq__(self, other):
        return other.value == self.value


def rank(term, run):
    """What a run is sorted by: those that have a value first in both directions."""
    turned = Reversed if term.descending else lambda value: value
    if term.kind == "metric":
        value = run.latest(term.key)
        if value is None or math.isnan(value):
            return (2 if value is None else 1, turned(0))
        return (0, turned(value))
    if term.kind == "attribute":
        value = {"start_time": run.start, "end_time": run.end, "run_name": run.name, "run_id": run.id,
                 "status": run.status}[term.key]  # fmt: skip
        return (value is None, turned(0 if value is None else value))
    value = (run.params if term.kind == "param" else run.tags).get(term.key)
    if term.as_number and term.kind == "param":
        parsed = None if value is None else number(value)
        if parsed is not None:
            return (0, turned(parsed), turned(""))
        return (2 if value is None else 1, turned(0), turned(value or ""))
    return (value is None, turned(value or ""))


def found(runs, tree, terms):
    """Ids of the runs that fit, in order: the newest first where nothing else is said."""
    fitting = [run for run in runs if fits(tree, run)]
    order = sorted(fitting, key=lambda run: ([rank(term, run) for term in terms], -run.start, run.id))
    return [run.id for run in order]
