"""A lease kept while something long runs."""

from __future__ import annotations

import threading
from collections.abc import Callable

from loopline.base.errors import Unavailable

SOONER_S = 1.0
"""The pause after a renewal that was refused, at most."""


class Renewing:
    """Calls `renew` again and again while the block runs, in a thread.

    What refuses for a while (a full disk, a database that restarts) is asked
    again sooner. The block goes on: where its lease lapses meanwhile, the fence
    holds it off, and not this.
    """

    def __init__(self, renew: Callable[[], object], *, lease_s: float) -> None:
        self._renew, self._every_s = renew, lease_s / 3
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        pause = self._every_s
        while not self._stop.wait(pause):
            try:
                self._renew()
                pause = self._every_s
            except Unavailable:
                pause = min(self._every_s, SOONER_S)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
