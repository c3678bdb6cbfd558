"""The supervisor: holds the socket, keeps the workers alive, follows what is desired, judges the canary.

It alone talks to the control plane, through files that outlive either side. What
it last served well, and what it found about the canary, it remembers by itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import signal
import socket
from contextlib import suppress
from typing import Any

from loopline.base.clock import SystemClock, monotonic
from loopline.base.errors import Conflict, LooplineError
from loopline.base.keys import SigningKey
from loopline.base.log import logger
from loopline.base.nouns import to_doc
from loopline.interfaces.inference.children import Orphans, WorkerProcess, start_committer
from loopline.interfaces.inference.lastgood import Bundles, LastGood
from loopline.serving import state
from loopline.serving.nouns import DesiredState, EndpointStatus
from loopline.serving.release import Watch
from loopline.serving.state import DesiredSource, Place
from loopline.training.packages.trust import trust_of
from loopline.workspace import Workspace

LOOK_S = 0.25
REMEMBER_S = 2.0
DRAIN_S = 25.0
RETRY_S = 5.0
SLOWEST_RESTART_S = 5.0

_log = logger(__name__)


class Supervisor:
    """One endpoint's processes."""

    def __init__(self, ws: Workspace, place: Place, source: DesiredSource, workers: int) -> None:
        self._ws, self._place, self._source, self._count = ws, place, source, workers
        self._clock = SystemClock()
        self._cache = place.folder / "cache"
        self._memory = self._cache / "state.json"
        self._bundles = Bundles(self._cache / "bundles", ws.blobs)
        self._good = LastGood.read(self._memory)
        self._watch = self._good.revived
        self._serving: DesiredState | None = None
        """As signed; what is served is `self._good.effective(self._serving)`."""
        self._message: dict[str, Any] = {"seq": 1, "desired": None, "bundles": {}}
        self._coming: tuple[DesiredState, str, str, dict[str, Any]] | None = None
        self._seen: bytes | None = None
        self._retry_at = 0.0
        self._error: str | None = None
        self._applied_at = self._clock()
        self._verdict = "open"
        self._slack = 0.0
        self._seq = 1
        self._workers: list[WorkerProcess] = []
        self._restarts: list[float] = []
        self._restart_at = 0.0
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._dirty = True
        self._remember_at = 0.0
        self._latency_us = 0
        place.segments.mkdir(parents=True, exist_ok=True)
        place.run.mkdir(parents=True, exist_ok=True)
        self._lock = (place.folder / "supervisor.lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"{place.endpoint!r} is served already",
                why="another supervisor of this workspace runs",
                fix="stop it first, or use another endpoint name",
            ) from error
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def run(self, listener: socket.socket, orphans: Orphans) -> None:
        """Serve until SIGTERM or SIGINT; then drain."""
        self._listener = listener
        self._open_doors()
        self._recall()
        committer = start_committer(self._place)
        try:
            for _ in range(self._count):
                self._start_worker()
            while not self._stopping:
                for key, _ in self._selector.select(LOOK_S):
                    key.data()
                self._look()
                self._mind_workers()
                if committer.poll() is not None and not self._stopping:
                    committer = start_committer(self._place)
                if orphans is not None and self._all_loaded():
                    orphans.drain()
                self._write()
        finally:
            for worker in self._workers:
                with suppress(OSError):
                    worker.process.terminate()
            until = monotonic() + DRAIN_S
            for worker in self._workers:
                self._last_words(worker, until)
                worker.await_end(max(until - monotonic(), 0.1))
            self._remember()
            self._write(force=True)
            committer.terminate()
            committer.wait()
            self._place.door.unlink(missing_ok=True)

    def _last_words(self, worker: WorkerProcess, until: float) -> None:
        worker.line.settimeout(max(until - monotonic(), 0.1))
        while (messages := worker.receive()) is not None:
            for message in messages:
                self._hear(worker, message)

    # Doors and signals

    def _open_doors(self) -> None:
        self._place.door.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with state.short_path(self._place.door) as name:
            self._door.bind(name)
        self._door.setblocking(False)
        self._selector.register(self._door, selectors.EVENT_READ, lambda: self._empty(self._door))
        inside, outside = socket.socketpair()
        for end in (inside, outside):
            end.setblocking(False)
        self._wakeup = inside, outside
        signal.set_wakeup_fd(outside.fileno())
        self._selector.register(inside, selectors.EVENT_READ, lambda: self._empty(inside))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _stop(self, *_: Any) -> None:
        self._stopping = True

    @staticmethod
    def _empty(door: socket.socket) -> None:
        with suppress(BlockingIOError):
            while door.recv(4096):
                pass

    # What is desired

    def _recall(self) -> None:
        """Begin with what was served last."""
        desired = self._good.desired
        if desired is None:
            return
        try:
            self._message = self._route(desired)
            self._serving = desired
        except LooplineError as error:
            self._error = error.what

    def _route(self, desired: DesiredState) -> dict[str, Any]:
        effective = self._good.effective(desired)
        bundles = self._bundles.fetch({v.bundle for v in effective.variants})
        self._seq += 1
        trust = trust_of(self._ws.id).doc()
        return {"seq": self._seq, "desired": to_doc(effective), "bundles": bundles, "trust": trust}

    def _look(self) -> None:
        """Take a newer desired state, if there is one."""
        signed = self._source.newest()
        if signed is None or (signed == self._seen and not (self._retry_at and monotonic() > self._retry_at)):
            return
        self._seen, self._retry_at = signed, 0.0
        try:
            desired, public = state.check(signed, public=self._trusted())
            if desired.endpoint != self._place.endpoint:
                raise Conflict(
                    f"the desired state is for {desired.endpoint!r}",
                    why=f"this server answers for {self._place.endpoint!r}",
                    fix="deploy again",
                )
            if self._serving is not None and desired.generation <= self._serving.generation:
                if desired.generation < self._serving.generation:
                    raise Conflict(
                        f"generation {desired.generation} is older than {self._serving.generation}",
                        why="a server never goes back to an older desired state",
                        fix="deploy again: the next generation will be higher",
                    )
                return
            message = self._route(desired)
        except LooplineError as error:
            self._refuse(error.what)
            self._retry_at = monotonic() + RETRY_S
            return
        self._coming = desired, signed.decode(), public, message
        for worker in self._workers:
            worker.send(message)

    def _trusted(self) -> str | None:
        if self._good.public is not None:
            return self._good.public
        try:
            return SigningKey.load(state.key_name(self._ws.id), create=False).public
        except LooplineError:
            return None  # first use: the key that the document names

    def _refuse(self, why: str) -> None:
        if self._error != why:
            _log.error("%s", why)
        self._error, self._dirty = why, True
        self._ws.wake()

    def _give_up(self, why: str) -> None:
        """Go back to the last good state on every worker."""
        self._coming = None
        self._seq += 1
        self._message = {**self._message, "seq": self._seq}
        for worker in self._workers:
            worker.send(self._message)
        self._refuse(why)

    def _all_loaded(self) -> bool:
        return bool(self._workers) and all(w.loaded >= self._message["seq"] for w in self._workers)

    def _commit(self) -> None:
        """Every worker serves what was coming."""
        assert self._coming is not None
        desired, signed, public, self._message = self._coming
        self._coming, self._serving, self._error = None, desired, None
        self._applied_at = self._clock()
        self._good.signed, self._good.public = signed, public
        if self._good.salt != desired.salt:
            self._good.rolled_back = self._good.reason = self._good.salt = None
        self._begin_watch(desired)
        self._bundles.keep_only(set(self._message["bundles"]))
        self._remember()
        self._write(force=True)
        self._ws.wake()

    def _begin_watch(self, desired: DesiredState) -> None:
        effective = self._good.effective(desired)
        canary = next((v for v in effective.variants if v.role == "canary"), None)
        if canary is None:
            if self._good.rolled_back is None:
                self._watch = None
            return
        champion = next(v for v in effective.variants if v.role == "champion")
        release = f"{desired.salt}:{canary.version}:{champion.version}"
        if self._watch is not None and self._watch.release == release:
            self._watch.step(desired.generation)
        else:
            self._watch = Watch(release, desired.generation, desired.guardrails, self._slack)
        self._verdict = self._watch.verdict

    # Workers

    def _start_worker(self) -> None:
        worker = WorkerProcess(self._place, self._listener)
        self._workers.append(worker)
        self._selector.register(worker.line, selectors.EVENT_READ, lambda: self._listen(worker))
        worker.send(self._message)
        if self._coming is not None:
            worker.send(self._coming[3])

    def _listen(self, worker: WorkerProcess) -> None:
        messages = worker.receive()
        if messages is None:
            self._selector.unregister(worker.line)
            self._workers.remove(worker)
            worker.process.kill()
            worker.await_end(1.0)
            worker.door.unlink(missing_ok=True)
            code = worker.process.returncode
            _log.warning("worker %d is gone (%s); starting another", worker.process.pid, code)
            self._restarts = [t for t in self._restarts if monotonic() - t < 30.0] + [monotonic()]
            self._restart_at = monotonic() + min(0.05 * 2 ** len(self._restarts) - 0.1, SLOWEST_RESTART_S)
            if self._coming is not None and len(self._restarts) > 2:
                self._give_up(f"workers die when they load generation {self._coming[0].generation}")
            return
        for message in messages:
            self._hear(worker, message)

    def _hear(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        if "seq" in message:
            self._hear_load(worker, message)
        else:
            self._hear_counts(message["generation"], message["counts"])

    def _hear_load(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        coming = self._coming[3]["seq"] if self._coming else None
        if "error" in message:
            if message["seq"] == coming:
                self._give_up(f"generation {self._coming[0].generation} cannot be loaded: {message['error']}")  # type: ignore[index]
            else:
                self._refuse(f"the last good state cannot be loaded: {message['error']}")
            return
        worker.loaded = message["seq"]
        self._slack = message.get("slack", 0.0)
        if coming is not None and len(self._workers) == self._count and all(w.loaded >= coming for w in self._workers):
            self._commit()
        self._dirty = True

    def _mind_workers(self) -> None:
        if len(self._workers) < self._count and monotonic() >= self._restart_at and not self._stopping:
            self._start_worker()

    # Evidence

    def _hear_counts(self, generation: int, counts: dict[str, Any]) -> None:
        totals = self._good.totals
        for name in ("requests", "rows", "refused", "fallbacks", "failed", "unlogged", "shadows_dropped", "latency_us"):
            totals[name] = totals.get(name, 0) + counts[name]
        self._dirty = True
        if counts["unlogged"]:
            self._refuse("answers could not be logged: is the disk full?")
        serving = self._serving
        if self._watch is None or serving is None or generation != serving.generation or self._good.rolled_back:
            return
        for block in counts["blocks"]:
            self._watch.update(*block)
        verdict = self._watch.verdict
        if verdict == "worse":
            self._roll_back()
        elif verdict != self._verdict:
            self._verdict = verdict
            self._remember()
            self._write(force=True)
            self._ws.wake()

    def _roll_back(self) -> None:
        """Give the canary's traffic to the champion now; the control plane may be dead."""
        assert self._watch is not None and self._serving is not None
        serving = self._serving
        canary = next(v for v in serving.variants if v.role == "canary")
        worst = max(self._watch.found, key=lambda g: g.worse)
        self._good.rolled_back, self._good.salt = canary.version, serving.salt
        self._good.reason = (
            f"{worst.name}: {worst.canary_bad} of {worst.canary_n} rows of the canary against "
            f"{worst.champion_bad} of {worst.champion_n} of the champion (evidence {worst.worse:.3g})"
        )
        self._verdict = "worse"
        self._message = self._route(serving)
        for worker in self._workers:
            worker.send(self._message)
        if self._coming is not None:  # it was prepared before this was known
            self._coming, self._seen = None, None
        self._remember()
        self._write(force=True)
        _log.warning("rolled back %s: %s", canary.version, self._good.reason)
        self._ws.wake()

    # What others read

    def _remember(self) -> None:
        self._good.watch = None if self._watch is None else self._watch.to_doc()
        self._remember_at = monotonic() + REMEMBER_S
        try:
            self._good.write(self._memory)
        except OSError as error:
            self._refuse(f"the state cannot be kept: {error.strerror}")

    def _write(self, *, force: bool = False) -> None:
        if not (self._dirty or force):
            return
        if monotonic() > self._remember_at and not force:
            self._remember()
        self._dirty = False
        with suppress(OSError):  # a full disk does not stop the answers
            state.write_status(self._place, self.status())
            totals = {f"{name}_total": count for name, count in self._good.totals.items()}
            doc = {**totals, "generation": self._serving.generation if self._serving else 0}
            doc["workers"] = len(self._workers)
            state.write_atomic(self._place.folder / "metrics.json", json.dumps(doc).encode(), durable=False)

    def status(self) -> EndpointStatus:
        """What is served now."""
        serving = self._serving
        return EndpointStatus(
            endpoint=self._place.endpoint,
            generation=serving.generation if serving else 0,
            applied_at=self._applied_at,
            serving=self._good.effective(serving).variants if serving else (),
            guardrails=self._watch.found if self._watch else (),
            rolled_back=self._good.rolled_back,
            reason=self._good.reason,
            requests=self._good.totals.get("requests", 0),
            error=self._error,
        )
