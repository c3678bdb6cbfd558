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
from loopline.registry.shelf import Shelf, entries, family_of, protected, shelf
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
    for offered in source.registered():
        say(f"registered model {offered.name}")
        try:
            _bring(ws, offered, found)
        except Unavailable:
            raise
        except LooplineError as error:
            found.leave(f"the registered model {offered.name[:100]!r}: {error.what}")
    return found


def _bring(ws: Workspace, offered: OfferedName, found: Brought) -> None:
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
            number = _version(ws, name, here, version, found, prompt=prompt)
        except Unavailable:
            raise
        except LooplineError as error:
            found.leave(f"version {version.number} of {name}: {error.what}")
            continue
        if number is not None:
            numbers[version.number] = number
    _aliases(ws, offered, here, numbers, found, prompt=prompt)


def _version(
    ws: Workspace, name: str, on: Shelf | None, given: OfferedVersion, found: Brought, *, prompt: bool
) -> int | None:
    """The number that a version has here; null where it did not come."""
    key = content_id({"imported": [name, given.number, given.created_ms, given.source]})
    family = on.family if on is not None else family_of(name)
    known = ws.records.find(Deposit, limit=1, id=content_id({"deposit": key, "family": family}))
    if known:
        return known[0].number
    owner, path = (None, "") if prompt else _files(ws, given, found)
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
            tags={key: value for key, value in given.tags.items() if not key.startswith(OWN)},
            key=key,
            wanted=given.number,
        )
    )
    found.versions += 1
    if made.number != given.number:
        found.leave(f"version {given.number} of {name} has the number {made.number} here: others were here before")
    stage: shelving.Stage
    for stage in ("Staging", "Archived"):
        if given.stage == stage:
            _again(partial(shelving.label, ws, name, made.number, stage=stage))
    if given.stage == "Production":
        found.leave(
            f"version {made.number} of {name} was in Production and is not here: "
            f"`loopline registry adopt {made.number}` judges it first"
        )
    return made.number


def _files(ws: Workspace, given: OfferedVersion, found: Brought) -> tuple[str | None, str]:
    """Whose files a version is, and below which folder; no owner where they are in an object store.

    Raises
    ------
    Invalid
        If they are not here.
    """
    if given.model is not None and ws.artifacts.files(given.model):
        return given.model, ""
    address = given.source.removeprefix("runs:/") if given.source.startswith("runs:/") else unquote(given.source)
    match = _KEPT.search(address)
    if match is not None:
        owner, path = match["owner"], (match["path"] or "").strip("/")
        if any(not path or one.path.startswith(path + "/") for one in ws.artifacts.files(owner)):
            return owner, path
    if given.source.startswith(ELSEWHERE) or found.dry_run:
        return None, ""
    raise Invalid(
        f"its files at {given.source[:200]!r} are not here",
        why="they lie outside of the source, or did not come",
        fix="import their run with its files, then import again",
    )


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
