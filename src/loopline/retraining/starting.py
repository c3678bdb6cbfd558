"""Whether a training may start: triggers, limits, incidents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from loopline.base.spec import duration_text
from loopline.retraining.nouns import Cycle, Decision, Guard, Signal
from loopline.retraining.policy import Facts, Policy, Trigger
from loopline.retraining.states import go, stay


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


def idle(signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
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


def incident_key(facts: Facts) -> str:
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


def triage(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    asked = cycle.trigger in ("proposal", "operator")
    guards = _limits(policy, facts, now, asked=asked)
    if facts.data_incidents:
        return go(
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
        return go(
            cycle,
            "SUPPRESSED",
            why,
            guards,
            changes={"changes": {**cycle.changes, "suppressed": _suppression(policy, facts, now) or why}},
            effects=("notify",) if suggest else (),
        )
    return go(cycle, "SNAPSHOT", f"{cycle.trigger}: nothing stands against training", guards, effects=("prepare",))


def data_incident(cycle: Cycle, signals: Sequence[Signal], policy: Policy, facts: Facts, now: datetime) -> Decision:
    override = next((s for s in signals if s.kind == "operator" and s.evidence.get("do") == "override"), None)
    if override is not None:
        by = override.evidence.get("by", "an operator")
        budget = _budget(policy, facts, now)
        if not budget.passed:
            return go(cycle, "SUPPRESSED", f"{by} overrides the incident, but the budget is spent", (budget,))
        return go(
            cycle,
            "SNAPSHOT",
            f"{by} overrides the incident",
            (budget,),
            consumed=(override.key,),
            effects=("prepare",),
        )
    if facts.data_incidents:
        return stay(
            cycle,
            "waiting for the data incident to be resolved",
            Guard("data is sound", False, len(facts.data_incidents), 0, ",".join(facts.data_incidents)),
        )
    return go(
        cycle,
        "SUPPRESSED",
        "the data incident is resolved; no retraining came of it",
        (Guard("data is sound", True, 0, 0),),
    )
