"""The canary's features, computed again from the tables before it may serve everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopline.base.errors import NotFound
from loopline.features.nouns import ParityReport
from loopline.retraining.nouns import Cycle
from loopline.retraining.policy import Parity

if TYPE_CHECKING:
    from loopline.loop.project import Project
    from loopline.workspace import Workspace


def check(ws: Workspace, project: Project, cycle: Cycle | None) -> None:
    """Recompute requests that the canary answered, at the last step of its release and until there are enough."""
    from loopline import features

    spec = project.spec
    plan = spec.serving.release
    last = cycle is not None and cycle.state == "ROLLOUT" and cycle.step + 1 >= len(plan.canary)
    if cycle is None or not last or not plan.parity or spec.framing.decision_time is None:
        return
    known = found(ws, project, cycle)
    if known is not None and (known.differing or known.rows >= plan.parity):
        return
    views = (cycle.changes.get("proposal") or {}).get("views")
    try:
        features.parity(
            ws,
            project.root,
            framing=spec.framing,
            features=spec.features,
            tables=spec.data,
            endpoint=project.name,
            rows=plan.parity,
            versions=[cycle.changes["version"]],
            views=tuple(views) if views else None,
        )
    except NotFound:
        return


def found(ws: Workspace, project: Project, cycle: Cycle) -> Parity | None:
    """What the newest report says of the cycle's candidate; null without one."""
    version = cycle.changes.get("version")
    for report in ws.records.find(ParityReport, limit=8, endpoint=project.name):
        if report.versions == (version,):
            return Parity(report.rows, sum(report.mismatches.values()), told(report), report.id)
    return None


def told(report: ParityReport) -> str:
    """What differs, the worst first."""
    worst = sorted(report.mismatches.items(), key=lambda one: -one[1])
    named = ", ".join(f"{name} in {count:,} of {report.rows:,} requests" for name, count in worst[:3])
    return named + (f" and {len(worst) - 3} more" if len(worst) > 3 else "")
