"""What people say of a version, and the keys that they sign it with."""

from __future__ import annotations

import re
from typing import Literal

from loopline.base.errors import Conflict, Denied, Invalid
from loopline.base.ids import content_id
from loopline.base.keys import SigningKey, fingerprint
from loopline.base.settings import NAMELESS
from loopline.registry.evidence import ballot, same_person
from loopline.registry.nouns import Approval, PublicKey, Version
from loopline.registry.queries import find_version, present_evidence
from loopline.registry.spec import ApprovalsSpec
from loopline.workspace import Workspace


def word(ws: Workspace, version: str | Version, decision: Literal["approve", "reject"], reason: str) -> Approval:
    """What the actor says of a version, signed with their key; the same again is the word that is there.

    Raises
    ------
    Denied
        If the author approves what only others may, or somebody whom no name tells from others what takes two people.
    """
    found = find_version(ws, version)
    rule = rule_of(ws, found)
    if decision == "approve" and ws.actor == NAMELESS and (rule.by != "anyone" or rule.needed > 1):
        raise Denied(
            f"nobody can tell who approves version {found.number} of {found.name}",
            why="it takes a second person, and the system knows no name of the user who runs this",
            fix='say who you are: LOOPLINE_ACTOR=user:<name> loopline approve --reason "..."',
        )
    if decision == "approve" and rule.by != "anyone" and same_person(ws.actor, found.author):
        raise Denied(
            f"{ws.actor} may not approve version {found.number} of {found.name}",
            why=f"{found.author} is its author, and approvals are by anyone but the author",
            fix="ask a colleague: LOOPLINE_ACTOR=user:<name> loopline approve",
        )
    key = SigningKey.load(ws.actor, create=not ws.records.find(PublicKey, limit=1, owner=ws.actor))
    fact = key_fact(ws, ws.actor, key.public)
    proof = present_evidence(ws, found).id
    message = ballot(found.id, proof, ws.actor, decision, reason)
    now = ws.clock()
    earlier = ws.records.find(Approval, limit=1, version=found.id, evidence=proof, approver=ws.actor)
    if earlier and (earlier[0].decision, earlier[0].reason, earlier[0].key) == (decision, reason, key.fingerprint):
        return earlier[0]
    word_id = content_id({"ballot": message.decode(), "after": earlier[0].id if earlier else None})
    ws.on_commit(lambda tx: tx.put(fact))
    return Approval(word_id, found.id, proof, ws.actor, decision, reason, key.fingerprint, key.sign(message), now)


def rule_of(ws: Workspace, version: Version) -> ApprovalsSpec:
    """Who may approve a version, as its evidence says."""
    declared = present_evidence(ws, version).policy.get("approvals")
    return ApprovalsSpec.model_validate(declared) if declared is not None else ApprovalsSpec()


def key_fact(ws: Workspace, owner: str, public: str) -> PublicKey:
    """The key of an owner, as it is on record or will be.

    Raises
    ------
    Invalid
        If it is no key.
    Conflict
        If it is of someone else, or the owner has another.
    """
    if not re.fullmatch(r"[A-Za-z0-9+/]{43}=", public):
        raise Invalid(
            f"{public!r} is not an Ed25519 public key",
            why="it is 32 raw bytes in base64",
            fix="give the 44 characters that `loopline doctor` shows on the other machine",
        )
    mark = fingerprint(public)
    same = ws.records.find(PublicKey, limit=1, id=mark)
    if same and same[0].owner == owner:
        return same[0]
    if same:
        raise Conflict(
            f"the key {mark} belongs to {same[0].owner}",
            why="one key signs for one actor, else nobody could be told apart",
            fix=f"make a key for {owner} of its own (set LOOPLINE_KEYS to another folder)",
        )
    other = ws.records.find(PublicKey, limit=1, owner=owner)
    if other:
        raise Conflict(
            f"{owner} has the key {other[0].id}, not {mark}",
            why="a second key for one name would let anyone sign for it",
            fix="sign where that key is (set LOOPLINE_KEYS to its folder), or act under another name",
        )
    return PublicKey(mark, owner, public, ws.actor, ws.clock())
