"""A decision applied to a cycle: shared by the reconciler and by replays."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from loopline.retraining.nouns import Cycle, Decision, Transition


def moved(cycle: Cycle, decision: Decision, now: datetime) -> Cycle:
    """The cycle after `decision`, one generation on."""
    fields = {key: value for key, value in decision.changes.items() if key != "changes"}
    changes = {**cycle.changes, **decision.changes.get("changes", {})}
    stays = (decision.next, fields.get("step", cycle.step)) == (cycle.state, cycle.step)
    return replace(
        cycle,
        state=decision.next,
        generation=cycle.generation + 1,
        entered_at=cycle.entered_at if stays else now,
        changes=changes,
        **fields,
    )


def transition(before: Cycle, after: Cycle, decision: Decision, now: datetime) -> Transition:
    """The record of that move."""
    return Transition(
        id=f"{after.id}/{after.generation}",
        loop=after.loop,
        cycle=after.id,
        generation=after.generation,
        before=before.state,
        after=after.state,
        why=decision.why,
        guards=decision.guards,
        effects=tuple(e.id for e in decision.effects),
        at=now,
    )
