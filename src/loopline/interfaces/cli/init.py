"""The command that starts a project."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer
from loopline.interfaces.cli.session import Json


def init(
    folder: Annotated[Path, Parameter(help="Folder of the project; made when it is not there.")] = Path(),
    *,
    source: Annotated[Path | None, Parameter("--from", help="A CSV file; without it an example is written.")] = None,
    label: Annotated[str | None, Parameter(help="Column to predict, or a comparison: delay > 15.")] = None,
    unit: Annotated[str | None, Parameter(help="Column that names a row: one prediction per.")] = None,
    time: Annotated[str | None, Parameter(help="Column with the time a prediction is due.")] = None,
    zone: Annotated[
        str | None, Parameter(help="Zone of times that carry none, as Europe/Paris; UTC by default.")
    ] = None,
    name: Annotated[str | None, Parameter(help="Name of the loop; the folder's by default.")] = None,
    json: Json = False,
) -> Answer:
    """Start a project: loop.yaml of a few lines and train.py, ready to run.

    From a CSV it asks for label, unit, time and zone, or takes them as options."""
    from loopline.interfaces.cli import scaffold

    if source is None:
        made = scaffold.example(folder, name)
    else:
        table = scaffold.look(source)
        asking = sys.stdin.isatty() and sys.stderr.isatty() and not json
        if asking and (label is None or unit is None):
            label = label or _ask(f"Which column is to be predicted? ({', '.join(table.columns)}) ")
            unit = unit or _ask("Which column names a row? ")
            time = time or _ask("Which column says when a prediction is due? (empty for none) ")
        if asking and zone is None and (bare := scaffold.without_zone(table, time)):
            zone = _ask(f"The times in {', '.join(bare)} carry no zone; which is it? (UTC) ") or None
        made = scaffold.from_table(folder, table, label=label, unit=unit, time=time or None, name=name, zone=zone)
    lines = [f"wrote {', '.join(made.files)} in {made.folder}", "", made.page.rstrip()]
    lines += [f"note: {note}" for note in made.notes]
    go = "" if made.folder.absolute() == Path.cwd() else f"cd {made.folder} && "
    return Answer("\n".join(lines), made, (f"{go}loopline run",))


def _ask(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()
