"""Versions, and why one of them is as it is."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from loopline import governance, registry, training
from loopline.evaluation.nouns import Report
from loopline.governance.evidence import leaks_of, parity_of
from loopline.interfaces.ui import figures
from loopline.interfaces.ui.context import Here
from loopline.registry.nouns import Approval, Retirement
from loopline.training.nouns import Model

SHOWN = 200
"""Lines at most of what clients brought."""
TIMES = 10
"""How often it was made again, the newest times."""


def versions(here: Here, request: Request) -> dict[str, Any]:
    """Every version, newest first."""
    held = here.champion()
    approvals = here.ws.records.find(Approval, newest_first=False)
    taken_back = {c.changes.get("version") for c in here.cycles() if c.state == "ROLLED_BACK"}
    lines = []
    for version in here.versions():
        lines.append(
            {
                "version": version,
                "report": here.known(Report, version.report),
                "approvals": [a for a in approvals if a.version == version.id],
                "releases": [r for r in here.releases() if r.version == version.id],
                "taken_back": version.id in taken_back,
                "live": held is not None and held[0].id == version.id,
                "retired": bool(here.ws.records.find(Retirement, limit=1, id=version.id)),
            }
        )
    brought = [one for one in registry.entries(here.ws) if one.version is None and not one.prompt]
    return {
        "own": here.name,
        "brought": sorted(brought, key=lambda one: one.created_at, reverse=True)[:SHOWN],
        "aliases": {one.name: one.aliases for one in registry.models(here.ws)} if brought else {},
        "lines": lines,
        "held": held,
        "primary": here.project.spec.evaluation.primary,
        "releases": list(reversed(here.releases())),
        "numbers": {v.id: v.number for v in here.versions()},
        "spec": here.project.spec.registry,
    }


def version(here: Here, request: Request) -> dict[str, Any]:
    """One version: why, who said yes, what was checked."""
    found = registry.resolve(here.ws, here.name, str(request.path_params["number"]))
    report = here.known(Report, found.report)
    held = here.champion()
    model = here.known(Model, found.model)
    return {
        "version": found,
        "leaks": leaks_of(here.ws, model.training_set) if model else None,
        "parity": parity_of(here.ws, here.name, found.id),
        "why": governance.why(here.ws, found.id),
        "standing": registry.standing(here.ws, found, here.project.spec.registry.approvals),
        "report": report,
        "rows": figures.rows(report, here.project.spec.evaluation.primary) if report else [],
        "live": held is not None and held[0].id == found.id,
        "differs": here.differs(found),
        "reproductions": training.reproductions(here.ws, found.model)[:TIMES],
    }
