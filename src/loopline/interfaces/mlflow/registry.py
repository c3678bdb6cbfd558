"""Registered models: names that versions stand under, their tags and aliases."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from loopline import registry
from loopline.base.errors import Conflict, Denied
from loopline.base.settings import NAMELESS
from loopline.interfaces.mlflow import names, registry_search, registry_shapes
from loopline.interfaces.mlflow.errors import TAKEN, invalid
from loopline.interfaces.mlflow.operations import Ask, Call, Int64, Operation, Pair, pairs
from loopline.interfaces.mlflow.registry_search import IS_PROMPT, MODEL_FIELDS, Seen
from loopline.interfaces.mlflow.registry_shapes import RELEASED_AS, SAID, STAGES
from loopline.registry import shelving
from loopline.registry.names import guarded
from loopline.registry.nouns import Version
from loopline.registry.queries import present_evidence, releases, unjudged
from loopline.registry.shelf import Entry, Shelf, entries, entry, models, pointed_at, protected, shelf
from loopline.registry.spec import ApprovalsSpec
from loopline.workspace import Workspace

T = TypeVar("T")
TAG_KEY, TAG = 250, 100_000
MOVED = "someone else changed it since it was read"
"""Why a transaction is refused that was overtaken; any other conflict is the caller's."""
AGAIN = 40
"""Times that a change is tried while others change the same thing; the wait between grows to a tenth of a second."""
_one_at_a_time = threading.Lock()


class ByName(Ask):
    name: str | None = None


class Create(ByName):
    tags: list[Pair] | None = None
    description: str | None = None


class Update(ByName):
    description: str | None = None


class Rename(ByName):
    new_name: str | None = None


class Latest(ByName):
    stages: list[str] | None = None


class Tag(ByName):
    key: str | None = None
    value: str | None = None


class Alias(ByName):
    alias: str | None = None
    version: str | None = None


class Search(Ask):
    filter: str | None = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


def settled(work: Callable[[], T]) -> T:
    """Do a change again while others were quicker: it is about what is there then.

    Changes of one process wait for each other, so that only other processes can be quicker.
    """
    for attempt in range(AGAIN):
        try:
            with _one_at_a_time:
                return work()
        except Conflict as error:
            if error.why != MOVED:
                raise
            if attempt == AGAIN - 1:
                raise
        time.sleep(random.uniform(0, min(0.1, 0.002 * 2**attempt)))
    raise AssertionError


def create(call: Call, ask: Create) -> dict[str, Any]:
    assert ask.name is not None
    tags = checked(pairs(ask.tags, "tags"))
    prompt = tags.get(IS_PROMPT, "").lower() == "true"
    name, said = ask.name, names.require_length(ask.description or "", TAG, "description")
    settled(lambda: shelving.create(call.ws, name, description=said, tags=tags, prompt=prompt))
    return {"registered_model": described(call, shelf(call.ws, name))}


def get(call: Call, ask: ByName) -> dict[str, Any]:
    assert ask.name is not None
    return {"registered_model": described(call, shelf(call.ws, ask.name))}


def update(call: Call, ask: Update) -> dict[str, Any]:
    assert ask.name is not None
    name, said = ask.name, names.require_length(ask.description or "", TAG, "description")
    settled(lambda: shelving.label(call.ws, name, description=said))
    return {"registered_model": described(call, shelf(call.ws, name))}


def rename(call: Call, ask: Rename) -> dict[str, Any]:
    assert ask.name is not None and ask.new_name is not None
    name, to = ask.name, ask.new_name
    settled(lambda: shelving.rename(call.ws, name, to))
    return {"registered_model": described(call, shelf(call.ws, to))}


def delete(call: Call, ask: ByName) -> dict[str, Any]:
    assert ask.name is not None
    name = ask.name
    settled(lambda: shelving.remove(call.ws, name))
    return {}


def set_tag(call: Call, ask: Tag) -> dict[str, Any]:
    assert ask.name is not None and ask.key is not None
    name, tags = ask.name, checked({ask.key: ask.value or ""})
    if IS_PROMPT in tags:
        _require_same_kind(shelf(call.ws, name), tags[IS_PROMPT])
    settled(lambda: shelving.label(call.ws, name, tags=tags))
    return {}


def delete_tag(call: Call, ask: Tag) -> dict[str, Any]:
    assert ask.name is not None and ask.key is not None
    name, tags = ask.name, {ask.key: None}
    if ask.key == IS_PROMPT:
        _require_same_kind(shelf(call.ws, name), "false")
    settled(lambda: shelving.label(call.ws, name, tags=tags))
    return {}


def _require_same_kind(on: Shelf, said: str) -> None:
    if (said.lower() == "true") != on.prompt:
        raise invalid(f"Invalid tag {IS_PROMPT!r}: what is a prompt and what is a model is said once, at creation.")


def checked(tags: dict[str, str]) -> dict[str, str]:
    """Tags, as long and named as the protocol has them; none that Loopline says itself."""
    for key, value in tags.items():
        names.require_key(key)
        if key.startswith(SAID):
            raise invalid(f"Invalid tag {key[:250]!r}: tags that begin with {SAID!r} are Loopline's own.")
        names.require_length(value, TAG, "value")
    return tags


def set_alias(call: Call, ask: Alias) -> dict[str, Any]:
    assert ask.name is not None and ask.alias is not None and ask.version is not None
    name, alias, number = ask.name, ask.alias, version_number(ask.version)
    found = entry(call.ws, name, number)
    if not found.prompt and guarded(alias, protected(call.ws)) == alias:
        promote(call.ws, found, alias)
    else:
        settled(lambda: shelving.point(call.ws, name, alias, number))
    return {}


def promote(ws: Workspace, found: Entry, alias: str) -> None:
    """Move a protected alias, if all that must hold does.

    Raises
    ------
    Denied
        Naming every condition that does not, and what to do.
    """
    if found.version is None:
        assert found.deposit is not None
        lacking = unjudged(found.deposit, ApprovalsSpec())
        told = "; ".join(f"{one.name}: {one.observed or 'none'}, wanted {one.threshold}" for one in lacking)
        raise Denied(
            f"version {found.number} of {found.name} is not promoted: the alias {alias!r} is protected",
            why=f"{told}. It was registered by a tracking client and never judged on held-out rows",
            fix=_how_judged(ws, found),
        )
    try:
        registry.promote(ws, found.version, alias=alias, reason=f"asked for by {ws.actor} through a tracking client")
    except Denied as error:
        rule = ApprovalsSpec.model_validate(present_evidence(ws, found.version).policy.get("approvals") or {})
        author = "" if rule.by == "anyone" else f". {found.version.author} is its author, whose approval does not count"
        raise Denied(
            f"{error.what}: the alias {alias!r} is protected", why=error.why + author, fix=error.fix
        ) from error


def _how_judged(ws: Workspace, found: Entry) -> str:
    """What a client's version goes through before it can be released; only a project has the rows to judge it on."""
    from loopline.loop.project import FILE  # all declarations: a server of runs alone does without them

    number = found.number
    other = "with a name (LOOPLINE_ACTOR)" if found.author == NAMELESS else f"but {found.author}"
    then = (
        f"`loopline registry adopt {number}` judges it; then `loopline registry approve {number}` by somebody {other}, "
        f"then `loopline registry promote {number}`"
    )
    if (ws.root.parent / FILE).is_file():
        return f"in the project {ws.root.parent.name}, {then}"
    return (
        f"this server has no project to judge it in: register it with one whose {FILE} says `name: {found.name}` "
        f"(`loopline track` in its folder); there, under the number it gets, {then}"
    )


def delete_alias(call: Call, ask: Alias) -> dict[str, Any]:
    assert ask.name is not None and ask.alias is not None
    name, alias = ask.name, ask.alias
    settled(lambda: shelving.unpoint(call.ws, name, alias))
    return {}


def by_alias(call: Call, ask: Alias) -> dict[str, Any]:
    assert ask.name is not None and ask.alias is not None
    on = shelf(call.ws, ask.name)
    found = None
    if (target := on.aliases.get(ask.alias)) is not None:
        found = pointed_at(entries(call.ws, ask.name), target)
    if found is None:
        raise invalid(f"Registered model alias {ask.alias[:255]} not found.")
    return {"model_version": shown(call, [found])[0]}


def latest(call: Call, ask: Latest) -> dict[str, Any]:
    assert ask.name is not None
    wanted = [stage_named(one) for one in ask.stages or STAGES]
    every = shown(call, entries(call.ws, ask.name))
    return {"model_versions": newest(every, wanted)}


def newest(every: list[dict[str, Any]], stages: list[str]) -> list[dict[str, Any]]:
    """The last version of each stage."""
    last = {one["current_stage"]: one for one in every}
    return [last[stage] for stage in dict.fromkeys(stages) if stage in last]


def stage_named(given: str) -> str:
    """A stage, however it is written."""
    found = next((one for one in STAGES if one.lower() == given.strip().lower()), None)
    if found is None:
        raise invalid(f"Invalid Model Version stage: {given[:100]}. Value must be one of {', '.join(STAGES)}.")
    return found


def version_number(given: str | None) -> int:
    """The number of a version."""
    text = (given or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) > 0):
        raise invalid(f"Parameter 'version' must be an integer, got '{(given or '')[:100]}'.")
    return int(text)


def shown(call: Call, found: list[Entry]) -> list[dict[str, Any]]:
    """Versions in the shape of the protocol."""
    every: dict[str, tuple[dict[str, str], set[str]]] = {}
    pointing = {on.name: on.aliases for on in models(call.ws)} if len(found) > 1 else {}
    for one in found:
        if one.name not in every:
            aliases = pointing[one.name] if pointing else shelf(call.ws, one.name).aliases
            every[one.name] = aliases, {release.version for release in releases(call.ws, one.name, RELEASED_AS)}
    return [registry_shapes.version(one, *every[one.name], source=address(one)) for one in found]


def address(found: Entry) -> str:
    """Where the files of a version can be read: pinned, or where the client said."""
    if found.deposit is not None:
        return (
            f"mlflow-artifacts:/versions/{found.deposit.id[:32]}/artifacts"
            if found.deposit.files
            else found.deposit.source
        )
    assert found.version is not None
    return f"mlflow-artifacts:/versions/{kept_for(found.version)}/artifacts"


def kept_for(version: Version) -> str:
    """The owner of the files that a judged version is shown as."""
    from loopline.interfaces.mlflow.registry_bundle import owner

    return owner(version)


def described(call: Call, on: Shelf, every: list[Entry] | None = None) -> dict[str, Any]:
    """A registered model with the last version of each stage."""
    found = entries(call.ws, on.name) if every is None else every
    numbers = {id: one.number for one in found for id in one.ids}
    docs = [registry_shapes.version(one, on.aliases, _were(call, found), source=address(one)) for one in found]
    return registry_shapes.model(on, newest(docs, list(STAGES)), numbers)


def _were(call: Call, found: list[Entry]) -> set[str]:
    if not any(one.version is not None for one in found):
        return set()
    return {release.version for release in releases(call.ws, found[0].name, RELEASED_AS)}


def search(call: Call, ask: Search) -> dict[str, Any]:
    fits = registry_search.matcher(ask.filter, MODEL_FIELDS)
    terms = registry_search.ordering(ask.order_by, MODEL_FIELDS)
    most = names.require_page(ask.max_results, names.MODELS_A_PAGE, 100)
    found = [on for on in models(call.ws) if fits(Seen(_fields(on), on.tags, on.prompt))]
    asked = f"{ask.filter}|{ask.order_by}"
    page, token = registry_search.paged(registry_search.ordered(found, _fields, terms), most, ask.page_token, asked)
    every: dict[str, list[Entry]] = {on.name: [] for on in page}
    for one in entries(call.ws) if page else []:
        if one.name in every:
            every[one.name].append(one)
    answer: dict[str, Any] = {"registered_models": [described(call, on, every[on.name]) for on in page]}
    return answer if token is None else {**answer, "next_page_token": token}


def _fields(on: Shelf) -> dict[str, Any]:
    return {
        "name": on.name,
        "creation_timestamp": registry_shapes.millis(on.created_at),
        "last_updated_timestamp": registry_shapes.millis(on.updated_at),
    }


READ, NAME = "registry.models", ("name",)
OPERATIONS = (
    Operation("POST", "registered-models/create", Create, create, "registry.create", NAME, conflict=TAKEN),
    Operation("POST", "registered-models/rename", Rename, rename, "registry.rename", ("name", "new_name"), TAKEN),
    Operation("PATCH", "registered-models/update", Update, update, "registry.label", NAME),
    Operation("DELETE", "registered-models/delete", ByName, delete, "registry.remove", NAME),
    Operation("GET", "registered-models/get", ByName, get, READ, NAME),
    Operation("GET", "registered-models/search", Search, search, READ),
    Operation("POST", "registered-models/search", Search, search, READ),
    Operation("GET", "registered-models/get-latest-versions", Latest, latest, READ, NAME),
    Operation("POST", "registered-models/get-latest-versions", Latest, latest, READ, NAME),
    Operation("POST", "registered-models/set-tag", Tag, set_tag, "registry.label", ("name", "key")),
    Operation("DELETE", "registered-models/delete-tag", Tag, delete_tag, "registry.label", ("name", "key")),
    Operation("GET", "registered-models/alias", Alias, by_alias, READ, ("name", "alias")),
    Operation("POST", "registered-models/alias", Alias, set_alias, "registry.point", ("name", "alias", "version")),
    Operation("DELETE", "registered-models/alias", Alias, delete_alias, "registry.unpoint", ("name", "alias")),
)
