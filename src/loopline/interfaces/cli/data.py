"""Commands of the stage data: rows in, snapshots of them, and their upkeep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, session
from loopline.interfaces.cli.taken_in import told

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from loopline.data.nouns import Mixed, TableDifference

Names = Annotated[str, Parameter(help="Tables; all by default.")]
Version = Annotated[str, Parameter(help="Tag, id, or the first 8 characters of an id.")]
Really = Annotated[bool, Parameter("--yes", negative="", help="Do it; without, only say what would be done.")]
Given = Annotated[
    str | None,
    Parameter(
        "--from",
        allow_leading_hyphen=True,
        help="Rows of the one table named: a file, or `-` for JSON lines on standard input.",
    ),
]


def ingest(*names: Names, source: Given = None, project: Folder = HERE, json: Json = False) -> Answer:
    """Take in the rows that became known since last time; rows that break their contract are set aside."""
    from loopline import data
    from loopline.interfaces.cli.progress import Progress

    ws, found = session(project, create=True)
    root, tables = found.check().root, found.spec.data
    frames = _given(names, source) if source is not None else None
    with Progress(quiet=json) as progress:
        taken = data.ingest(ws, root, tables, names=names or None, frames=frames, progress=progress, once=True)
    rows = [(i.table, f"{i.rows:,}", f"{i.quarantined:,}", i.quarantine or "") for i in taken]
    text = table(rows, head=("table", "rows", "set aside", "where")) if rows else "no new rows"
    return Answer("\n".join([text, *told(ws, found, taken)]), taken, ("loopline data snapshot",))


def _given(names: tuple[str, ...], source: str) -> dict[str, Any]:
    """The rows of `--from`, by table."""
    import sys

    from loopline.base.errors import Invalid
    from loopline.data.sources.frames import json_lines
    from loopline.data.sources.parts import BATCH_ROWS, Part, parts_of
    from loopline.data.spec import TableSpec

    if len(names) != 1:
        raise Invalid(
            "--from gives the rows of one table",
            why=f"{len(names)} tables are named",
            fix="loopline data ingest events --from -",
        )
    if source == "-":
        return {names[0]: json_lines(sys.stdin.buffer, "standard input", BATCH_ROWS)}
    parts = list(parts_of(Path.cwd(), TableSpec(source=source)))
    notes: list[Mixed] = []

    def batches() -> Iterator[pl.DataFrame]:
        for part in parts:
            yield from part.read()
            notes.extend(part.notes)

    return {names[0]: Part("", None, batches, text=any(part.text for part in parts), notes=notes)}


def snapshot(
    *,
    tag: Annotated[str | None, Parameter(help="Name to remember it by.")] = None,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Freeze the rows of all tables as they are known now."""
    from loopline import data

    ws, found = session(project, create=True)
    taken = data.snapshot(ws, found.spec.data, project=found.root)
    if tag is not None:
        data.tag(ws, taken.id, tag)
    rows = [(name, f"{count:,} rows") for name, count in taken.rows.items()]
    named = f", called {tag}" if tag is not None else ""
    return Answer(f"snapshot {taken.id[:12]}{named}\n" + table(rows), taken, ("loopline run",))


def snapshots(*, project: Folder = HERE, json: Json = False) -> Answer:
    """List snapshots with their tags, newest first."""
    from loopline import data

    ws, _ = session(project)
    found = data.snapshots(ws)
    rows = [(s.id[:12], ", ".join(s.tags), f"{sum(s.rows.values()):,}", f"{s.known_to:%Y-%m-%d %H:%M}Z") for s in found]
    text = table(rows, head=("snapshot", "tags", "rows", "known to")) if rows else "there are no snapshots yet"
    pair = " ".join(s.id[:12] for s in reversed(found[:2]))
    return Answer(text, found, (f"loopline data diff {pair}" if len(found) > 1 else "loopline data snapshot",))


def tag(
    version: Version,
    name: Annotated[str, Parameter(help="The name.")],
    *,
    move: Annotated[bool, Parameter(negative="", help="Take the name away from the snapshot that has it.")] = False,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Give a snapshot a name to remember it by."""
    from loopline import data

    ws, _ = session(project)
    found = data.tag(ws, version, name, move=move)
    return Answer(f"{name} is the snapshot {found.id[:12]}", found, ("loopline data snapshots",))


def diff(a: Version, b: Version, *, project: Folder = HERE, json: Json = False) -> Answer:
    """Show what changed from one snapshot to another: columns, rows by key, and how values are spread."""
    from loopline import data

    ws, _ = session(project)
    found = data.diff(ws, a, b)
    lines = [f"table {name} is only in {a}" for name in found.only_in_a]
    lines += [f"table {name} is only in {b}" for name in found.only_in_b]
    lines += [line for one in found.tables for line in _told(one)]
    return Answer("\n".join(lines) or "nothing changed", found, ("loopline data snapshots",))


def _told(one: TableDifference) -> list[str]:
    """What changed in a table, in sentences."""
    lines = [
        f"{one.table}: {one.added:,} rows added, {one.removed:,} removed, {one.changed:,} changed, "
        f"{one.unchanged:,} as before"
    ]
    lines += [f"  column {column} is new ({dtype})" for column, dtype in one.columns_added.items()]
    lines += [f"  column {column} is gone ({dtype})" for column, dtype in one.columns_removed.items()]
    lines += [f"  column {column} was {old}, is {new}" for column, (old, new) in one.columns_retyped.items()]
    if one.contract_changed:
        lines.append("  the contract is another one")
    if one.changed_columns:
        most = sorted(one.changed_columns.items(), key=lambda item: (-item[1], item[0]))
        lines.append("  changed in " + ", ".join(f"{column} ({count:,})" for column, count in most))
    lines += [f"  {what} {' '.join(key)}" for what, *key in one.examples]
    for shift in one.shifts:
        if shift.notable:
            known = shift.mean_a is not None and shift.mean_b is not None
            means = f", mean {shift.mean_a:.4g} to {shift.mean_b:.4g}" if known else ""
            lines.append(f"  {shift.column} is spread otherwise: distance {shift.distance:.2f}{means}")
    return lines


def read(
    version: Version,
    name: Annotated[str, Parameter(help="Table.")],
    *,
    out: Annotated[Path, Parameter(help="File to write: .csv, .parquet or .jsonl.")],
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Write the rows of a table, as a snapshot knows them, into a file."""
    from loopline import data
    from loopline.base.errors import Conflict, Invalid

    writers = {".csv": "sink_csv", ".parquet": "sink_parquet", ".jsonl": "sink_ndjson"}
    if out.suffix not in writers:
        raise Invalid(f"{out} is of no known kind", why=f"written: {', '.join(writers)}", fix=f"--out {name}.parquet")
    if out.exists():
        raise Conflict(f"{out} is already there", why="a file is never overwritten", fix="choose another --out")
    ws, _ = session(project)
    getattr(data.read(ws, version, name), writers[out.suffix])(out)
    return Answer(f"wrote {out}", {"table": name, "path": str(out)}, ("loopline data snapshots",))


def compact(*names: Names, yes: Really = False, project: Folder = HERE, json: Json = False) -> Answer:
    """Write small files of tables together. No row changes; a dry run unless --yes."""
    from loopline import data

    ws, _ = session(project)
    done = data.compact(ws, names=names or None, dry_run=not yes)
    if not done:
        return Answer("no table has small files to write together", done, ("loopline data snapshots",))
    rows = [(u.table, f"{u.files_before:,}", f"{u.files_after:,}") for u in done]
    text = table(rows, head=("table", "files", "after" if yes else "would be"))
    return Answer(text, done, ("loopline data retain" if yes else "loopline data compact --yes",))


def retain(
    *names: Names,
    older_than: Annotated[str, Parameter(allow_leading_hyphen=True, help="How long replaced files are kept.")] = "7d",
    yes: Really = False,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Let go of files that compaction replaced. Rows and snapshots stay; a dry run unless --yes."""
    from loopline import data
    from loopline.base.errors import Invalid
    from loopline.base.spec import duration

    try:
        age = duration(older_than)
    except ValueError as error:
        raise Invalid(str(error), why="--older-than is a length of time", fix="--older-than 7d") from error
    ws, _ = session(project)
    done = data.retain(ws, names=names or None, older_than=age, dry_run=not yes)
    if not done:
        return Answer(f"no file was replaced more than {older_than} ago", done, ("loopline data compact",))
    rows = [(u.table, f"{u.files_before - u.files_after:,}", f"{u.bytes_freed:,}", f"{u.bytes_pinned:,}") for u in done]
    text = table(rows, head=("table", "files gone" if yes else "files to go", "bytes freed", "bytes snapshots keep"))
    again = f"loopline data retain --older-than {older_than} --yes"
    return Answer(text, done, ("loopline data snapshots" if yes else again,))
