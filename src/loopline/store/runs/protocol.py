"""Runs and what is logged of them: the promise.

Times of this door are whole milliseconds since 1970 (UTC), as loggers send them.
A metric is a series of points (value, time, step); the latest is the greatest by
(step, time, value). Values may be NaN or infinite. A point that is exactly known
already changes nothing, so a batch may be sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

Status = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
Stage = Literal["active", "deleted"]
View = Literal["active", "deleted", "all"]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A heap of runs with a name that nobody else has, deleted ones included."""

    id: str
    name: str
    artifact_location: str | None
    """Where artifacts of its runs go; null for the workspace's own store."""
    stage: Stage
    created_ms: int
    updated_ms: int
    tags: dict[str, str] = field(default_factory=dict)


class Point(NamedTuple):
    """One value of a metric."""

    key: str
    value: float
    at_ms: int
    step: int
    model: str | None = None
    """Logged model it was measured on; null for the run alone."""
    dataset: tuple[str, str] | None = None
    """Name and digest of the data it was measured on; null where nobody said."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Data that a run or a model was given. Name and digest make it one of its experiment."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    """Of this use of it, such as its context."""


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A logged model that a run read or made."""

    model: str
    step: int = 0
    """At which it was made; 0 for one that was read."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands."""

    id: str
    experiment: str
    name: str
    user: str
    status: Status
    stage: Stage
    start_ms: int | None
    end_ms: int | None
    artifacts: str
    """Where its artifacts are."""
    metrics: tuple[Point, ...]
    """The latest of each key."""
    params: dict[str, str]
    tags: dict[str, str]
    datasets: tuple[Dataset, ...] = ()
    read: tuple[ModelUse, ...] = ()
    made: tuple[ModelUse, ...] = ()


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that a run made, on its way to or in the artifact store."""

    id: str
    """`m-` and 32 hexadecimal digits."""
    experiment: str
    name: str
    run: str | None
    artifacts: str
    status: Literal["PENDING", "READY", "UPLOAD_FAILED"]
    status_message: str
    type: str
    created_ms: int
    updated_ms: int
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: tuple[Point, ...] = ()


class Found(NamedTuple):
    """One page of an answer."""

    items: list[Any]
    token: str | None
    """Asks for the next page; null on the last. It names a place, not a number: pages hold while rows come and go."""


class Spread(NamedTuple):
    """The latest values of a metric over some runs, NaN left out."""

    n: int
    mean: float
    """NaN where infinities of both signs are in it."""
    least: float
    most: float


class Group(NamedTuple):
    """Runs that share a value."""

    value: str | None
    """Null for those that have none."""
    runs: int
    metrics: dict[str, Spread]
    """Those that one of the runs has, or more."""


class Chart(NamedTuple):
    """A series thinned to be drawn: by bucket its first step, and least, greatest and last finite value."""

    steps: list[int]
    """Times in milliseconds where it is drawn by time."""
    least: list[float | None]
    most: list[float | None]
    last: list[float | None]
    points: int
    """How many points the series has."""


class Deleted(NamedTuple):
    """A run that was deleted and can still be restored."""

    run: Run
    at_ms: int
    """When it was deleted, by itself or with its experiment."""
    size: int
    """Bytes that its values take; its files not counted."""


class RunLog(Protocol):
    """Experiments, runs, series, models: written by many, found by search.

    What a call has returned from is committed: it survives the death of any process. Calls
    that arrive together share one commit. Errors are `Invalid` (a value or filter that cannot be),
    `NotFound`, `Conflict` (a name that is taken, a param that has another value, a run that is
    deleted), `Unavailable` (a full disk, a store that cannot be read): then nothing of the call was kept.
    Several processes may hold one run log.
    """

    # experiments
    def create_experiment(
        self, name: str, *, at_ms: int, artifact_location: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Experiment: ...

    def experiment(self, id: str) -> Experiment: ...

    def experiment_named(self, name: str) -> Experiment | None: ...

    def search_experiments(
        self, *, filter: str = "", order_by: Sequence[str] = (), view: View = "active", limit: int = 1000,
        token: str | None = None,
    ) -> Found: ...  # fmt: skip

    def change_experiment(
        self,
        id: str,
        *,
        at_ms: int,
        name: str | None = None,
        stage: Stage | None = None,
        tags: Mapping[str, str | None] | None = None,
    ) -> Experiment:
        """Rename, delete or restore, set tags (null takes one away)."""
        ...  # fmt: skip

    # runs
    def create_run(
        self,
        experiment: str,
        *,
        start_ms: int,
        name: str = "",
        user: str = "",
        tags: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> Run:
        """A new run; one with an `id` that exists already is that run if it is of the same experiment."""
        ...  # fmt: skip

    def run(self, id: str) -> Run: ...

    def require_owner(self, id: str) -> None:
        """See that there is a run, or a logged model (`m-...`), with this id; far cheaper than reading it."""
        ...

    def document(self, id: str) -> bytes:
        """The run as JSON in the shape of the tracking protocol, ready to be sent."""
        ...

    def change_run(
        self, id: str, *, status: Status | None = None, end_ms: int | None = None, name: str | None = None,
        stage: Stage | None = None, at_ms: int | None = None,
    ) -> Run: ...  # fmt: skip

    def move_runs(self, ids: Sequence[str], experiment: str) -> int:
        """Put runs into another experiment; how many were not there yet."""
        ...

    def log(
        self,
        run: str,
        *,
        metrics: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str | None] | None = None,
    ) -> None:
        """All of it, or nothing. Params are written once: the same value again is fine. A null tag is taken away."""
        ...  # fmt: skip

    def log_columns(self, run: str, columns: Mapping[str, tuple[bytes, bytes, bytes]]) -> None:
        """Points by key as packed little-endian arrays: values (float64), times and steps (int64)."""
        ...

    def log_uses(
        self, run: str, *, datasets: Sequence[Dataset] = (), read: Sequence[ModelUse] = (),
        made: Sequence[ModelUse] = (),
    ) -> None: ...  # fmt: skip

    def search_runs(
        self,
        experiments: Sequence[str],
        *,
        filter: str = "",
        order_by: Sequence[str] = (),
        view: View = "active",
        limit: int = 1000,
        token: str | None = None,
    ) -> Found:
        """Runs as documents (see `document`), newest first; docs/reference/run-filters.md has the grammar."""
        ...  # fmt: skip

    def count_runs(self, experiments: Sequence[str], *, filter: str = "", view: View = "active") -> int: ...

    def group_runs(
        self,
        experiments: Sequence[str],
        *,
        by: str,
        filter: str = "",
        view: View = "active",
        metrics: Sequence[str] = (),
    ) -> list[Group]:
        """Runs by what they share (a param, a tag, an attribute, as a filter writes it), the largest group first."""
        ...  # fmt: skip

    def columns(self, experiments: Sequence[str]) -> dict[str, list[str]]:
        """Names of the `metrics`, `params` and `tags` that runs of these experiments have."""
        ...

    def lengths(self, run: str) -> dict[str, int]:
        """How many points each series of a run has; repetitions count as long as they were logged lately."""
        ...

    def history(self, run: str, key: str, *, limit: int = 25_000, token: str | None = None) -> Found:
        """Points of a series in the order they were logged."""
        ...

    def read_columns(self, run: str, key: str, *, start: int = 0, limit: int = 1_000_000) -> tuple[bytes, bytes, bytes]:
        """Points of a series from a place on, counted from 0, as `log_columns` takes them."""
        ...

    def chart(
        self,
        run: str,
        key: str,
        *,
        buckets: int = 320,
        by: Literal["step", "time"] = "step",
        within: tuple[int, int] | None = None,
    ) -> Chart:
        """A series thinned to be drawn: equal ranges of steps or times; a short one is given point by point.

        Beyond 16,384 points neighbours count as one, a quarter of a bucket at most. `within` draws only what lies
        between two steps (or times), both included, as fine as their number of points allows.
        """
        ...  # fmt: skip

    # logged models
    def create_model(self, model: LoggedModel) -> LoggedModel: ...

    def model(self, id: str) -> LoggedModel: ...

    def change_model(
        self, id: str, *, at_ms: int, status: str | None = None, message: str | None = None,
        tags: Mapping[str, str | None] | None = None, params: Mapping[str, str] | None = None, deleted: bool = False,
    ) -> LoggedModel: ...  # fmt: skip

    def search_models(
        self, experiments: Sequence[str], *, filter: str = "", datasets: Sequence[Mapping[str, str]] = (),
        order_by: Sequence[Mapping[str, Any]] = (), limit: int = 50, token: str | None = None,
    ) -> Found: ...  # fmt: skip

    # upkeep
    def compact(self, run: str | None = None) -> None:
        """Turn what was appended into chunks; of one run, or wherever it is due."""
        ...

    def compact_later(self) -> None:
        """As `compact`, behind the back of whoever goes on."""
        ...

    def deleted_before(self, at_ms: int) -> list[Run]:
        """Runs that may be forgotten: deleted, or of a deleted experiment, for that long."""
        ...

    def deleted(self) -> list[Deleted]:
        """Every run that can still be restored, deleted longest ago first, with what it takes."""
        ...

    def gone(self) -> list[str]:
        """Ids of runs that were taken out for good: no other workspace and no import brings them back."""
        ...

    def forget(self, ids: Sequence[str], *, again: Collection[str] = ()) -> int:
        """Take deleted runs out for good, with their series and deleted models; the bytes freed.

        Their ids stay in `gone`, but for those in `again`: runs that never were whole, which may come again.
        """
        ...

    def forget_experiment(self, id: str) -> None:
        """Take a deleted experiment without runs out for good; its name is free again."""
        ...

    def close(self) -> None: ...
