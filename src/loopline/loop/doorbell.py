"""How a sleeping reconciler is woken: a datagram, or the time it asked for."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from pathlib import Path
from types import TracebackType


class Doorbell:
    """Listens on `run/wake.sock` of a workspace; `Workspace.wake` rings it.

    A ring is only a hint: whoever wakes looks at the records, so a lost or
    doubled ring changes nothing.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / "run" / "wake.sock"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._door.setblocking(False)
        self._path.unlink(missing_ok=True)
        self._door.bind(f"/proc/self/fd/{self._folder}/{self._path.name}")

    def wait(self, timeout_s: float | None) -> bool:
        """Sleep until someone rings, at most `timeout_s`; true when someone did."""
        ready, _, _ = select.select([self._door], [], [], timeout_s)
        rung = False
        while ready:
            try:
                self._door.recv(64)
                rung = True
            except BlockingIOError:
                break
        return rung

    def close(self) -> None:
        """Stop listening."""
        self._door.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        os.close(self._folder)

    def __enter__(self) -> Doorbell:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
