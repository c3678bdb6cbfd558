"""The canary's features, computed again from the tables before it may serve everyone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import polars as pl

from loopline.base.errors import NotFound
from loopline.features.nouns import ParityReport
from loopline.registry.nouns import Version
from loopline.retraining.nouns import Cycle
from loopline.retraining.policy import Parity
from loopline.training.nouns import Model

if TYPE_CHECKING:
    from loopline.loop.project import Project
    from loopline.workspace import Workspace

LOOKS = 20
"""Outside of monitoring windows a step of a release is looked at so often at most."""


def look(ws: Workspace, project: Project, cycle: Cycle | None) -> None:
    """As `check`, once the canary has answered enough requests, or its step comes to an end.

    A release may be over before the next monitoring window closes.
    """
    from loopline import serving

    if cycle is None or not _asked(project, cycle):
        return
    plan, now = project.spec.serving.release, ws.clock()
    last = _newest(ws, project, cycle)
    if last is not None and now - last.created_at < plan.each_at_most / LOOKS and now > last.created_at:
        return
    serving.flush(ws, project.name)
    if now >= cycle.entered_at + plan.each_at_most or _answers(ws, project, cycle) >= plan.parity:
        check(ws, project, cycle)


def check(ws: Workspace, project: Project, cycle: Cycle | None) -> None:
    """Recompute requests that the canary answered, at the last step of its release and until there are enough.

    By the views that it was trained on, as they were then.
    """
    from loopline import features

    if cycle is None or not _asked(project, cycle):
        return
    spec, version = project.spec, cycle.changes["version"]
    known = found(ws, project, cycle)
    if known is not None and (known.differing or (known.rows >= spec.serving.release.parity and not known.open)):
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
            rows=spec.serving.release.parity,
            versions=[version],
            views=tuple(views) if views else None,
            training_sets=training_sets(ws, [version]),
        )
    except NotFound:
        return


def found(ws: Workspace, project: Project, cycle: Cycle) -> Parity | None:
    """What the newest report says of the cycle's candidate; null without one."""
    report = _newest(ws, project, cycle)
    if report is None:
        return None
    said = told(report) if report.mismatches else waiting(project, report)
    return Parity(report.rows, sum(report.mismatches.values()), said, report.id, len(report.open))


def waiting(project: Project, report: ParityReport) -> str:
    """What was not computed again so far, why, and when that is tried again; empty where nothing is missing."""
    plan = project.spec.serving.release
    if report.rows >= plan.parity and not report.open:
        return ""
    left = [f"{name}: {why}" for name, why in report.unchecked.items() if name.endswith(" rows")]
    if report.open:
        left = [f"not compared in any request: {report.left_open}", *left]
    why = "; ".join(left) or "the canary has answered no more yet"
    again = report.created_at + plan.each_at_most / LOOKS
    return f"{why}; looked at {report.created_at:%H:%M}Z, again from {again:%H:%M}Z on"


def told(report: ParityReport) -> str:
    """What differs, the worst first."""
    worst = sorted(report.mismatches.items(), key=lambda one: -one[1])
    named = ", ".join(f"{name} in {count:,} of {report.rows:,} requests" for name, count in worst[:3])
    return named + (f" and {len(worst) - 3} more" if len(worst) > 3 else "")


def _asked(project: Project, cycle: Cycle) -> bool:
    plan = project.spec.serving.release
    last = cycle.state == "ROLLOUT" and cycle.step + 1 >= len(plan.canary)
    return bool(last and plan.parity and project.spec.framing.decision_time is not None)


def _newest(ws: Workspace, project: Project, cycle: Cycle) -> ParityReport | None:
    version = cycle.changes.get("version")
    for report in ws.records.find(ParityReport, limit=8, endpoint=project.name):
        if report.versions == (version,):
            return report
    return None


def _answers(ws: Workspace, project: Project, cycle: Cycle) -> int:
    """Requests that the candidate has answered."""
    from loopline import serving

    log = serving.predictions(ws, project.name)
    own = pl.col("version") == cycle.changes["version"]
    return int(log.filter(own).select(pl.len()).collect().item())


def training_sets(ws: Workspace, versions: Iterable[str]) -> dict[str, str]:
    """What the models of some versions were trained on; versions that nobody registered are left out."""
    found = {}
    for version in versions:
        for known in ws.records.find(Version, limit=1, id=version):
            for model in ws.records.find(Model, limit=1, id=known.model):
                found[version] = model.training_set
    return found


def of_endpoint(ws: Workspace, endpoint: str) -> dict[str, str]:
    """As `training_sets`, of every version that stands in an endpoint's log."""
    from loopline import serving

    log = serving.predictions(ws, endpoint).select(pl.col("version").unique()).collect()
    return training_sets(ws, log["version"].to_list())
