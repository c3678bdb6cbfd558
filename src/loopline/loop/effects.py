"""Effects taken from the outbox and carried out, once each as far as anyone can tell."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopline.base.clock import monotonic
from loopline.base.errors import LooplineError, NotFound, Unavailable
from loopline.base.ids import content_id, iso
from loopline.base.keys import SigningKey
from loopline.base.log import logger
from loopline.base.nouns import from_doc, to_doc
from loopline.loop import facts, publishing
from loopline.loop.adapters import declared, webhook
from loopline.loop.renewing import Renewing
from loopline.monitoring.nouns import Incident
from loopline.registry.nouns import Version
from loopline.retraining.nouns import Cycle
from loopline.serving.nouns import DesiredState, Variant
from loopline.store.records.protocol import Effect
from loopline.workspace import Workspace, verb

if TYPE_CHECKING:
    from loopline.loop.project import Project

log = logger(__name__)

APPLY_WAIT_S = 15.0
RELENTLESS = frozenset({"roll_back"})
"""Kinds that are tried until they work, whatever the error."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long others are waited for, in seconds of the machine's clock."""

    lease_s: float = 30.0
    """A holder elsewhere that has not been heard of for so long is taken for dead."""
    tries: int = 5
    """How often an effect that somebody is not there for is delivered before it has failed."""
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0

    def pause_s(self, tried: int) -> float:
        """How long to wait after the n-th delivery: 1 s, 4 s, 16 s, then a minute."""
        return min(self.first_pause_s * 4.0 ** min(tried - 1, 20), self.longest_pause_s)


PATIENCE = Patience()


def perform_next(
    ws: Workspace, project: Project, owner: str, *, progress: Callable[[str], None], patience: Patience = PATIENCE
) -> bool:
    """Carry out the oldest effect of the loop that is due; true when there was one.

    A running effect whose process died is taken over, under the same id: at once
    when that process was of this host, else when its lease runs out. `Unavailable`
    is met by delivering again, under the same id, after a pause; any other error
    is final, except for what must not fail (`RELENTLESS`).
    """
    claimed = ws.records.claim(facts.topic(project.name), owner, lease_s=patience.lease_s)
    for effect, fence in claimed:
        progress(f"{effect.kind} ...")
        with _kept(ws, effect, fence, patience.lease_s):
            try:
                result = to_doc(perform(ws, project, effect))
            except LooplineError as error:
                log.info("effect %s failed: %s", effect.id, error)
                _settle_failed(ws, effect, fence, str(error), error.as_dict(), patience, isinstance(error, Unavailable))
            except Exception as error:  # a mistake in code must not hold the loop for ever
                log.exception("effect %s failed", effect.id)
                _settle_failed(ws, effect, fence, f"{type(error).__name__}: {error}", {}, patience, again=False)
            else:
                ws.records.settle(effect.id, fence, result=result)
    return bool(claimed)


def _settle_failed(
    ws: Workspace, effect: Effect, fence: int, said: str, doc: dict[str, Any], patience: Patience, again: bool
) -> None:
    if effect.kind in RELENTLESS or (again and effect.attempts < patience.tries):
        pause_s = patience.pause_s(effect.attempts)
        told = said.splitlines()[0] if said != effect.error else "the same again"
        log.warning("%s, delivery %d: %s; tried again in %g s", effect.id, effect.attempts, told, pause_s)
        ws.records.settle(effect.id, fence, error=said, retry_in_s=pause_s)
    else:
        ws.records.settle(effect.id, fence, error=said, result={**doc, "final": True})


def due_in(
    ws: Workspace, project: Project, patience: Patience = PATIENCE, *, but: frozenset[str] = frozenset()
) -> float | None:
    """Seconds after which an effect that is to be delivered again is surely due; null when there is none.

    Kinds in `but` do not count.
    """
    waiting = ws.records.effects(topic=facts.topic(project.name), status="pending")
    return min((patience.pause_s(e.attempts) for e in waiting if e.attempts and e.kind not in but), default=None)


def perform(ws: Workspace, project: Project, effect: Effect) -> dict[str, Any]:
    """Carry out one effect: by the adapter that the project declares for its kind, or ours."""
    row = ws.records.row(facts.CYCLE, effect.request["cycle"])
    if row is None:
        raise NotFound(
            f"cycle {effect.request['cycle']} is gone", why="the effect belongs to it", fix="run `loopline doctor`"
        )
    cycle = from_doc(Cycle, row.doc)
    if effect.kind in TRAFFIC or effect.kind not in project.spec.retraining.effects:
        return OURS[effect.kind](ws, project, cycle, effect)
    return _hand_over(ws, project, cycle, effect, effect.kind)


def _hand_over(
    ws: Workspace, project: Project, cycle: Cycle, effect: Effect, declared_as: str, **more: Any
) -> dict[str, Any]:
    """Have the shell command or webhook declared under `declared_as` carry the effect out."""
    spec = project.spec.retraining.effects[declared_as]  # type: ignore[index]
    adapter = declared(spec, cwd=project.root, key=SigningKey.load(f"workspace-{ws.id}", create=True))
    request = {**effect.request, "loop": project.name, "changes": cycle.changes, **more}
    return {**adapter(effect.id, effect.kind, request), "by": "shell" if spec.shell else "webhook"}


# ---------------------------------------------------------------- ours


def _long(ws: Workspace, project: Project, cycle: Cycle, effect: Effect) -> dict[str, Any]:
    from loopline.compute import StepSpec

    proposal = cycle.changes.get("proposal") or {}
    held = facts.champion(ws, project.name)
    args = {
        "project": str(project.root),
        "actor": ws.actor,
        "effect": effect.id,
        "author": cycle.author or "service:loop",
        "training": proposal.get("training"),
        "views": proposal.get("views"),
        "changes": cycle.changes,
        "at": iso(cycle.started_at),
        "champion": held[0].model if held else None,
        "policy": {"id": cycle.policy},
    }
    started = monotonic()
    result = ws.compute.submit(StepSpec(f"loopline.loop.steps:{effect.kind}", args)).result()
    return {**result, f"{effect.kind}_seconds": round(monotonic() - started, 3)}


def _variant(ws: Workspace, version_id: str, share: int, role: str) -> Variant:
    version = ws.records.get(Version, version_id)
    return Variant(version.id, version.number, version.bundle, share, role)


def _set_traffic(ws: Workspace, project: Project, cycle: Cycle, effect: Effect) -> dict[str, Any]:
    """Champion and canary side by side, at the share of the effect's step."""
    held = facts.champion(ws, project.name)
    if held is None:
        raise NotFound("there is no champion to put a canary beside", why="nothing is released", fix="`loopline run`")
    share = round(project.spec.serving.release.canary[effect.request["step"]] * 10_000)
    variants = (
        _variant(ws, held[0].id, 10_000 - share, "champion"),
        _variant(ws, cycle.changes["version"], share, "canary"),
    )
    return _serve(ws, project, cycle, effect, variants)


def _promote(ws: Workspace, project: Project, cycle: Cycle, effect: Effect) -> dict[str, Any]:
    from loopline import registry

    held = facts.champion(ws, project.name)
    version = cycle.changes["version"]
    release = registry.promote(
        ws, version, reason=f"cycle {cycle.id}: {effect.request['why']}", approvals=project.spec.registry.approvals
    )
    previous = held[0].id if held and held[0].id != version else release.previous
    variants: tuple[Variant, ...] = (_variant(ws, version, 10_000, "champion"),)
    if previous:
        variants += (_variant(ws, previous, 0, "previous"),)
    served = _serve(ws, project, cycle, effect, variants)
    registry.retire(ws, project.name, keep=project.spec.registry.keep)
    return {"release": release.id, **served}


def _roll_back(ws: Workspace, project: Project, cycle: Cycle, effect: Effect) -> dict[str, Any]:
    from loopline import registry

    held = facts.champion(ws, project.name)
    if held is None:
        return {}
    champion = held[0].id
    if champion == cycle.changes.get("version") and held[1].previous:
        champion = registry.rollback(ws, project.name, reason=effect.request["why"]).version
    incident = open_release_incident(ws, project.name, cycle, effect.request["why"])
    served = _serve(ws, project, cycle, effect, (_variant(ws, champion, 10_000, "champion"),))
    return {"incident": incident.id, **served}


@verb("loop.open_release_incident")
def open_release_incident(ws: Workspace, endpoint: str, cycle: Cycle, why: str) -> Incident:
    """Put a release that was taken back on the list of things to explain."""
    incident_id = content_id({"cycle": cycle.id, "kind": "release"})
    known = ws.records.find(Incident, id=incident_id)
    if known:
        return known[0]
    now = ws.clock()
    return Incident(
        id=incident_id,
        subject=f"endpoint:{endpoint}",
        area="release",
        title=f"version {cycle.changes.get('number')} was rolled back: {why}",
        alerts=(),
        bad_from=cycle.entered_at,
        bad_to=now,
        opened_at=now,
        playbook="See which guardrail spoke (`loopline why` the version) and which input or error stands behind it.",
    )


TRAFFIC: dict[str, tuple[str, ...]] = {
    "deploy": facts.PLANE,
    "set_traffic": facts.PLANE[::-1],
    "promote": facts.PLANE[::-1],
    "roll_back": ("roll_back", *facts.PLANE[::-1]),
}
"""Effects that move traffic, and under which names a project may declare who moves it: the first one counts."""


def _serve(
    ws: Workspace, project: Project, cycle: Cycle, effect: Effect, variants: tuple[Variant, ...]
) -> dict[str, Any]:
    """Move traffic: through the project's adapter, and in our data plane unless another one serves."""
    named = next((kind for kind in TRAFFIC[effect.kind] if kind in project.spec.retraining.effects), None)
    found: dict[str, Any] = {}
    if named is not None:
        found |= _hand_over(ws, project, cycle, effect, named, variants=to_doc(variants))
    if not facts.plane_is_theirs(project):
        found |= _serve_ours(ws, project, variants, salt=cycle.id, back=effect.kind == "roll_back")
    return found


def _serve_ours(
    ws: Workspace, project: Project, variants: tuple[Variant, ...], *, salt: str, back: bool
) -> dict[str, Any]:
    """Write the desired state, unless it is already the newest, and wait until it is served.

    Going back waits for no online store: what the champion reads is there already.
    """
    from loopline import serving

    last = ws.records.find(DesiredState, limit=1, endpoint=project.name)
    if last and (last[0].variants, last[0].salt) == (variants, salt):
        state = last[0]
    else:
        if publishing.ours(ws, project) and not back:
            publishing.publish(ws, project, [one.version for one in variants])
        state = serving.deploy(
            ws,
            project.name,
            variants=variants,
            release=project.spec.serving.release,
            fallback=project.spec.serving.fallback,
            salt=salt,
            online=project.spec.serving.features == "online",
        )
    deadline = monotonic() + APPLY_WAIT_S
    while serving.supervisor_pid(ws, project.name) and monotonic() < deadline:
        status = serving.status(ws, project.name)
        if status is not None and status.generation >= state.generation:
            break
        time.sleep(0.02)
    return {"generation": state.generation}


def _notify(ws: Workspace, project: Project, cycle: Cycle, effect: Effect) -> dict[str, Any]:
    owner = project.spec.framing.owner
    if owner is None or owner.notify is None:
        return {"told": None}
    key = SigningKey.load(f"workspace-{ws.id}", create=True)
    body = {
        "loop": project.name,
        "cycle": cycle.id,
        "state": effect.request["state"],
        "why": effect.request["why"],
        "owner": owner.name,
    }
    webhook(owner.notify, key=key, timeout_s=10.0)(effect.id, "notify", body)
    return {"told": owner.name}


OURS: dict[str, Callable[[Workspace, Any, Cycle, Effect], dict[str, Any]]] = {
    "prepare": _long,
    "train": _long,
    "evaluate": _long,
    "deploy": _set_traffic,
    "set_traffic": _set_traffic,
    "promote": _promote,
    "roll_back": _roll_back,
    "notify": _notify,
}


def _kept(ws: Workspace, effect: Effect, fence: int, lease_s: float) -> Renewing:
    """Extends the effect's lease while the block runs."""
    return Renewing(lambda: ws.records.extend(effect.id, fence, lease_s=lease_s), lease_s=lease_s)
