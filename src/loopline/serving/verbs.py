"""What can be done to an endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loopline.base.errors import NotFound
from loopline.base.ids import content_id, iso
from loopline.base.keys import SigningKey
from loopline.serving import release as releases
from loopline.serving import router, state
from loopline.serving.nouns import DesiredState, EndpointStatus, Variant
from loopline.serving.spec import ReleaseSpec
from loopline.workspace import Workspace, query, verb

if TYPE_CHECKING:
    import polars as pl

    from loopline.serving.log import Committed, Committer

_COMMITTERS: dict[tuple[Path, str], Committer] = {}


@verb("serving.deploy")
def deploy(
    ws: Workspace,
    endpoint: str,
    *,
    variants: tuple[Variant, ...],
    release: ReleaseSpec,
    fallback: tuple[str, ...] = ("previous",),
    salt: str,
    holdout: float = 0.0,
    online: bool = False,
) -> DesiredState:
    """Say what an endpoint should serve from now on.

    The data plane takes it when it sees it; `serving.status` tells. `salt` stays
    the same over the steps of one release, so that entities only move to the
    canary, and evidence goes on. With `online`, requests name entities, and the
    server reads their features from the online store.
    """
    rails = releases.guardrails(release)
    return _publish(ws, endpoint, variants, rails, fallback, salt, holdout, online=online, kill=False)


@verb("serving.kill")
def kill(ws: Workspace, endpoint: str, *, reason: str, off: bool = True) -> DesiredState:
    """Have an endpoint refuse every request (`off=False`: answer again); the reason goes into the audit."""
    now = current(ws, endpoint)
    if now is None:
        raise NotFound(
            f"nothing is deployed at {endpoint!r}",
            why="there is nothing to switch off",
            fix="`loopline status` lists the endpoints",
        )
    ws.note(endpoint=endpoint, off=off, reason=reason)
    rest = now.guardrails, now.fallback, now.salt, now.holdout
    return _publish(ws, endpoint, now.variants, *rest, online=now.online, kill=off)


def _publish(
    ws: Workspace,
    endpoint: str,
    variants: tuple[Variant, ...],
    guardrails: tuple[dict[str, object], ...],
    fallback: tuple[str, ...],
    salt: str,
    holdout: float,
    *,
    online: bool,
    kill: bool,
) -> DesiredState:
    place = state.Place(ws.root, endpoint)
    router.check(variants)
    for variant in variants:
        ws.blobs.path(variant.bundle)  # refuse what could not be served
    generation = last_generation(ws, endpoint) + 1
    at = ws.clock()
    desired = DesiredState(
        id=content_id({"endpoint": endpoint, "generation": generation, "at": iso(at)}),
        endpoint=endpoint,
        generation=generation,
        variants=variants,
        salt=salt,
        guardrails=guardrails,
        fallback=fallback,
        kill=kill,
        issued_at=at,
        holdout=holdout,
        online=online,
    )
    key = SigningKey.load(state.key_name(ws.id), create=True)
    state.write_atomic(place.desired, state.sign(desired, key))
    state.poke(place.door)
    return desired


def last_generation(ws: Workspace, endpoint: str) -> int:
    """The greatest generation ever given out for an endpoint; 0 when none was."""
    known = [d.generation for d in ws.records.find(DesiredState, endpoint=endpoint, limit=1)]
    here = current(ws, endpoint)
    return max([0, *known, *([here.generation] if here else [])])


def current(ws: Workspace, endpoint: str) -> DesiredState | None:
    """What the endpoint should serve now; null when nothing was ever deployed."""
    signed = state.FolderSource(state.Place(ws.root, endpoint)).newest()
    return None if signed is None else state.check(signed, public=None)[0]


@query("serving.status")
def status(ws: Workspace, endpoint: str) -> EndpointStatus | None:
    """What the endpoint serves, as its supervisor last wrote it; null when none ever ran."""
    return state.read_status(state.Place(ws.root, endpoint))


@query("serving.flush")
def flush(ws: Workspace, endpoint: str) -> Committed:
    """Put every answer given before this call into the table; returns when it holds them.

    Works whether or not the endpoint runs.
    """
    from loopline.serving.log import Committer

    at = ws.root, endpoint
    if at not in _COMMITTERS:
        _COMMITTERS[at] = Committer(ws.tables, state.Place(ws.root, endpoint))
    return _COMMITTERS[at].commit()


@query("serving.predictions")
def predictions(ws: Workspace, endpoint: str) -> pl.LazyFrame:
    """The prediction log of an endpoint; see `serving.log` for its columns."""
    from loopline.serving.log import predictions as scan

    return scan(ws.tables, endpoint)
