"""Several steps at once, in processes that are kept for the next."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

from loopline.base.errors import Unavailable
from loopline.compute.process import Child
from loopline.compute.spec import StepSpec

_Job = tuple[StepSpec, float | None, bool, Future[dict[str, Any]]]


class Pool:
    """`workers` fresh processes that share the steps they are given.

    A process is started when there is work for it, used again, and replaced
    when a step has killed it. All end with the pool, and with its caller.

    Parameters
    ----------
    workspace : Path
        The folder of the workspace.
    workers : int, optional
        How many steps run at once; the machine's cores by default.
    polite : bool
        Whether everything else on the machine goes first.
    """

    def __init__(self, workspace: Path, *, workers: int | None = None, polite: bool = False) -> None:
        self._workspace, self._polite = workspace, polite
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock, self._stopped = threading.Lock(), False
        self._children: set[Child] = set()
        self.workers = workers or os.cpu_count() or 1
        self._threads = [
            threading.Thread(target=self._work, name=f"step-{number}", daemon=True) for number in range(self.workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, spec: StepSpec, *, timeout_s: float | None = None, fresh: bool = False) -> Future[dict[str, Any]]:
        """Have a step run as soon as a process is free; a `fresh` one in a process that has run nothing before."""
        future: Future[dict[str, Any]] = Future()
        self._jobs.put((spec, timeout_s, fresh, future))
        return future

    def map(self, specs: Iterable[StepSpec], *, timeout_s: float | None = None) -> list[dict[str, Any]]:
        """The results of all steps, in their order; the first error, once all have ended, otherwise."""
        futures = [self.submit(spec, timeout_s=timeout_s) for spec in specs]
        for future in futures:
            future.exception()
        return [future.result() for future in futures]

    def close(self) -> None:
        """Let what was submitted end, then end the processes."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """End the processes now; steps that run or wait are given up."""
        with self._lock:
            self._stopped = True
            for child in self._children:
                child.kill()
        self.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        child: Child | None = None
        try:
            while (job := self._jobs.get()) is not None:
                spec, timeout_s, fresh, future = job
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    if child is not None and (fresh or not child.alive):
                        self._ended(child)
                        child = None
                    if child is None:
                        child = self._started()
                    future.set_result(child.run(spec, timeout_s=timeout_s))
                except BaseException as error:
                    future.set_exception(error)
        finally:
            if child is not None:
                self._ended(child)

    def _started(self) -> Child:
        with self._lock:
            if self._stopped:
                raise Unavailable(
                    "the pool was stopped", why="whoever asked for the step gave it up", fix="run it again"
                )
            child = Child(self._workspace, polite=self._polite)
            self._children.add(child)
            return child

    def _ended(self, child: Child) -> None:
        with self._lock:
            self._children.discard(child)
            child.close()
