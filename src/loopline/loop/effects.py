"""Effects taken from the outbox and carried out, once each as far as anyone can tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loopline.base.clock import monotonic
from loopline.base.errors import LooplineError, NotFound, Unavailable
from loopline.base.ids import content_id, iso
from loopline.base.keys import SigningKey
from loopline.base.log import logger
from loopline.base.nouns import from_doc, to_doc
from loopline.loop import facts
from loopline.loop.adapters import Adapter, declared, webhook
from loopline.monitoring.nouns import Incident
from loopline.registry.nouns import Version
from loopline.retraining.nouns import Cycle
from loopline.serving.nouns import DesiredState, Variant
from loopline.store.records.protocol import Effect
from loopline.workspace import Workspace, verb

if TYPE_CHECKING:
    from loopline.loop.project import Project

log = logger(__name__)

LEASE_S = 30.0
LONG = {"prepare", "train", "evaluate"}
APPLY_WAIT_S = 15.0


def perform_pending(ws: Workspace, project: Project, owner: str, *, progress: Callable[[str], None]) -> bool:
    """Carry out every effect of the loop that is due; true when there was one.

    A running effect whose process died is taken over when its lease runs out.
    """
    claimed = ws.records.claim(facts.topic(project.name), owner, lease_s=LEASE_S, limit=8)
    for effect, fence in claimed:
        progress(f"{effect.kind} ...")
        with _kept(ws, effect, fence):
            try:
                result = perform(ws, project, effect)
            except LooplineError as error:
                log.warning("effect %s failed: %s", effect.id, error)
                final = isinstance(error, LooplineError) and not isinstance(error, Unavailable)
                ws.records.settle(effect.id, fence, error=str(error), result={"final": final, **error.as_dict()})
            else:
                ws.records.settle(effect.id, fence, result=to_doc(result))
    return bool(claimed)


def perform(ws: Workspace, project: Project, effect: Effect) -> dict[str, Any]:
    """Carry out one effect by the adapter that the project declares for its kind."""
    row = ws.records.row(facts.CYCLE, effect.request["cycle"])
    if row is None:
        raise NotFound(
            f"cycle {effect.request['cycle']} is gone", why="the effect belongs to it", fix="run `loopline doctor`"
        )
    cycle = from_doc(Cycle, row.doc)
    key = SigningKey.load(f"workspace-{ws.id}", create=True)
    spec = project.spec.retraining.effects.get(effect.kind)  # type: ignore[call-overload]
    if spec is not None:
        adapter: Adapter = declared(spec, cwd=project.root, key=key)
        request = {**effect.request, "loop": project.name, "changes": cycle.changes}
        return {**adapter(effect.id, effect.kind, request), "by": "shell" if spec.shell else "webhook"}
    return OURS[effect.kind](ws, project, cycle, effect)


# ---------------------------------------------------------------- ours


def _long(ws: Workspace, project: Project, cycle: Cycle, effect: Effect) -> dict[str, Any]:
    from loopline.compute import StepSpec

    proposal = cycle.changes.get("proposal") or {}
    held = facts.champion(ws, project.name)
    args = {
        "project": str(project.root),
        "actor": ws.actor,
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
    return _serve(ws, project, variants, salt=cycle.id)


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
    return {"release": release.id, **_serve(ws, project, variants, salt=cycle.id)}


def _roll_back(ws: Workspace, project: Project, cycle: Cycle, effect: Effect) -> dict[str, Any]:
    from loopline import registry

    held = facts.champion(ws, project.name)
    if held is None:
        return {}
    champion = held[0].id
    if champion == cycle.changes.get("version") and held[1].previous:
        champion = registry.rollback(ws, project.name, reason=effect.request["why"]).version
    incident = open_release_incident(ws, project.name, cycle, effect.request["why"])
    served = _serve(ws, project, (_variant(ws, champion, 10_000, "champion"),), salt=cycle.id)
    return {"incident": incident.id, **served}


@verb("monitoring.open")
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


def _serve(ws: Workspace, project: Project, variants: tuple[Variant, ...], *, salt: str) -> dict[str, Any]:
    """Write the desired state, unless it is already the newest, and wait until it is served."""
    from loopline import serving

    last = ws.records.find(DesiredState, limit=1, endpoint=project.name)
    if last and (last[0].variants, last[0].salt) == (variants, salt):
        state = last[0]
    else:
        state = serving.deploy(
            ws,
            project.name,
            variants=variants,
            release=project.spec.serving.release,
            fallback=project.spec.serving.fallback,
            salt=salt,
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


class _kept:
    """Extends the effect's lease while the block runs."""

    def __init__(self, ws: Workspace, effect: Effect, fence: int) -> None:
        self._extend = lambda: ws.records.extend(effect.id, fence, lease_s=LEASE_S)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(LEASE_S / 3):
            self._extend()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
