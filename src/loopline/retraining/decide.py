"""The pure heart of the loop: what happens next, and why.

`decide` reads no clock, no store and no network. The reconciler, `plan`, `why`
and `replay` all call it, so what is explained is what is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from loopline.retraining.making import await_approval, evaluate, gate, snapshot, train
from loopline.retraining.nouns import Cycle, Decision, Signal
from loopline.retraining.policy import Facts, Policy
from loopline.retraining.releasing import rolling_back, rollout, watch
from loopline.retraining.starting import data_incident, idle, incident_key, triage
from loopline.retraining.states import NEXT, go, stay


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
        return idle(signals, policy, facts, now)
    paused = _pause(cycle, signals)
    if paused is not None:
        return paused
    if cycle.paused and cycle.state not in ("ROLLOUT", "WATCH", "ROLLING_BACK"):
        return stay(cycle, "paused by an operator; `loopline resume` goes on")
    cancel = next((s for s in signals if s.kind == "operator" and s.evidence.get("do") == "cancel"), None)
    if cancel is not None and "CANCELLED" in NEXT[cycle.state]:
        aside = {**cycle.changes, "suppressed": incident_key(facts)} if cycle.state == "DATA_INCIDENT" else None
        changes = {"changes": aside} if aside else None
        return go(cycle, "CANCELLED", _said(cancel), changes=changes, consumed=(cancel.key,), effects=("notify",))
    if cancel is not None and cycle.state == "ROLLOUT":
        return go(cycle, "ROLLING_BACK", _said(cancel), consumed=(cancel.key,), effects=("roll_back",))
    return _STATES[cycle.state](cycle, signals, policy, facts, now)


def _said(cancel: Signal) -> str:
    return f"cancelled by {cancel.evidence.get('by', 'an operator')}"


def _pause(cycle: Cycle, signals: Sequence[Signal]) -> Decision | None:
    for signal in signals:
        wish = signal.evidence.get("do") if signal.kind == "operator" else None
        if wish in ("pause", "resume"):
            return replace(
                stay(cycle, f"{wish}d by {signal.evidence.get('by', 'an operator')}"),
                consumed=(signal.key,),
                changes={"paused": wish == "pause"},
            )
    return None


_STATES = {
    "TRIAGE": triage,
    "DATA_INCIDENT": data_incident,
    "SNAPSHOT": snapshot,
    "TRAIN": train,
    "EVALUATE": evaluate,
    "GATE": gate,
    "AWAIT_APPROVAL": await_approval,
    "ROLLOUT": rollout,
    "WATCH": watch,
    "ROLLING_BACK": rolling_back,
}
