"""Commands that look after a workspace and a machine."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from loopline.interfaces.cli.answer import FAILED, OK, Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, Reason, session


def audit_verify(*, project: Folder = HERE, json: Json = False) -> Answer:
    """Check every audit entry against the hash chain and the signed heads outside the database."""
    ws, _ = session(project)
    report = ws.audit.verify()
    notes = [f"note: {note}" for note in report.notes]
    if report.ok:
        lines = [f"{report.entries:,} entries, none edited, removed or cut off", *notes]
        return Answer("\n".join(lines), report, ("loopline status",))
    lines = [f"the audit is broken ({report.entries:,} entries read)", *(f"  {p}" for p in report.problems), *notes]
    copied = any("`loopline fork`" in note for note in report.notes)
    hints = ("restore the workspace from a backup", *(['loopline fork --reason "a copy"'] if copied else []))
    return Answer("\n".join(lines), report, hints, FAILED)


def fork(*, reason: Reason, project: Folder = HERE, json: Json = False) -> Answer:
    """Give this copy of a workspace an id and a key of its own, with its lineage on record."""
    from loopline import governance

    ws, _ = session(project)
    made = governance.fork(ws, reason=reason)
    lines = [f"this workspace is {made.id} from now on, forked from {made.former} after {made.entries:,} entries"]
    lines += [f"on record, found in the trail: {problem}" for problem in made.problems]
    return Answer("\n".join(lines), made, ("loopline audit verify", "loopline status"))


def doctor(
    *,
    project: Folder = HERE,
    port: Annotated[int, Parameter(help="First port that `loopline up` would take.")] = 8400,
    json: Json = False,
) -> Answer:
    """Check the machine, the project and the workspace, and say what to do about each finding."""
    from loopline.interfaces.cli.checks import everything

    found = everything(project, port)
    failed = [c for c in found if c.state == "fail"]
    rows = [(c.state, c.name, c.what) for c in found]
    fixes = tuple(c.fix for c in found if c.fix and c.state != "ok")
    doc = {"ok": not failed, "checks": found}
    return Answer(table(rows), doc, fixes or ("loopline status",), FAILED if failed else OK)


def completion(
    *,
    shell: Annotated[Literal["bash", "zsh", "fish"] | None, Parameter(help="Yours by default.")] = None,
    json: Json = False,
) -> Answer:
    """Install tab completion for your shell; start a new one to use it."""
    from loopline.base.errors import Invalid
    from loopline.interfaces.cli.main import app

    try:
        path = app().install_completion(shell=shell, add_to_startup=True)
    except (ValueError, RuntimeError) as error:
        raise Invalid(
            f"completion was not installed: {error}",
            why="your shell could not be told",
            fix="--shell bash, zsh or fish",
        ) from error
    return Answer(f"wrote {path}", {"path": str(path)}, ("start a new shell",))
