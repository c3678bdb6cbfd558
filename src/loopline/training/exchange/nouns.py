"""What another tracker offers, what came of it, and what went out."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from loopline.store.runs.protocol import Experiment, LoggedModel, Point, Run

MOST_TOLD = 200
"""Sentences of one kind that are kept; the rest is counted."""


class Series(NamedTuple):
    """Points of one metric in the order they were logged: values, times (milliseconds since 1970, UTC), steps."""

    key: str
    values: array[float]
    times: array[int]
    steps: array[int]


class Offered(NamedTuple):
    """A file of a run or a model."""

    path: str
    size: int | None
    """Bytes; null where the source does not say."""
    read: Callable[[], Iterator[bytes]]
    local: bool = True
    """Whether reading it again costs little, so that its bytes can be compared."""


@dataclass(frozen=True, slots=True)
class OfferedVersion:
    """A version of a registered model."""

    number: int
    source: str
    run: str | None
    model: str | None
    """Logged model that it is."""
    description: str
    tags: dict[str, str]
    stage: str
    created_ms: int
    run_link: str = ""
    location: str = ""
    """Address of its files, where the source says one."""
    apart: bool = False
    """Whether its files lie apart from those of its run and its logged model."""
    owner: str | None = None
    """On its way out: whose artifacts its files are; null where there are none."""
    path: str = ""
    """On its way out: the folder among these."""
    author: str = ""
    updated_ms: int = 0


@dataclass(frozen=True, slots=True)
class OfferedName:
    """A registered model: a name, and versions under it."""

    name: str
    description: str
    tags: dict[str, str]
    aliases: dict[str, int]
    versions: tuple[OfferedVersion, ...]
    created_ms: int = 0
    updated_ms: int = 0


class Source(Protocol):
    """A history that somebody else wrote. Ids of experiments are the source's own; those of runs and models stay.

    Nothing in it is trusted: what cannot be read is told (`told`) and left out, never guessed.
    Errors that end the reading are `Invalid` (it is no such source), `NotFound`, `Denied` and `Unavailable`.
    """

    kind: str
    told: list[str]

    def experiments(self) -> Iterable[Experiment]: ...

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        """Runs with params, tags and uses, without metrics; `artifacts` is where the source says they are."""
        ...

    def series(self, run: Run) -> Iterator[Series]: ...

    def measured(self, run: Run) -> Iterator[Point]:
        """Points that a run measured on logged models."""
        ...

    def models(self, experiment: Experiment) -> Iterator[LoggedModel]: ...

    def left(self, experiment: Experiment) -> Iterator[str]:
        """What is in an experiment there and does not come, in words."""
        ...

    def files(self, of: Run | LoggedModel) -> Iterator[Offered]: ...

    def registered(self) -> Iterator[OfferedName]: ...

    def version_files(self, of: OfferedVersion) -> Iterator[Offered]:
        """Files that lie at the address of a version; none where it has no folder of this machine."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Brought:
    """What came of an import, or would come of it."""

    source: str
    kind: str
    dry_run: bool
    experiments: int = 0
    """Made here; the others were here by name."""
    runs: int = 0
    """New here."""
    completed: int = 0
    """Here before, with something missing."""
    known: int = 0
    """Here before with all of it."""
    gone: int = 0
    """Deleted here and freed: they stay deleted."""
    points: int = 0
    params: int = 0
    tags: int = 0
    datasets: int = 0
    models: int = 0
    files: int = 0
    bytes: int = 0
    """Of files. A source that does not say sizes counts as 0 in a dry run."""
    names: int = 0
    """Registered models."""
    versions: int = 0
    conflicts: list[str] = field(default_factory=list)
    """What is here with another value. What is here stayed."""
    left_out: list[str] = field(default_factory=list)
    """What did not come, and why."""
    more_told: int = 0
    """Further conflicts, and things left out, that are only counted."""

    def conflict(self, what: str) -> None:
        """Something is here already, and differs."""
        self._tell(self.conflicts, what)

    def leave(self, what: str) -> None:
        """Something does not come."""
        self._tell(self.left_out, what)

    def _tell(self, into: list[str], what: str) -> None:
        if what in into:
            return
        if len(into) < MOST_TOLD:
            into.append(what)
        else:
            self.more_told += 1


@dataclass(frozen=True, slots=True)
class Left:
    """What an export wrote."""

    folder: str
    format: str
    experiments: int
    runs: int
    points: int
    models: int
    files: int
    bytes: int
    names: int = 0
    """Registered models."""
    versions: int = 0
    left_out: tuple[str, ...] = ()
    """What did not go, and why."""
