"""Registered models go out with runs: names, versions, tags, aliases, and whose files each version is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import datetime

from loopline.base.errors import LooplineError
from loopline.registry.importing import PROMPT, kept_at
from loopline.registry.names import PROTECTED
from loopline.registry.nouns import Version
from loopline.registry.origin import travelling
from loopline.registry.queries import releases
from loopline.registry.shelf import Entry, Shelf, entries, models
from loopline.training.exchange.leaving import Chosen
from loopline.training.exchange.nouns import OfferedName, OfferedVersion
from loopline.workspace import Workspace


def registered(ws: Workspace, chosen: Chosen, *, shown: Callable[[Version], str]) -> Iterator[OfferedName]:
    """What is registered of runs and logged models that go out; where every run goes, all that is registered.

    Parameters
    ----------
    shown : callable
        Whose artifacts a version is that a loop trained and judged; what it refuses goes without files, told.
    """
    going = chosen.owners
    found: dict[str, list[Entry]] = {}
    for one in entries(ws):
        of = (one.deposit.run, one.deposit.logged_model) if one.deposit is not None else ()
        if chosen.every or going.intersection(id for id in of if id is not None):
            found.setdefault(one.name, []).append(one)
    for on in models(ws):
        if chosen.every or on.name in found:
            yield _name(ws, on, found.get(on.name, []), going, chosen, shown)


def _name(
    ws: Workspace,
    on: Shelf,
    found: list[Entry],
    going: Collection[str],
    chosen: Chosen,
    shown: Callable[[Version], str],
) -> OfferedName:
    numbers = {id: one.number for one in found for id in one.ids}
    were = {release.version for release in releases(ws, on.name, PROTECTED[0])}
    versions = []
    for one in found:
        owner, path = _files(ws, one, going, chosen, shown)
        deposit = one.deposit
        versions.append(
            OfferedVersion(
                number=one.number,
                source=deposit.source if deposit is not None else f"loopline:{ws.id}/{one.name}/{one.number}",
                run=deposit.run if deposit is not None else None,
                model=deposit.logged_model if deposit is not None else None,
                description=one.description,
                tags=travelling(one, ws.id),
                stage=_stage(one, on, were),
                created_ms=_millis(one.created_at),
                run_link=deposit.run_link if deposit is not None else "",
                owner=owner,
                path=path,
                author=one.author.partition(":")[2],
                updated_ms=_millis(one.updated_at),
            )
        )
    aliases = {alias: numbers[target] for alias, target in sorted(on.aliases.items()) if target in numbers}
    tags = {**on.tags, **({PROMPT: "true"} if on.prompt else {})}
    return OfferedName(
        on.name, on.description, tags, aliases, tuple(versions), _millis(on.created_at), _millis(on.updated_at)
    )


def _files(
    ws: Workspace, one: Entry, going: Collection[str], chosen: Chosen, shown: Callable[[Version], str]
) -> tuple[str | None, str]:
    """Whose files a version is: those of a model or a run that goes out as long as they are the same, else its own."""
    if one.deposit is None:
        assert one.version is not None
        try:
            return shown(one.version), ""
        except LooplineError as error:
            chosen.leave(f"files of version {one.number} of {one.name}: {error.what} ({error.why})")
            return None, ""
    if not one.deposit.files:
        return None, ""
    places = [(one.deposit.logged_model, ""), kept_at(one.deposit.source)]
    for owner, path in places:
        if owner is not None and owner in going:
            start = f"{path}/" if path else ""
            below = {
                file.path.removeprefix(start): file.digest
                for file in ws.artifacts.files(owner)
                if file.path.startswith(start)
            }
            if below == one.deposit.files:
                return owner, path
    return one.deposit.id[:32], ""


def _stage(one: Entry, on: Shelf, were: Collection[str]) -> str:
    """The stage of a version as clients are told it."""
    if not one.prompt and on.aliases.get(PROTECTED[0]) in one.ids:
        return "Production"
    if one.stage is None and any(id in were for id in one.ids):
        return "Archived"
    return one.stage or "None"


def _millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)
