"""Points of a run between the call that logs them and the spool."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from operator import index
from typing import Any

from loopline.base.clock import ticks
from loopline.base.errors import Conflict, Invalid
from loopline.store.runs import checks
from loopline.training.tracking.frames import Points

AT_ONCE = 65_536
"""Points of a key that are packed at a time: no other thread waits longer for its turn."""
MOST_KEYS = 100_000
Sink = Callable[[tuple[float, int | None, int]], None]
INT64 = 2**63
EXACT = 2.0**53
"""Up to here a float holds every whole number."""


class Series:
    """Takes points in by appending to a list per key, and hands them out packed.

    Appending is one operation of the interpreter, and so is taking away from the front: no lock lies between
    the threads that log and the one that packs.
    """

    def __init__(self, run: str, start_ns: int) -> None:
        self._run = run
        self._points: dict[str, list[tuple[float, int | None, int]]] = {}
        self.sinks: dict[str, Sink] = {}
        self._steps: dict[str, int] = {}
        self._offset = start_ns - ticks()
        self.dropped = 0

    def sink(self, key: str) -> Sink:
        """Where points of a key go, made when first asked for."""
        checks.key("metric", key)
        if len(self._points) >= MOST_KEYS:
            raise Invalid(
                f"the run has {MOST_KEYS:,} metrics already; {key!r:.100} is one more",
                why="each has a series of its own",
                fix="put what varies into the step, or into an artifact",
            )
        points = self._points.setdefault(key, [])
        return self.sinks.setdefault(key, points.append)

    def take(self) -> Points | None:
        """What was logged since, packed; null where nothing was."""
        columns = {}
        for key, points in list(self._points.items()):
            if points:
                taken = points[:AT_ONCE]
                del points[: len(taken)]
                if packed := self._packed(key, taken):
                    columns[key] = packed
        return Points(run=self._run, columns=columns) if columns else None

    @property
    def waits(self) -> bool:
        """Whether there is something to take."""
        return any(self._points.values())

    def _packed(self, key: str, taken: list[tuple[float, int | None, int]]) -> tuple[bytes, bytes, bytes] | None:
        values, given, times = zip(*taken, strict=True)
        steps = self._numbered(key, given) if None in given else given
        offset = self._offset
        at = array("q", [(one + offset) // 1_000_000 for one in times])
        self._steps[key] = max(self._steps.get(key, -1), max(steps))
        return array("d", values).tobytes(), at.tobytes(), array("q", steps).tobytes()

    def _numbered(self, key: str, steps: tuple[int | None, ...]) -> list[int]:
        """Steps that nobody gave: one more than the greatest of the key so far."""
        last, found = self._steps.get(key, -1), []
        for step in steps:
            step = last + 1 if step is None else step
            last = max(last, step)
            found.append(step)
        return found


class Over(dict[str, Sink]):
    """Sinks of a run that has ended: there are none."""

    def get(self, key: str, default: Any = None) -> Any:
        raise Conflict(
            "the run has ended", why="what is logged now would belong to no run", fix="log inside `with start_run()`"
        )


class Elsewhere(dict[str, Sink]):
    """Sinks in a process that was forked off: its points go nowhere, the run is its parent's."""

    def get(self, key: str, default: Any = None) -> Any:
        return _nowhere


def _nowhere(point: Any) -> None:
    return None


def as_float(key: str, value: Any) -> float:
    """A number of any library as a float: Python's, NumPy's, a tensor with one element."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise Invalid(
            f"the metric {key!r:.100} is {_shown(value)}",
            why=f"a metric is a number that a float can hold: {error}",
            fix="log a number, or the text as a param or tag",
        ) from None


def is_rounded(given: Any, kept: float) -> bool:
    """Whether a whole number of any library is another one as the float that is kept of it."""
    try:
        return int(index(given)) != kept
    except TypeError:
        return False


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.100}"
    except ValueError:  # a whole number with more digits than Python writes
        return f"a whole number of {value.bit_length():,} bits"


def as_step(step: Any) -> int:
    """A whole number of 64 bits."""
    try:
        found = step.__index__()
        if not isinstance(step, bool) and -INT64 <= found < INT64:
            return int(found)
    except AttributeError:
        if isinstance(step, float) and step.is_integer() and abs(step) < 2**53:
            return int(step)
    raise Invalid(f"the step is {_shown(step)}", why="it is a whole number of 64 bits", fix="count steps as 0, 1, 2")
