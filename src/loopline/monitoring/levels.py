"""Service levels of the online store: a view that is late is told once, until it recovers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from loopline.base.ids import content_id, iso
from loopline.features.nouns import ViewFreshness
from loopline.features.publishing import freshness
from loopline.features.spec import FeaturesSpec
from loopline.monitoring.nouns import Alert
from loopline.workspace import Workspace, query, verb

LATE = "late"
"""Pointer to the late views of an endpoint."""


@query("monitoring.late_views")
def late_views(ws: Workspace, endpoint: str) -> dict[str, str]:
    """The views that were late at the last look, with the moment (RFC 3339) that was told."""
    pointer = ws.records.pointer(LATE, endpoint)
    return {} if pointer is None else dict(pointer.doc["views"])


def late_now(
    ws: Workspace, project: Path, *, features: FeaturesSpec, training_sets: tuple[str, ...] | None = None
) -> dict[str, ViewFreshness]:
    """The views that break their service level now, by name."""
    found = freshness(ws, project, features=features, training_sets=training_sets)
    return {one.view: one for one in reversed(found) if one.late is not None}


@verb("monitoring.check_freshness")
def check_freshness(
    ws: Workspace,
    project: Path,
    *,
    endpoint: str,
    features: FeaturesSpec,
    training_sets: tuple[str, ...] | None = None,
) -> list[Alert]:
    """Look whether each view of the online store keeps its service level (see `features.freshness`).

    A view that became late since the last look is an alert of layer `system`; it is not told again before it
    has recovered.

    Parameters
    ----------
    training_sets : tuple of str, optional
        The views that these were made of, instead of those of `features`.
    """
    pointer, now = ws.records.pointer(LATE, endpoint), ws.clock()
    before: Mapping[str, str] = {} if pointer is None else pointer.doc["views"]
    late = late_now(ws, project, features=features, training_sets=training_sets)
    views = {name: before.get(name, iso(now)) for name in late}
    if views != before:
        seen = 0 if pointer is None else pointer.generation
        target = content_id({"endpoint": endpoint, "views": views})
        ws.on_commit(lambda tx: tx.move(LATE, endpoint, target, expect=seen, at=now, doc={"views": views}))
    return [_alert(one, now) for name, one in late.items() if name not in before]


def _alert(one: ViewFreshness, now: datetime) -> Alert:
    lengths = {"behind": one.behind, "age": one.age, "allowed": one.allowed}
    told = {name: str(length) for name, length in lengths.items() if length is not None}
    return Alert(
        id=content_id({"view": one.view, "cause": "freshness", "at": iso(now)}),
        subject=f"view:{one.view}",
        layer="system",
        check="freshness",
        column=None,
        window_from=min(one.stands_at or now, now),
        window_to=now,
        p_value=0.0,
        cause="freshness",
        verdict="suspect",
        evidence={"why": one.late, "source": one.source, **told},
        at=now,
    )
