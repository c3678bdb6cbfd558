"""What can be asked of the registry."""

from __future__ import annotations

from typing import Any

from loopline.base.errors import LooplineError, NotFound
from loopline.base.keys import SigningKey, forebears
from loopline.base.keys import verify as verify_signature
from loopline.evaluation.nouns import Report
from loopline.registry.envelope import statement, unseal
from loopline.registry.evidence import ballot, evidence, same_person
from loopline.registry.nouns import (
    Approval,
    Condition,
    Deposit,
    Evidence,
    PublicKey,
    Release,
    Retirement,
    Standing,
    Version,
)
from loopline.registry.spec import ApprovalsSpec
from loopline.training.nouns import Model, Run
from loopline.training.tracking.lineage import is_exploratory
from loopline.workspace import Workspace, query

ALIAS = "alias"
EVIDENCE = "evidence"
LABEL = "version label"
"""Rows of what may change of a version, by its id; those of a withdrawn one are not `HERE`."""
HERE = "here"
SHOWN = 20
"""Numbers of versions that an error names."""
PREDICATE = "urn:loopline:registered-model:v1"


def workspace_key_name(ws: Workspace) -> str:
    """Name of the private key that signs for the workspace."""
    return f"workspace-{ws.id}"


def find_version(ws: Workspace, version: str | Version) -> Version:
    """The version as recorded, from itself, its id or a unique prefix of its id."""
    found: Version = ws.records.get(Version, version.id if isinstance(version, Version) else version)
    return found


def present_evidence(ws: Workspace, version: Version) -> Evidence:
    """What the version is judged on now, `amend` included."""
    pointer = ws.records.pointer(EVIDENCE, version.id)
    found: Evidence = ws.records.get(Evidence, pointer.target if pointer else version.evidence)
    return found


def releases(ws: Workspace, name: str, alias: str | None = None) -> list[Release]:
    """The releases of a model (of one alias), oldest first."""
    where: dict[str, Any] = {"name": name} if alias is None else {"name": name, "alias": alias}
    return ws.records.find(Release, newest_first=False, **where)


@query("registry.resolve")
def resolve(ws: Workspace, name: str, ref: str = "production") -> Version:
    """The version of model `name` that `ref` names: an alias, a number, or an id (8 characters will do).

    Raises
    ------
    NotFound
        Naming what there is.
    """
    if ref.isdigit() and len(ref) < 8:
        numbered = ws.records.find(Version, limit=1, name=name, number=int(ref))
        if numbered:
            return numbered[0]
        for deposit in ws.records.find(Deposit, name=name, number=int(ref)):
            label = ws.records.row(LABEL, deposit.id)
            if label is None or label.state == HERE:
                raise _not_judged(deposit)
        raise _unknown(ws, name, f"{name} has no version {ref}")
    pointer = ws.records.pointer(ALIAS, f"{name}/{ref}")
    if pointer is not None and pointer.target:
        for deposit in ws.records.find(Deposit, limit=1, id=pointer.target):
            for version in ws.records.find(Version, limit=1, name=name, number=deposit.number):
                return version
            raise _not_judged(deposit)
        return find_version(ws, pointer.target)
    try:
        found = find_version(ws, ref)
    except LooplineError:
        found = None
    if found is None or found.name != name:
        raise _unknown(ws, name, f"{name} has no version and no alias that is called {ref[:100]!r}")
    return found


@query("registry.history")
def history(ws: Workspace, name: str, alias: str = "production") -> list[Release]:
    """Where an alias has pointed, newest first."""
    return list(reversed(releases(ws, name, alias)))


@query("registry.standing")
def standing(ws: Workspace, version: str | Version, spec: ApprovalsSpec) -> Standing:
    """Who has said yes or no to what the version is judged on now.

    A yes counts when it is signed with its approver's registered key over the
    present evidence, and its approver may say it. Of one person's words the last counts.
    """
    found = find_version(ws, version)
    now = present_evidence(ws, found).id
    last: dict[str, Approval] = {}
    for word in ws.records.find(Approval, newest_first=False, version=found.id, evidence=now):
        if _signed(ws, word):
            last[word.approver] = word
    refused = next((word.approver for word in last.values() if word.decision == "reject"), None)
    yes = [
        word.approver
        for word in last.values()
        if word.decision == "approve" and may_approve(word.approver, found.author, spec)
    ]
    enough = len(yes) >= spec.needed
    guards = (
        Condition("approvals", enough, sorted(yes), spec.needed, now),
        Condition("nobody refused", refused is None, refused, None, now),
    )
    return Standing(enough and refused is None, refused, spec.needed, len(yes), guards)


def may_approve(approver: str, author: str, spec: ApprovalsSpec) -> bool:
    """Whether the approver's yes counts for a candidate of that author."""
    return spec.by == "anyone" or not same_person(approver, author)


def _signed(ws: Workspace, word: Approval) -> bool:
    owned = ws.records.find(PublicKey, limit=1, id=word.key)
    message = ballot(word.version, word.evidence, word.approver, word.decision, word.reason)
    return (
        bool(owned) and owned[0].owner == word.approver and verify_signature(owned[0].public, word.signature, message)
    )


@query("registry.verify")
def verify(ws: Workspace, version: str | Version) -> tuple[Condition, ...]:
    """Check everything that can be checked about a version without asking anyone.

    The bundle's bytes against their digest, the signature against the key of the
    workspace, the signed statement against the record, the evidence against the
    records that it is the digest of. The bytes are read whole: about 1 s a GB.
    """
    found = find_version(ws, version)
    return (_bundle(ws, found), _signature(ws, found), _evidence(ws, found), _kept(ws, found))


def conditions(ws: Workspace, version: Version, approvals: ApprovalsSpec) -> tuple[Condition, ...]:
    """All that must hold before an alias may move forward to `version`."""
    held = (*_gates(ws, version), *standing(ws, version, approvals).guards, *verify(ws, version))
    return (*held, *_exploratory(ws, version))


def unjudged(deposit: Deposit, approvals: ApprovalsSpec) -> tuple[Condition, ...]:
    """All that a version which a client brought lacks before a protected alias may move to it."""
    return (
        Condition("report", False, "none", "a report on held-out rows"),
        Condition("gates", False, "not judged", "all passed"),
        Condition("approvals", False, [], approvals.needed),
        Condition("signature", False, "not signed", "signed by the workspace"),
        *(() if deposit.digest else (Condition("files", False, "kept elsewhere", "kept here, under their digests"),)),
    )


def trusted_key(ws: Workspace) -> str | None:
    """The workspace's public key: of this machine's private key where it is, else as recorded."""
    try:
        return SigningKey.load(workspace_key_name(ws)).public
    except NotFound:
        recorded = ws.records.find(PublicKey, limit=1, newest_first=False, owner=f"workspace:{ws.id}")
        return recorded[0].public if recorded else None


def _gates(ws: Workspace, version: Version) -> tuple[Condition, ...]:
    report = ws.records.get(Report, version.report)
    failed = [f"{verdict.gate}: {verdict.why}" for verdict in report.verdicts if not verdict.passed]
    return (
        Condition("gates", report.passed and not failed, failed or "all passed", "all passed", report.id),
        Condition("report is of this model", report.model == version.model, report.model, version.model, report.id),
    )


def _exploratory(ws: Workspace, version: Version) -> tuple[Condition, ...]:
    """Refuses what was made in a notebook, whose cells may have run in any order; nothing for all others."""
    models = ws.records.find(Model, limit=1, id=version.model)
    run = models[0].run if models else None
    if run is None:
        return ()
    recorded = ws.records.find(Run, limit=1, id=run)
    if (recorded and recorded[0].code.get("exploratory")) or is_exploratory(ws, run):
        return (Condition("code", False, "a notebook, whose cells may have run in any order", "files", run),)
    return ()


def _bundle(ws: Workspace, version: Version) -> Condition:
    try:
        ws.blobs.path(version.bundle)
    except LooplineError as error:
        return Condition("bundle", False, error.what, version.bundle)
    return Condition("bundle", True, version.bundle, version.bundle)


def _signature(ws: Workspace, version: Version) -> Condition:
    public = trusted_key(ws)
    if public is None:
        return Condition("signature", False, "the workspace has no key", "signed", version.signature)
    inside, wrong = None, ""
    for known in (public, *forebears(ws.id).values()):
        try:
            inside = unseal(ws.blobs.get(version.signature), known)
            break
        except LooplineError as error:
            wrong = wrong or error.what
    if inside is None:
        return Condition("signature", False, wrong, "signed", version.signature)
    told = inside == signed_statement(version)
    said = "signed" if told else "the signed statement is about something else"
    return Condition("signature", told, said, "signed", version.signature)


def signed_statement(version: Version) -> dict[str, Any]:
    """What the workspace's signature says of a version."""
    predicate = {
        "name": version.name,
        "number": version.number,
        "model": version.model,
        "report": version.report,
        "problem": version.problem,
        "author": version.author,
        "risk": version.risk,
        "evidence": version.evidence,
    }
    return statement(f"{version.name}/{version.number}", version.bundle, PREDICATE, predicate)


def _evidence(ws: Workspace, version: Version) -> Condition:
    present = present_evidence(ws, version)
    try:
        model, report = ws.records.get(Model, version.model), ws.records.get(Report, version.report)
    except NotFound as error:
        return Condition("evidence", False, error.what, present.id)
    again = evidence(model, report, present.plan, present.policy)
    fine = again == present.id and model.bundle == version.bundle
    return Condition("evidence", fine, again, present.id)


def _kept(ws: Workspace, version: Version) -> Condition:
    retired = ws.records.find(Retirement, limit=1, id=version.id)
    return Condition("kept", not retired, retired[0].reason if retired else "kept", "kept")


def _not_judged(deposit: Deposit) -> NotFound:
    return NotFound(
        f"version {deposit.number} of {deposit.name} is not judged yet",
        why="a tracking client registered it; it has no report, no approvals and no signature",
        fix=f"loopline registry adopt {deposit.number}",
    )


def _there(numbers: list[str], aliases: list[str]) -> str:
    """What a name has, as a sentence; of many the newest."""
    shown = numbers if len(numbers) <= SHOWN else ["…", *numbers[-SHOWN:]]
    versions = f"it has the version{'' if len(numbers) == 1 else 's'} {', '.join(shown)}"
    pointed = f"the alias{'' if len(aliases) == 1 else 'es'} {', '.join(aliases)}" if aliases else "no alias"
    return f"{versions}, and {pointed}"


def _unknown(ws: Workspace, name: str, what: str) -> NotFound:
    numbers = [str(version.number) for version in ws.records.find(Version, newest_first=False, name=name)]
    held = [p for p in ws.records.pointers(ALIAS) if p.target and p.name.startswith(f"{name}/")]
    aliases = [p.name.partition("/")[2] for p in held]
    return NotFound(
        what,
        why=_there(numbers, aliases) if numbers else f"no version of {name} is registered yet",
        fix="name one of them; `loopline registry list` shows all" if numbers else "`loopline run` registers one",
    )
