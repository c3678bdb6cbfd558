"""The records behind a version, each null where the workspace does not hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from loopline.base.errors import NotFound
from loopline.data.nouns import Snapshot
from loopline.evaluation.nouns import Report
from loopline.features.nouns import TrainingSet
from loopline.registry.nouns import Approval, Evidence, Release, Version
from loopline.training.nouns import Model, Run
from loopline.workspace import Workspace

N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class Origins:
    """A version with all that it was made from and judged by."""

    version: Version
    model: Model | None
    run: Run | None
    training_set: TrainingSet | None
    snapshot: Snapshot | None
    report: Report | None
    evidence: Evidence | None
    approvals: tuple[Approval, ...]
    """Oldest first, over any evidence."""
    releases: tuple[Release, ...]
    """Of this version, oldest first."""


def recorded(ws: Workspace, cls: type[N], id: str | None) -> N | None:
    """The noun with that id; null when there is none."""
    if not id:
        return None
    try:
        return ws.records.get(cls, id)
    except NotFound:
        return None


def origins(ws: Workspace, version: Version) -> Origins:
    """Gather the records behind a version."""
    model = recorded(ws, Model, version.model)
    run = recorded(ws, Run, model.run) if model else None
    training_set = recorded(ws, TrainingSet, model.training_set) if model else None
    pointer = ws.records.pointer("evidence", version.id)
    return Origins(
        version=version,
        model=model,
        run=run,
        training_set=training_set,
        snapshot=recorded(ws, Snapshot, training_set.snapshot) if training_set else None,
        report=recorded(ws, Report, version.report),
        evidence=recorded(ws, Evidence, pointer.target if pointer else version.evidence),
        approvals=tuple(ws.records.find(Approval, newest_first=False, version=version.id)),
        releases=tuple(ws.records.find(Release, newest_first=False, version=version.id)),
    )


def before(ws: Workspace, version: Version) -> Version | None:
    """The version that this one replaced; unreleased, the one in production; else the number below."""
    releases = ws.records.find(Release, newest_first=False, name=version.name)
    own = next((release for release in releases if release.version == version.id), None)
    pointer = ws.records.pointer("alias", f"{version.name}/production")
    replaced = own.previous if own else pointer.target if pointer else None
    if replaced and replaced != version.id:
        return recorded(ws, Version, replaced)
    lower = [v for v in ws.records.find(Version, name=version.name) if v.number < version.number]
    return max(lower, key=lambda v: v.number, default=None)
