"""The nouns of retraining."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loopline.base.nouns import noun


@dataclass(frozen=True, slots=True)
class Signal:
    """A fact that may move the loop; `key` makes it arrive once."""

    key: str
    kind: str
    """`schedule`, `fresh_data`, `performance`, `data_bug`, `proposal`, `operator`."""
    at: datetime
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that was looked at, with what was seen."""

    name: str
    passed: bool
    observed: Any
    threshold: Any
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class EffectRequest:
    """Something to do in the world. `id` is derived, so doing it again is knowable."""

    id: str
    kind: str
    """`prepare`, `train`, `evaluate`, `deploy`, `set_traffic`, `promote`, `roll_back`, `notify`."""
    args: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """What `decide` concluded: the next state, why, and what to do about it."""

    state: str
    next: str
    why: str
    guards: tuple[Guard, ...] = ()
    effects: tuple[EffectRequest, ...] = ()
    consumed: tuple[str, ...] = ()
    """Keys of the signals that this decision used up."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the cycle to set."""
    wait_until: datetime | None = None
    """When nothing happens before, look again then."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """One pass through the loop."""

    id: str
    loop: str
    state: str
    generation: int
    started_at: datetime
    entered_at: datetime
    """When the present state was entered."""
    policy: str
    """Content id of the policy it runs under."""
    table: int
    """Version of the state table it runs under."""
    trigger: str = ""
    author: str = ""
    attempt: int = 0
    step: int = 0
    """Index into the release plan while in ROLLOUT."""
    paused: bool = False
    changes: dict[str, Any] = field(default_factory=dict)
    """What effects brought: training_set, model, report, version, incident, ..."""


@noun("transition")
@dataclass(frozen=True, slots=True)
class Transition:
    """One decision of one cycle, as committed."""

    id: str
    loop: str
    cycle: str
    generation: int
    before: str
    after: str
    why: str
    guards: tuple[Guard, ...]
    effects: tuple[str, ...]
    at: datetime
