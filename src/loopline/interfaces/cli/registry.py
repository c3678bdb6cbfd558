"""Commands of the registry: yes, no, forward, back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer
from loopline.interfaces.cli.session import HERE, Folder, Json, Reason, session

if TYPE_CHECKING:
    from loopline.registry.nouns import Version
    from loopline.workspace import Workspace

Which = Annotated[str | None, Parameter(help="Number or id of the version; the newest by default.")]


def approve(version: Which = None, *, reason: Reason, project: Folder = HERE, json: Json = False) -> Answer:
    """Approve a version. It is signed with your own key; the author cannot approve."""
    from loopline import registry
    from loopline.governance.served_as import differences

    ws, found = session(project)
    chosen = _version(ws, found.name, version)
    spec = found.spec
    differs = differences(ws, found.root, spec.framing, spec.features, spec.data, chosen, spec.serving.features)
    given = registry.approve(ws, chosen, reason=reason)
    ws.wake()
    text = f"{given.approver} approved version {chosen.number} of {chosen.name} (evidence {given.evidence[:12]})"
    text += "".join(f"\nnote: {one}" for one in differs)
    return Answer(text, given, ("loopline tick", "loopline status"))


def reject(version: Which = None, *, reason: Reason, project: Folder = HERE, json: Json = False) -> Answer:
    """Reject a version. It is signed with your own key; the cycle ends."""
    from loopline import registry

    ws, found = session(project)
    chosen = _version(ws, found.name, version)
    given = registry.reject(ws, chosen, reason=reason)
    ws.wake()
    return Answer(f"{given.approver} rejected version {chosen.number} of {chosen.name}", given, ("loopline tick",))


def promote(
    version: Annotated[str, Parameter(help="Number or id of the version.")],
    *,
    reason: Reason,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Make a version the one in production; refused until it has its approvals."""
    from loopline import registry

    ws, found = session(project)
    chosen = _version(ws, found.name, version)
    release = registry.promote(ws, chosen, reason=reason, approvals=found.spec.registry.approvals)
    ws.wake()
    return Answer(f"version {chosen.number} of {chosen.name} is in {release.alias}", release, ("loopline status",))


def rollback(
    *,
    to: Annotated[str | None, Parameter(help="Number or id to go back to; the version before by default.")] = None,
    reason: Reason,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Go back to an earlier version at once; it was approved when it was released."""
    from loopline import registry
    from loopline.base.errors import Denied
    from loopline.registry.nouns import Version

    ws, found = session(project)
    trying = _canary(ws, found.name)
    target = _version(ws, found.name, to) if to is not None else None
    try:
        release = registry.rollback(ws, found.name, to=target, reason=reason)
    except Denied as error:
        if trying is None:
            raise
        raise Denied(
            error.what,
            why=f"{error.why}; version {trying} is only a canary, which a rollback does not touch",
            fix=f"loopline cancel --reason ... takes the canary out; else {error.fix}",
        ) from error
    ws.wake()
    number = ws.records.get(Version, release.version).number
    text, hints = f"{found.name} is back on version {number}", ("loopline why", "loopline status")
    if trying is not None:
        text += f"\nnote: version {trying} is still tried as a canary; `loopline cancel` takes it out"
        hints = ('loopline cancel --reason "..."', "loopline status")
    return Answer(text, release, hints)


def _canary(ws: Workspace, name: str) -> int | None:
    """Number of the version that is being tried on a part of the traffic."""
    from loopline.loop import facts

    cycle = facts.current_cycle(ws, name)
    return int(cycle.changes["number"]) if cycle is not None and cycle.state == "ROLLOUT" else None


def _version(ws: Workspace, name: str, which: str | None) -> Version:
    from loopline import registry
    from loopline.base.errors import NotFound
    from loopline.registry.nouns import Version

    if which is not None:
        return registry.resolve(ws, name, which)  # type: ignore[no-any-return]
    newest = ws.records.find(Version, limit=1, name=name)
    if not newest:
        raise NotFound(f"{name} has no version yet", why="no candidate was registered", fix="loopline run")
    return newest[0]
