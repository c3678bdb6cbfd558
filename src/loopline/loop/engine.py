"""The reconciler: one decision, one transaction, then the effects it asked for.

Nothing sleeps in here. A loop that waits is a row; whoever changes the world
wakes the reconciler, which looks, decides and goes away again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from loopline.base.errors import Conflict, Invalid, LooplineError, NotFound
from loopline.base.ids import content_id, iso, moment
from loopline.base.log import logger
from loopline.base.nouns import to_doc
from loopline.base.process import holder
from loopline.evaluation.spec import METRICS
from loopline.loop import effects, facts, parity, publishing, sampling
from loopline.loop.effects import PATIENCE, Patience
from loopline.loop.moving import moving, take_over
from loopline.loop.transitions import moved, transition
from loopline.loop.windows import check_window, due_windows, ingest, take_in
from loopline.retraining.decide import decide
from loopline.retraining.nouns import Cycle, Decision, Signal, Transition
from loopline.retraining.states import ENDS, TABLE
from loopline.store.records.protocol import Row
from loopline.workspace import CLOCK, Workspace, flow, query, recorded, verb

if TYPE_CHECKING:
    from loopline.loop.project import Project

log = logger(__name__)

MOVES_PER_TICK = 64
Progress = Callable[[str], None]


def _quiet(_: str) -> None:
    return None


# ---------------------------------------------------------------- signals


@verb("loop.propose")
def propose(
    ws: Workspace,
    project: Project,
    *,
    training: dict[str, Any] | None = None,
    views: list[str] | None = None,
    reason: str = "by hand",
) -> Signal:
    """Ask the loop for a candidate, perhaps with another recipe or other views.

    Gates cannot see who proposed. The same proposal at the same moment arrives once.

    Parameters
    ----------
    training : dict, optional
        Keys of section `training` to use instead, such as `{"window": "30d"}`.
    views : list of str, optional
        View files to use instead of those in `loop.yaml`.
    reason : str
        Goes into the records.
    """
    from loopline.training.spec import TrainingSpec

    if training:
        TrainingSpec.model_validate({**project.spec.training.model_dump(mode="json"), **training})
    now = ws.clock()
    evidence = {"training": training or {}, "views": views, "reason": reason, "by": ws.actor, "do": "run"}
    key = f"proposal/{iso(now)}/{content_id(evidence)[:12]}"
    signal = Signal(key, "proposal" if training or views else "operator", now, evidence)
    ws.on_commit(lambda tx: tx.signal(project.name, signal.key, signal.kind, now, evidence))
    return signal


@verb("loop.command")
def command(ws: Workspace, project: Project, *, do: str, reason: str = "") -> Signal:
    """Pause, resume or cancel the running cycle, or override its data incident."""
    if do not in ("pause", "resume", "cancel", "override"):
        raise Invalid(
            f"{do!r} is not a command",
            why="a loop can be told pause, resume, cancel or override",
            fix="choose one of these",
        )
    if facts.current_cycle(ws, project.name) is None:
        raise NotFound(
            f"the loop {project.name} is idle",
            why=f"there is no cycle to {do}",
            fix="`loopline status` shows what runs",
        )
    now = ws.clock()
    evidence = {"do": do, "by": ws.actor, "reason": reason}
    signal = Signal(f"{do}/{iso(now)}/{ws.actor}", "operator", now, evidence)
    ws.on_commit(lambda tx: tx.signal(project.name, signal.key, signal.kind, now, evidence))
    return signal


# ---------------------------------------------------------------- looking


@query("loop.plan")
def plan(
    ws: Workspace, project: Project, *, at: datetime | None = None, assume: dict[str, float] | None = None
) -> Decision:
    """What the loop would do now, or at a time, or under an assumption. Nothing is done.

    Parameters
    ----------
    at : datetime, optional
        UTC; the present by default.
    assume : dict, optional
        Metric to the value its trailing window shall have, without uncertainty.

    Raises
    ------
    Invalid
        If there is no such metric, or `at` is past: what is known now was not known then.
    """
    now = ws.clock()
    if at is not None and at < now:
        raise Invalid(
            f"{iso(at)} is past: the workspace's clock stands at {iso(now)}",
            why="a plan goes from what is known now; what the loop did then is in the records",
            fix="name a later moment, or see the past: `loopline replay --since ...`, the page /retraining",
        )
    if unknown := sorted(set(assume or ()) - set(METRICS)):
        raise Invalid(
            f"there is no metric {unknown[0]!r} to assume",
            why="triggers judge metrics of labelled answers",
            fix=f"name one of: {', '.join(METRICS)}",
        )
    cycle = facts.current_cycle(ws, project.name)
    seen = facts.gather(ws, project, cycle)
    if assume:
        quality = dict(seen.quality or {})
        quality.update({name: (value, value, value) for name, value in assume.items()})
        seen = replace(seen, quality=quality, quality_id="assumed")
    return decide(cycle, facts.signals(ws, project.name), facts.policy(project), seen, at or now)


@query("loop.status")
def status(ws: Workspace, project: Project) -> dict[str, Any]:
    """Where the loop stands: cycle, champion, quality (the primary metric first), incidents, budget, next decision."""
    from loopline import monitoring, serving

    cycle = facts.current_cycle(ws, project.name)
    seen = facts.gather(ws, project, cycle)
    held = facts.champion(ws, project.name)
    decision = plan(ws, project)
    endpoint = serving.status(ws, project.name)
    policy = facts.policy(project)
    primary, quality = project.spec.evaluation.primary, seen.quality
    spent = sum(ws.clock() - at < policy.budget_per for at in seen.trained_at)
    return {
        "name": project.name,
        "at": iso(ws.clock()),
        "mode": policy.mode,
        "state": cycle.state if cycle else "IDLE",
        "cycle": to_doc(cycle) if cycle else None,
        "champion": to_doc(held[0]) if held else None,
        "primary": primary,
        "quality": quality and {m: quality[m] for m in sorted(quality, key=lambda m: m != primary)},
        "incidents": [to_doc(i) for i in monitoring.open_incidents(ws)],
        "late": monitoring.late_views(ws, project.name),
        "endpoint": to_doc(endpoint) if endpoint else None,
        "budget": {"spent": spent, "runs": policy.budget_runs, "per_days": policy.budget_per / timedelta(days=1)},
        "next": to_doc(decision),
    }


@query("loop.history")
def history(ws: Workspace, project: Project, *, limit: int | None = None) -> list[Transition]:
    """Decisions of this loop, newest first."""
    return ws.records.find(Transition, loop=project.name, limit=limit)


# ---------------------------------------------------------------- acting


@flow("loop.tick")
def tick(
    ws: Workspace,
    project: Project,
    *,
    wait: bool = True,
    progress: Progress = _quiet,
    patience: Patience = PATIENCE,
) -> list[Transition]:
    """Bring the loop as far as it can go now, and return what was decided.

    Takes in new rows and checks the monitoring windows that have closed, decides,
    commits, performs the effects, and looks again, until there is nothing left
    but to wait. Rows are left to the player while a replay has set the clock.

    What a process of this host held when it was killed is taken over at once.

    Parameters
    ----------
    wait : bool
        Carry out effects (also long ones such as a training) before returning.
    patience : Patience
        How long holders elsewhere, and receivers of effects, are waited for.

    Raises
    ------
    Conflict
        If another process holds this loop.
    LooplineError
        If new rows could not be taken in, or the online store not be brought up to date;
        all that needs neither was done before.
    """
    take_over(ws)
    owner = holder()
    made: list[Transition] = []
    missing: LooplineError | None = None

    def advance() -> None:
        made.extend(_advance(ws, project, owner, wait=wait, progress=progress, patience=patience))

    with moving(ws, project, owner, patience):
        due = due_windows(ws, project)
        try:
            if not ws.records.meta(CLOCK):
                take_in(ws, project, everything=bool(due))
        except LooplineError as error:
            missing, due = error, []
        for care in (publishing.keep_up, publishing.watch):
            try:
                care(ws, project)
            except LooplineError as error:
                missing = missing or error
        for since, until in due:
            check_window(ws, project, since, until)
            advance()
        parity.look(ws, project, facts.current_cycle(ws, project.name))
        advance()
        if wait and facts.current_cycle(ws, project.name) is None:
            sampling.keep_up(ws, project)
    if missing is not None:
        raise missing
    return made


def _advance(
    ws: Workspace, project: Project, owner: str, *, wait: bool, progress: Progress, patience: Patience
) -> list[Transition]:
    made: list[Transition] = []
    for _ in range(MOVES_PER_TICK):
        moved = step(ws, project)
        if moved is not None:
            made.append(moved)
            progress(f"{moved.before} -> {moved.after}: {moved.why}")
        performed = wait and effects.perform_next(ws, project, owner, progress=progress, patience=patience)
        if moved is None and not performed:
            return made
    raise RuntimeError(f"the loop {project.name} did not settle within {MOVES_PER_TICK} moves")


def step(ws: Workspace, project: Project) -> Transition | None:
    """One decision and its commit; null when there was nothing to do."""
    name, now = project.name, ws.clock()
    cycle = facts.current_cycle(ws, name)
    policy = facts.policy(project)
    decision = decide(cycle, facts.signals(ws, name), policy, facts.gather(ws, project, cycle), now)
    if decision.next == decision.state and not decision.effects and not decision.consumed:
        return None
    doc, loop_generation = facts.loop_doc(ws, name)
    if cycle is None and decision.next == "IDLE":
        with ws.records.transaction(durable=False) as tx:
            tx.consume(name, list(decision.consumed), "IDLE")
        return None
    if cycle is None:
        number = int(doc.get("cycles", 0)) + 1
        doc["cycles"] = number
        cycle_id = f"{name}/{number}"
        before = Cycle(cycle_id, name, "IDLE", 0, now, now, policy.id, TABLE)
    else:
        before = cycle
    after = moved(before, decision, now)
    doc = facts.remember(doc, after, decision.next, now, before=before.state)
    doc["cycle"] = None if decision.next in ENDS else after.id
    made = transition(before, after, decision, now)
    with recorded(
        ws,
        "loop.transition",
        after.id,
        {"before": before.state, "after": after.state, "why": decision.why, "policy": policy.id},
    ) as tx:
        tx.save(Row(facts.CYCLE, after.id, after.state, after.generation, to_doc(after)), expect=before.generation)
        tx.save(Row(facts.LOOP, name, after.state, loop_generation + 1, doc), expect=loop_generation)
        tx.consume(name, list(decision.consumed), after.id)
        for effect in decision.effects:
            tx.enqueue(effect.id, facts.topic(name), effect.kind, effect.args)
        tx.put(made)
    log.info("%s: %s -> %s (%s)", name, made.before, made.after, made.why)
    return made


# ---------------------------------------------------------------- time


def next_due(ws: Workspace, project: Project) -> datetime | None:
    """When, by the workspace clock, there is something to look at even if nobody wakes us."""
    from loopline import data

    decision = plan(ws, project)
    checked = ws.records.meta(f"checked/{project.name}")
    window = moment(checked) + project.spec.monitoring.window if checked else None
    news, refresh = data.next_due(ws, project.spec.data), publishing.next_refresh(ws, project)
    sample = sampling.due(ws, project)
    return min((t for t in (decision.wait_until, window, news, refresh, sample) if t is not None), default=None)


@verb("loop.set_clock", offered=False)
def set_clock(ws: Workspace, *, to: datetime) -> None:
    """Set the workspace's time for every process: a replay lives in the past. It never runs backwards."""
    now = ws.records.meta(CLOCK)
    if now and moment(now) > to:
        raise Conflict(
            f"the workspace clock stands at {now}, after {iso(to)}",
            why="time in a workspace never runs backwards",
            fix="name a later moment",
        )
    ws.on_commit(lambda tx: tx.set_meta(CLOCK, iso(to)))


# ---------------------------------------------------------------- in the foreground


@flow("loop.run")
def run(
    ws: Workspace, project: Project, *, progress: Progress = _quiet, patience: Patience = PATIENCE
) -> list[Transition]:
    """One whole cycle, now: rows, candidate, gates, and as far towards release as it may go.

    Raises
    ------
    Conflict
        If another process holds this loop; nothing was done.
    """
    take_over(ws)
    with moving(ws, project, holder(), patience):
        if not ws.records.meta(CLOCK):
            progress("ingest ...")
            ingest(ws, project)
        if facts.current_cycle(ws, project.name) is None:
            propose(ws, project, reason="loopline run")
    made = tick(ws, project, progress=progress, patience=patience)
    for _ in range(patience.tries):
        pause = effects.due_in(ws, project, patience, but=frozenset({"notify"}))
        if pause is None:
            break
        progress(f"an effect is tried again in {pause:.0f} s ...")
        time.sleep(pause)
        made += tick(ws, project, progress=progress, patience=patience)
    return made


__all__ = [
    "command",
    "due_windows",
    "history",
    "ingest",
    "next_due",
    "plan",
    "propose",
    "run",
    "status",
    "step",
    "tick",
]
