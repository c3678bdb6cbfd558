"""What can be done to bring two workspaces together: say what is here, pack what the other lacks, take a parcel in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopline.base.ids import uuid7
from loopline.governance.joining.arriving import one_at_a_time, take_in
from loopline.governance.joining.nouns import Receipt
from loopline.governance.joining.parcel import Parcel
from loopline.governance.joining.sending import Sent, had, put_together
from loopline.workspace import Workspace, flow, query, verb


@query("governance.inventory")
def inventory(ws: Workspace) -> dict[str, Any]:
    """What this workspace has, told shortly, so that another sends only the rest."""
    return had(ws)


@flow("governance.pack", offered=False)
def pack(ws: Workspace, to: Path, *, have: Mapping[str, Any] | None = None) -> Sent:
    """Write a parcel with the runs, logged models, files, registrations and traces that `have` lacks; all by default.

    Runs and traces that have not ended stay, and so do deleted ones. Judged versions travel as registrations: their
    bundle, signature and evidence as files. Where they arrive they are judged anew.
    """
    return put_together(ws, to, have or {})


@verb("governance.receive", offered=False)
def receive(ws: Workspace, parcel: Parcel) -> Receipt:
    """Add what a parcel has and this workspace lacks.

    A set union: again changes nothing, and neither does the order in which parcels come. The same id with another
    content is refused and named. Names, tags and aliases that clash are told and stay as they are here. The audit trail
    keeps which workspace it came from and the sealed head of its trail; its entries stay there.

    Raises
    ------
    Unavailable
        If a store cannot be written; the same parcel again goes on.
    """
    with one_at_a_time(ws):
        taken = take_in(ws, parcel)
    head = parcel.head
    ws.note(
        workspace=parcel.workspace,
        head=head,
        key=parcel.key,
        signed=parcel.signed,
        parcel=parcel.id,
        refused=len(taken.refused),
    )
    return Receipt(
        id=uuid7(ws.clock()),
        parcel=parcel.id,
        workspace=parcel.workspace,
        head=head,
        key=parcel.key,
        signed=parcel.signed,
        added=taken.added,
        refused=tuple(taken.refused),
        told=tuple(taken.told),
        by=ws.actor,
        at=ws.clock(),
    )
