"""Which process holds something, and whether it still lives."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from pathlib import Path

_PROC = Path("/proc")


def holder() -> str:
    """A name for this thread that others can check: host, process, its start, thread."""
    pid = os.getpid()
    return f"{_host()}/{pid}/{_start(pid) or 0}/{threading.get_ident()}"


def is_gone(owner: str) -> bool:
    """Whether the process that made this name has surely ended.

    Only a process of the same kernel and the same process namespace can be
    judged; of all others false is said, and their leases must run out.
    """
    host, _, rest = owner.rpartition("/")[0].partition("/")
    pid, _, start = rest.partition("/")
    if not host or host != _host() or not pid.isdecimal() or not start.isdecimal() or start == "0":
        return False
    return _start(int(pid)) != int(start)


@lru_cache(1)
def _host() -> str:
    """This kernel since it started, and our view of its processes; empty where there is no `/proc`."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}.{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start(pid: int) -> int | None:
    """When a process began, in ticks since the kernel did; null when it has ended."""
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
