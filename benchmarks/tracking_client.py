"""What one tracking client measures against one server: run by a Python that has mlflow; prints one JSON object.

`python tracking_client.py ADDRESS PID`: PID is the server's, whose processor seconds are told beside the rates, those
of its children with them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric

logging.getLogger("mlflow").setLevel(logging.ERROR)
TICK = os.sysconf("SC_CLK_TCK")
SECONDS = float(os.environ.get("BENCH_SECONDS", "4"))
FILLED = "filled"
"""The experiment that was filled before the server started."""


def children(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += children(int(child))
    return found


def cpu_s(pid: int) -> float:
    """Processor seconds of a process and those below it."""
    total = 0.0
    for one in children(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / TICK
    return total


def main() -> None:
    mlflow.set_tracking_uri(sys.argv[1])
    pid, client, told = int(sys.argv[2]), MlflowClient(), dict[str, dict[str, float]]()
    of = client.create_experiment(f"bench {time.time()}")

    def timed(name: str, call: Callable[[int], object], units: int = 1) -> None:
        call(0)
        rounds, used, start = 0, cpu_s(pid), time.perf_counter()
        while rounds < 3 or time.perf_counter() - start < SECONDS:
            rounds += 1
            call(rounds)
        wall = time.perf_counter() - start
        told[name] = {"per_s": units * rounds / wall, "server_cpu_ms": (cpu_s(pid) - used) / rounds * 1000}

    run, now = client.create_run(of).info.run_id, int(time.time() * 1000)
    timed("log_metric", lambda at: client.log_metric(run, "m", at / 7, step=at))
    timed(
        "log_batch",
        lambda at: client.log_batch(
            run, [Metric(f"k{n % 10}", n / 7, now + at * 1000 + n, at * 1000 + n) for n in range(1000)]
        ),
        1000,
    )
    timed("create_finish", lambda at: client.set_terminated(client.create_run(of).info.run_id))

    def small(at: int) -> None:
        with mlflow.start_run(experiment_id=of):
            mlflow.log_params({f"p{n}": n for n in range(5)})
            for n in range(5):
                mlflow.log_metric(f"m{n}", n)
            mlflow.set_tag("a", "b")

    timed("small_run", small)
    with tempfile.TemporaryDirectory() as folder:
        little, large = Path(folder) / "little", Path(folder) / "large"
        little.write_bytes(os.urandom(1000))
        large.write_bytes(os.urandom(1 << 20) * 100)
        timed("small_file", lambda at: client.log_artifact(run, str(little), f"f{at}"))
        timed("upload_mb", lambda at: client.log_artifact(run, str(large), f"g{at}"), 100)
        timed("download_mb", lambda at: client.download_artifacts(run, "g0/large", folder), 100)
    of = client.get_experiment_by_name(FILLED).experiment_id
    ask = {"max_results": 100, "filter_string": "metrics.acc > 0.5", "order_by": ["metrics.loss ASC"]}
    assert len(client.search_runs([of], **ask)) == 100
    timed("search", lambda at: client.search_runs([of], **ask))
    timed("newest", lambda at: client.search_runs([of], max_results=100))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
