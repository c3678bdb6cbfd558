"""Columns whose values stand in no manifest, profile or draft: what is written about rows outlives them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from loopline.data.contracts.contract import Contract
from loopline.data.privacy.detectors import NOT_HIDDEN, Proposal
from loopline.data.privacy.treatments import POINTER, declared

if TYPE_CHECKING:
    from loopline.workspace import Workspace


def unsaid(ws: Workspace, name: str, contract: Contract | None, proposals: Iterable[Proposal]) -> set[str]:
    """The columns of a table that a contract declares personal, a person confirmed, or detectors propose.

    A person's word stands above a proposal.
    """
    found: dict[str, str | None] = {p.column: p.pii for p in proposals}
    for pointer in ws.records.pointers(POINTER):
        owner, _, column = pointer.name.partition("/")
        if owner == name:
            found[column] = pointer.doc["pii"]
    return {c for c, pii in found.items() if pii is not None and pii not in NOT_HIDDEN} | set(declared(contract))


def proposed_unsaid(proposals: Iterable[Proposal]) -> set[str]:
    """The columns of proposals whose values are not to be shown."""
    return {p.column for p in proposals if p.pii not in NOT_HIDDEN}
