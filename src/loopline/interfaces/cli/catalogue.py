"""Commands that tell what tables there are and what is in them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, session
from loopline.interfaces.cli.taken_in import mixed_lines

if TYPE_CHECKING:
    from loopline.data.describing.dataset import ColumnCard

Name = Annotated[str, Parameter(help="Table of loop.yaml.")]


def listing(*, project: Folder = HERE, json: Json = False) -> Answer:
    """List the tables: rows, refused rows, newest row, owner, personal columns."""
    from loopline import data

    ws, found = session(project, create=True)
    cards = data.catalogue(ws, found.spec.data)
    personal = data.personal(ws, found.spec.data, found.root)
    counts = {c.name: sum(p.table == c.name and p.pii is not None for p in personal) for c in cards}
    rows = [
        (
            c.name,
            "gone" if c.gone else f"{c.rows:,}",
            f"{c.quarantined:,}",
            f"{c.known_to:%Y-%m-%d %H:%M}" if c.known_to else "",
            str(counts[c.name] or ""),
        )
        for c in cards
    ]
    text = table(rows, head=("table", "rows", "set aside", "newest row known", "personal columns"))
    text += "".join(
        f"\ntable {c.name} is gone: the records know {c.rows:,} rows; restore the folder tables/{c.name} from a backup"
        for c in cards
        if c.gone
    )
    return Answer(text, cards, (f"loopline data show {cards[0].name}",) if cards else ("loopline run",))


def show(name: Name, *, project: Folder = HERE, json: Json = False) -> Answer:
    """Show a table: owner, description, columns with their profile, personal data, what came from it, its quality."""
    from loopline import data, governance

    ws, found = session(project, create=True)
    page = data.show(ws, found.spec.data, found.root, name)
    used = governance.consumers(ws, table=name)
    owner = page.owner or (found.spec.framing.owner.name if found.spec.framing.owner else "")
    facts = [
        ("owner", owner),
        ("about", page.description),
        ("rows", f"{page.card.rows:,}, {page.card.quarantined:,} set aside"),
        ("known to", f"{page.card.known_to:%Y-%m-%d %H:%M} UTC" if page.card.known_to else "nothing yet"),
        ("contract", f"{page.contract} {page.contract_version or ''}, {page.rules} rules" if page.contract else "none"),
        ("kept for", f"{page.retention.days} days, {page.overdue:,} rows are older" if page.retention else "ever"),
        (
            "feeds",
            f"{len(used.snapshots)} snapshots, {len(used.training_sets)} training sets, {len(used.models)} models"
            + (", versions " + ", ".join(str(n) for _, n in used.versions) if used.versions else ""),
        ),
    ]
    columns = [
        (
            c.name,
            _type(c.type),
            f"{c.profile['nulls'] / max(1, page.profiled):.1%}",
            f"{c.profile['distinct']:,}" if c.profile.get("distinct") is not None else "",
            _typical(c),
            f"{c.personal.pii} ({c.personal.state})" if c.personal and c.personal.pii else "",
            c.description,
        )
        for c in page.columns
    ]
    text = table([(k, v) for k, v in facts if v])
    typed = {c.name: c.type for c in page.columns}
    told = [
        line for i in page.history for m in i.mixed if typed.get(m.column) == "String" for line in mixed_lines(name, m)
    ]
    text += "".join(f"\n{line}" for line in told)
    if columns:
        head = ("column", "type", "null", "distinct", "values", "personal", "about")
        text += "\n\n" + table(columns, head=head)
    hints = (f"loopline data export {name} --croissant {name}.json", f"loopline data pii {name}")
    return Answer(text, {"dataset": page, "consumers": used}, hints)


def _typical(column: ColumnCard) -> str:
    """Range, or the most frequent values."""
    doc = column.profile
    if doc.get("top"):
        return ", ".join(str(value) for value, _ in doc["top"][:3])
    if doc.get("min") is not None:
        low, high = doc["min"], doc["max"]
        if isinstance(low, (int, float)):
            return f"{_number(low)} .. {_number(high)}"
        return f"{str(low)[:16].replace('T', ' ')} .. {str(high)[:16].replace('T', ' ')}"
    return ""


def _type(name: str) -> str:
    """The type of a column in words."""
    if name.startswith(("Datetime", "Duration")):
        return "time, UTC" if name.startswith("Datetime") else "length of time"
    if name.startswith(("Int", "UInt")):
        return "whole number"
    if name.startswith(("Float", "Decimal")):
        return "number"
    if name.startswith("List("):
        return f"list of {_type(name[5:-1])}"
    return {"String": "text", "Boolean": "true or false", "Date": "date", "Time": "time of day"}.get(name, name)


def _number(value: float) -> str:
    """A number as people write it: no powers of ten unless it is very great or very small."""
    if not math.isfinite(value) or (value and not 1e-4 <= abs(value) < 1e15):
        return f"{value:.4g}"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.{max(0, 5 - max(0, math.floor(math.log10(abs(value)))))}f}".rstrip("0").rstrip(".")


def export(
    name: Name,
    *,
    croissant: Annotated[Path, Parameter(help="File for the Croissant document; rows go beside it.")],
    form: Annotated[Literal["parquet", "csv"], Parameter("--format", help="Of the rows.")] = "parquet",
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Write a table's rows, personal columns masked, with a data sheet in the Croissant format."""
    from loopline.data.describing import croissant as sheets

    ws, found = session(project)
    doc = sheets.export(ws, found.spec.data, found.root, name, croissant, form=form)
    rows = croissant.with_suffix(f".{form}")
    return Answer(f"wrote {croissant} and {rows}", doc, (f"mlcroissant validate --jsonld {croissant}",))
