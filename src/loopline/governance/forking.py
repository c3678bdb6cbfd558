"""A copy of a workspace becomes a workspace of its own."""

from __future__ import annotations

import json
import os

from loopline.base.clock import SystemClock
from loopline.base.errors import Conflict, Invalid
from loopline.base.ids import uuid7
from loopline.base.keys import SigningKey, adopt_forebears
from loopline.base.nouns import to_doc
from loopline.governance.nouns import Fork
from loopline.workspace import MARKER, Workspace, flow, recorded


@flow("governance.fork", offered=False)
def fork(ws: Workspace, *, reason: str) -> Fork:
    """Give this copy of a workspace an id and a key of its own, with its lineage on record.

    Everything that was decided before stays readable and verifiable: what the
    former workspace signed counts here too, and its audit trail goes on. What
    was found wrong with the trail is put on record, never mended. Only the copy
    is changed; the former workspace never hears of it.

    Raises
    ------
    Invalid
        If no reason is given.
    Conflict
        If a data plane of this workspace runs: it trusts the former key.
    """
    from loopline import serving

    if not reason.strip():
        raise Invalid("a fork needs a reason", why="it goes into the records", fix='--reason "what this copy is for"')
    endpoints = sorted(place.parent.name for place in (ws.root / "serving").glob("*/desired.json"))
    if running := [name for name in endpoints if serving.supervisor_pid(ws, name)]:
        raise Conflict(
            f"{running[0]} is being served from this workspace",
            why="its data plane trusts the key of the former id",
            fix="end `loopline up` first, then fork",
        )
    former = ws.id
    trail = ws.audit.verify()
    found = Fork(uuid7(SystemClock()()), former, trail.entries, trail.problems, reason, ws.actor, ws.clock())
    key = adopt_forebears(found.id, former)
    marker = ws.root / MARKER
    part = marker.with_suffix(".part")
    part.write_text(json.dumps({**json.loads(marker.read_text()), "id": found.id, "forked_from": former}) + "\n")
    os.replace(part, marker)
    ws.stores.forget_audit()  # it seals under the new id from here on
    with recorded(ws, "governance.fork", found.id, to_doc(found)) as tx:
        tx.put(found)
    for name in endpoints:
        _sign_again(ws, name, key)
    return found


def _sign_again(ws: Workspace, endpoint: str, key: SigningKey) -> None:
    """Have the endpoint's desired state be this workspace's own word; its data plane begins from it."""
    from loopline.serving import state

    place = state.Place(ws.root, endpoint)
    desired, _ = state.check(place.desired.read_bytes(), public=None)
    (place.folder / "cache" / "state.json").unlink(missing_ok=True)
    state.write_atomic(place.desired, state.sign(desired, key))


__all__ = ["fork"]
