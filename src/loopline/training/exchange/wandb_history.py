"""What the records of a W&B run say, gathered."""

from __future__ import annotations

import json
import struct
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopline.training.exchange.nouns import Series
from loopline.training.exchange.wandb_log import (
    Fields,
    count,
    every_word,
    fields,
    message,
    messages,
    milliseconds,
    records,
    words,
)

HISTORY, SUMMARY, OUTPUT, CONFIG, STATS, OUTPUT_RAW, RUN, EXIT, ENVIRONMENT = 2, 3, 4, 5, 7, 13, 17, 18, 26
ARTIFACT, ALERT = 8, 10
OWN = "_"
"""Keys that begin so are W&B's own: step, time, runtime."""
SYSTEM = "system/"


@dataclass(slots=True)
class History:
    """All that the records of one run say. Times are milliseconds since 1970."""

    id: str = ""
    entity: str = ""
    project: str = ""
    name: str = ""
    notes: str = ""
    group: str = ""
    job: str = ""
    sweep: str = ""
    host: str = ""
    labels: list[str] = field(default_factory=list)
    remote: str = ""
    commit: str = ""
    program: str = ""
    user: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[tuple[str, ...], Any] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    others: list[dict[str, Any]] = field(default_factory=list)
    """Steps with values that are no numbers: texts, media, tables."""
    output: list[str] = field(default_factory=list)
    started_ms: int | None = None
    last_ms: int | None = None
    exit_code: int | None = None
    artifacts: int = 0
    alerts: list[str] = field(default_factory=list)
    step: int = 0
    whole: bool = True
    """Whether every record could be understood."""

    def read(self, path: Path) -> None:
        """Take in one log; a run that was resumed has several."""
        self.exit_code = None
        for record in records(path):
            try:
                self._take(fields(record))
            except (ValueError, RecursionError, OverflowError):
                self.whole = False

    def _take(self, of: Fields) -> None:
        if HISTORY in of:
            self._history(message(of, HISTORY))
        elif SUMMARY in of:
            for item in messages(message(of, SUMMARY), 1):
                self.summary[_key(item)] = _value(item)
            for item in messages(message(of, SUMMARY), 2):
                self.summary.pop(_key(item), None)
        elif STATS in of:
            self._stats(message(of, STATS))
        elif CONFIG in of:
            self._config(message(of, CONFIG))
        elif OUTPUT in of or OUTPUT_RAW in of:
            self.output.append(words(message(of, OUTPUT if OUTPUT in of else OUTPUT_RAW), 3))
        elif RUN in of:
            self._run(message(of, RUN))
        elif EXIT in of:
            done = message(of, EXIT)
            self.exit_code = count(done, 1)
        elif ENVIRONMENT in of:
            self._environment(message(of, ENVIRONMENT))
        elif ARTIFACT in of:
            self.artifacts += 1
        elif ALERT in of:
            said = message(of, ALERT)
            self.alerts.append(f"{words(said, 1)}: {words(said, 2)}")

    def _run(self, run: Fields) -> None:
        self.id, self.entity, self.project = words(run, 1), words(run, 2), words(run, 3)
        self._config(message(run, 4))
        self.group, self.job, self.name = words(run, 6), words(run, 7), words(run, 8)
        self.notes, self.labels, self.sweep = words(run, 9), every_word(run, 10), words(run, 12)
        self.host = words(run, 13)
        began = milliseconds(run, 17)
        if began is not None and (self.started_ms is None or began < self.started_ms):
            self.started_ms = began
        self._at(began)
        git = message(run, 21)
        self.remote, self.commit = words(git, 1) or self.remote, words(git, 2) or self.commit

    def _environment(self, said: Fields) -> None:
        names = {
            1: "os",
            2: "python",
            6: "program",
            12: "host",
            13: "username",
            14: "executable",
            16: "cpu_count",
            18: "gpu",
            19: "gpu_count",
            25: "cuda",
        }
        for number, name in names.items():
            if number in said:
                value = str(count(said, number)) if number in (16, 19) else words(said, number)
                self.environment[name] = value
        self.program, self.user = words(said, 6) or self.program, words(said, 13) or self.user
        git = message(said, 9)
        self.remote, self.commit = words(git, 1) or self.remote, words(git, 2) or self.commit

    def _config(self, said: Fields) -> None:
        for item in messages(said, 1):
            place = self.config
            *above, last = _key(item)
            for part in above:
                deeper = place.get(part)
                if not isinstance(deeper, dict):
                    deeper = place[part] = {}
                place = deeper
            place[last] = _value(item)
        for item in messages(said, 2):
            self.config.pop(_key(item)[0], None)

    def _history(self, said: Fields) -> None:
        row = {_key(item): _value(item) for item in messages(said, 1)}
        step = row.get(("_step",))
        if 2 in said:
            self.step = count(message(said, 2), 1)
        elif isinstance(step, (int, float)):
            self.step = int(step)
        at = row.get(("_timestamp",))
        at_ms = (
            int(at * 1000) if isinstance(at, (int, float)) and abs(at) < 1e12 else self.last_ms or self.started_ms or 0
        )
        self._at(at_ms)
        others: dict[str, Any] = {}
        for key, value in row.items():
            if not key[0].startswith(OWN):
                self._logged(key, value, at_ms, others)
        if others:
            self.others.append({"_step": self.step, "_time_ms": at_ms, **others})

    def _logged(self, key: tuple[str, ...], value: Any, at_ms: int, others: dict[str, Any]) -> None:
        """A value of a step: numbers are points, dicts but media are taken apart, the rest is kept."""
        if isinstance(value, dict) and value and "_type" not in value and len(key) < 20:
            for name, inner in value.items():
                self._logged((*key, name), inner, at_ms, others)
        elif (found := as_number(value)) is not None:
            self._point("/".join(key), found, at_ms, self.step)
        else:
            others["/".join(key)] = value

    def _stats(self, said: Fields) -> None:
        at_ms = milliseconds(said, 2) or self.last_ms or 0
        self._at(at_ms)
        for item in messages(said, 3):
            found = as_number(_value(item))
            if found is not None:
                key = SYSTEM + words(item, 1)
                self._point(key, found, at_ms, len(self.series[key].steps) if key in self.series else 0)

    def _point(self, key: str, value: float, at_ms: int, step: int) -> None:
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series(key, array("d"), array("q"), array("q"))
        series.values.append(value)
        series.times.append(at_ms)
        series.steps.append(step)

    def _at(self, at_ms: int | None) -> None:
        if at_ms is not None and (self.last_ms is None or at_ms > self.last_ms):
            self.last_ms = at_ms

    def last_values(self) -> None:
        """Numbers of the summary that no step has: points at the last step."""
        for key, value in self.summary.items():
            if not key[0].startswith(OWN):
                self._last(key, value)

    def _last(self, key: tuple[str, ...], value: Any) -> None:
        if isinstance(value, dict) and "_type" not in value and len(key) < 20:
            for name, inner in value.items():
                self._last((*key, name), inner)
        elif "/".join(key) not in self.series and (found := as_number(value)) is not None:
            self._point("/".join(key), found, self.last_ms or 0, self.step)

    def summed_up(self) -> dict[str, Any]:
        """The summary as one document."""
        return {"/".join(key): value for key, value in sorted(self.summary.items())}


def as_number(value: Any) -> float | None:
    """A number, or a word for one that JSON has not; null for all else."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    return (
        {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.get(value)
        if isinstance(value, str)
        else None
    )


def _key(item: Fields) -> tuple[str, ...]:
    return tuple(every_word(item, 2)) or (words(item, 1),)


def _value(item: Fields) -> Any:
    """The value of an item: JSON as text, or since W&B 0.31 also bare."""
    for number in (16, 8):
        if number in item:
            text = words(item, number)
            try:
                return json.loads(text)
            except ValueError:
                return text
    if 4 in item:
        return bool(count(item, 4))
    if 5 in item:
        raw = item[5][-1]
        return (raw >> 1) ^ -(raw & 1) if isinstance(raw, int) else None
    if 6 in item and isinstance(item[6][-1], bytes):
        return struct.unpack("<d", item[6][-1])[0]
    if 7 in item:
        return words(item, 7)
    return None
