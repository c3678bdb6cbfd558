"""What can be done with versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from loopline.base.errors import Denied, Invalid, NotFound
from loopline.base.ids import content_id
from loopline.base.keys import SigningKey
from loopline.base.nouns import to_doc
from loopline.evaluation.nouns import Report
from loopline.registry import queries
from loopline.registry.envelope import seal
from loopline.registry.evidence import evidence
from loopline.registry.nouns import Approval, Condition, Deposit, Evidence, PublicKey, Release, Retirement, Version
from loopline.registry.queries import (
    ALIAS,
    EVIDENCE,
    find_version,
    signed_statement,
    workspace_key_name,
)
from loopline.registry.releases import path, retained
from loopline.registry.spec import ApprovalsSpec, KeepSpec
from loopline.registry.words import key_fact, rule_of, word
from loopline.store.records.protocol import Tx
from loopline.training.nouns import Model
from loopline.workspace import Workspace, verb

NUMBER, ADOPTED = "version number", "adopted"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ID = re.compile(r"\d+|[0-9a-f]{8,}")


@verb("registry.register")
def register(
    ws: Workspace,
    *,
    name: str,
    model: Model,
    report: Report,
    author: str,
    risk: str,
    policy: Mapping[str, Any],
    plan: Mapping[str, Any] | None = None,
    adopts: Deposit | None = None,
) -> Version:
    """Give a judged model its number and the workspace's signature.

    A failed report is registered as it is; it cannot be promoted. The same model
    with the same evidence again is the same version.

    Parameters
    ----------
    policy, plan : mapping
        What it is released under, as JSON; both are part of the evidence.
    adopts : Deposit, optional
        What a client brought, whose number it takes.

    Raises
    ------
    Invalid
        If the report is about another model, or the bundle's bytes are damaged.
    Conflict
        If someone else registered a version of this name meanwhile; again is safe.
    """
    _check_name(name)
    if report.model != model.id:
        raise Invalid(
            f"report {report.id[:12]} is about model {report.model[:12]}, not {model.id[:12]}",
            why="a version carries the evidence of its own model",
            fix="evaluate this model, then register it with that report",
        )
    ws.blobs.path(model.bundle)
    if risk == "high" and (model.package or {}).get("unsafe"):
        raise Denied(
            f"model {model.id[:12]} ships as a pickle",
            why="pickles are off for risk: high, also where the risk was raised after training",
            fix="train a model that converts to ONNX or has a safe file of its own",
        )
    plan, policy = dict(plan or {}), dict(policy)
    proof = Evidence(evidence(model, report, plan, policy), model.id, report.id, to_doc(plan), to_doc(policy))
    version_id = content_id({"name": name, "model": model.id, "report": report.id, "evidence": proof.id})
    known = ws.records.find(Version, limit=1, id=version_id)
    if known:
        return known[0]
    now = ws.clock()
    if adopts is None:
        number, seen = next_number(ws, name)
    else:
        number, seen = adopts.number, 0
    key = SigningKey.load(workspace_key_name(ws), create=True)
    draft = Version(
        id=version_id,
        name=name,
        number=number,
        model=model.id,
        report=report.id,
        bundle=model.bundle,
        signature="",
        problem=model.problem,
        author=author,
        risk=risk,
        evidence=proof.id,
        created_at=now,
        released={metric: estimate.value for metric, estimate in report.metrics.items()},
    )
    signed = replace(draft, signature=ws.blobs.put(seal(signed_statement(draft), key)))
    owner = key_fact(ws, f"workspace:{ws.id}", key.public)
    ws.on_commit(lambda tx: tx.put(proof))
    ws.on_commit(lambda tx: tx.put(owner))
    if adopts is None:
        ws.on_commit(partial(_move, NUMBER, name, version_id, seen, now, {"number": number}))
    else:
        ws.on_commit(partial(_move, ADOPTED, adopts.id, version_id, seen, now, None))
    return signed


@verb("registry.amend")
def amend(
    ws: Workspace, version: str | Version, *, policy: Mapping[str, Any], plan: Mapping[str, Any] | None = None
) -> Evidence:
    """Judge a version under another policy or release plan from now on; approvals given before are void."""
    found = find_version(ws, version)
    model, report = ws.records.get(Model, found.model), ws.records.get(Report, found.report)
    plan, policy = dict(plan or {}), dict(policy)
    proof = Evidence(evidence(model, report, plan, policy), model.id, report.id, to_doc(plan), to_doc(policy))
    pointer = ws.records.pointer(EVIDENCE, found.id)
    if (pointer.target if pointer else found.evidence) != proof.id:
        seen = pointer.generation if pointer else 0
        ws.on_commit(partial(_move, EVIDENCE, found.id, proof.id, seen, ws.clock(), None))
    return proof


@verb("registry.add_key")
def add_key(ws: Workspace, who: str, *, public: str | None = None) -> PublicKey:
    """Have signatures of `who` be known by a key: one made on this machine, or the one given.

    Parameters
    ----------
    who : str
        As actors are written, for example `user:ada`.
    public : str, optional
        Raw Ed25519 public key in base64, where the private one lives elsewhere.

    Raises
    ------
    Conflict
        If `who` has another key here, or somebody else has this one.
    """
    if public is not None:
        return key_fact(ws, who, public)
    return key_fact(ws, who, SigningKey.load(who, create=True).public)


@verb("registry.approve")
def approve(ws: Workspace, version: str | Version, *, reason: str) -> Approval:
    """Say yes to what a version is judged on now, signed with the actor's own key.

    Whoever has no key here yet gets one, known from then on as theirs.

    Raises
    ------
    Denied
        If the actor is the author and the version's policy does not say that
        anyone may approve.
    """
    return word(ws, version, "approve", reason)


@verb("registry.reject")
def reject(ws: Workspace, version: str | Version, *, reason: str) -> Approval:
    """Say no to what a version is judged on now, signed with the actor's own key."""
    return word(ws, version, "reject", reason)


@verb("registry.promote")
def promote(
    ws: Workspace,
    version: str | Version,
    *,
    alias: str = "production",
    reason: str,
    approvals: ApprovalsSpec | None = None,
) -> Release:
    """Point an alias at a version whose gates passed, that has its approvals, and whose bytes and signature verify.

    An alias that points there already stays, and its release is returned.

    Parameters
    ----------
    approvals : ApprovalsSpec, optional
        Who must have said yes; by default what the version's policy says under
        `approvals`, else one person who is not the author.

    Raises
    ------
    Denied
        Naming each condition that does not hold.
    Conflict
        If the alias moved meanwhile.
    """
    found = find_version(ws, version)
    _check_alias(alias)
    rule = approvals or rule_of(ws, found)
    _refuse(f"version {found.number} of {found.name} is not promoted", queries.conditions(ws, found, rule))
    return _release(ws, found, alias, reason, "promote")


@verb("registry.rollback")
def rollback(
    ws: Workspace, name: str, *, to: str | Version | None = None, reason: str, alias: str = "production"
) -> Release:
    """Point an alias back, at the version before or at any retained one that it has pointed at.

    Needs no approval: the target had its own. Its bytes and signature are checked.
    Rolling back twice never returns to a version that was taken out.

    Raises
    ------
    Denied
        If there is nothing to go back to, the target was never released under
        this alias, or it does not verify.
    """
    releases = queries.releases(ws, name, alias)
    if not releases:
        raise NotFound(
            f"{name} has no release under {alias!r}", why="nothing was promoted", fix="loopline promote VERSION"
        )
    way = path(releases)
    if to is None:
        if len(way) < 2:
            raise Denied(
                f"there is no version of {name} before the present one",
                why=f"{alias} points at the oldest that is still good",
                fix="name one with --to, or promote another version",
            )
        target = find_version(ws, way[-2])
    else:
        target = to if isinstance(to, Version) else queries.resolve(ws, name, to)
        if target.id not in {release.version for release in releases}:
            raise Denied(
                f"version {target.number} was never released as {alias}",
                why="one goes back only to what was in service, with its approvals",
                fix=f"loopline promote {target.number}, which asks for them",
            )
    _refuse(f"{name} is not rolled back to version {target.number}", queries.verify(ws, target))
    return _release(ws, target, alias, reason, "rollback")


@verb("registry.retire")
def retire(ws: Workspace, name: str, *, keep: KeepSpec) -> list[Retirement]:
    """Give up the versions that `keep` no longer asks for; their bundles may then be freed.

    Never those that an alias points at, nor candidates younger than `keep.at_least`.
    """
    now = ws.clock()
    kept = retained(queries.releases(ws, name), versions=keep.versions, at_least=keep.at_least, now=now)
    kept |= {pointer.target for pointer in ws.records.pointers(ALIAS) if pointer.name.startswith(f"{name}/")}
    gone = {item.id for item in ws.records.find(Retirement)}
    reason = f"older than the last {keep.versions} released, and out of service for {keep.at_least.days} days"
    return [
        Retirement(version.id, version.id, reason, now)
        for version in ws.records.find(Version, newest_first=False, name=name)
        if version.id not in kept | gone and now - version.created_at >= keep.at_least
    ]


def next_number(ws: Workspace, name: str) -> tuple[int, int]:
    """The number that the next version of `name` gets, and the generation of its counter."""
    last = ws.records.pointer(NUMBER, name)
    if last is None:
        return 1, 0
    return int(last.doc.get("number", last.generation)) + 1, last.generation


def _release(ws: Workspace, version: Version, alias: str, reason: str, act: str) -> Release:
    name = f"{version.name}/{alias}"
    pointer = ws.records.pointer(ALIAS, name)
    if pointer is not None and pointer.target == version.id and "release" in pointer.doc:
        return ws.records.get(Release, str(pointer.doc["release"]))
    seen = pointer.generation if pointer else 0
    release = Release(
        id=content_id({"name": version.name, "alias": alias, "generation": seen + 1, "version": version.id}),
        name=version.name,
        alias=alias,
        version=version.id,
        previous=(pointer.target or None) if pointer else None,
        reason=reason,
        actor=ws.actor,
        at=ws.clock(),
        generation=seen + 1,
        act=act,
    )
    ws.on_commit(partial(_move, ALIAS, name, version.id, seen, release.at, {"release": release.id}))
    return release


def _move(kind: str, name: str, target: str, expect: int, at: Any, doc: dict[str, Any] | None, tx: Tx) -> None:
    tx.move(kind, name, target, expect=expect, at=at, doc=doc)


def _refuse(what: str, looked_at: tuple[Condition, ...]) -> None:
    missing = [condition for condition in looked_at if not condition.passed]
    if not missing:
        return
    told = "; ".join(f"{c.name}: {_shown(c.observed)}, wanted {_shown(c.threshold)}" for c in missing)
    raise Denied(
        what, why=told, fix=" and ".join(dict.fromkeys(_FIXES.get(c.name, _FIXES["signature"]) for c in missing))
    )


_FIXES = {
    "code": "put the code into files and train again: `loopline run`",
    "gates": "train a candidate that passes them",
    "report is of this model": "evaluate this model and register it again",
    "approvals": "have someone who may approve it run `loopline approve`",
    "nobody refused": "propose a new candidate",
    "kept": "name a version that is still kept",
    "evidence": "register the model again",
    "bundle": "restore the blob from a backup",
    "signature": "register the model again on a machine that has the workspace's key",
}


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "nobody" if value is None else str(value)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} cannot name a model",
            why="a name has letters, digits, `-`, `_` and `.`, at most 63",
            fix="for example claims-fraud",
        )


def _check_alias(alias: str) -> None:
    if not NAME.fullmatch(alias) or _ID.fullmatch(alias):
        raise Invalid(
            f"{alias!r} cannot be an alias",
            why="it could be taken for a number or an id of a version",
            fix="for example production or staging",
        )
