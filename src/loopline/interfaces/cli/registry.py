"""Commands of the registry: yes, no, forward, back."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, Reason, session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from loopline.registry.nouns import Version
    from loopline.registry.shelf import Entry, Shelf
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
    text = f"{given.approver} rejected version {chosen.number} of {chosen.name}"
    return Answer(text, given, _after_rejection(ws, found.name, chosen))


def _after_rejection(ws: Workspace, loop: str, version: Version) -> tuple[str, ...]:
    """A tick ends the cycle that waits for this version, unless a running server does so; else nothing is to move."""
    from loopline import serving
    from loopline.loop.facts import current_cycle

    cycle = current_cycle(ws, loop)
    if cycle is None or cycle.changes.get("version") != version.id:
        return (f"loopline why {version.number}", "loopline registry list")
    if serving.supervisor_pid(ws, loop) is not None:
        return ("loopline status",)
    return ("loopline tick", f"loopline why {version.number}")


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


def adopt(
    version: Annotated[int, Parameter(help="Number of a version that a tracking client registered.")],
    *,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Judge a version that a tracking client registered, and sign it; it can be approved then."""
    from loopline import registry
    from loopline.base.errors import NotFound
    from loopline.features.nouns import TrainingSet
    from loopline.registry.nouns import Version
    from loopline.training.nouns import Model

    ws, found = session(project)
    spec = found.spec
    live = ws.records.pointer("alias", f"{found.name}/production")
    held = ws.records.find(Version, limit=1, id=live.target) if live is not None else []
    champion = ws.records.get(Model, held[0].model) if held else None
    sets = ws.records.find(TrainingSet, limit=1)
    if not sets:
        raise NotFound(
            f"{found.name} has no training set yet",
            why="a model is judged on rows that are held out of one",
            fix="loopline run",
        )
    made, report = registry.adopt(
        ws,
        found.root,
        found.name,
        version,
        training=spec.training,
        evaluation=spec.evaluation,
        framing=spec.framing,
        training_set=sets[0],
        champion=champion,
        policy={"approvals": spec.registry.approvals.model_dump(mode="json")},
        plan=spec.serving.release.model_dump(mode="json"),
    )
    ws.wake()
    text = f"version {made.number} of {made.name} is judged on {report.rows:,} held-out rows: "
    if report.passed:
        text += "it passes its gates. Which rows it was trained on only its author can say."
        return Answer(text, made, (f'loopline registry approve {made.number} --reason "..."',))
    failed = "; ".join(verdict.why for verdict in report.verdicts if not verdict.passed)
    return Answer(text + f"it fails its gates ({failed})", made, ("loopline report",))


def listing(
    name: Annotated[str | None, Parameter(help="A registered model; all of them by default.")] = None,
    *,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """List the registered models, or the versions of one: judged by the loop, or brought by tracking clients."""
    from loopline import registry
    from loopline.base.nouns import to_doc

    ws, _ = session(project)
    if name is None:
        shelves = registry.models(ws)
        plain = [one for one in shelves if not one.prompt]
        lines = [_shelf_line(ws, one) for one in plain]
        if len(plain) == 1 and (only := registry.entries(ws, plain[0].name)):
            lines.append(_versions(only, plain[0].aliases))
        return Answer(
            "\n".join(lines) or "nothing is registered yet",
            to_doc(shelves),
            (f"loopline registry list {shlex.quote(plain[0].name) if plain else 'NAME'}",),
        )
    aliases: dict[str, str] = next((one.aliases for one in registry.models(ws) if one.name == name), {})
    entries = registry.entries(ws, name)
    hints = [f"loopline registry adopt {one.number}" for one in entries if one.version is None and not one.prompt]
    text = _versions(entries, aliases) if entries else f"{name} has no version"
    return Answer(text, to_doc(entries), tuple(hints[-1:]))


def _versions(entries: Sequence[Entry], aliases: Mapping[str, str]) -> str:
    """Versions of a name as rows: where each stands, its aliases, its stage, who made it and when."""
    rows = [
        (
            str(one.number),
            "judged" if one.version is not None else "brought by a client, not judged",
            " ".join(f"@{alias}" for alias, target in sorted(aliases.items()) if target in one.ids) or "-",
            one.stage or "-",
            one.author,
            f"{one.created_at:%Y-%m-%d %H:%M}",
        )
        for one in entries
    ]
    return table(rows, head=("version", "state", "aliases", "stage", "author", "made"))


def _shelf_line(ws: Workspace, one: Shelf) -> str:
    from loopline import registry

    entries = registry.entries(ws, one.name)
    numbers = {id: entry.number for entry in entries for id in entry.ids}
    pointed = " ".join(
        f"@{alias}={numbers[target]}" for alias, target in sorted(one.aliases.items()) if target in numbers
    )
    versions = f"{len(entries)} version" + ("" if len(entries) == 1 else "s")
    return f"{one.name}  {versions}  {pointed}".rstrip()


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
