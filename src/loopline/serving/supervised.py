"""Whether an endpoint's data plane runs on this machine."""

from __future__ import annotations

import fcntl
import os

from loopline.serving.state import Place
from loopline.workspace import Workspace


def supervisor_pid(ws: Workspace, endpoint: str) -> int | None:
    """Process id of the endpoint's supervisor; null when none runs here.

    Asks the lock that a supervisor holds for as long as it lives, so a process
    that was killed is never taken for a running one.
    """
    path = Place(ws.root, endpoint).folder / "supervisor.lock"
    try:
        with path.open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
    except FileNotFoundError:
        return None
    return None


def workers_left(ws: Workspace, endpoint: str) -> bool:
    """Whether workers of a supervisor that died still answer; the next supervisor takes over from them."""
    prefix, suffix = f"inference-{endpoint}-", ".worker"
    pids = (path.name[len(prefix) : -len(suffix)] for path in Place(ws.root, endpoint).run.glob(f"{prefix}*{suffix}"))
    return any(_lives(int(pid)) for pid in pids if pid.isdigit())


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
