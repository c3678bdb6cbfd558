"""What `decide` is told, gathered from the records and the data plane."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from loopline.base.ids import iso, moment
from loopline.base.nouns import from_doc
from loopline.evaluation.nouns import Report
from loopline.loop import parity
from loopline.monitoring.nouns import Quality
from loopline.registry.nouns import Release, Version
from loopline.retraining.nouns import Cycle, Signal
from loopline.retraining.policy import EffectState, Facts, Policy, Rollout, policy_of
from loopline.serving.nouns import Guardrail

if TYPE_CHECKING:
    from loopline.loop.project import Project
    from loopline.workspace import Workspace

ALIAS = "production"
LOOP = "loop"
CYCLE = "cycle"
PLANE: tuple[Literal["deploy"], Literal["set_traffic"]] = ("deploy", "set_traffic")
"""Effects whose adapter says that another data plane than ours serves."""


def topic(name: str) -> str:
    """The outbox topic of a loop."""
    return f"loop:{name}"


def policy(project: Project) -> Policy:
    """The policy that the project declares."""
    spec = project.spec
    return policy_of(spec.retraining, spec.registry, spec.serving, spec.framing.risk)


def plane_is_theirs(project: Project) -> bool:
    """Whether the project moves traffic in a data plane of its own; it then gets every move, and ours gets none."""
    return any(kind in project.spec.retraining.effects for kind in PLANE)


def loop_doc(ws: Workspace, name: str) -> tuple[dict[str, Any], int]:
    """The loop's own memory and its generation; empty and 0 before the first decision."""
    row = ws.records.row(LOOP, name)
    return (dict(row.doc), row.generation) if row else ({}, 0)


def current_cycle(ws: Workspace, name: str) -> Cycle | None:
    """The running cycle, or null when the loop is idle."""
    doc, _ = loop_doc(ws, name)
    if not doc.get("cycle"):
        return None
    row = ws.records.row(CYCLE, doc["cycle"])
    return from_doc(Cycle, row.doc) if row else None


def signals(ws: Workspace, name: str) -> list[Signal]:
    """Signals not yet used, oldest first."""
    return [Signal(key, kind, at, doc) for key, kind, at, doc in ws.records.signals(name)]


def champion(ws: Workspace, name: str) -> tuple[Version, Release] | None:
    """The version behind `production` and the release that put it there."""
    pointer = ws.records.pointer("alias", f"{name}/{ALIAS}")
    if pointer is None:
        return None
    return ws.records.get(Version, pointer.target), ws.records.get(Release, pointer.doc["release"])


def gather(ws: Workspace, project: Project, cycle: Cycle | None) -> Facts:
    """Everything `decide` looks at, as it is now."""
    from loopline import monitoring

    name = project.name
    doc, _ = loop_doc(ws, name)
    held = champion(ws, name)
    qualities = ws.records.find(Quality, limit=1, endpoint=name)
    judged = next((q for q in qualities if held and q.version == held[0].id), None)
    incidents = tuple(i.id for i in monitoring.open_incidents(ws) if i.area == "data")
    return Facts(
        champion=held[0].id if held else None,
        released=held[0].released if held else None,
        released_at=held[1].at if held else None,
        quality=_quality(qualities[0], held) if qualities else None,
        quality_id=qualities[0].id if qualities else None,
        new_labels=judged.new_labels if judged else None,
        trained_rows=judged.trained_rows if judged else None,
        last_promotion=held[1].at if held else None,
        last_rejection=moment(doc["last_rejection"]) if doc.get("last_rejection") else None,
        trained_at=tuple(moment(at) for at in doc.get("trained_at", ())),
        data_incidents=incidents,
        suppressed=doc.get("suppressed"),
        **(_of_cycle(ws, project, cycle) if cycle is not None else {}),
    )


def _quality(found: Quality, held: tuple[Version, Release] | None) -> dict[str, tuple[float, float, float]] | None:
    """Trailing quality, if it speaks of the present champion."""
    if held is not None and found.over_to <= held[1].at:
        return None
    return dict(found.metrics)


def _of_cycle(ws: Workspace, project: Project, cycle: Cycle) -> dict[str, Any]:
    from loopline import registry

    prefix = f"{cycle.id}/{cycle.state}/{cycle.step}/{cycle.attempt}/"
    effects = tuple(
        EffectState(e.kind, e.status, e.result, e.error)
        for e in ws.records.effects(topic=topic(project.name))
        if e.id.startswith(prefix)
    )
    found: dict[str, Any] = {"effects": effects}
    if cycle.state == "TRIAGE":
        found["label_problem"] = _label_problem(ws, project)
    if report_id := cycle.changes.get("report"):
        report = ws.records.get(Report, report_id)
        found["report"] = report_id
        found["passed"] = report.passed
        found["failed_gates"] = tuple(f"{v.gate}: {v.why}" for v in report.verdicts if not v.passed)
    if cycle.state == "AWAIT_APPROVAL" and (version := cycle.changes.get("version")):
        standing = registry.standing(ws, version, project.spec.registry.approvals)
        found["approved"], found["approvals_given"] = standing.approved, standing.given
        found["refused"] = standing.refused
    if cycle.state == "ROLLOUT":
        found["parity"] = parity.found(ws, project, cycle)
        found["rollout"] = Rollout(applied=True) if plane_is_theirs(project) else rollout(ws, project.name, cycle)
    return found


def _label_problem(ws: Workspace, project: Project) -> str | None:
    from loopline import governance

    health = governance.label_health(ws, project.spec.framing, project.spec.data, endpoint=project.name)
    return health.why if health.stop else None


def rollout(ws: Workspace, endpoint: str, cycle: Cycle) -> Rollout | None:
    """What the data plane says of the cycle's candidate."""
    from loopline import serving

    status = serving.status(ws, endpoint)
    if status is None:
        return None
    candidate = cycle.changes.get("version")
    if status.rolled_back == candidate:
        counted = max((g.canary_n for g in status.guardrails), default=0)
        return Rollout(True, "worse", status.reason or "taken out by the data plane", counted)
    wanted = cycle.changes.get("generation", 0)
    applied = status.generation >= wanted and any(v.version == candidate for v in status.serving)
    worse = next((g for g in status.guardrails if g.verdict == "worse"), None)
    fine = bool(status.guardrails) and all(g.verdict == "fine" for g in status.guardrails)
    verdict = "worse" if worse else "fine" if fine else "open"
    reason = (
        f"guardrail {_counted(worse)}"
        if worse
        else ", ".join(_counted(g) for g in status.guardrails if g.verdict == "open" and g.canary_n)
    )
    return Rollout(applied, verdict, reason, max((g.canary_n for g in status.guardrails), default=0))


def _counted(rail: Guardrail) -> str:
    seen = f"{rail.canary_bad} of {rail.canary_n}, champion {rail.champion_bad} of {rail.champion_n}"
    return f"{rail.name}: {seen}"


def remember(
    doc: dict[str, Any], cycle: Cycle, after: str, now: datetime, *, before: str | None = None
) -> dict[str, Any]:
    """The loop's memory after a cycle has moved to `after`; staying there (`before` is the same) is no new memory."""
    kept = dict(doc)
    if before == after:
        return kept
    if after == "TRAIN" and cycle.attempt == 0:
        kept["trained_at"] = [*kept.get("trained_at", ()), iso(now)][-50:]
    own = cycle.trigger not in ("proposal", "operator")
    if after == "FAILED" and before == "TRAIN" and not own:
        kept["trained_at"] = kept.get("trained_at", [])[:-1]  # a recipe may be mended as often as it takes
    if after in ("REJECTED", "ROLLED_BACK", "FAILED") and own:
        kept["last_rejection"] = iso(now)
    if after == "PROMOTED":
        kept.pop("last_rejection", None)
        kept.pop("suppressed", None)
    if after in ("SUPPRESSED", "CANCELLED") and cycle.changes.get("suppressed"):
        kept["suppressed"] = cycle.changes["suppressed"]
    return kept
