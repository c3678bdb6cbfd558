"""Versions of contracts, kept in the records, and changes that a person reviews."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from loopline.base.errors import Conflict, Denied, NotFound
from loopline.base.ids import content_id
from loopline.base.nouns import noun
from loopline.data.contracts.changes import ContractChange, accepted_text, compare_contracts
from loopline.data.contracts.contract import Contract
from loopline.data.contracts.odcs import read_yaml
from loopline.data.spec import TableSpec
from loopline.store.records.protocol import Tx
from loopline.workspace import Workspace, query, verb

POINTER = "contract"
Answer = Literal["accept", "reject"]


@noun("contract")
@dataclass(frozen=True, slots=True)
class ContractVersion:
    """A contract as it stood: which text, what it changed, and whom that breaks."""

    id: str
    table: str
    version: str
    """As the file says it."""
    contract: str
    """Content id of what it demands; the same for other words."""
    text: str
    """Blob digest of the YAML."""
    verdict: str
    changes: tuple[str, ...]
    """Against the version before; none for the first."""
    previous: str | None
    at: datetime
    by: str


@noun("contract_proposal")
@dataclass(frozen=True, slots=True)
class ContractProposal:
    """A change of a contract that waits for a person's yes or no."""

    id: str
    table: str
    rule: str
    values: tuple[str, ...]
    """The broken values that would be good."""
    diff: str
    """Unified diff of the YAML."""
    changes: tuple[str, ...]
    verdict: str
    base: str
    """Blob digest of the YAML it was made from."""
    text: str
    """Blob digest of the YAML it would become."""
    reason: str
    at: datetime
    by: str


@noun("contract_answer")
@dataclass(frozen=True, slots=True)
class ContractAnswer:
    """A person's yes or no to a proposal."""

    id: str
    proposal: str
    answer: str
    reason: str
    at: datetime
    by: str


@verb("data.record_contract")
def record_contract(ws: Workspace, project: Path, tables: Mapping[str, TableSpec], *, table: str) -> ContractVersion:
    """Keep the contract of a table as it stands now; nothing new where it is the one kept last.

    Raises
    ------
    NotFound
        If there is no such table, or it has no contract.
    """
    made = version_of(ws, table, *_text(project, tables, table))
    ws.on_commit(lambda tx: point(tx, made))
    return made


def kept_as(ws: Workspace, project: Path, tables: Mapping[str, TableSpec], *, table: str) -> ContractVersion | None:
    """The version that the contract file is kept as; null where it is not, or was changed since."""
    last = latest_version(ws, table)
    text = _text(project, tables, table)[1]
    return last if last is not None and ws.blobs.get(last.text) == text.encode() else None


def version_of(ws: Workspace, table: str, contract: Contract, text: str) -> ContractVersion:
    """The version that this text is: the one recorded last where nothing changed, else a new one, unwritten.

    Whoever writes it puts the noun, and moves the pointer with `point`.
    """
    last = latest_version(ws, table)
    digest = ws.blobs.put(text.encode())
    if last is not None and last.text == digest:
        return last
    change = compare_contracts(contract_at(ws, last), contract) if last is not None else None
    return ContractVersion(
        id=content_id({"table": table, "text": digest, "previous": last.id if last else None}),
        table=table,
        version=contract.version,
        contract=contract.id,
        text=digest,
        verdict=change.verdict if change else "first",
        changes=tuple(map(str, change.changes)) if change else (),
        previous=last.id if last else None,
        at=ws.clock(),
        by=ws.actor,
    )


def new_versions(ws: Workspace, project: Path, tables: Mapping[str, TableSpec]) -> list[ContractVersion]:
    """The contracts of `tables` that differ from those kept last, unwritten."""
    found = []
    for table, spec in tables.items():
        if spec.contract is not None:
            made = version_of(ws, table, *_text(project, tables, table))
            last = latest_version(ws, table)
            if last is None or last.id != made.id:
                found.append(made)
    return found


def point(tx: Tx, made: ContractVersion) -> None:
    """Have the records say that `made` is the contract of its table now."""
    tx.move(POINTER, made.table, made.id, expect=None, at=made.at)


def latest_version(ws: Workspace, table: str) -> ContractVersion | None:
    """The contract of a table as it was kept last; null where none was."""
    pointer = ws.records.pointer(POINTER, table)
    return None if pointer is None else ws.records.get(ContractVersion, pointer.target)


def contract_at(ws: Workspace, version: ContractVersion) -> Contract:
    """The contract that a version kept."""
    text = ws.blobs.get(version.text).decode()
    file = f"{version.table} {version.version}"
    return Contract.from_doc(read_yaml(text, file), file=file, table=version.table)


@query("data.contract_versions")
def contract_versions(ws: Workspace, *, table: str) -> list[ContractVersion]:
    """The contracts of a table in the order they were kept, newest first."""
    return ws.records.find(ContractVersion, table=table)


@query("data.contract_text")
def contract_text(ws: Workspace, *, version: str) -> str:
    """The YAML of a version, by its id."""
    return ws.blobs.get(ws.records.get(ContractVersion, version).text).decode()


@query("data.contract_change")
def contract_change(
    ws: Workspace, project: Path, tables: Mapping[str, TableSpec], *, table: str, version: str | None = None
) -> ContractChange | None:
    """How the file differs from a kept version, the last one by default; null where none was kept."""
    last = latest_version(ws, table) if version is None else ws.records.get(ContractVersion, version)
    contract, _ = _text(project, tables, table)
    return None if last is None else compare_contracts(contract_at(ws, last), contract)


@verb("data.propose_contract")
def propose_contract(
    ws: Workspace,
    project: Path,
    tables: Mapping[str, TableSpec],
    *,
    table: str,
    rule: str,
    values: tuple[str, ...] = (),
    reason: str,
) -> ContractProposal:
    """Propose that values which broke a rule be good from now on; nothing changes until a person says yes.

    Parameters
    ----------
    rule : str
        Id of the broken rule, as quarantine names it.
    values : tuple of str
        The values to accept, as quarantine keeps them.
    """
    contract, text = _text(project, tables, table)
    after = accepted_text(contract, text, rule, values)
    proposed = _read(after, f"proposal for {table}", table)
    change = compare_contracts(contract, proposed)
    base, made = ws.blobs.put(text.encode()), ws.blobs.put(after.encode())
    answered = [p for p in _answered(ws) if (p.table, p.base, p.text) == (table, base, made)]
    id = content_id({"table": table, "base": base, "text": made, "again": len(answered)})
    if waiting := ws.records.find(ContractProposal, limit=1, id=id):
        return waiting[0]
    return ContractProposal(
        id=id,
        table=table,
        rule=rule,
        values=tuple(values),
        diff=diff_text(text, after, contract.version, proposed.version),
        changes=tuple(map(str, change.changes)),
        verdict=change.verdict,
        base=base,
        text=made,
        reason=reason,
        at=ws.clock(),
        by=ws.actor,
    )


def _answered(ws: Workspace) -> list[ContractProposal]:
    return [ws.records.get(ContractProposal, answer.proposal) for answer in ws.records.find(ContractAnswer)]


@query("data.contract_proposals")
def contract_proposals(ws: Workspace, *, table: str | None = None) -> list[ContractProposal]:
    """Proposals without an answer, newest first."""
    answered = {a.proposal for a in ws.records.find(ContractAnswer)}
    found = ws.records.find(ContractProposal, table=table) if table else ws.records.find(ContractProposal)
    return [proposal for proposal in found if proposal.id not in answered]


@verb("data.settle_contract")
def settle_contract(
    ws: Workspace,
    project: Path,
    tables: Mapping[str, TableSpec],
    *,
    proposal: str,
    answer: Answer,
    reason: str,
) -> list[ContractAnswer | ContractVersion]:
    """Say yes or no to a proposed change; yes writes the file and keeps the new version.

    Raises
    ------
    Denied
        If no person says it.
    Conflict
        If the proposal was answered, or the file changed since it was made.
    """
    found = ws.records.get(ContractProposal, proposal)
    if not ws.actor.startswith("user:"):
        raise Denied(
            f"{ws.actor} may not settle a contract",
            why="what data must be is answered for by a person",
            fix="have a person run it",
        )
    earlier = [a for a in ws.records.find(ContractAnswer, proposal=found.id) if a.answer != answer]
    if earlier:
        raise Conflict(
            f"proposal {found.id[:12]} was answered: {earlier[0].answer}",
            why=f"{earlier[0].by} said so",
            fix="propose it again",
        )
    given = ContractAnswer(
        content_id({"proposal": found.id, "answer": answer}), found.id, answer, reason, ws.clock(), ws.actor
    )
    known = ws.records.find(ContractAnswer, proposal=found.id)
    given = known[0] if known else given
    if answer == "reject":
        return [given]
    path = _path(project, tables, found.table)
    now = ws.blobs.put(path.read_bytes())
    if now not in (found.base, found.text):
        raise Conflict(
            f"{path.name} changed since the proposal was made",
            why="a proposal changes the text that it was made from",
            fix="propose it again",
        )
    text = ws.blobs.get(found.text).decode()
    made = version_of(ws, found.table, _read(text, path.name, found.table), text)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
    ws.on_commit(lambda tx: point(tx, made))
    return [given, made]


def diff_text(before: str, after: str, old: str = "", new: str = "") -> str:
    """Two documents as a unified diff."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), old or "before", new or "after", lineterm="")
    return "\n".join(lines)


def _path(project: Path, tables: Mapping[str, TableSpec], table: str) -> Path:
    spec = tables.get(table)
    if spec is None:
        raise NotFound(f"no table {table!r}", why=f"declared: {', '.join(sorted(tables))}", fix="correct the name")
    if spec.contract is None:
        raise NotFound(
            f"table {table} has no contract",
            why=f"data.{table}.contract is not set in loop.yaml",
            fix=f"loopline data contract draft {table} --out contracts/{table}.yaml",
        )
    return Path(project) / spec.contract


def _text(project: Path, tables: Mapping[str, TableSpec], table: str) -> tuple[Contract, str]:
    path = _path(project, tables, table)
    contract = Contract.load(path, table=table)
    return contract, path.read_text(encoding="utf-8")


def _read(text: str, file: str, table: str) -> Contract:
    return Contract.from_doc(read_yaml(text, file), file=file, table=table)
