"""Foreign files come in: streamed into the artifact store, each whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from loopline.base.errors import Invalid, LooplineError, Unavailable
from loopline.store.runs.artifacts import Artifacts, clean
from loopline.store.runs.protocol import LoggedModel, Run
from loopline.training.exchange.nouns import Brought, Offered, Source


class _Unreadable(Exception):
    """The source broke off in the middle of a file."""


def keep_files(
    source: Source, of: Run | LoggedModel, artifacts: Artifacts, found: Brought, *, at_ms: int, what: str
) -> bool:
    """Bring the files of a run or a model that are not here yet; whether any came.

    One that is here with other bytes is told and stays. Bytes of local files are compared; where comparing would
    mean fetching them again, sizes are.
    """
    return keep_offered(source.files(of), of.id, artifacts, found, at_ms=at_ms, what=what)


def keep_offered(
    offered: Iterator[Offered], owner: str, artifacts: Artifacts, found: Brought, *, at_ms: int, what: str
) -> bool:
    """Bring files as those of `owner` that it has not yet; whether any came."""
    here = {one.path: one for one in artifacts.files(owner)}
    came = False
    try:
        for file in offered:
            try:
                clean(file.path)
                known = here.get(file.path)
                if known is None:
                    _keep(file, owner, artifacts, found, at_ms)
                    came = True
                elif (file.size is not None and file.size != known.size) or (
                    file.local and _digest(file) != known.digest
                ):
                    found.conflict(f"the file {file.path} of {what} differs from the one that is here")
            except Unavailable:
                raise
            except (LooplineError, _Unreadable) as error:
                found.leave(f"the file {file.path[:200]!r} of {what}: {error.args[0].splitlines()[0]}")
    except (Invalid, PermissionError) as error:
        found.leave(f"files of {what}: {str(error).splitlines()[0]}")
    return came


def _keep(file: Offered, owner: str, artifacts: Artifacts, found: Brought, at_ms: int) -> None:
    size = file.size or 0
    if not found.dry_run:
        with artifacts.blobs.incoming(durable=artifacts.durable) as into:
            for piece in _pieces(file):
                into.write(piece)
            if file.size is not None and into.size != file.size:
                raise _Unreadable(
                    f"it has {into.size:,} bytes instead of {file.size:,}: it broke off, or is written to"
                )
            size = artifacts.keep(into, owner, file.path, at_ms=at_ms).size
    found.files += 1
    found.bytes += size


def _digest(file: Offered) -> str:
    sha = hashlib.sha256()
    for piece in _pieces(file):
        sha.update(piece)
    return sha.hexdigest()


def _pieces(file: Offered) -> Iterator[bytes]:
    """Bytes of the source: its errors are not those of the disk that they go to."""
    try:
        yield from file.read()
    except OSError as error:
        raise _Unreadable(f"it cannot be read: {error.strerror or error}") from error
