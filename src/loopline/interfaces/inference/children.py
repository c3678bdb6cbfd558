"""Processes that the supervisor starts fresh (never forked), and talks to in JSON lines."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from loopline.base.settings import child_environment
from loopline.serving.state import Place, short_path

ONE_THREAD = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def worker_door(place: Place, pid: int) -> Path:
    """Where a worker hands its listening socket to the next supervisor."""
    return place.run / f"inference-{place.endpoint}-{pid}.worker"


class WorkerProcess:
    """A worker and the line to it."""

    def __init__(self, place: Place, listener: socket.socket) -> None:
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self.process = subprocess.Popen(
                [
                    *_python("worker", place),
                    f"--listen-fd={listener.fileno()}",
                    f"--control-fd={theirs.fileno()}",
                ],
                pass_fds=(listener.fileno(), theirs.fileno()),
                env=child_environment(**ONE_THREAD),
                stdin=subprocess.DEVNULL,
            )
        self.line.settimeout(5.0)
        self.door = worker_door(place, self.process.pid)
        self.loaded = 0
        """Sequence number of the newest route it has taken."""
        self._buffer = b""

    def send(self, message: dict[str, Any]) -> None:
        """Tell it something; a dead worker hears nothing."""
        with suppress(OSError):
            self.line.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """What it said; null when it is gone."""
        try:
            data = self.line.recv(1 << 20)
        except OSError:
            return None
        if not data:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def await_end(self, patience_s: float) -> None:
        """Wait for it to leave; kill it when it does not in time."""
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.line.close()


def start_committer(place: Place) -> subprocess.Popen[bytes]:
    """The one process that commits in the background."""
    return subprocess.Popen(_python("committer", place), env=child_environment(), stdin=subprocess.DEVNULL)


def _python(module: str, place: Place) -> list[str]:
    name = f"loopline.interfaces.inference.{module}"
    return [sys.executable, "-P", "-m", name, f"--workspace={place.workspace}", f"--endpoint={place.endpoint}"]


class Orphans:
    """Workers of a supervisor that died: they hold the socket, and still answer."""

    def __init__(self, place: Place) -> None:
        self.listener: socket.socket | None = None
        self._lines: list[socket.socket] = []
        for path in place.run.glob(f"inference-{place.endpoint}-*.worker"):
            self._meet(path)

    def _meet(self, path: Path) -> None:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.settimeout(2.0)
        try:
            with short_path(path) as name:
                line.connect(name)
            _, descriptors, _, _ = socket.recv_fds(line, 1, 1)
        except OSError:
            line.close()
            path.unlink(missing_ok=True)
            return
        self._lines.append(line)
        for descriptor in descriptors:
            given = socket.socket(fileno=descriptor)
            if self.listener is None:
                self.listener = given
            else:
                given.close()

    def drain(self) -> None:
        """Let them go, once others answer."""
        for line in self._lines:
            with suppress(OSError):
                line.sendall(b"drain")
            line.close()
        self._lines.clear()
