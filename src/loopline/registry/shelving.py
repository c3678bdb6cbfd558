"""What tracking clients may do with registered models: bring, name, describe, point, take back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from loopline.base.errors import Conflict, Denied, Invalid, NotFound
from loopline.base.ids import content_id, iso, uuid7
from loopline.registry.names import check_free_alias, check_shelf, guarded
from loopline.registry.nouns import Deposit, Version
from loopline.registry.queries import ALIAS, HERE, LABEL, releases
from loopline.registry.shelf import DECLARED, GONE, MODEL, Entry, Shelf, aliases, entries, entry, protected, shelf
from loopline.registry.verbs import NUMBER, next_number
from loopline.store.records.protocol import Row, Tx
from loopline.workspace import Workspace, verb

Stage = Literal["None", "Staging", "Archived"]
"""Stages that a client may set; Production is where the protected alias points."""


@verb("registry.protect")
def protect(ws: Workspace, aliases: Sequence[str]) -> None:
    """Have `aliases` moved by promotions only, besides those that always are."""
    for alias in aliases:
        check_free_alias(alias)
    said = json.dumps(sorted(set(aliases)))
    ws.note(aliases=sorted(set(aliases)))
    ws.on_commit(lambda tx: tx.set_meta(DECLARED, said))


@verb("registry.create")
def create(
    ws: Workspace, name: str, *, description: str = "", tags: Mapping[str, str] | None = None, prompt: bool = False
) -> None:
    """Make a name that versions can be registered under.

    Raises
    ------
    Conflict
        If it is taken.
    """
    check_shelf(name)
    row = ws.records.row(MODEL, name)
    if (row is not None and row.state == HERE) or ws.records.find(Version, limit=1, name=name):
        raise Conflict(
            f"Registered Model (name={name}) already exists",
            why="a name is given once",
            fix="register a version under it, or choose another name",
        )
    ws.note(name=name)
    now = iso(ws.clock())
    doc = {
        "family": uuid7(ws.clock()),
        "description": description,
        "tags": dict(tags or {}),
        "prompt": prompt,
        "created": now,
        "updated": now,
    }
    _save(ws, MODEL, name, row, doc)


@verb("registry.deposit")
def deposit(
    ws: Workspace,
    name: str,
    *,
    source: str,
    owner: str | None = None,
    path: str = "",
    run: str | None = None,
    logged_model: str | None = None,
    run_link: str = "",
    description: str = "",
    tags: Mapping[str, str] | None = None,
    key: str | None = None,
    wanted: int | None = None,
) -> Deposit:
    """Give a model that a client logged the next number of `name`, and pin its files as they are.

    Parameters
    ----------
    owner, path : str, optional
        Whose artifacts they are, and the folder; without an owner nothing is pinned.
    key : str, optional
        The same key again is the same version.
    wanted : int, optional
        The number that it had elsewhere: given to it if no version here has it or a later one.

    Raises
    ------
    Invalid
        If there are no files.
    Conflict
        If someone else registered a version of this name meanwhile; again is safe.
    """
    on = shelf(ws, name)
    now = ws.clock()
    made = content_id({"deposit": key or uuid7(now), "family": on.family})
    known = ws.records.find(Deposit, limit=1, id=made)
    if known:
        return known[0]
    files: dict[str, str] = {}
    if owner is not None:
        shared = ws.artifacts.share(owner, path, made[:32], at_ms=int(now.timestamp() * 1000))
        files = {one.path: one.digest for one in shared}
        if not files:
            raise Invalid(
                f"{source[:200]!r} holds no files",
                why="a version is its files, and their digests are kept with it",
                fix="log the model first, then register it",
            )
    number, seen = next_number(ws, name)
    number = max(number, wanted or 0)
    brought = Deposit(
        id=made,
        name=name,
        number=number,
        family=on.family,
        source=source,
        files=files,
        digest=content_id(files) if files else "",
        author=ws.actor,
        created_at=now,
        run=run,
        logged_model=logged_model,
        run_link=run_link,
        prompt=on.prompt,
    )
    if ws.records.row(MODEL, name) is None:
        _touch(ws, on)
    if description or tags:
        doc = {"description": description, "tags": dict(tags or {}), "updated": iso(now)}
        ws.on_commit(lambda tx: tx.save(Row(LABEL, made, HERE, 1, doc), expect=0))
    ws.on_commit(partial(_move, NUMBER, name, made, seen, now, {"number": number}))
    return brought


@verb("registry.label")
def label(
    ws: Workspace,
    name: str,
    number: int | None = None,
    *,
    description: str | None = None,
    tags: Mapping[str, str | None] | None = None,
    stage: Stage | None = None,
) -> None:
    """Describe or tag a name, or one version of it; a tag that is null is taken off."""
    ws.note(name=name, number=number, tags=sorted(tags or {}))
    if number is None:
        on = shelf(ws, name)
        _touch(ws, on, description=description, tags=tags)
        return
    found = entry(ws, name, number)
    _mark(ws, found, description=description, tags=tags, stage=stage)


@verb("registry.point")
def point(ws: Workspace, name: str, alias: str, number: int) -> None:
    """Point an alias that nobody's decision hangs on at a version.

    Raises
    ------
    Denied
        If it is protected: only a promotion moves it.
    """
    found = entry(ws, name, number)
    _require_free(ws, name, alias, prompt=found.prompt)
    check_free_alias(alias)
    pointer = ws.records.pointer(ALIAS, f"{name}/{alias}")
    ws.note(name=name, alias=alias, number=number)
    if pointer is not None and pointer.target in found.ids:
        return
    seen = pointer.generation if pointer else 0
    ws.on_commit(partial(_move, ALIAS, f"{name}/{alias}", found.id, seen, ws.clock(), {"by": ws.actor}))


@verb("registry.unpoint")
def unpoint(ws: Workspace, name: str, alias: str) -> None:
    """Take an alias off; one that is not there is no error.

    Raises
    ------
    Denied
        If it is protected.
    """
    on = shelf(ws, name)
    _require_free(ws, name, alias, prompt=on.prompt)
    ws.note(name=name, alias=alias)
    _take_off(ws, name, [alias] if alias in on.aliases else [])


@verb("registry.rename")
def rename(ws: Workspace, name: str, to: str) -> None:
    """Call a registered model something else; its versions, aliases and numbers go along.

    Raises
    ------
    Denied
        If it has versions that were judged: their signatures say the name.
    Conflict
        If the new name is taken.
    """
    check_shelf(to)
    on = shelf(ws, name)
    if to == name:
        return
    if ws.records.find(Version, limit=1, name=name):
        raise Denied(
            f"{name} is not renamed",
            why="it has versions that were judged, and their signatures, reports and releases say this name",
            fix="register new versions under the other name",
        )
    taken = ws.records.row(MODEL, to)
    if (taken is not None and taken.state == HERE) or ws.records.find(Version, limit=1, name=to):
        raise Conflict(
            f"Registered Model (name={to}) already exists", why="a name is given once", fix="choose another name"
        )
    ws.note(name=name, to=to)
    old, now = ws.records.row(MODEL, name), ws.clock()
    assert old is not None
    _save(ws, MODEL, to, taken, {**old.doc, "updated": iso(now)})
    _save(ws, MODEL, name, old, {"renamed": to}, state=GONE)
    next_here, _ = next_number(ws, name)
    next_there, seen = next_number(ws, to)
    last = max(next_here, next_there) - 1
    if last:
        ws.on_commit(partial(_move, NUMBER, to, on.family, seen, now, {"number": last}))
    for alias, target in on.aliases.items():
        there = ws.records.pointer(ALIAS, f"{to}/{alias}")
        at = there.generation if there else 0
        ws.on_commit(partial(_move, ALIAS, f"{to}/{alias}", target, at, now, {"by": ws.actor}))
    _take_off(ws, name, on.aliases)


@verb("registry.withdraw")
def withdraw(ws: Workspace, name: str, number: int) -> None:
    """Take back a version that was never judged; its number is not given again.

    Raises
    ------
    Denied
        If it was judged: such versions are the record of what was decided.
    """
    found = entry(ws, name, number)
    _refuse_judged(ws, [found])
    ws.note(name=name, number=number)
    _take_off(ws, name, [alias for alias, target in aliases(ws, name).items() if target in found.ids])
    _withdraw(ws, found)


@verb("registry.remove")
def remove(ws: Workspace, name: str) -> None:
    """Take back a name with all its versions, none of which was judged; their numbers are not given again.

    Raises
    ------
    Denied
        If one of them was judged.
    """
    on = shelf(ws, name)
    every = entries(ws, name)
    _refuse_judged(ws, every)
    ws.note(name=name, numbers=[one.number for one in every])
    _take_off(ws, name, on.aliases)
    for one in every:
        _withdraw(ws, one)
    _save(ws, MODEL, name, ws.records.row(MODEL, name), {"removed": iso(ws.clock())}, state=GONE)


def _withdraw(ws: Workspace, found: Entry) -> None:
    assert found.deposit is not None
    owner = found.deposit.id[:32]
    _save(ws, LABEL, found.deposit.id, ws.records.row(LABEL, found.deposit.id), {}, state=GONE)
    ws.on_commit(lambda tx: ws.artifacts.delete(owner))  # only once nobody was quicker


def _refuse_judged(ws: Workspace, found: Sequence[Entry]) -> None:
    judged = [one for one in found if one.version is not None]
    if not judged:
        return
    name = judged[0].name
    ids = {one.version.id for one in judged if one.version is not None}
    out = sorted({release.alias for release in releases(ws, name) if release.version in ids})
    numbers = ", ".join(str(one.number) for one in judged)
    was = f"released as {', '.join(out)}" if out else "judged"
    raise Denied(
        f"version {numbers} of {name} is not deleted",
        why=f"it was {was}; such versions are the record of what was decided, and are retired instead",
        fix="leave it: registry.keep in loop.yaml says when old versions are retired and their bytes freed",
    )


def _require_free(ws: Workspace, name: str, alias: str, *, prompt: bool) -> None:
    held = guarded(alias, protected(ws))
    if held is None or prompt:
        return
    if held != alias:
        raise Invalid(
            f"{alias[:100]!r} cannot be an alias",
            why=f"it would be taken for the protected alias {held!r}",
            fix=f"write {held}, or choose another name",
        )
    raise Denied(
        f"the alias {alias!r} of {name} is protected",
        why="only a promotion or a rollback moves it, and nobody takes it off",
        fix="loopline registry promote VERSION, or loopline registry rollback",
    )


def _touch(
    ws: Workspace, on: Shelf, *, description: str | None = None, tags: Mapping[str, str | None] | None = None
) -> None:
    """Write down what is said of a name."""
    row = ws.records.row(MODEL, on.name)
    doc = {
        "family": on.family,
        "description": on.description if description is None else description,
        "tags": _merged(on.tags, tags),
        "prompt": on.prompt,
        "created": iso(on.created_at),
        "updated": iso(ws.clock()),
    }
    _save(ws, MODEL, on.name, row, doc)


def _mark(
    ws: Workspace,
    found: Entry,
    *,
    description: str | None,
    tags: Mapping[str, str | None] | None,
    stage: str | None,
) -> None:
    row = ws.records.row(LABEL, found.id)
    doc: dict[str, Any] = {
        "description": found.description if description is None else description,
        "tags": _merged(found.tags, tags),
        "stage": stage or found.stage,
        "updated": iso(ws.clock()),
    }
    _save(ws, LABEL, found.id, row, doc)


def _merged(tags: Mapping[str, str], changes: Mapping[str, str | None] | None) -> dict[str, str]:
    every = {**tags, **(changes or {})}
    return {key: value for key, value in every.items() if value is not None}


def _take_off(ws: Workspace, name: str, gone: Any) -> None:
    for alias in gone:
        pointer = ws.records.pointer(ALIAS, f"{name}/{alias}")
        if pointer is None:
            raise NotFound(f"{name} has no alias {alias!r}", why="it is not there", fix="nothing to do")
        ws.on_commit(partial(_move, ALIAS, pointer.name, "", pointer.generation, ws.clock(), {"by": ws.actor}))


def _save(ws: Workspace, kind: str, id: str, row: Row | None, doc: dict[str, Any], *, state: str = HERE) -> None:
    seen = row.generation if row is not None else 0
    ws.on_commit(lambda tx: tx.save(Row(kind, id, state, seen + 1, doc), expect=seen))


def _move(kind: str, name: str, target: str, expect: int, at: Any, doc: dict[str, Any], tx: Tx) -> None:
    tx.move(kind, name, target, expect=expect, at=at, doc=doc)
