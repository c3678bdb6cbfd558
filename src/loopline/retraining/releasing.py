"""From an approved candidate to everyone: canary, parity, promotion, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from loopline.base.spec import duration_text
from loopline.retraining.nouns import Cycle, Decision, Guard, Signal
from loopline.retraining.policy import Facts, Parity, Policy
from loopline.retraining.states import effect_of, go, stay


def release(cycle: Cycle, policy: Policy, facts: Facts, *guards: Guard) -> Decision:
    if facts.champion is None or not policy.canary:
        why = (
            "first release: there is no champion to compare with"
            if facts.champion is None
            else "released directly: the plan has no canary"
        )
        return go(
            cycle,
            "WATCH",
            why,
            (*guards, Guard("champion", facts.champion is not None, facts.champion, "a version")),
            effects=("promote",),
        )
    return go(cycle, "ROLLOUT", f"canary at {policy.canary[0]:.0%}", guards, effects=("deploy",))


def rollout(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    kind = "deploy" if cycle.step == 0 else "set_traffic"
    effect = effect_of(facts, kind)
    if effect is not None and effect.status == "failed":
        return go(
            cycle,
            "ROLLING_BACK",
            f"{kind} failed: {effect.error}",
            (Guard(kind, False, effect.error, "done"),),
            effects=("roll_back",),
        )
    seen = facts.rollout
    if effect is None or effect.status != "done" or seen is None or not seen.applied:
        return stay(
            cycle,
            "waiting for the data plane to take the release",
            Guard("applied", False, effect.status if effect else None, "done"),
        )
    share = policy.canary[cycle.step]
    guard = Guard(
        f"guardrails at {share:.0%}",
        seen.verdict != "worse",
        f"{seen.verdict} after {seen.canary_requests} requests",
        "not worse",
        seen.reason or None,
    )
    if seen.verdict == "worse":
        return go(cycle, "ROLLING_BACK", f"the canary is worse: {seen.reason}", (guard,), effects=("roll_back",))
    agreed = _parity(policy, facts.parity)
    if facts.parity is not None and facts.parity.differing and policy.parity:
        why = f"training and serving disagree: {facts.parity.told}"
        return go(cycle, "ROLLING_BACK", why, (guard, agreed), effects=("roll_back",))
    if cycle.paused:
        return stay(cycle, "paused by an operator", guard)
    deadline = cycle.entered_at + policy.each_at_most
    proven = seen.verdict == "fine"
    if not proven and now < deadline:
        return replace(stay(cycle, f"canary at {share:.0%}: undecided", guard), wait_until=deadline)
    if not proven and policy.risk == "high":
        return stay(cycle, f"canary at {share:.0%}: undecided at the limit; risk is high, so it holds", guard)
    said = "not worse" if proven else f"unproven after {duration_text(policy.each_at_most)}"
    if not proven and seen.reason:
        said = f"{said} ({seen.reason})"
    unproven = [*cycle.changes.get("unproven", []), *([] if proven else [cycle.step])]
    changes = {"changes": {**cycle.changes, "unproven": unproven}}
    if cycle.step + 1 < len(policy.canary):
        after = policy.canary[cycle.step + 1]
        return go(
            cycle,
            "ROLLOUT",
            f"{said} at {share:.0%}; on to {after:.0%}",
            (guard,),
            step=cycle.step + 1,
            changes=changes,
            effects=("set_traffic",),
        )
    if not agreed.passed and now < deadline:
        why = f"canary at {share:.0%}: {agreed.observed} requests computed again, {policy.parity:,} are asked for"
        if facts.parity is not None and facts.parity.open:
            why = f"canary at {share:.0%}: {facts.parity.open:,} of its features could not be computed again"
        if facts.parity is not None and facts.parity.told:
            why = f"{why} (waiting: {facts.parity.told})"
        return replace(stay(cycle, why, guard, agreed), wait_until=deadline)
    if not agreed.passed and policy.risk == "high":
        return stay(cycle, "parity is unproven at the limit; risk is high, so it holds", guard, agreed)
    if not agreed.passed:
        changes["changes"]["unproven"] = [*unproven, "parity"]
        of = f" in {facts.parity.open:,} features" if facts.parity is not None and facts.parity.open else ""
        said = f"{said}, parity unproven{of},"
    why = f"{said} at {share:.0%}; on to everyone"
    return go(cycle, "WATCH", why, (guard, agreed), changes=changes, effects=("promote",))


def _parity(policy: Policy, parity: Parity | None) -> Guard:
    """Whether enough of the canary's requests were computed again, each feature among them, and all agree."""
    rows = parity.rows if parity is not None else 0
    agree = parity is not None and not parity.differing and not parity.open
    passed = not policy.parity or (agree and rows >= policy.parity)
    return Guard("parity", passed, rows, policy.parity, parity.report if parity is not None else None)


def watch(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    effect = effect_of(facts, "promote")
    if effect is not None and effect.status == "failed":
        return go(
            cycle,
            "ROLLING_BACK",
            f"promotion failed: {effect.error}",
            (Guard("promote", False, effect.error, "done"),),
            effects=("roll_back",),
        )
    if effect is None or effect.status != "done":
        return stay(
            cycle, "waiting for the promotion", Guard("promote", False, effect.status if effect else None, "done")
        )
    return go(
        cycle,
        "PROMOTED",
        "released to everyone",
        (Guard("promote", True, "done", "done"),),
        effects=("notify",),
        changes={"changes": {**cycle.changes, **(effect.result or {})}},
    )


def rolling_back(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    effect = effect_of(facts, "roll_back")
    if effect is None or effect.status in ("pending", "running"):
        return stay(
            cycle, "waiting for the rollback", Guard("roll_back", False, effect.status if effect else None, "done")
        )
    if effect.status == "failed":
        return go(
            cycle,
            cycle.state,
            f"rollback failed, trying again: {effect.error}",
            attempt=cycle.attempt + 1,
            effects=("roll_back",),
        )
    return go(
        cycle,
        "ROLLED_BACK",
        "the champion serves everyone again",
        (Guard("roll_back", True, "done", "done"),),
        effects=("notify",),
        changes={"changes": {**cycle.changes, **(effect.result or {})}},
    )
