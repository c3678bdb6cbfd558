"""Commands that bring two workspaces together: a folder, a file to be carried, or a server."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from loopline.base.figures import plural
from loopline.interfaces.cli.answer import FAILED, OK, Answer
from loopline.interfaces.cli.session import ANYWHERE, Json, Where

if TYPE_CHECKING:
    from loopline.governance.joining import Receipt
    from loopline.workspace import Workspace

SHOWN = 20


def push(
    to: Annotated[str, Parameter(help="Folder of a workspace or project, file.zip, or http(s)://host:port.")],
    *,
    where: Where = ANYWHERE,
    json: Json = False,
) -> Answer:
    """Send what another workspace lacks: runs, files, logged models, registrations."""
    from loopline.base.errors import NotFound
    from loopline.base.nouns import from_doc
    from loopline.base.sizes import size_text
    from loopline.governance import joining

    ws = where.open()
    if _is_server(to):
        from loopline.interfaces.cli.parcel_client import Server

        with Server(to) as server, _parcel(ws) as path:
            sent = joining.pack(ws, path, have=server.inventory())
            arrived = from_doc(joining.Receipt, server.take(path))
        return _told(arrived, sent.told)
    if (there := _folder(to)) is not None:
        other = _opened(there)
        with _parcel(ws) as path:
            sent = joining.pack(ws, path, have=joining.inventory(other))
            with joining.Parcel(path) as parcel:
                return _told(joining.receive(other, parcel), sent.told)
    path = Path(to)
    if not path.absolute().parent.is_dir():
        raise NotFound(
            f"the folder {path.parent} is not there", why="the parcel would lie in it", fix="make it, or name another"
        )
    part = path.with_name(f".{path.name}.part")
    try:
        sent = joining.pack(ws, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    counts = _counted(sent.counts)
    lines = [f"wrote {path}, {size_text(path.stat().st_size)}: {counts or 'nothing'}", *sent.told]
    doc = {"file": str(path), "parcel": sent.parcel, "sent": sent.counts, "told": sent.told}
    return Answer("\n".join(lines), doc, (f"loopline pull {path.name}",))


def pull(
    source: Annotated[str, Parameter(help="Folder of a workspace or project, file.zip, or http(s)://host:port.")],
    *,
    at_most: Annotated[str, Parameter(help="Size of what a parcel may hold.")] = "64GB",
    where: Where = ANYWHERE,
    json: Json = False,
) -> Answer:
    """Fetch what this workspace lacks; what is here stays as it is."""
    from loopline.base.errors import Invalid
    from loopline.base.sizes import size
    from loopline.governance import joining

    try:
        most = size(at_most)
    except ValueError as error:
        raise Invalid(str(error), why="--at-most limits a parcel", fix="--at-most 64GB") from error
    ws = where.create()
    told: list[str] = []
    with _parcel(ws) as path:
        if _is_server(source):
            from loopline.interfaces.cli.parcel_client import Server

            with Server(source) as server:
                server.give(joining.inventory(ws), path, at_most=most)
        elif (there := _folder(source)) is not None:
            told = joining.pack(_opened(there), path, have=joining.inventory(ws)).told
        else:
            path = Path(source)
        with joining.Parcel(path, at_most=most) as parcel:
            return _told(joining.receive(ws, parcel), told)


def _told(arrived: Receipt, more: list[str]) -> Answer:
    counts = _counted(arrived.added)
    head = f", whose audit trail had {plural(arrived.head['seq'], 'entry', 'entries')}" if arrived.head else ""
    lines = [f"{counts or 'nothing'} new, from the workspace {arrived.workspace}{head}"]
    if not arrived.signed:
        lines.append("the parcel is not signed by that workspace")
    for title, texts in (
        ("refused, the same id with another content:", arrived.refused),
        ("stays:", (*arrived.told, *more)),
    ):
        if texts:
            lines += ["", title, *(f"  {_plain(text)}" for text in texts[:SHOWN])]
            lines += [f"  and {len(texts) - SHOWN:,} more; --json lists all"] if len(texts) > SHOWN else []
    return Answer("\n".join(lines), arrived, ("loopline runs list",), FAILED if arrived.refused else OK)


def _counted(counts: Mapping[str, int]) -> str:
    """How many of each kind; kinds are named in the plural."""
    return ", ".join(plural(count, kind.removesuffix("s"), kind) for kind, count in counts.items() if count)


def _is_server(where: str) -> bool:
    return where.startswith(("http://", "https://"))


def _folder(where: str) -> Path | None:
    """The workspace in a folder, or in that of a project; null for a file."""
    from loopline.workspace import FOLDER, MARKER

    path = Path(where).absolute()
    return next((one for one in (path, path / FOLDER) if (one / MARKER).is_file()), path if path.is_dir() else None)


def _opened(folder: Path) -> Workspace:
    from loopline.workspace import open_workspace

    return open_workspace(folder)


@contextlib.contextmanager
def _parcel(ws: Workspace) -> Iterator[Path]:
    """A place for a parcel on the disk of the workspace, gone afterwards."""
    folder = ws.root / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="parcel-") as room:
        yield Path(room) / "parcel.zip"


def _plain(text: Any) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in str(text))[:300]
