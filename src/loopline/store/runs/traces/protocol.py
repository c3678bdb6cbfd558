"""Traces and their spans: the promise.

A trace is told twice: by its spans, one at a time and in any order, and by a summary when it is over. What the
summary says stands; until it comes the trace is what its spans say. A span is kept as it came, in the JSON of the
OpenTelemetry protocol, attributes untouched; the columns beside it are copies to search by. Moments of traces are
whole milliseconds, those of spans nanoseconds, since 1970 (UTC).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from loopline.store.runs.protocol import Found

if TYPE_CHECKING:
    from loopline.store.runs.traces.examples import Examples
    from loopline.store.runs.traces.upkeep import Content, Share

State = Literal["STATE_UNSPECIFIED", "OK", "ERROR", "IN_PROGRESS"]
NAME, RUN = "mlflow.traceName", "mlflow.sourceRun"
"""The tag that names a trace, and the metadata that says during which run it was made."""


class Span(NamedTuple):
    """One step of a trace."""

    trace: str
    id: str
    """16 hexadecimal digits."""
    parent: str | None
    """Null for the root."""
    name: str
    type: str | None
    """What kind of step it was, such as LLM or RETRIEVER; null where nobody said."""
    status: Literal["UNSET", "OK", "ERROR"]
    start_ns: int
    end_ns: int | None
    """Null while it goes on."""
    body: str
    """All of it, as one span of OTLP/JSON."""
    given: str | None = None
    """Of a root: what it was given, in short; null where its attributes do not say."""
    made: str | None = None
    """Of a root: what it answered, in short."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace without its spans."""

    id: str
    experiment: str
    start_ms: int
    duration_ms: int | None
    state: State
    given: str | None = None
    """What the program was given, in short."""
    made: str | None = None
    """What it answered, in short."""
    request: str | None = None
    """The id that its caller gave the request."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Said once, when it is over."""
    tags: dict[str, str] = field(default_factory=dict)
    """Said at any time."""
    judgements: tuple[dict[str, Any], ...] = ()
    """What people, judges and code said of it: feedback and expectations, as they were sent."""
    spans: int = 0
    """How many of its spans are kept."""


class TraceLog(Protocol):
    """Traces: written by many, found by search.

    What a call has returned from is committed: it survives the death of any process. The same span again takes the
    place of the one before, so a batch may be sent again. Errors are `Invalid`, `NotFound`, `Conflict` (a trace of
    another experiment), `Unavailable`: then nothing of the call was kept. Several processes may hold one log.
    """

    @property
    def examples(self) -> Examples:
        """Sets of examples that programs are judged on."""
        ...

    def add_spans(self, experiment: str, spans: Sequence[Span], *, origin: str = "{}") -> None:
        """Keep spans of one or several traces, all or none.

        Parameters
        ----------
        origin : str
            JSON of what they share: the `resource` and `scope` of OTLP.
        """
        ...

    def put(self, trace: Trace) -> Trace:
        """Say what a trace was, once it is over; tags, metadata and judgements that are there already stay."""
        ...

    def trace(self, id: str) -> Trace: ...

    def traces(self, ids: Sequence[str]) -> list[Trace]:
        """Those that are there, in the order asked for."""
        ...

    def spans(self, trace: str) -> list[str]:
        """The spans of a trace as OTLP/JSON, by their start."""
        ...

    def shared(self, trace: str) -> list[tuple[str, str]]:
        """The spans of a trace by their ids, each as OTLP/JSON after the JSON of what it shares with others."""
        ...

    def runs(self, traces: Sequence[str]) -> dict[str, list[str]]:
        """The runs that traces belong to, for those that belong to any."""
        ...

    def gone(self) -> list[str]:
        """Ids of traces that were deleted."""
        ...

    def search(
        self,
        experiments: Sequence[str],
        *,
        filter: str = "",
        order_by: Sequence[str] = (),
        limit: int = 100,
        token: str | None = None,
    ) -> Found:
        """Traces that fit, the newest first; docs/reference/traces.md has the grammar."""
        ...

    def set_tags(self, trace: str, tags: Mapping[str, str | None]) -> None:
        """Set tags; null takes one away, which must be there."""
        ...

    def link(self, traces: Sequence[str], run: str) -> None:
        """Have traces belong to a run too."""
        ...

    def judge(self, trace: str, id: str, doc: Mapping[str, Any]) -> None:
        """Keep what was said of a trace, in the place of what `id` said before."""
        ...

    def judgement(self, trace: str, id: str) -> dict[str, Any]: ...

    def withdraw(self, trace: str, id: str) -> None:
        """Take back what was said."""
        ...

    def delete(
        self,
        experiment: str,
        *,
        ids: Sequence[str] | None = None,
        until_ms: int | None = None,
        most: int | None = None,
    ) -> int:
        """Delete traces, their spans and what was said of them: those named, or the oldest up to a moment; how many."""
        ...

    def count(self) -> tuple[int, int]:
        """How many traces there are, and how many sets of examples."""
        ...

    def shares(self) -> dict[str, Share]:
        """What each experiment has, by its id."""
        ...

    def contents(self) -> Iterator[Content]:
        """Every trace and every example, with all that was said in it."""
        ...

    def free(self) -> int:
        """Bytes that deleted traces left in the file."""
        ...

    def compact(self) -> int:
        """Give those bytes back, where nobody is in the way; how many there were."""
        ...

    def close(self) -> None: ...
