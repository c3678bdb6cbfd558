"""Runs that nobody writes any more, although the log calls them running: read from the spool, which stays as it is."""

from __future__ import annotations

from typing import Literal

from loopline.base import settings
from loopline.training.tracking.frames import End, cut
from loopline.training.tracking.spool import AT_ONCE, Waiting, waiting
from loopline.workspace import Workspace

Left = Literal["BROKE_OFF", "UNDELIVERED"]
READ = 4 * AT_ONCE
"""Bytes of a file that are searched for the end of its run."""


def left_behind(ws: Workspace) -> dict[str, Left]:
    """Runs in the spool of this machine that no process writes.

    Returns
    -------
    dict
        By run: `UNDELIVERED` where its end waits in the spool, `BROKE_OFF` where its process died before. `loopline
        runs sync` delivers both, and ends the second as killed.
    """
    files: dict[str, list[Waiting]] = {}
    for one in waiting(settings.spool_folder() or ws.root / "spool"):
        files.setdefault(one.run, []).append(one)
    return {
        run: "UNDELIVERED" if any(map(_ends, of)) else "BROKE_OFF"
        for run, of in files.items()
        if all(one.is_left() for one in of)
    }


def _ends(file: Waiting) -> bool:
    """Whether the end of the run is in what was not delivered yet."""
    at = file.sent
    stop = at + READ
    while at < stop:
        try:
            part = cut(file.read(at))
        except FileNotFoundError:  # delivered just now
            return True
        if not part.frames:
            return False
        if any(isinstance(frame, End) for _, frame in part.frames):
            return True
        at += part.end
    return True
