"""Registered models of another tracker come in as deposits: brought, not judged."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from urllib.parse import unquote

from loopline.base.errors import Conflict, Denied, Invalid, LooplineError, NotFound, Unavailable
from loopline.base.ids import content_id
from loopline.registry import shelving
from loopline.registry.names import guarded
from loopline.registry.nouns import Deposit
from loopline.registry.origin import ORIGIN, carried, key_of, origin_of
from loopline.registry.shelf import Entry, Shelf, entries, family_of, protected, shelf
from loopline.training.exchange.keeping import keep_offered
from loopline.training.exchange.nouns import Brought, OfferedName, OfferedVersion, Source
from loopline.training.exchange.verbs import Say, quiet
from loopline.workspace import Workspace, flow

R = TypeVar("R")
PROMPT = "mlflow.prompt.is_prompt"
OWN = "loopline."
"""Tags that begin so are said by Loopline alone."""
ELSEWHERE = ("s3://", "gs://", "abfs://", "abfss://", "wasb://", "wasbs://", "hdfs://", "https://", "oci://")
TRIES = 20
_KEPT = re.compile(r"(?:^|/)(?P<owner>m-[0-9a-f]{32}|[0-9a-f]{32})(?:/artifacts)?(?:/(?P<path>.*))?$", re.DOTALL)


@flow("registry.import_models", offered=False)
def import_models(ws: Workspace, source: Source, found: Brought, *, say: Say = quiet) -> Brought:
    """Register what `source` has registered, once its runs are here; again adds nothing.

    Versions keep their numbers where these are free. Their files are pinned as they came. Nothing is promoted:
    protected aliases and the stage Production are told, and left to `loopline registry`.

    Parameters
    ----------
    found : Brought
        What came of the runs; it is added to, and returned. A dry run writes nothing.
    """
    origins = {id: one for one in entries(ws) for id in (*one.ids, origin_of(one))}
    for offered in source.registered():
        say(f"registered model {offered.name}")
        try:
            _bring(ws, source, offered, origins, found)
        except Unavailable:
            raise
        except LooplineError as error:
            found.leave(f"the registered model {offered.name[:100]!r}: {error.what}")
    for told in source.told:
        found.leave(told)
    return found


def _bring(ws: Workspace, source: Source, offered: OfferedName, origins: dict[str, Entry], found: Brought) -> None:
    name = offered.name
    tags = {key: value for key, value in offered.tags.items() if not key.startswith(OWN)}
    prompt = tags.get(PROMPT, "").lower() == "true"
    here: Shelf | None
    try:
        here = shelf(ws, name)
    except NotFound:
        here = None
        found.names += 1
        if not found.dry_run:
            _again(partial(shelving.create, ws, name, description=offered.description, tags=tags, prompt=prompt))
            here = shelf(ws, name)
    if here is not None and here.prompt != prompt:
        found.conflict(f"the registered model {name!r:.100} is {'a' if here.prompt else 'no'} prompt here")
        return
    numbers: dict[int, int] = {}
    for version in offered.versions:
        try:
            number = _version(ws, source, name, here, version, origins, found, prompt=prompt)
        except Unavailable:
            raise
        except LooplineError as error:
            found.leave(f"version {version.number} of {name}: {error.what}")
            continue
        if number is not None:
            numbers[version.number] = number
    _aliases(ws, offered, here, numbers, found, prompt=prompt)


def _version(
    ws: Workspace, source: Source, name: str, on: Shelf | None, given: OfferedVersion, origins: dict[str, Entry],
    found: Brought, *, prompt: bool,
) -> int | None:  # fmt: skip
    """The number that a version has here; null where it did not come."""
    origin = given.tags.get(ORIGIN)
    if origin is not None and (here := origins.get(origin)) is not None:
        if here.name == name:
            return here.number
        found.leave(f"version {given.number} of {name} is {here.name} {here.number} here, which stays")
        return None
    key = key_of(origin) if origin else content_id({"imported": [name, given.number, given.created_ms, given.source]})
    family = on.family if on is not None else family_of(name)
    known = ws.records.find(Deposit, limit=1, id=content_id({"deposit": key, "family": family}))
    if known:
        return known[0].number
    waiting = f"arriving-{content_id(key)[:40]}"
    owner, path = (None, "") if prompt else _files(ws, source, given, found, waiting)
    if found.dry_run:
        found.versions += 1
        return None
    run = given.run
    if run is not None:
        try:
            ws.runs.run(run)
        except NotFound:
            run = None
    made: Deposit = _again(
        partial(
            shelving.deposit,
            ws,
            name,
            source=given.source[:2_000],
            owner=owner,
            path=path,
            run=run,
            logged_model=given.model,
            run_link=given.run_link[:500],
            description=given.description,
            tags={k: v for k, v in given.tags.items() if not k.startswith(OWN)} | carried(given.tags),
            key=key,
            wanted=given.number,
        )
    )
    if owner == waiting:
        ws.artifacts.delete(waiting)
    found.versions += 1
    if made.number != given.number:
        found.leave(f"version {given.number} of {name} has the number {made.number} here: others were here before")
    stage: shelving.Stage
    for stage in ("Staging", "Archived"):
        if given.stage == stage:
            _again(partial(shelving.label, ws, name, made.number, stage=stage))
    if given.stage == "Production" and not prompt:
        found.leave(
            f"version {made.number} of {name} was in Production and is not here: "
            f"`loopline registry adopt {made.number}` judges it first"
        )
    return made.number


def kept_at(address: str) -> tuple[str | None, str]:
    """The run or logged model whose files an address names, and the folder among them; null where it names none."""
    match = _KEPT.search(address.removeprefix("runs:/") if address.startswith("runs:/") else unquote(address))
    return (None, "") if match is None else (match["owner"], (match["path"] or "").strip("/"))


def _files(
    ws: Workspace, source: Source, given: OfferedVersion, found: Brought, waiting: str
) -> tuple[str | None, str]:
    """Whose files a version is, and below which folder; no owner where they are in an object store.

    Files that lie apart come in as those of `waiting`, until they are pinned.

    Raises
    ------
    Invalid
        If they are not here.
    """
    if given.apart and _came(ws, source, given, found, waiting):
        return waiting, ""
    if given.model is not None and ws.artifacts.files(given.model):
        return given.model, ""
    for address in (given.source, given.location):
        owner, path = kept_at(address)
        if owner is not None and any(not path or one.path.startswith(path + "/") for one in ws.artifacts.files(owner)):
            return owner, path
    if _came(ws, source, given, found, waiting):
        return waiting, ""
    if given.source.startswith(ELSEWHERE) or found.dry_run:
        return None, ""
    raise Invalid(
        f"its files at {given.source[:200]!r} are not here",
        why="they lie outside of the source, or did not come",
        fix="import their run with its files, then import again",
    )


def _came(ws: Workspace, source: Source, given: OfferedVersion, found: Brought, waiting: str) -> bool:
    """Whether files lie at the version's own address, which then are among those of `waiting`."""
    at_ms = int(ws.clock().timestamp() * 1000)
    what = f"version {given.number}"
    keep_offered(source.version_files(given), waiting, ws.artifacts, found, at_ms=at_ms, what=what)
    return bool(ws.artifacts.files(waiting))


def _aliases(
    ws: Workspace, offered: OfferedName, here: Shelf | None, numbers: dict[int, int], found: Brought, *, prompt: bool
) -> None:
    targets = {id: one.number for one in (entries(ws, offered.name) if here is not None else ()) for id in one.ids}
    pointing = {alias: targets.get(target) for alias, target in (here.aliases if here is not None else {}).items()}
    for alias, theirs in offered.aliases.items():
        number = numbers.get(theirs)
        held = None if prompt else guarded(alias, protected(ws))
        if held is not None:
            if pointing.get(alias) != number or number is None:
                found.leave(f"the alias {alias!r} of {offered.name} is protected here: only a promotion sets it")
        elif number is None or number not in targets.values():
            continue
        elif pointing.get(alias) is None:
            try:
                if not found.dry_run:
                    _again(partial(shelving.point, ws, offered.name, alias, number))
            except (Denied, Invalid) as error:
                found.leave(f"the alias {alias[:100]!r} of {offered.name}: {error.what}")
        elif pointing[alias] != number:
            found.conflict(f"the alias {alias!r} of {offered.name} is at version {pointing[alias]} here, not {number}")


def _again(work: Callable[[], R]) -> R:
    """Do a change again while others were quicker: it is about what is there then."""
    for attempt in range(TRIES):
        try:
            return work()
        except Conflict:
            if attempt == TRIES - 1:
                raise
    raise AssertionError
