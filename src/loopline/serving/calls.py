"""Requests on their way through a worker: rows in, answers out, and what was counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loopline.base.clock import monotonic
from loopline.serving import journal
from loopline.serving.inputs import Values
from loopline.serving.route import Loaded


class Refused(Exception):
    """A call that cannot be answered; `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


@dataclass(eq=False, slots=True)
class Call:
    """Rows of one request, and later what came of them."""

    rows: Sequence[Any]
    """Decoded rows (`Route.row`), or mappings where one of them breaks a rule."""
    typed: bool
    ids: Sequence[str | None] | None = None
    entities: Sequence[str | None] | None = None
    decision_times: Sequence[datetime | None] | None = None
    started: float = field(default_factory=monotonic)
    answers: list[Answer] = field(default_factory=list)
    refused: Refused | None = None


@dataclass(eq=False, slots=True)
class Answer:
    """One row on its way."""

    id: str
    entity: str
    decision_time: int
    routed: Loaded
    by: Loaded
    row: Any
    values: Values
    broken: tuple[str, ...]
    flags: int
    bad: list[int]
    fallback: str = ""
    score: float = 0.0
    inputs: bytes = b""
    brought: Mapping[str, Any] | None = None
    """The request's own columns as the inputs were made from them."""

    @property
    def decision(self) -> bool:
        """Whether the score reaches the answering version's threshold."""
        return self.score >= self.by.bundle.threshold

    @property
    def held_out(self) -> bool:
        """Whether the entity is in the random hold-out."""
        return bool(self.flags & journal.HOLDOUT)


@dataclass(slots=True)
class Counts:
    """What a worker has seen since it last reported."""

    requests: int = 0
    rows: int = 0
    refused: int = 0
    fallbacks: int = 0
    failed: int = 0
    unlogged: int = 0
    shadows_dropped: int = 0
    latency_us: int = 0
    blocks: list[list[Any]] = field(default_factory=list)
    """`[canary rows, their bad ones by kind, champion rows, theirs]` each."""
