"""Files of a run: a folder at a time, shown where that is safe, given out as bytes that no browser runs."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from loopline.base.errors import Invalid, NotFound
from loopline.interfaces.ui.runs import cells
from loopline.interfaces.ui.runs.context import Log
from loopline.interfaces.ui.runs.told import Told
from loopline.store.runs.artifacts import Kept

SHOWN = 200_000
"""Bytes of a text that a page shows."""
PICTURE = 20_000_000
DRAWING = 500_000
"""Bytes of an SVG that is put into the page as a picture, where its scripts do not run."""
ROWS, COLUMNS = 100, 50
LISTED = 1_000
AT_ONCE = 1 << 20
_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a page shows of a file: a table, a picture, a text, or nothing."""

    kind: str
    """`table`, `picture`, `text` or `none`."""
    text: str = ""
    address: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    cut: bool = False
    """Whether it is the beginning only."""
    why: str = ""
    """Why nothing is shown."""


def page(log: Log, request: Request) -> dict[str, Any]:
    """A folder of a run's files, or one file of it."""
    run = log.run(request.path_params["id"])
    path = request.query_params.get("path", "").strip("/")
    held = log.ws.artifacts
    found = _file(log, run, path)
    folder = path.rpartition("/")[0] if found else path
    entries = held.entries(run.id, folder)
    if path and not found and not entries:
        raise NotFound(f"{run.title} has no file {path!r:.200}", why="nothing was logged there", fix="list its files")
    lines = [
        {
            "name": one.name,
            "size": one.size,
            "address": _address(run, f"{folder}/{one.name}" if folder else one.name),
            "here": found is not None and one.name == path.rpartition("/")[2],
        }
        for one in sorted(entries, key=lambda one: (one.size is not None, one.name))[:LISTED]
    ]
    parts = folder.split("/") if folder else []
    return {
        "run": run,
        "tab": "files",
        "elsewhere": "" if run.artifacts.startswith("mlflow-artifacts:") or lines else run.artifacts,
        "lines": lines,
        "left_out": max(0, len(entries) - LISTED),
        "trail": [(part, _address(run, "/".join(parts[: n + 1]))) for n, part in enumerate(parts)],
        "file": found,
        "preview": preview(log, run, found) if found else None,
        "bytes": given_out(run, path) if found else "",
        "cells": cells,
    }


def _file(log: Log, run: Told, path: str) -> Kept | None:
    if not path:
        return None
    try:
        return log.ws.artifacts.find(run.id, path)
    except NotFound:
        return None


def _address(run: Told, path: str) -> str:
    return f"/runs/{quote(run.id)}/files?path={quote(path, safe='/')}"


def given_out(run: Told, path: str) -> str:
    """Where the bytes of a file are."""
    return f"/runs/{quote(run.id)}/file?path={quote(path, safe='')}"


def preview(log: Log, run: Told, kept: Kept) -> Preview:
    """What may be shown of a file; HTML is a text here."""
    _, file = log.ws.artifacts.open(run.id, kept.path)
    with file:
        head = file.read(max(SHOWN, DRAWING) + 1)
    if picture(head) is not None:
        if kept.size <= PICTURE:
            return Preview("picture", address=given_out(run, kept.path))
        return Preview("none", why="the picture is too large to be shown")
    end = kept.path.rpartition(".")[2].lower()
    if end == "svg" and kept.size <= DRAWING:
        return Preview("picture", address="data:image/svg+xml;base64," + base64.b64encode(head).decode())
    text = readable(head[:SHOWN])
    if text is None:
        return Preview("none", why="it is neither text nor a picture that browsers know")
    cut = kept.size > SHOWN
    if end in ("csv", "tsv") and (rows := _rows(text, cut, "\t" if end == "tsv" else ",")):
        return Preview("table", rows=rows, cut=cut or text.count("\n") > len(rows))
    if end == "json" and not cut:
        text = _indented(text)
    return Preview("text", text=text, cut=cut)


def picture(head: bytes) -> str | None:
    """The type of a picture by its first bytes; null for anything else."""
    for start, kind in _PICTURES:
        if head.startswith(start):
            return kind
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def readable(data: bytes) -> str | None:
    """Bytes as text, a character cut off at the end left out; null where they are none."""
    if b"\0" in data:
        return None
    for spare in range(4):
        try:
            return data[: len(data) - spare].decode()
        except UnicodeDecodeError as error:
            if error.start < len(data) - 4:
                return None
    return None


def _rows(text: str, cut: bool, separator: str) -> tuple[tuple[str, ...], ...]:
    lines = text.splitlines(keepends=True)[: ROWS + 1]
    try:
        read = csv.reader(
            io.StringIO("".join(lines[:-1] if cut and len(lines) <= ROWS else lines)), delimiter=separator
        )
        return tuple(tuple(cells.cut(cell) for cell in row[:COLUMNS]) for row in read if row)
    except csv.Error:
        return ()


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def download(log: Log, request: Request) -> Response:
    """The bytes of a file: a picture as such, anything else to be saved, nothing to be run.

    The last bytes go out only if all of them have the digest that they were kept under.
    """
    run = log.run(request.path_params["id"])
    path = request.query_params.get("path", "")
    if not path:
        raise Invalid("no file is named", why="a run has many", fix="choose one on its page")
    kept, file = log.ws.artifacts.open(run.id, path)
    head = file.read(16)
    file.seek(0)
    kind = picture(head) if request.query_params.get("save") is None else None
    name = quote(path.rpartition("/")[2], safe="")
    headers = {
        "content-disposition": f"{'inline' if kind else 'attachment'}; filename*=UTF-8''{name}",
        "content-length": str(kept.size),
        "cache-control": "private, no-cache",
    }
    return StreamingResponse(_checked(file, kept), media_type=kind or "application/octet-stream", headers=headers)


def _checked(file: BinaryIO, kept: Kept) -> Iterator[bytes]:
    sha, before = hashlib.sha256(), b""
    with file:
        while chunk := file.read(AT_ONCE):
            if before:
                yield before
            sha.update(chunk)
            before = chunk
    if sha.hexdigest() != kept.digest:
        raise RuntimeError(f"the artifact {kept.digest} is damaged; its transfer was cut off")
    yield before
