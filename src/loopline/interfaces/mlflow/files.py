"""Artifacts through the server: up and down in streams, listed, deleted.

Addresses are `<experiment>/<run>/artifacts/<path>`, and `<experiment>/models/<model>/artifacts/<path>` for logged
models. Only the owner and the path count, so files stay where they are when a run moves to another experiment.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
from contextlib import ExitStack
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, quote

from loopline.base.errors import Invalid, NotFound
from loopline.interfaces.mlflow import names
from loopline.interfaces.mlflow.errors import ABSENT, INVALID, NO_ENDPOINT, Cut, Refusal, Shaped, invalid
from loopline.interfaces.mlflow.operations import Ask, Call, Encoder, Operation
from loopline.interfaces.mlflow.requests import Request
from loopline.interfaces.mlflow.traces import require_kept
from loopline.store.runs.artifacts import Entry, Kept
from loopline.workspace import authorise

AT_ONCE = 1 << 20
"""Bytes that are gathered before a thread hashes and writes them."""
_RANGE = re.compile(rb"bytes=(\d*)-(\d*)")
_BYTES = (b"content-type", b"application/octet-stream")
NO_PARTS = "Multipart upload is not supported for the current artifact repository"
"""The words by which the stock client knows that it must send files whole."""
NO_ADDRESS = "Presigned download is not supported for the current artifact repository"


async def serve(request: Request, method: str, path: str) -> None:
    """Answer a request below `mlflow-artifacts/`."""
    kind, _, rest = path.partition("/")
    if kind == "mpu":
        raise Refusal(ABSENT, NO_PARTS)
    if kind == "presigned":
        raise Refusal(ABSENT, NO_ADDRESS)
    if kind != "artifacts" or method not in ("GET", "HEAD", "PUT", "DELETE"):
        raise Refusal(NO_ENDPOINT, f"There is no endpoint {method} {path[:200]} here.")
    if method in ("GET", "HEAD") and not rest:
        given = dict(parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True))
        await _list(request, given.get("path", ""))
    elif method == "PUT":
        await _upload(request, rest)
    elif method == "DELETE":
        await _delete(request, rest)
    else:
        await _download(request, rest, body=method == "GET")


def require_owner(call: Call, owner: str) -> None:
    """See that files are kept for something that exists."""
    if owner.startswith("tr-"):
        require_kept(call, owner)
    else:
        call.log.require_owner(owner)


async def _upload(request: Request, given: str) -> None:
    """Take a file in: hashed and written as it comes, listed once it is whole."""
    call, receive = request.call, request.receive
    owner, path = names.address(given)
    if not path:
        raise invalid(f"Invalid path {given[:200]!r}: it names no file.")
    parts: list[bytes] = []
    held = 0
    file: Any = None
    writing: asyncio.Future[None] | None = None

    with ExitStack() as stack:

        def begin() -> None:
            nonlocal file
            authorise(call.ws, "training.log")
            require_owner(call, owner)
            file = stack.enter_context(call.artifacts.blobs.incoming(durable=call.artifacts.durable))

        def write(batch: list[bytes]) -> None:
            if file is None:
                begin()
            for part in batch:
                file.write(part)

        def end(batch: list[bytes]) -> None:
            write(batch)
            call.artifacts.keep(file, owner, path, at_ms=call.now_ms)

        try:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                part, more = message.get("body", b""), message.get("more_body", False)
                parts.append(part)
                held += len(part)
                if held >= AT_ONCE and more:
                    if writing is not None:
                        await writing
                    writing = asyncio.ensure_future(request.aside(functools.partial(write, parts)))
                    parts, held = [], 0  # what comes meanwhile is gathered while this is hashed and written
        finally:
            if writing is not None:
                await writing
        await request.aside(functools.partial(end, parts))
    await request.answer(200, b"{}")


async def _download(request: Request, given: str, *, body: bool) -> None:
    """Give a file out, all of it or a range."""
    call, send = request.call, request.send
    owner, path = names.address(given)

    def begin() -> tuple[Kept, BinaryIO, bytes]:
        authorise(call.ws, "training.runs")
        if not path:
            raise NotFound(f"{owner} is no file", why="it holds files", fix="list what it has")
        kept, file = call.artifacts.open(owner, path)
        return kept, file, file.read(AT_ONCE)

    kept, file, first = await request.aside(begin)
    with file:
        asked = _range(request.scope["headers"], kept)
        tag = b'"' + kept.digest.encode() + b'"'
        name = quote(path.rpartition("/")[2]).encode()
        headers = [
            _BYTES,
            (b"accept-ranges", b"bytes"),
            (b"etag", tag),
            (b"content-disposition", b"attachment; filename*=UTF-8''" + name),
        ]
        if asked is None:
            start, end, status = 0, kept.size, 200
        else:
            start, end = asked
            status = 206
            headers.append((b"content-range", f"bytes {start}-{end - 1}/{kept.size}".encode()))
        headers.append((b"content-length", str(end - start).encode()))
        if not body:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        if start or end < len(first):

            def jump() -> bytes:
                file.seek(start)
                return file.read(min(AT_ONCE, end - start))

            first = await request.aside(jump)
        sha = hashlib.sha256() if status == 200 else None
        await _stream(request, status, headers, file, first, end - start, sha, kept)


async def _stream(
    request: Request,
    status: int,
    headers: list[tuple[bytes, bytes]],
    file: BinaryIO,
    chunk: bytes,
    left: int,
    sha: Any,
    kept: Kept,
) -> None:
    """Send `left` bytes; the last of a whole file go out only if its digest is the one it was kept under."""

    def then() -> bytes:
        if sha is not None:
            sha.update(chunk)
        return file.read(min(AT_ONCE, left - len(chunk))) if left > len(chunk) else b""

    started, gone = False, asyncio.ensure_future(_gone(request)) if left > len(chunk) else None
    try:
        while gone is None or not gone.done():
            following = await request.aside(then) if left > len(chunk) or sha is not None else b""
            left -= len(chunk)
            whole = left == 0 and (sha is None or sha.hexdigest() == kept.digest)
            if (left == 0 or not following) and not whole:
                if started:
                    raise Cut(f"the artifact {kept.digest} is damaged; its transfer was cut off")
                raise Shaped(_damaged(kept))
            if not started:
                await request.send({"type": "http.response.start", "status": status, "headers": headers})
                started = True
            await request.send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
            if left == 0:
                return
            chunk = following
    finally:
        if gone is not None:
            gone.cancel()


async def _gone(request: Request) -> None:
    """Ends when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _damaged(kept: Kept) -> Invalid:
    return Invalid(
        f"the artifact {kept.path!r} is damaged",
        why="its bytes no longer have the digest that they were kept under",
        fix="log it again, or restore the folder artifacts from a backup",
    )


async def _list(request: Request, given: str) -> None:
    owner, path = names.address(given)
    call = request.call

    def work() -> bytes:
        authorise(call.ws, "training.runs")
        return Encoder.encode({"files": listing(call.artifacts.entries(owner, path))})

    await request.answer(200, await request.aside(work))


async def _delete(request: Request, given: str) -> None:
    owner, path = names.address(given)
    call = request.call

    def work() -> None:
        authorise(call.ws, "training.delete")
        require_owner(call, owner)
        if not call.artifacts.delete(owner, path) and path:
            raise NotFound(f"No such artifact: {path!r}", why=f"{owner} has none there", fix="list what it has")

    await request.aside(work)
    await request.answer(200, b"{}")


def listing(entries: list[Entry], under: str = "") -> list[dict[str, Any]]:
    """Entries in the shape of the protocol; whether one is a folder is always told."""
    found = []
    for entry in entries:
        line: dict[str, Any] = {"path": f"{under}/{entry.name}" if under else entry.name, "is_dir": entry.size is None}
        if entry.size is not None:
            line["file_size"] = entry.size
        found.append(line)
    return found


def _range(headers: list[tuple[bytes, bytes]], kept: Kept) -> tuple[int, int] | None:
    """The half-open range that is asked for; null for the whole, also where there are several or none that is known."""
    asked = next((value for name, value in headers if name == b"range"), b"")
    same = next((value for name, value in headers if name == b"if-range"), None)
    found = _RANGE.fullmatch(asked.strip())
    if found is None or (same is not None and same.strip() != b'"' + kept.digest.encode() + b'"'):
        return None
    low, high = found[1][:20], found[2][:20]
    if not low and not high:
        return None
    if not low:
        start, end = max(0, kept.size - int(high)), kept.size
    else:
        start, end = int(low), min(kept.size, int(high) + 1 if high else kept.size)
    if start >= end:
        raise Refusal(INVALID, f"The file has {kept.size} bytes; the range lies outside.", status=416)
    return start, end


class OfRun(Ask):
    run_id: str | None = None
    run_uuid: str | None = None
    path: str | None = None
    page_token: str | None = None


class OfModel(Ask):
    model_id: str | None = None
    artifact_directory_path: str | None = None


def of_run(call: Call, ask: OfRun) -> dict[str, Any]:
    assert ask.run_id is not None
    run = call.log.run(names.require_run(ask.run_id))
    return _of(call, run.id, run.artifacts, ask.path)


def of_model(call: Call, ask: OfModel) -> dict[str, Any]:
    assert ask.model_id is not None
    model = call.log.model(ask.model_id)
    return _of(call, model.id, model.artifacts, ask.artifact_directory_path)


def _of(call: Call, owner: str, root: str, path: str | None) -> dict[str, Any]:
    under = (path or "").rstrip("/")
    return {"root_uri": root, "files": listing(call.artifacts.entries(owner, under), under)}


OPERATIONS = (
    Operation("GET", "artifacts/list", OfRun, of_run, "training.runs", ("run_id",)),
    Operation("GET", "logged-models/{model_id}/artifacts/directories", OfModel, of_model, "training.runs"),
)
