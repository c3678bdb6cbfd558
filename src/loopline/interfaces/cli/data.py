"""Commands of the stage data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, session
from loopline.interfaces.cli.session import project as project_in

Names = Annotated[tuple[str, ...], Parameter(help="Tables; all by default.")]


def ingest(*names: Names, project: Folder = HERE, json: Json = False) -> Answer:
    """Take in the rows that became known since last time; rows that break their contract are set aside."""
    from loopline import data

    ws, found = session(project, create=True)
    taken = data.ingest(ws, found.check().root, found.spec.data, names=names or None)
    rows = [(i.table, f"{i.rows:,}", f"{i.quarantined:,}", i.quarantine or "") for i in taken]
    text = table(rows, head=("table", "rows", "set aside", "where")) if rows else "no new rows"
    broken = [
        f"{i.table}: rule {v.rule} broken {v.count:,} times, for example {', '.join(map(repr, v.examples[:3]))}"
        for i in taken
        for v in i.violations
    ]
    return Answer("\n".join([text, *broken]), taken, ("loopline data snapshot",))


def snapshot(*, project: Folder = HERE, json: Json = False) -> Answer:
    """Freeze the rows of all tables as they are known now."""
    from loopline import data

    ws, found = session(project, create=True)
    taken = data.snapshot(ws, found.spec.data, project=found.root)
    rows = [(name, f"{count:,} rows") for name, count in taken.rows.items()]
    return Answer(f"snapshot {taken.id[:12]}\n" + table(rows), taken, ("loopline run",))


def draft(
    name: Annotated[str, Parameter(help="Table of loop.yaml.")],
    *,
    out: Annotated[Path | None, Parameter(help="File to write; printed by default.")] = None,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Propose a contract for a table from its rows: types, ranges, categories, keys, null limits."""
    import difflib

    from loopline import data
    from loopline.base.errors import Conflict, NotFound

    found = project_in(project)
    if name not in found.spec.data:
        near = difflib.get_close_matches(name, found.spec.data, 1)
        raise NotFound(
            f"there is no table {name!r} in loop.yaml",
            why=f"it declares {', '.join(found.spec.data)}",
            fix=f"loopline data contract draft {near[0] if near else next(iter(found.spec.data))}",
        )
    page = data.draft(data.load_source(found.root, found.spec.data[name]), name).to_yaml()
    if out is None:
        return Answer(page, {"table": name, "contract": page}, raw=page)
    if out.exists():
        raise Conflict(f"{out} is already there", why="a contract is never overwritten", fix="choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page)
    hint = f"put `contract: {out}` under data.{name} in loop.yaml"
    return Answer(f"wrote {out}", {"table": name, "path": str(out)}, (hint,))
