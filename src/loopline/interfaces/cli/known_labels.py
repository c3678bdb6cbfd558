"""The command that tells which labels were known at a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, moment_of, session


def labels(
    *,
    as_of: Annotated[
        str | None, Parameter(help="As known at this moment: 2026-03-01, or a time with its zone; now by default.")
    ] = None,
    unit: Annotated[str | None, Parameter(help="Only this unit's label.")] = None,
    rows: Annotated[int, Parameter(help="How many of the newest to list.")] = 10,
    out: Annotated[Path | None, Parameter(help="Write all of them into this file: .parquet or .csv.")] = None,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Show the labels as they were known at a moment, revisions that came later left out."""
    from loopline import data
    from loopline.base.errors import Invalid

    ws, found = session(project)
    spec = found.spec
    moment = ws.clock() if as_of is None else moment_of(as_of)
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise Invalid(f"{out} is of no known form", why="its name ends otherwise", fix="name a .parquet or .csv file")
    seen = data.known_labels(ws, framing=spec.framing, tables=spec.data, at=moment, unit=unit, rows=rows)
    lines = [
        ("as known at", f"{moment:%Y-%m-%d %H:%M:%S}Z"),
        ("from", f"{seen.table}: {spec.framing.label.value}"),
        ("labels", f"{seen.units:,}: {seen.true:,} true, {seen.false:,} false, {seen.void:,} void"),
    ]
    text = table(lines)
    if seen.newest:
        head = tuple(seen.newest[0])
        text += "\n\n" + table([tuple(_said(name, row[name]) for name in head) for row in seen.newest], head=head)
    if seen.units > len(seen.newest):
        text += f"\n... and {seen.units - len(seen.newest):,} older"
    if unit is not None and not seen.units:
        text += f"\nnothing was known of {unit} yet"
    if out is not None:
        frame = data.labels_at(ws, spec.framing, spec.data, moment, unit=unit)
        out.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(out) if out.suffix == ".parquet" else frame.write_csv(out)
        text += f"\nwrote {seen.units:,} labels to {out}"
    return Answer(text, seen, ("loopline data labels --as-of 2026-03-01",) if as_of is None else ())


def _said(name: str, value: object) -> str:
    if name == "label":
        return "void" if value is None else "true" if value else "false"
    return "" if value is None else f"{value:%Y-%m-%d %H:%M:%S}Z" if hasattr(value, "strftime") else str(value)
