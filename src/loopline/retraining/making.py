"""From rows to a candidate that may be released: each step waited for, gates and approvals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from loopline.base.spec import duration_text
from loopline.retraining.nouns import Cycle, Decision, Guard, Signal
from loopline.retraining.policy import Facts, Policy
from loopline.retraining.releasing import release
from loopline.retraining.states import effect_of, go, stay


def _after(cycle: Cycle, facts: Facts, kind: str, then: str, effects: tuple[str, ...] = ()) -> Decision:
    """Wait for an effect, which is delivered as often as it may; go on when it is done, give up when it failed."""
    effect = effect_of(facts, kind)
    if effect is None or effect.status in ("pending", "running"):
        why = f"waiting for {kind}" + (f", which is tried again: {effect.error}" if effect and effect.error else "")
        return stay(cycle, why, Guard(kind, False, effect.status if effect else "not started", "done"))
    if effect.status == "failed":
        return go(
            cycle,
            "FAILED",
            f"{kind} failed: {effect.error}",
            (Guard(kind, False, effect.error, "done"),),
            effects=("notify",),
        )
    changes = {"changes": {**cycle.changes, **(effect.result or {})}}
    return go(cycle, then, f"{kind} is done", (Guard(kind, True, "done", "done"),), changes=changes, effects=effects)


def snapshot(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    return _after(cycle, facts, "prepare", "TRAIN", ("train",))


def train(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    return _after(cycle, facts, "train", "EVALUATE", ("evaluate",))


def evaluate(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    return _after(cycle, facts, "evaluate", "GATE")


def gate(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    if facts.passed is None:
        return stay(cycle, "waiting for the report")
    guard = Guard(
        "gates", facts.passed, "passed" if facts.passed else "; ".join(facts.failed_gates), "all pass", facts.report
    )
    if not facts.passed:
        return go(
            cycle, "REJECTED", "rejected by the gates: " + "; ".join(facts.failed_gates), (guard,), effects=("notify",)
        )
    if policy.approvals_needed:
        return go(
            cycle,
            "AWAIT_APPROVAL",
            f"gates passed; {policy.approvals_needed} approval(s) needed",
            (guard,),
            effects=("notify",),
        )
    return release(cycle, policy, facts, guard)


def await_approval(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    guard = Guard("approvals", facts.approved, facts.approvals_given, policy.approvals_needed)
    if facts.refused:
        return go(cycle, "REJECTED", f"refused by {facts.refused}", (guard,), effects=("notify",))
    if facts.approved:
        return release(cycle, policy, facts, guard)
    deadline = cycle.entered_at + policy.approval_expires
    if now >= deadline:
        return go(
            cycle,
            "EXPIRED",
            f"no approval within {duration_text(policy.approval_expires)}",
            (guard,),
            effects=("notify",),
        )
    if any(s.kind == "proposal" for s in signals):
        return go(cycle, "SUPERSEDED", "a fresher candidate was proposed", (guard,), effects=("notify",))
    return replace(stay(cycle, "waiting for an approval", guard), wait_until=deadline)
