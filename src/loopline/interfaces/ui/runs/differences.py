"""What differs between runs: params, metrics, data, environment, code."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loopline.base.figures import figures
from loopline.interfaces.ui.runs import cells
from loopline.interfaces.ui.runs.origin import Origin
from loopline.interfaces.ui.runs.question import OWN
from loopline.interfaces.ui.runs.told import Told

MADE_FROM = ("loopline.snapshot", "loopline.training_set", "loopline.features")
LINES = 2_000
"""Of a text that is compared, and of what is shown of it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A fact with its value in each run."""

    name: str
    values: tuple[str | None, ...]
    """Null where a run does not say it; two numbers look equal only where they are."""
    change: str = ""
    """Of two runs with numbers: by how much the second differs."""

    @property
    def differs(self) -> bool:
        """Whether the runs do not all say the same."""
        return len(set(self.values)) > 1


def _rows(told: Sequence[Mapping[str, str]]) -> list[Row]:
    keys = sorted({key for one in told for key in one})
    return [Row(key, tuple(one.get(key) for one in told)) for key in keys]


def params(runs: Sequence[Told]) -> list[Row]:
    """Params by name."""
    return _rows([run.params for run in runs])


def metrics(runs: Sequence[Told]) -> list[Row]:
    """Latest values by metric; of two runs with their difference."""
    keys = sorted({key for run in runs for key in run.metrics if not key.startswith(OWN[0])})
    rows = []
    for key in keys:
        values = [run.metrics.get(key) for run in runs]
        change = ""
        if len(values) == 2 and values[0] is not None and values[1] is not None:
            by = cells.figure(values[1] - values[0])
            change = by if by.startswith("−") or by in ("0", "NaN") else f"+{by}"
        rows.append(Row(key, tuple(None if one is None else cells.minus(one) for one in figures(values)), change))
    return rows


def data(runs: Sequence[Told]) -> list[Row]:
    """Datasets by name and context with their digests, and what the rows were made from."""
    found = []
    for run in runs:
        one: dict[str, str] = {}
        for dataset, tags in run.inputs:
            context = tags.get("mlflow.data.context", "")
            name = f"{dataset.name} ({context})" if context else dataset.name
            one[name] = f"{one[name]}, {dataset.digest}" if name in one else dataset.digest
        one |= {tag.partition(".")[2].replace("_", " "): run.tags[tag] for tag in MADE_FROM if tag in run.tags}
        found.append(one)
    return _rows(found)


def environment(origins: Sequence[Origin]) -> list[Row]:
    """Machine and distributions."""
    machines = [
        {
            f"machine: {key.replace('_', ' ')}": str(value)
            for key, value in one.machine.items()
            if value not in (None, "", [], {}) and isinstance(value, (str, int, float))
        }
        | ({"machine: graphics cards": str(len(one.machine["gpus"]))} if one.machine.get("gpus") else {})
        | ({"python": str(one.process["python"]).partition(" ")[0]} if one.process.get("python") else {})
        for one in origins
    ]
    return _rows(machines) + _rows([one.packages for one in origins])


def code(origins: Sequence[Origin]) -> list[Row]:
    """Commit, branch and start, and the files that ran, by their digests."""
    told: list[Callable[[Origin], str | None]] = [
        lambda one: one.commit, lambda one: one.branch, lambda one: one.source,
        lambda one: f"{one.diff.count(chr(10))} lines" if one.diff else None,
    ]  # fmt: skip
    names = ("commit", "branch", "started as", "not committed")
    rows = [Row(name, tuple(of(one) for one in origins)) for name, of in zip(names, told, strict=True)]
    return [row for row in rows if any(row.values)] + _rows([one.files for one in origins])


def unified(before: str, after: str, names: tuple[str, str]) -> list[str]:
    """The change from one text to another, as a unified diff; the beginnings only of long ones."""
    first, second = before.splitlines()[:LINES], after.splitlines()[:LINES]
    return list(difflib.unified_diff(first, second, *names, lineterm=""))[:LINES]
