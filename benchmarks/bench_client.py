"""The client's hot path: calls of log_metric from one thread, against the bare append that no logger can beat.

CPU is that of the whole process until all points are in the store of a workspace, so that what the
client's own threads do with each point is counted; `calls_per_s_thread` is of the calling thread alone.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import line

import loopline
from loopline.workspace import open_workspace

POINTS, TARGET = 1_000_000, 500_000


def of_calls(call: Callable[[str, float, int], object], n: int) -> tuple[float, float, float]:
    """Wall, thread CPU and process CPU seconds of `n` calls."""
    wall, thread, process = time.perf_counter(), time.thread_time(), time.process_time()
    for step in range(n):
        call("train/loss", 0.25, step)
    return time.perf_counter() - wall, time.thread_time() - thread, time.process_time() - process


def ours(folder: Path) -> dict[str, float]:
    run = loopline.start_run("bench", to=folder, capture=False)
    wall, thread, process = of_calls(run.log_metric, POINTS)
    before = time.process_time()
    assert run.settle(120)
    rest = time.process_time() - before
    spool = sum(path.stat().st_size for path in (Path.cwd() / ".loopline/spool").glob("*.frames")) / POINTS
    assert run.finish()
    ws = open_workspace(folder)
    assert ws.runs.chart(run.id, "train/loss").points == POINTS
    ws.close()
    return {"wall": wall, "thread": thread, "process": process + rest, "spool": spool}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        append = [].append
        best = min((ours(Path(name) / f"ws{at}") for at in range(3)), key=lambda one: one["process"])
        bare = min(of_calls(lambda key, value, step: append((key, value, step)), POINTS)[1] for _ in range(3))
        line(
            "client-log-metric",
            POINTS / best["process"],
            POINTS / bare,
            "calls_per_cpu_s",
            f">= {TARGET}",
            ok=best["process"] <= POINTS / TARGET,
            digits=0,
            calls_per_s_thread=round(POINTS / best["thread"]),
            calls_per_s_wall=round(POINTS / best["wall"]),
            spool_bytes_per_point=round(best["spool"], 1),
        )
