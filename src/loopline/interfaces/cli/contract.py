"""Commands of contracts: draft, show, check, compare, and settle what changes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from loopline.interfaces.cli.answer import FAILED, OK, Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, Reason, session
from loopline.interfaces.cli.session import project as project_in

if TYPE_CHECKING:
    from loopline.data.contracts.contract import Contract
    from loopline.loop.project import Project

Table = Annotated[str, Parameter(help="Table of loop.yaml.")]
SHORT = 12


def draft(
    name: Table,
    *,
    out: Annotated[Path | None, Parameter(help="File to write; printed by default.")] = None,
    baselines: Annotated[bool, Parameter(negative="", help="Limit how far distributions may drift, too.")] = False,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Propose a contract for a table from its rows: types, ranges, categories, keys, null limits, with reasons."""
    from loopline import data
    from loopline.base.errors import Conflict, Unavailable

    found = project_in(project)
    _known(found, name, "draft")
    page = data.draft(data.load_source(found.root, found.spec.data[name]), name, baselines=baselines).to_yaml()
    if out is None:
        return Answer(page, {"table": name, "contract": page}, raw=page)
    if out.exists():
        raise Conflict(f"{out} is already there", why="a contract is never overwritten", fix="choose another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise Unavailable(
            f"{out} cannot be written",
            why=f"{error.strerror or error}: {error.filename or out}",
            fix=f"choose another --out, for example contracts/{name}.yaml",
        ) from error
    said = f"wrote {out}\nread it, change what is not meant, and {_declaring(found, name, out)}"
    return Answer(said, {"table": name, "path": str(out)}, (f"loopline data contract check {name}",))


def show(name: Table, *, project: Folder = HERE, json: Json = False) -> Answer:
    """Show the rules of a table's contract: what each demands, and what happens to what breaks it."""
    from loopline.data.contracts.changes import said
    from loopline.data.contracts.verbs import kept_as

    found = project_in(project)
    contract = _contract(found, name)
    ws, _ = session(project, create=True)
    kept = kept_as(ws, found.root, found.spec.data, table=name)
    rows = [(r.id, said(r), r.severity, r.response) for r in contract.rules]
    doc = {
        "table": name,
        "version": contract.version,
        "id": kept.id if kept is not None else None,
        "contract": contract.id,
        "rules": [{"rule": i, "demands": d, "severity": s, "response": r} for i, d, s, r in rows],
    }
    known = f"kept as {kept.id[:SHORT]}" if kept is not None else "not kept yet"
    text = f"contract of {name}, version {contract.version or 'none'} ({known})\n"
    return Answer(
        text + table(rows, head=("rule", "demands", "severity", "response")),
        doc,
        (f"loopline data contract check {name}",),
    )


def check(name: Table, *, project: Folder = HERE, json: Json = False) -> Answer:
    """Judge the rows of a table's source by its contract. Nothing is taken in; exit code 1 if a rule refuses rows."""
    from loopline.data.intake.contract_source import check_source

    found = project_in(project)
    judged = check_source(found.root, found.spec.data, name, _contract(found, name))
    told = [(v.rule, v.severity, f"{v.count:,}", ", ".join(map(repr, v.examples[:3]))) for v in judged.violations]
    lines = [f"{judged.rows:,} rows of {name}, {judged.refused:,} would be set aside"]
    lines += [table(told, head=("rule", "severity", "broken", "for example"))] if told else ["every rule is kept"]
    lines += [f"{name}: {line}" for line in judged.odd]
    lines += [f"not judged here: {', '.join(judged.unjudged)}"] if judged.unjudged else []
    after = (f"loopline data contract show {name}", f"loopline data ingest {name}")
    return Answer("\n".join(lines), judged, after, FAILED if judged.refused or judged.stops else OK)


def diff(
    name: Table,
    *,
    version: Annotated[str | None, Parameter(help="Id of a kept version; the last one by default.")] = None,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Compare the contract file with a kept version: what changed, and whom that breaks."""
    from loopline import data

    ws, found = session(project)
    _contract(found, name)
    change = data.contract_change(ws, found.root, found.spec.data, table=name, version=version)
    if change is None:
        return Answer(
            f"no contract of {name} was kept yet",
            {"table": name, "change": None},
            (f"loopline data contract keep {name}",),
        )
    rows = [(c.effect, c.rule, c.before or "-", c.after or "-") for c in change.changes]
    text = f"{change.verdict}; next version {change.next_version}"
    if rows:
        text += "\n" + table(rows, head=("effect", "rule", "before", "after"))
    return Answer(text, change, (f"loopline data contract keep {name}",) if rows else ())


def keep(name: Table, *, project: Folder = HERE, json: Json = False) -> Answer:
    """Keep the contract file in the records as it stands, with its change."""
    from loopline import data

    ws, found = session(project, create=True)
    _contract(found, name)
    kept = data.record_contract(ws, found.root, found.spec.data, table=name)
    changes = "\n".join(f"  {change}" for change in kept.changes)
    text = f"contract of {name}, version {kept.version or 'none'} ({kept.id[:SHORT]}): {kept.verdict}"
    return Answer(f"{text}\n{changes}".rstrip(), kept, (f"loopline data contract versions {name}",))


def versions(name: Table, *, project: Folder = HERE, json: Json = False) -> Answer:
    """Show the contracts of a table as they were kept, newest first."""
    from loopline import data

    ws, _ = session(project)
    kept = data.contract_versions(ws, table=name)
    if not kept:
        return Answer(f"no contract of {name} was kept yet", [], (f"loopline data contract keep {name}",))
    rows = [(k.id[:SHORT], k.version, f"{k.at:%Y-%m-%d %H:%M}", k.by, k.verdict, str(len(k.changes))) for k in kept]
    text = table(rows, head=("id", "version", "kept", "by", "verdict", "changes"))
    return Answer(text, kept, (f"loopline data contract diff {name} --version {kept[-1].id[:SHORT]}",))


def propose(
    name: Table,
    rule: Annotated[str, Parameter(help="Id of the broken rule.")],
    *values: Annotated[str, Parameter(help="Broken values that should be good.")],
    reason: Reason,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Propose that values which broke a rule be good; nothing changes until a person accepts."""
    from loopline import data

    ws, found = session(project, create=True)
    _contract(found, name)
    made = data.propose_contract(ws, found.root, found.spec.data, table=name, rule=rule, values=values, reason=reason)
    text = f"proposal {made.id[:SHORT]}: {made.verdict}\n{made.diff}"
    return Answer(text, made, (f'loopline data contract accept {made.id[:SHORT]} --reason "..."',))


def proposals(*, project: Folder = HERE, json: Json = False) -> Answer:
    """Show the changes of contracts that wait for an answer."""
    from loopline import data

    ws, _ = session(project)
    waiting = data.contract_proposals(ws)
    if not waiting:
        return Answer("no change of a contract waits", [])
    rows = [(p.id[:SHORT], p.table, p.rule, ", ".join(p.values)[:40], p.verdict, p.by) for p in waiting]
    text = table(rows, head=("id", "table", "rule", "values", "verdict", "by"))
    return Answer(text, waiting, (f'loopline data contract accept {waiting[0].id[:SHORT]} --reason "..."',))


def accept(
    proposal: Annotated[str, Parameter(help="Id of the proposal.")],
    *,
    reason: Reason,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Accept a proposed change: the contract file is written and kept."""
    return _settle(project, proposal, "accept", reason)


def reject(
    proposal: Annotated[str, Parameter(help="Id of the proposal.")],
    *,
    reason: Reason,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Reject a proposed change; the contract stays as it is."""
    return _settle(project, proposal, "reject", reason)


def _settle(project: Path, proposal: str, answer: Any, reason: str) -> Answer:
    from loopline import data

    ws, found = session(project)
    made = data.settle_contract(ws, found.root, found.spec.data, proposal=proposal, answer=answer, reason=reason)
    if answer == "reject":
        return Answer("rejected; the contract stays as it is", made[0], ("loopline data contract proposals",))
    kept = made[-1]
    text = f"accepted: contract of {kept.table} is version {kept.version} ({kept.verdict})"
    return Answer(text, made, (f"loopline data readmit {kept.table}", f"loopline data ingest {kept.table}"))


def _known(found: Project, name: str, command: str) -> None:
    import difflib

    from loopline.base.errors import NotFound

    if name not in found.spec.data:
        near = difflib.get_close_matches(name, found.spec.data, 1)
        raise NotFound(
            f"there is no table {name!r} in loop.yaml",
            why=f"it declares {', '.join(found.spec.data)}",
            fix=f"loopline data contract {command} {near[0] if near else next(iter(found.spec.data))}",
        )


def _declaring(found: Project, name: str, path: Path) -> str:
    """What to write into loop.yaml so that a table has a contract, also where its source is all that stands there."""
    from loopline.data.contracts.odcs import read_yaml

    table = found.spec.data[name]
    given = read_yaml((found.root / "loop.yaml").read_text(encoding="utf-8-sig"), "loop.yaml")["data"]
    given = given.get(name) if isinstance(given, dict) else given
    if isinstance(given, str):
        return f"write `data: {{{name}: {{source: {table.source}, contract: {path}}}}}` in loop.yaml"
    return f"put `contract: {path}` under data.{name} in loop.yaml"


def _contract(found: Project, name: str) -> Contract:
    from loopline.base.errors import NotFound
    from loopline.data.contracts.contract import Contract

    _known(found, name, "show")
    path = found.spec.data[name].contract
    if path is None:
        raise NotFound(
            f"table {name} has no contract",
            why=f"data.{name}.contract is not set in loop.yaml",
            fix=_declaring(found, name, Path("contracts", f"{name}.yaml"))
            if (found.root / "contracts" / f"{name}.yaml").is_file()
            else f"loopline data contract draft {name} --out contracts/{name}.yaml",
        )
    return Contract.load(found.root / path, table=name)


def readmit(name: Table, *, project: Folder = HERE, json: Json = False) -> Answer:
    """Judge rows that were set aside by the contract as it is now, and take in those that are good; safe to repeat."""
    from loopline import data

    ws, found = session(project)
    made, *_ = data.readmit(ws, found.check().root, found.spec.data, table=name)
    lines = [f"{made.rows:,} rows of {name} entered, known from now on"]
    lines += [f"{made.superseded:,} stand there already, or were corrected since"] if made.superseded else []
    lines += [f"{made.kept:,} still break the contract"] if made.kept else []
    follow = "loopline data snapshot" if made.rows else f"loopline data contract show {name}"
    return Answer("\n".join(lines), made, (follow,))
