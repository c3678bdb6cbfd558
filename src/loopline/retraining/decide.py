"""The pure heart of the loop: what happens next, and why.

`decide` reads no clock, no store and no network. The reconciler, `plan`, `why`
and `replay` all call it, so what is explained is what is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from loopline.base.spec import duration_text
from loopline.retraining.nouns import Cycle, Decision, EffectRequest, Guard, Signal
from loopline.retraining.policy import EffectState, Facts, Parity, Policy, Trigger

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


def decide(cycle: Cycle | None, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    """Say what happens next.

    Parameters
    ----------
    cycle : Cycle or None
        The running cycle; null when the loop is idle.
    signals : sequence of Signal
        Those not yet used, oldest first.
    policy : Policy
        What the loop may do.
    facts : Facts
        What is known, gathered by the caller.
    now : datetime
        The workspace's present moment, UTC.

    Returns
    -------
    Decision
        `next` equals `state` when there is nothing to do but wait; `guards`
        hold every condition looked at, with what was seen.
    """
    if cycle is None:
        return _idle(signals, policy, facts, now)
    paused = _pause(cycle, signals)
    if paused is not None:
        return paused
    if cycle.paused and cycle.state not in ("ROLLOUT", "WATCH", "ROLLING_BACK"):
        return _stay(cycle, "paused by an operator; `loopline resume` goes on")
    cancel = next((s for s in signals if s.kind == "operator" and s.evidence.get("do") == "cancel"), None)
    if cancel is not None and "CANCELLED" in NEXT[cycle.state]:
        aside = {**cycle.changes, "suppressed": _incident_key(facts)} if cycle.state == "DATA_INCIDENT" else None
        changes = {"changes": aside} if aside else None
        return _go(cycle, "CANCELLED", _said(cancel), changes=changes, consumed=(cancel.key,), effects=("notify",))
    if cancel is not None and cycle.state == "ROLLOUT":
        return _go(cycle, "ROLLING_BACK", _said(cancel), consumed=(cancel.key,), effects=("roll_back",))
    return _STATES[cycle.state](cycle, signals, policy, facts, now)


def _said(cancel: Signal) -> str:
    return f"cancelled by {cancel.evidence.get('by', 'an operator')}"


def _pause(cycle: Cycle, signals: Sequence[Signal]) -> Decision | None:
    for signal in signals:
        wish = signal.evidence.get("do") if signal.kind == "operator" else None
        if wish in ("pause", "resume"):
            return replace(
                _stay(cycle, f"{wish}d by {signal.evidence.get('by', 'an operator')}"),
                consumed=(signal.key,),
                changes={"paused": wish == "pause"},
            )
    return None


# ---------------------------------------------------------------- idle and triage


def fired(trigger: Trigger, facts: Facts, now: datetime) -> Guard:
    """Whether a trigger fires: the whole 90 % interval must lie beyond the bound."""
    if trigger.every is not None:
        if facts.last_promotion is None:
            return Guard(trigger.text, False, None, duration_text(trigger.every), "nothing released yet")
        age = now - facts.last_promotion
        return Guard(
            trigger.text, age >= trigger.every, f"{age.total_seconds() / 86400:.1f}d", duration_text(trigger.every)
        )
    if trigger.growth is not None:
        return _grown(trigger, trigger.growth, facts)
    assert trigger.metric is not None
    seen = (facts.quality or {}).get(trigger.metric)
    bound = trigger.bound
    if trigger.released:
        base = (facts.released or {}).get(trigger.metric)
        if base is None:
            return Guard(trigger.text, False, None, None, f"no released value of {trigger.metric}")
        bound += base
    if seen is None:
        return Guard(trigger.text, False, None, round(bound, 6), "no labelled window yet")
    value, low, high = seen
    beyond = low > bound if trigger.op == ">" else high < bound
    shown = f"{value:.4f} [{low:.4f}, {high:.4f}]"
    return Guard(trigger.text, beyond, shown, round(bound, 6), facts.quality_id)


def _grown(trigger: Trigger, growth: float, facts: Facts) -> Guard:
    if facts.new_labels is None or not facts.trained_rows:
        return Guard(trigger.text, False, None, f"{growth:.0%}", "no labelled window yet")
    share = facts.new_labels / facts.trained_rows
    shown = f"{share:.1%} ({facts.new_labels:,} labels for {facts.trained_rows:,} rows)"
    return Guard(trigger.text, share > growth, shown, f"{growth:.0%}", facts.quality_id)


def _idle(signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    if policy.mode == "off":
        return Decision("IDLE", "IDLE", "the loop is off")
    stale = tuple(s.key for s in signals if s.kind == "operator" and s.evidence.get("do") != "run")
    asked = [s for s in signals if s.kind == "proposal" or (s.kind == "operator" and s.evidence.get("do") == "run")]
    if asked:
        first = asked[0]
        why = f"{first.evidence.get('by', 'someone')} proposes a candidate: {first.evidence.get('reason', 'by hand')}"
        return Decision(
            "IDLE",
            "TRIAGE",
            why,
            consumed=(first.key, *stale),
            changes={
                "trigger": first.kind,
                "author": first.evidence.get("by", ""),
                "changes": {"proposal": first.evidence},
            },
        )
    if facts.data_incidents and _is_set_aside(facts):
        why = "a data incident is open, and its cycle was cancelled; resolve it, or propose a candidate"
        return Decision("IDLE", "IDLE", why, consumed=stale)
    if facts.data_incidents:
        return Decision("IDLE", "TRIAGE", "data looks broken", consumed=stale, changes={"trigger": "data_incident"})
    guards = tuple(fired(trigger, facts, now) for trigger in policy.triggers)
    hot = [g for g in guards if g.passed]
    if not hot:
        return Decision("IDLE", "IDLE", "no trigger fires", guards, consumed=stale)
    key = _suppression(policy, facts, now)
    if key is not None and facts.suppressed == key:
        return Decision("IDLE", "IDLE", f"{hot[0].name} fires, still suppressed: {key}", guards, consumed=stale)
    return Decision("IDLE", "TRIAGE", f"{hot[0].name} fires", guards, consumed=stale, changes={"trigger": hot[0].name})


def _incident_key(facts: Facts) -> str:
    """What a person set aside by cancelling the cycle of these incidents."""
    return "incident " + ",".join(facts.data_incidents)


def _is_set_aside(facts: Facts) -> bool:
    kind, _, known = (facts.suppressed or "").partition(" ")
    return kind == "incident" and set(facts.data_incidents) <= set(known.split(","))


def _limits(policy: Policy, facts: Facts, now: datetime, *, asked: bool) -> tuple[Guard, ...]:
    """The conditions under which a trigger may start a training."""
    guards = [
        Guard(
            "data is sound",
            not facts.data_incidents,
            len(facts.data_incidents),
            0,
            ",".join(facts.data_incidents) or None,
        ),
        Guard("labels can be learned from", facts.label_problem is None, facts.label_problem, None),
    ]
    if not asked:
        guards.append(Guard("mode", policy.mode == "auto", policy.mode, "auto"))
        if facts.last_promotion is not None:
            age = now - facts.last_promotion
            guards.append(
                Guard(
                    "cooldown after promotion",
                    age >= policy.after_promotion,
                    f"{age.total_seconds() / 86400:.1f}d",
                    duration_text(policy.after_promotion),
                )
            )
        if facts.last_rejection is not None:
            age = now - facts.last_rejection
            guards.append(
                Guard(
                    "cooldown after rejection",
                    age >= policy.after_rejection,
                    f"{age.total_seconds() / 86400:.1f}d",
                    duration_text(policy.after_rejection),
                )
            )
    guards.append(_budget(policy, facts, now))
    return tuple(guards)


def _budget(policy: Policy, facts: Facts, now: datetime) -> Guard:
    spent = sum(now - at < policy.budget_per for at in facts.trained_at)
    limit = f"{policy.budget_runs} per {duration_text(policy.budget_per)}"
    return Guard("budget", spent < policy.budget_runs, spent, limit)


def _unmet(guard: Guard) -> str:
    if guard.name == "labels can be learned from":
        return str(guard.observed)
    if guard.name == "budget":
        return f"the budget of {guard.threshold} is spent; wait, or raise retraining.budget.runs"
    return f"{guard.name} is {guard.observed}, needs {guard.threshold}"


def _suppression(policy: Policy, facts: Facts, now: datetime) -> str | None:
    failed = [g.name for g in _limits(policy, facts, now, asked=False) if not g.passed]
    return f"{', '.join(failed)} (champion {facts.champion})" if failed else None


def _triage(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    asked = cycle.trigger in ("proposal", "operator")
    guards = _limits(policy, facts, now, asked=asked)
    if facts.data_incidents:
        return _go(
            cycle,
            "DATA_INCIDENT",
            f"{len(facts.data_incidents)} open data incident(s): data first, no retraining",
            guards,
            changes={"changes": {**cycle.changes, "incidents": list(facts.data_incidents)}},
            effects=("notify",),
        )
    failed = [g for g in guards if not g.passed]
    if failed:
        why = "suppressed: " + "; ".join(_unmet(g) for g in failed)
        suggest = policy.mode == "suggest" and [g.name for g in failed] == ["mode"]
        if suggest:
            why = f"{cycle.trigger} fires; the loop only suggests: `loopline run` starts it"
        return _go(
            cycle,
            "SUPPRESSED",
            why,
            guards,
            changes={"changes": {**cycle.changes, "suppressed": _suppression(policy, facts, now) or why}},
            effects=("notify",) if suggest else (),
        )
    return _go(cycle, "SNAPSHOT", f"{cycle.trigger}: nothing stands against training", guards, effects=("prepare",))


def _data_incident(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    override = next((s for s in signals if s.kind == "operator" and s.evidence.get("do") == "override"), None)
    if override is not None:
        by = override.evidence.get("by", "an operator")
        budget = _budget(policy, facts, now)
        if not budget.passed:
            return _go(cycle, "SUPPRESSED", f"{by} overrides the incident, but the budget is spent", (budget,))
        return _go(
            cycle,
            "SNAPSHOT",
            f"{by} overrides the incident",
            (budget,),
            consumed=(override.key,),
            effects=("prepare",),
        )
    if facts.data_incidents:
        return _stay(
            cycle,
            "waiting for the data incident to be resolved",
            Guard("data is sound", False, len(facts.data_incidents), 0, ",".join(facts.data_incidents)),
        )
    return _go(
        cycle,
        "SUPPRESSED",
        "the data incident is resolved; no retraining came of it",
        (Guard("data is sound", True, 0, 0),),
    )


# ---------------------------------------------------------------- making a candidate


def _effect(facts: Facts, kind: str) -> EffectState | None:
    return next((e for e in facts.effects if e.kind == kind), None)


def _after(cycle: Cycle, facts: Facts, kind: str, then: str, effects: tuple[str, ...] = ()) -> Decision:
    """Wait for an effect, which is delivered as often as it may; go on when it is done, give up when it failed."""
    effect = _effect(facts, kind)
    if effect is None or effect.status in ("pending", "running"):
        why = f"waiting for {kind}" + (f", which is tried again: {effect.error}" if effect and effect.error else "")
        return _stay(cycle, why, Guard(kind, False, effect.status if effect else "not started", "done"))
    if effect.status == "failed":
        return _go(
            cycle,
            "FAILED",
            f"{kind} failed: {effect.error}",
            (Guard(kind, False, effect.error, "done"),),
            effects=("notify",),
        )
    changes = {"changes": {**cycle.changes, **(effect.result or {})}}
    return _go(cycle, then, f"{kind} is done", (Guard(kind, True, "done", "done"),), changes=changes, effects=effects)


def _snapshot(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    return _after(cycle, facts, "prepare", "TRAIN", ("train",))


def _train(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    return _after(cycle, facts, "train", "EVALUATE", ("evaluate",))


def _evaluate(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    return _after(cycle, facts, "evaluate", "GATE")


def _gate(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    if facts.passed is None:
        return _stay(cycle, "waiting for the report")
    guard = Guard(
        "gates", facts.passed, "passed" if facts.passed else "; ".join(facts.failed_gates), "all pass", facts.report
    )
    if not facts.passed:
        return _go(
            cycle, "REJECTED", "rejected by the gates: " + "; ".join(facts.failed_gates), (guard,), effects=("notify",)
        )
    if policy.approvals_needed:
        return _go(
            cycle,
            "AWAIT_APPROVAL",
            f"gates passed; {policy.approvals_needed} approval(s) needed",
            (guard,),
            effects=("notify",),
        )
    return _release(cycle, policy, facts, guard)


def _await_approval(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    guard = Guard("approvals", facts.approved, facts.approvals_given, policy.approvals_needed)
    if facts.refused:
        return _go(cycle, "REJECTED", f"refused by {facts.refused}", (guard,), effects=("notify",))
    if facts.approved:
        return _release(cycle, policy, facts, guard)
    deadline = cycle.entered_at + policy.approval_expires
    if now >= deadline:
        return _go(
            cycle,
            "EXPIRED",
            f"no approval within {duration_text(policy.approval_expires)}",
            (guard,),
            effects=("notify",),
        )
    if any(s.kind == "proposal" for s in signals):
        return _go(cycle, "SUPERSEDED", "a fresher candidate was proposed", (guard,), effects=("notify",))
    return replace(_stay(cycle, "waiting for an approval", guard), wait_until=deadline)


# ---------------------------------------------------------------- release


def _release(cycle: Cycle, policy: Policy, facts: Facts, *guards: Guard) -> Decision:
    if facts.champion is None or not policy.canary:
        why = (
            "first release: there is no champion to compare with"
            if facts.champion is None
            else "released directly: the plan has no canary"
        )
        return _go(
            cycle,
            "WATCH",
            why,
            (*guards, Guard("champion", facts.champion is not None, facts.champion, "a version")),
            effects=("promote",),
        )
    return _go(cycle, "ROLLOUT", f"canary at {policy.canary[0]:.0%}", guards, effects=("deploy",))


def _rollout(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    kind = "deploy" if cycle.step == 0 else "set_traffic"
    effect = _effect(facts, kind)
    if effect is not None and effect.status == "failed":
        return _go(
            cycle,
            "ROLLING_BACK",
            f"{kind} failed: {effect.error}",
            (Guard(kind, False, effect.error, "done"),),
            effects=("roll_back",),
        )
    seen = facts.rollout
    if effect is None or effect.status != "done" or seen is None or not seen.applied:
        return _stay(
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
        return _go(cycle, "ROLLING_BACK", f"the canary is worse: {seen.reason}", (guard,), effects=("roll_back",))
    agreed = _parity(policy, facts.parity)
    if facts.parity is not None and facts.parity.differing and policy.parity:
        why = f"training and serving disagree: {facts.parity.told}"
        return _go(cycle, "ROLLING_BACK", why, (guard, agreed), effects=("roll_back",))
    if cycle.paused:
        return _stay(cycle, "paused by an operator", guard)
    deadline = cycle.entered_at + policy.each_at_most
    proven = seen.verdict == "fine"
    if not proven and now < deadline:
        return replace(_stay(cycle, f"canary at {share:.0%}: undecided", guard), wait_until=deadline)
    if not proven and policy.risk == "high":
        return _stay(cycle, f"canary at {share:.0%}: undecided at the limit; risk is high, so it holds", guard)
    said = "not worse" if proven else f"unproven after {duration_text(policy.each_at_most)}"
    if not proven and seen.reason:
        said = f"{said} ({seen.reason})"
    unproven = [*cycle.changes.get("unproven", []), *([] if proven else [cycle.step])]
    changes = {"changes": {**cycle.changes, "unproven": unproven}}
    if cycle.step + 1 < len(policy.canary):
        after = policy.canary[cycle.step + 1]
        return _go(
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
        return replace(_stay(cycle, why, guard, agreed), wait_until=deadline)
    if not agreed.passed and policy.risk == "high":
        return _stay(cycle, "parity is unproven at the limit; risk is high, so it holds", guard, agreed)
    if not agreed.passed:
        changes["changes"]["unproven"] = [*unproven, "parity"]
        of = f" in {facts.parity.open:,} features" if facts.parity is not None and facts.parity.open else ""
        said = f"{said}, parity unproven{of},"
    why = f"{said} at {share:.0%}; on to everyone"
    return _go(cycle, "WATCH", why, (guard, agreed), changes=changes, effects=("promote",))


def _parity(policy: Policy, parity: Parity | None) -> Guard:
    """Whether enough of the canary's requests were computed again, each feature among them, and all agree."""
    rows = parity.rows if parity is not None else 0
    agree = parity is not None and not parity.differing and not parity.open
    passed = not policy.parity or (agree and rows >= policy.parity)
    return Guard("parity", passed, rows, policy.parity, parity.report if parity is not None else None)


def _watch(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    effect = _effect(facts, "promote")
    if effect is not None and effect.status == "failed":
        return _go(
            cycle,
            "ROLLING_BACK",
            f"promotion failed: {effect.error}",
            (Guard("promote", False, effect.error, "done"),),
            effects=("roll_back",),
        )
    if effect is None or effect.status != "done":
        return _stay(
            cycle, "waiting for the promotion", Guard("promote", False, effect.status if effect else None, "done")
        )
    return _go(
        cycle,
        "PROMOTED",
        "released to everyone",
        (Guard("promote", True, "done", "done"),),
        effects=("notify",),
        changes={"changes": {**cycle.changes, **(effect.result or {})}},
    )


def _rolling_back(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    effect = _effect(facts, "roll_back")
    if effect is None or effect.status in ("pending", "running"):
        return _stay(
            cycle, "waiting for the rollback", Guard("roll_back", False, effect.status if effect else None, "done")
        )
    if effect.status == "failed":
        return _go(
            cycle,
            cycle.state,
            f"rollback failed, trying again: {effect.error}",
            attempt=cycle.attempt + 1,
            effects=("roll_back",),
        )
    return _go(
        cycle,
        "ROLLED_BACK",
        "the champion serves everyone again",
        (Guard("roll_back", True, "done", "done"),),
        effects=("notify",),
        changes={"changes": {**cycle.changes, **(effect.result or {})}},
    )


_STATES = {
    "TRIAGE": _triage,
    "DATA_INCIDENT": _data_incident,
    "SNAPSHOT": _snapshot,
    "TRAIN": _train,
    "EVALUATE": _evaluate,
    "GATE": _gate,
    "AWAIT_APPROVAL": _await_approval,
    "ROLLOUT": _rollout,
    "WATCH": _watch,
    "ROLLING_BACK": _rolling_back,
}


def _stay(cycle: Cycle, why: str, *guards: Guard) -> Decision:
    return Decision(cycle.state, cycle.state, why, guards)


def _go(
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
