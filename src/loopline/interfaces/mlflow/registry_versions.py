"""Versions of registered models: brought by clients, or trained and judged by a loop."""

from __future__ import annotations

import secrets
from typing import Any

from loopline.base.errors import Denied, NotFound
from loopline.interfaces.mlflow import names, registry_search, registry_shapes
from loopline.interfaces.mlflow.errors import invalid
from loopline.interfaces.mlflow.operations import Ask, Call, Int64, Operation, Pair, pairs
from loopline.interfaces.mlflow.registry import (
    address,
    checked,
    promote,
    settled,
    shown,
    stage_named,
    version_number,
)
from loopline.interfaces.mlflow.registry_search import VERSION_FIELDS, Seen
from loopline.interfaces.mlflow.registry_shapes import PRODUCTION, RELEASED_AS, SAID
from loopline.interfaces.mlflow.registry_sources import Source, source
from loopline.registry import shelving
from loopline.registry.shelf import Entry, entries, entry, shelf

TEXT = 100_000
A_PAGE, VERSIONS_A_PAGE = 10_000, 200_000


class ByVersion(Ask):
    name: str | None = None
    version: str | None = None


class Create(Ask):
    name: str | None = None
    source: str | None = None
    run_id: str | None = None
    run_link: str | None = None
    description: str | None = None
    model_id: str | None = None
    tags: list[Pair] | None = None


class Update(ByVersion):
    description: str | None = None


class Transition(ByVersion):
    stage: str | None = None
    archive_existing_versions: bool | None = None


class Tag(ByVersion):
    key: str | None = None
    value: str | None = None


class Search(Ask):
    filter: str | None = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


def create(call: Call, ask: Create) -> dict[str, Any]:
    assert ask.name is not None and ask.source is not None
    name, given = ask.name, ask.source
    copied = pairs(ask.tags, "tags")
    tags = checked({key: value for key, value in copied.items() if not key.startswith(SAID)})
    on = shelf(call.ws, name)
    run = names.require_run(ask.run_id) if ask.run_id else None
    of = Source(None, run=run) if on.prompt else source(call, given, run, ask.model_id or None)
    if run is not None and not on.prompt:
        call.log.run(run)
    names.require_length(ask.description or "", TEXT, "description")
    names.require_length(ask.run_link or "", 500, "run_link")
    key = secrets.token_hex(16)
    made = settled(
        lambda: shelving.deposit(
            call.ws,
            name,
            source=given[:2_000],
            owner=of.owner,
            path=of.path,
            run=of.run,
            logged_model=of.model,
            run_link=ask.run_link or "",
            description=ask.description or "",
            tags=tags,
            key=key,
        )
    )
    return {"model_version": shown(call, [entry(call.ws, name, made.number)])[0]}


def _found(call: Call, ask: Ask) -> Entry:
    return entry(call.ws, ask.name, version_number(ask.version))  # type: ignore[attr-defined]


def get(call: Call, ask: ByVersion) -> dict[str, Any]:
    return {"model_version": shown(call, [_found(call, ask)])[0]}


def update(call: Call, ask: Update) -> dict[str, Any]:
    found, said = _found(call, ask), names.require_length(ask.description or "", TEXT, "description")
    settled(lambda: shelving.label(call.ws, found.name, found.number, description=said))
    return get(call, ask)


def delete(call: Call, ask: ByVersion) -> dict[str, Any]:
    found = _found(call, ask)
    settled(lambda: shelving.withdraw(call.ws, found.name, found.number))
    return {}


def set_tag(call: Call, ask: Tag) -> dict[str, Any]:
    assert ask.key is not None
    found, tags = _found(call, ask), checked({ask.key: ask.value or ""})
    settled(lambda: shelving.label(call.ws, found.name, found.number, tags=tags))
    return {}


def delete_tag(call: Call, ask: Tag) -> dict[str, Any]:
    assert ask.key is not None
    found, tags = _found(call, ask), {ask.key: None}
    settled(lambda: shelving.label(call.ws, found.name, found.number, tags=tags))
    return {}


def transition(call: Call, ask: Transition) -> dict[str, Any]:
    assert ask.stage is not None
    found, stage = _found(call, ask), stage_named(ask.stage)
    on = shelf(call.ws, found.name)
    if ask.archive_existing_versions and stage not in (PRODUCTION, "Staging"):
        raise invalid(
            "Invalid value for parameter 'archive_existing_versions': only what is in Staging or Production gives way."
        )
    if stage == PRODUCTION:
        promote(call.ws, found, RELEASED_AS)
    elif on.aliases.get(RELEASED_AS) in found.ids:
        raise Denied(
            f"version {found.number} of {found.name} stays in Production",
            why=f"the alias {RELEASED_AS!r} points at it, which only a promotion of another or a rollback moves",
            fix="loopline registry rollback, or loopline registry promote VERSION",
        )
    else:
        settled(lambda: shelving.label(call.ws, found.name, found.number, stage=stage))  # type: ignore[arg-type]
        if ask.archive_existing_versions:
            for one in entries(call.ws, found.name):
                if one.number != found.number and one.stage == stage:
                    number = one.number
                    settled(lambda: shelving.label(call.ws, found.name, number, stage="Archived"))  # noqa: B023
    return get(call, ask)


def download_uri(call: Call, ask: ByVersion) -> dict[str, Any]:
    found = _found(call, ask)
    if found.prompt:
        raise NotFound(f"version {found.number} of {found.name} has no files", why="it is a prompt", fix="load_prompt")
    if found.deposit is None:
        from loopline.interfaces.mlflow.registry_bundle import show

        assert found.version is not None
        show(call.ws, found.version)
    return {"artifact_uri": address(found)}


def search(call: Call, ask: Search) -> dict[str, Any]:
    fits = registry_search.matcher(ask.filter, VERSION_FIELDS)
    terms = registry_search.ordering(ask.order_by, VERSION_FIELDS)
    most = names.require_page(ask.max_results, VERSIONS_A_PAGE, A_PAGE)
    found = [one for one in entries(call.ws) if fits(Seen(_fields(one), one.tags, one.prompt))]
    if not terms:
        terms = [("last_updated_timestamp", True), ("name", False), ("version_number", True)]
    asked = f"{ask.filter}|{ask.order_by}"
    page, token = registry_search.paged(registry_search.ordered(found, _fields, terms), most, ask.page_token, asked)
    answer: dict[str, Any] = {"model_versions": shown(call, page)}
    return answer if token is None else {**answer, "next_page_token": token}


def _fields(one: Entry) -> dict[str, Any]:
    return {
        "name": one.name,
        "version_number": one.number,
        "run_id": one.run,
        "source_path": address(one),
        "creation_timestamp": registry_shapes.millis(one.created_at),
        "last_updated_timestamp": registry_shapes.millis(one.updated_at),
    }


READ, ONE = "registry.entries", ("name", "version")
OPERATIONS = (
    Operation("POST", "model-versions/create", Create, create, "registry.deposit", ("name", "source")),
    Operation("GET", "model-versions/get", ByVersion, get, READ, ONE),
    Operation("PATCH", "model-versions/update", Update, update, "registry.label", ONE),
    Operation("DELETE", "model-versions/delete", ByVersion, delete, "registry.withdraw", ONE),
    Operation("GET", "model-versions/search", Search, search, READ),
    Operation("POST", "model-versions/search", Search, search, READ),
    Operation("GET", "model-versions/get-download-uri", ByVersion, download_uri, READ, ONE),
    Operation("POST", "model-versions/transition-stage", Transition, transition, "registry.label", (*ONE, "stage")),
    Operation("POST", "model-versions/set-tag", Tag, set_tag, "registry.label", (*ONE, "key")),
    Operation("DELETE", "model-versions/delete-tag", Tag, delete_tag, "registry.label", (*ONE, "key")),
)
