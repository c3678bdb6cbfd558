"""The committer: a process that moves answers from the workers' journals to the table.

`serving.flush` does the same at once from any process; whichever comes first.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path

from loopline.base.clock import monotonic
from loopline.base.errors import LooplineError
from loopline.base.log import logger
from loopline.serving import flush
from loopline.serving.pending import pending
from loopline.serving.state import Place
from loopline.workspace import open_workspace

ROWS = 100_000
AGE_S = 60.0
LOOK_S = 1.0

_log = logger(__name__)


def main() -> None:
    """Commit on many rows or on age, until told to stop; then once more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--endpoint", required=True)
    given = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ws = open_workspace(given.workspace, actor="service:committer")
    place, parent = Place(ws.root, given.endpoint), os.getppid()
    since: float | None = None
    while not stop.wait(LOOK_S) and os.getppid() == parent:
        waiting = pending(place)
        since = (since or monotonic()) if waiting else None
        if since is not None and (waiting >= ROWS or monotonic() - since >= AGE_S):
            try:
                flush(ws, given.endpoint)
                since = None
            except LooplineError as error:
                _log.error("%s", error)
                stop.wait(5.0)
    if pending(place):
        flush(ws, given.endpoint)


if __name__ == "__main__":
    main()
