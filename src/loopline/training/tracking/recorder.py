"""What stands between a run's calls and its spool: two threads, so that no call waits for a disk or a server."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from pathlib import Path

from loopline.base.clock import monotonic
from loopline.base.errors import LooplineError
from loopline.base.log import logger
from loopline.training.tracking.delivery import Courier, Target
from loopline.training.tracking.frames import Begin, Frame, Points
from loopline.training.tracking.series import Elsewhere, Over, Series
from loopline.training.tracking.spool import Waiting, Writer

log = logger(__name__)

BEAT_S = 0.1
"""Points are in the spool after so long at most, where the disk takes them; what is younger may be lost by a kill."""
RETRY_S = 1.0
HELD_BYTES = 64 << 20
"""So much waits in memory while the disk takes nothing; then the oldest points go."""

_living: weakref.WeakSet[Recorder] = weakref.WeakSet()


class Recorder:
    """Takes points and facts in, spools them, delivers them.

    Parameters
    ----------
    folder : Path
        The spool.
    target : Target
        Where they are delivered.
    """

    def __init__(self, folder: Path, begin: Begin, target: Target, *, start_ns: int, durable: bool) -> None:
        self.series = Series(begin.run, start_ns)
        self.sinks = self.series.sinks
        self._run = begin.run
        self._facts: deque[Frame] = deque([begin])
        self._held: deque[Frame] = deque()
        self._held_bytes = 0
        self._lost = 0
        self._spool = Writer(folder, begin.run, durable=durable)
        self._courier = Courier(Waiting(self._spool.path), target)
        self._told = False
        self._bell = threading.Condition()
        self._asked, self._answered, self._whole = 0, 0, True
        self._stop = False
        _living.add(self)
        self._thread = threading.Thread(target=self._work, name="loopline-recorder", daemon=True)
        self._thread.start()

    def add(self, frame: Frame) -> None:
        """Have a frame be spooled after those before it."""
        self._facts.append(frame)

    def flush(self, seconds: float = 30.0) -> bool:
        """Wait until all that was logged is in the spool; false where the disk does not take it."""
        if not self._thread.is_alive():
            return False
        with self._bell:
            self._asked += 1
            wanted = self._asked
            self._bell.notify_all()
            self._bell.wait_for(lambda: self._answered >= wanted, seconds)
            return self._answered >= wanted and self._whole

    def settle(self, seconds: float) -> bool:
        """Wait until what is in the spool is delivered."""
        return self._courier.settle(seconds)

    def close(self, seconds: float) -> bool:
        """Spool the rest and wait for its delivery; whether all of it arrived, and the spool is empty."""
        spooled = self.flush()
        self.series.sinks = self.sinks = Over()
        with self._bell:
            self._stop = True
            self._bell.notify_all()
        self._thread.join(30.0)
        if self._lost:
            log.warning("%s points of the run %s were lost: the disk took nothing", f"{self._lost:,}", self._run)
        self._courier.settle(seconds)
        delivered = self._courier.close() and spooled
        self._spool.close()
        if delivered and self._courier.ended:
            Waiting(self._spool.path).forget()
        _living.discard(self)
        return delivered

    def leave(self) -> None:
        """In a process that was forked off: the run is its parent's."""
        self.sinks = Elsewhere()
        self._spool.leave()
        self._facts = deque(maxlen=0)

    def _work(self) -> None:
        failed_at = float("-inf")
        while True:
            with self._bell:
                if not self._stop and self._asked == self._answered:
                    self._bell.wait(BEAT_S)
                asked, stop = self._asked, self._stop
            waited = monotonic() - failed_at >= RETRY_S
            whole = self._spooled() if waited or stop or asked != self._answered else not self._held
            if not whole and waited:
                failed_at = monotonic()
            with self._bell:
                self._answered, self._whole = asked, whole
                self._bell.notify_all()
            if stop:
                return

    def _spooled(self) -> bool:
        """Write what waits; whether nothing waits any more."""
        while True:
            while self._facts:
                self._hold(self._facts.popleft())
            try:
                points = self.series.take()
            except Exception as error:
                self._say(f"points could not be packed: {error}", "they are left out")
                continue
            if points is not None:
                self._hold(points)
            if not self._held:
                return True
            try:
                self._spool.append(list(self._held))
            except LooplineError as error:
                self._say(error.what, "training goes on; points wait in memory")
                while (points := self.series.take()) is not None:
                    self._hold(points)
                return False
            self._held.clear()
            self._held_bytes = 0
            self._told = False
            self._courier.appended(self._spool.size)

    def _hold(self, frame: Frame) -> None:
        self._held.append(frame)
        if isinstance(frame, Points):
            self._held_bytes += _size(frame)
            while self._held_bytes > HELD_BYTES:
                oldest = next(at for at, one in enumerate(self._held) if isinstance(one, Points))
                gone = self._held[oldest]
                del self._held[oldest]
                self._held_bytes -= _size(gone)
                self._lost += _size(gone) // 24

    def _say(self, what: str, then: str) -> None:
        if not self._told:
            self._told = True
            log.warning("%s; %s", what, then)


def _size(frame: Frame) -> int:
    return 3 * sum(len(one[0]) for one in frame.columns.values()) if isinstance(frame, Points) else 0


def _forked() -> None:
    for one in list(_living):
        one.leave()


os.register_at_fork(after_in_child=_forked)
