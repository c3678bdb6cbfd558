"""Steps on this machine: in threads of this process, or in a pool of processes."""

from __future__ import annotations

import importlib
import queue
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from loopline.compute.devices import devices
from loopline.compute.pool import Pool
from loopline.compute.process import run_step
from loopline.compute.protocol import Needs
from loopline.compute.spec import StepSpec


class Threads:
    """Steps in threads of this process; those that must be killable or untouched in a process of their own."""

    own_process = False

    def __init__(self, workspace: Path, *, workers: int = 1) -> None:
        self.name = "here" if workers == 1 else "threads"
        self.cpus, self.gpus = float(workers), len(devices())
        self._workspace = workspace
        self._jobs: queue.SimpleQueue[tuple[StepSpec, Needs, Future[dict[str, Any]]] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"step-{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, spec: StepSpec, needs: Needs) -> Future[dict[str, Any]]:
        """Have a step run as soon as a thread is free."""
        future: Future[dict[str, Any]] = Future()
        self._jobs.put((spec, needs, future))
        return future

    def close(self) -> None:
        """Take no more steps; one that is running ends with this process."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            spec, needs, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if needs.timeout_s is not None or needs.fresh:
                    result = run_step(spec, workspace=self._workspace, timeout_s=needs.timeout_s)
                else:
                    module, _, name = spec.entrypoint.partition(":")
                    result = getattr(importlib.import_module(module), name)(self._workspace, **spec.args)
                future.set_result(result)
            except BaseException as error:
                future.set_exception(error)


class Processes:
    """Steps in a pool of processes of this machine, kept for the next step."""

    name, own_process = "processes", True

    def __init__(self, workspace: Path, *, workers: int | None = None) -> None:
        self._workspace = workspace
        self._pool = Pool(workspace, workers=workers)
        self.cpus, self.gpus = float(self._pool.workers), len(devices())

    def submit(self, spec: StepSpec, needs: Needs) -> Future[dict[str, Any]]:
        """Have a step run as soon as a process is free, or in one of its own if it needs that."""
        return self._pool.submit(spec, timeout_s=needs.timeout_s, fresh=needs.fresh)

    def close(self) -> None:
        """End the processes."""
        self._pool.stop()
