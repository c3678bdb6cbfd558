"""Who serves a workspace: told to the next that would, so that two do so only where somebody wants it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loopline.base.errors import Conflict
from loopline.base.locks import alone
from loopline.base.process import holder, is_gone

_FILES = "server-*.lock"


@dataclass(frozen=True, slots=True)
class Seat:
    """A process that serves a workspace."""

    pid: int
    address: str
    owner: str
    """As `base.process.holder` names it."""


@contextmanager
def seated(
    root: Path, address: str, *, beside: bool = False, say: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Be known as a server of the workspace in `root` for as long as the block lasts.

    The lock ends with its holder: who was killed keeps nobody away.

    Parameters
    ----------
    address : str
        Where this one answers.
    beside : bool
        Whether to serve although others do; `say` is then told who they are. What is logged stays whole: the stores
        let one process write at a time.

    Raises
    ------
    Conflict
        If another one serves it, and `beside` is false.
    """
    folder = root / "run"
    path = folder / f"server-{os.getpid()}-{secrets.token_hex(4)}.lock"
    with alone(folder / "servers.lock"):
        others = _seats(folder)
        if others and not beside:
            one = others[0]
            raise Conflict(
                f"process {one.pid} serves this workspace already, at {one.address}",
                why=f"it holds a lock in {folder}",
                fix=f"open {one.address}, end it with `kill {one.pid}`, or serve as another one with --beside",
            )
        lock = path.open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.write(json.dumps({"pid": os.getpid(), "address": address, "owner": holder()}))
        lock.flush()
    for one in others:
        say(f"process {one.pid} serves this workspace too, at {one.address}")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.close()


def _seats(folder: Path) -> list[Seat]:
    """Those that serve now; what the dead left is taken away."""
    found = []
    for path in sorted(folder.glob(_FILES)):
        with contextlib.suppress(OSError, ValueError, KeyError), path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                told = json.loads(lock.read())
                seat = Seat(int(told["pid"]), str(told["address"]), str(told["owner"]))
                if not is_gone(seat.owner):  # a child of a dead one may still hold its lock
                    found.append(seat)
                continue
            path.unlink(missing_ok=True)
    return found
