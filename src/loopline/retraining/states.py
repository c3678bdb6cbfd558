"""The state table: where each state may lead, what it may ask for, and moves along it."""

from __future__ import annotations

from typing import Any

from loopline.retraining.nouns import Cycle, Decision, EffectRequest, Guard
from loopline.retraining.policy import EffectState, Facts

TABLE = 1
"""Version of the state table; a cycle remembers the one it began under."""

ENDS = frozenset({"PROMOTED", "SUPPRESSED", "ROLLED_BACK", "REJECTED", "FAILED", "EXPIRED", "SUPERSEDED", "CANCELLED"})

ENTRY_EFFECTS: dict[str, tuple[str, ...]] = {
    "IDLE": (),
    "TRIAGE": (),
    "DATA_INCIDENT": ("notify",),
    "SNAPSHOT": ("prepare",),
    "TRAIN": ("train",),
    "EVALUATE": ("evaluate",),
    "GATE": (),
    "AWAIT_APPROVAL": ("notify",),
    "ROLLOUT": ("deploy", "set_traffic"),
    "WATCH": ("promote",),
    "ROLLING_BACK": ("roll_back",),
    "PROMOTED": ("notify",),
    "SUPPRESSED": ("notify",),
    "ROLLED_BACK": ("notify",),
    "REJECTED": ("notify",),
    "FAILED": ("notify",),
    "EXPIRED": ("notify",),
    "SUPERSEDED": ("notify",),
    "CANCELLED": ("notify",),
}
"""Which effects a state may ask for when it is entered. Nothing else reaches the world."""

NEXT: dict[str, frozenset[str]] = {
    "IDLE": frozenset({"TRIAGE"}),
    "TRIAGE": frozenset({"SUPPRESSED", "DATA_INCIDENT", "SNAPSHOT", "CANCELLED"}),
    "DATA_INCIDENT": frozenset({"SUPPRESSED", "SNAPSHOT", "CANCELLED"}),
    "SNAPSHOT": frozenset({"TRAIN", "FAILED", "CANCELLED"}),
    "TRAIN": frozenset({"EVALUATE", "FAILED", "CANCELLED"}),
    "EVALUATE": frozenset({"GATE", "FAILED", "CANCELLED"}),
    "GATE": frozenset({"REJECTED", "AWAIT_APPROVAL", "ROLLOUT", "WATCH", "CANCELLED"}),
    "AWAIT_APPROVAL": frozenset({"ROLLOUT", "WATCH", "REJECTED", "EXPIRED", "SUPERSEDED", "CANCELLED"}),
    "ROLLOUT": frozenset({"ROLLOUT", "WATCH", "ROLLING_BACK"}),
    "WATCH": frozenset({"PROMOTED", "ROLLING_BACK"}),
    "ROLLING_BACK": frozenset({"ROLLED_BACK"}),
}
"""The state table: where each state may lead."""


def effect_of(facts: Facts, kind: str) -> EffectState | None:
    return next((e for e in facts.effects if e.kind == kind), None)


def stay(cycle: Cycle, why: str, *guards: Guard) -> Decision:
    return Decision(cycle.state, cycle.state, why, guards)


def go(
    cycle: Cycle,
    to: str,
    why: str,
    guards: tuple[Guard, ...] = (),
    *,
    effects: tuple[str, ...] = (),
    changes: dict[str, Any] | None = None,
    consumed: tuple[str, ...] = (),
    step: int | None = None,
    attempt: int = 0,
) -> Decision:
    """A move along the state table, with effects whose ids follow from where it leads."""
    if to != cycle.state and to not in NEXT[cycle.state]:
        raise AssertionError(f"the state table has no way from {cycle.state} to {to}")
    if not set(effects) <= set(ENTRY_EFFECTS[to]):
        raise AssertionError(f"{to} may not ask for {effects}")
    at_step = cycle.step if step is None else step
    requests = tuple(
        EffectRequest(
            f"{cycle.id}/{to}/{at_step}/{attempt}/{kind}",
            kind,
            {"cycle": cycle.id, "state": to, "step": at_step, "why": why},
        )
        for kind in effects
    )
    moved = {**(changes or {}), "step": at_step, "attempt": attempt}
    return Decision(cycle.state, to, why, guards, requests, consumed, moved)
