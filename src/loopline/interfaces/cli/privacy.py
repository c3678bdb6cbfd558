"""Commands about personal data: which columns hold it, and erasing a person."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from loopline.interfaces.cli.answer import FAILED, Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, Reason, session


def pii(
    name: Annotated[str | None, Parameter(help="Table; all by default.")] = None,
    *,
    confirm: Annotated[tuple[str, ...], Parameter(help="column=class, for example mail=email.")] = (),
    reject: Annotated[tuple[str, ...], Parameter(help="Columns that hold nothing personal.")] = (),
    reason: Reason = "",
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Show which columns are personal or may be, and settle what detectors propose."""
    from loopline import data
    from loopline.base.errors import Invalid

    ws, found = session(project)
    tables = found.spec.data
    if (confirm or reject) and name is None:
        raise Invalid("no table is named", why="columns are settled in one table", fix="name it first")
    for word in confirm:
        column, mark, kind = word.partition("=")
        if not mark:
            raise Invalid(f"{word!r} names no class", why="a person says which", fix=f"--confirm {word}=email")
        data.mark(ws, tables, str(name), column, pii=kind, reason=reason)
    for column in reject:
        data.mark(ws, tables, str(name), column, pii=None, reason=reason)
    columns = data.personal(ws, tables, found.root, table=name)
    rows = [(c.table, c.column, c.pii or "not personal", c.state, c.now, c.after, c.why) for c in columns]
    head = ("table", "column", "class", "state", "now", "after a person's word", "why")
    text = table(rows, head=head) if rows else "nothing personal"
    waiting = next((c for c in columns if c.state == "proposed"), None)
    hints = (
        (
            f"loopline data pii {waiting.table} --confirm {waiting.column}={waiting.pii}",
            f"loopline data pii {waiting.table} --reject {waiting.column}",
        )
        if waiting
        else ("loopline data list",)
    )
    return Answer(text, columns, hints)


def erase(
    subject: Annotated[str, Parameter(help="A value that names the person: a unit, a mail address, a number.")],
    *,
    table_: Annotated[str | None, Parameter("--table", help="Table to look in first; all by default.")] = None,
    column: Annotated[str | None, Parameter(help="Column it stands in; those that identify people by default.")] = None,
    yes: Annotated[bool, Parameter("--yes", negative="", help="Do it; else only show what would be done.")] = False,
    reason: Reason = "",
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Show everything that holds a person, and with --yes take them out of it; a proof is kept."""
    from loopline import governance
    from loopline.governance import holding

    ws, found = session(project)
    spec = found.spec
    where = {"subject": subject, "table": table_, "column": column}
    if not yes:
        places = governance.where(ws, found.root, spec.framing, spec.features, spec.data, **where)
        if not places:
            search = holding.search_for(
                ws, spec.data, found.root, spec.framing.unit, subject, table=table_, column=column
            )
            others = holding.not_searched(ws, spec.data, found.root, search)
            said = [f"nothing was found in {', '.join(search.columns)}"]
            if others:
                said.append(f"not looked in, though personal or maybe: {', '.join(others)}")
            said.append("other columns are looked in when --column names them")
            doc = {"places": [], "columns": search.columns, "not_looked_in": others}
            return Answer("\n".join(said), doc, ("loopline data pii",))
        if all(place.act == "flag" for place in places):
            said = ["Nothing is left that can be taken out. Still there:", _shown(places)]
            return Answer("\n".join(said), {"places": places}, ("loopline run",))
        again = " ".join(["loopline data erase", _quoted(subject), *_given(table_, column), "--yes"])
        return Answer("Nothing was changed.\n" + _shown(places), {"places": places}, (again,))
    made = governance.erase(ws, found.root, spec.framing, spec.features, spec.data, **where, reason=reason)
    proof = made[0]
    flags = [item for item in made if isinstance(item, governance.ModelFlag)]
    lines = [f"proof {proof.id[:12]}", _shown(proof.places)]
    if flags:
        lines.append(
            f"{len(flags)} model{'s' if len(flags) > 1 else ''} learned from these rows and cannot forget them"
        )
    if proof.left:
        lines += ["still there:", _shown(proof.left)]
    if proof.flagged:
        lines += ["still there, and cannot be taken out:", _shown(proof.flagged)]
    hints = ("loopline run",) if flags else ("loopline audit verify",)
    return Answer("\n".join(lines), {"proof": proof, "flags": flags}, hints, code=FAILED if proof.left else 0)


def expire(
    *names: Annotated[str, Parameter(help="Tables, also ingested ones; all logs and rows set aside by default.")],
    older_than: Annotated[str, Parameter(allow_leading_hyphen=True, help="How long rows are kept.")],
    yes: Annotated[bool, Parameter("--yes", negative="", help="Do it; else only show what would go.")] = False,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Let go of old rows of logs, rows set aside, kept features and named tables; a dry run unless --yes."""
    from loopline import governance
    from loopline.base.errors import Invalid
    from loopline.base.spec import duration

    try:
        age = duration(older_than)
    except ValueError as error:
        raise Invalid(str(error), why="--older-than is a length of time", fix="--older-than 365d") from error
    ws, found = session(project)
    unit = found.spec.framing.unit
    tables = found.spec.data
    done = governance.expire(ws, older_than=age, names=names or None, unit=unit, tables=tables, dry_run=not yes)
    if not done:
        return Answer(f"no such row is older than {older_than}", done, ("loopline data list",))
    rows = [(e.table, f"{e.rows:,}", "" if e.units is None else f"{e.units:,}", f"{e.oldest:%Y-%m-%d}") for e in done]
    text = table(rows, head=("table", "rows gone" if yes else "rows to go", "units", "oldest"))
    text += "".join(
        f"\n{e.table}: snapshots keep such rows: {', '.join(id[:8] for id in e.pinned)}" for e in done if e.pinned
    )
    again = " ".join(["loopline data expire", *names, "--older-than", older_than, "--yes"])
    return Answer(text, done, ("loopline audit verify" if yes else again,))


def _shown(places: object) -> str:
    rows = [(p.kind, p.name[:40], f"{p.rows:,}", p.act, p.note) for p in places]  # type: ignore[attr-defined]
    return table(rows, head=("what", "name", "rows", "act", "note"))


def _given(name: str | None, column: str | None) -> list[str]:
    return [*(["--table", name] if name else []), *(["--column", column] if column else [])]


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
