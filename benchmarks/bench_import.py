"""`loopline import mlflow` from the client's SQLite file: long series, many small runs, and again with nothing new.

The file is one that the stock client opens (an export of ours). Beside it, in the same run: that client reading all
of it through its own store (`MLFLOW_ENV`, or `.clients/mlflow-3.17` and older; its search of runs and history of each
metric, nothing written), and bare sqlite3 fetching the same rows, which is the least that any import costs.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any

from measure import line

from loopline.store.runs.protocol import Point
from loopline.training.exchange import export_runs, import_mlflow
from loopline.training.exchange.verbs import mlflow_source
from loopline.workspace import create_workspace

ROOT = Path(__file__).resolve().parent.parent
LONG = (50, 10, 2_000)
SMALL = (2_000, 5, 1)
"""Runs, metrics of each, points of each metric."""
TARGETS = {"long": 6.0, "small": 3_000.0, "again": 1.0}
"""CPU microseconds of a point, of a run; and how much of the first import the second costs."""
READ = """
import sys, time
import mlflow
mlflow.set_tracking_uri("sqlite:///" + sys.argv[1])
client = mlflow.MlflowClient()
client.search_experiments()
start, token, points = time.process_time(), None, 0
while True:
    page = client.search_runs(["1"], max_results=1000, page_token=token)
    for run in page:
        for key in run.data.metrics:
            points += len(client.get_metric_history(run.info.run_id, key))
    token = page.token
    if not token:
        break
print(points, time.process_time() - start)
"""


def python() -> tuple[Path, str] | None:
    """The Python of a stock client with a database, and its version; null where there is none."""
    given = os.environ.get("MLFLOW_ENV")
    for folder in [Path(given)] if given else sorted(ROOT.glob(".clients/mlflow-*"), reverse=True):
        if (found := folder / "bin" / "python").exists():
            asked = [str(found), "-c", "import mlflow; print(mlflow.__version__)"]
            version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
            return found, ".".join(version.split(".")[:2])
    return None


def filled(folder: Path, version: str, runs: int, metrics: int, points: int) -> Path:
    """A database of MLflow with so much in it."""
    ws = create_workspace(folder / "source", actor="user:bench")
    of = ws.runs.create_experiment("filled", at_ms=1).id
    steps, times = array("q", range(points)), array("q", range(10**12, 10**12 + points))
    for at in range(runs):
        run = ws.runs.create_run(of, start_ms=at + 1, name=f"run {at}", tags={f"t{n}": str(at) for n in range(4)}).id
        ws.runs.log(run, params={f"p{n}": str(at % (n + 2)) for n in range(10)})
        if points == 1:
            ws.runs.log(run, metrics=[Point(f"m{n}", at / (n + 1), 1, 0) for n in range(metrics)])
        for n in range(metrics if points > 1 else 0):
            values = array("d", ((at * 7919 + n * step) % 997 / 997 for step in range(points)))
            ws.runs.log_columns(run, {f"m{n}": (values.tobytes(), times.tobytes(), steps.tobytes())})
        ws.runs.change_run(run, status="FINISHED", end_ms=10**12)
    export_runs(ws, folder / "out", experiments=["filled"], version=version)
    ws.close()
    return folder / "out" / "mlflow.db"


def ours(file: Path, folder: Path) -> tuple[float, float, int]:
    """CPU seconds of an import and of the same again, and how many points came."""
    spent, points = [], 0
    for _ in range(2):
        ws = create_workspace(folder / "into", actor="user:bench")
        start = time.process_time()
        with mlflow_source(str(file)) as source:
            came = import_mlflow(ws, source, "bench")
        ws.runs.compact()
        spent.append(time.process_time() - start)
        points += came.points
        ws.close()
    return spent[0], spent[1], points


def bare(file: Path) -> float:
    """CPU seconds of sqlite3 that fetches the rows of runs, params, tags and metrics."""
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    start = time.process_time()
    for (run,) in db.execute("SELECT run_uuid FROM runs ORDER BY start_time").fetchall():
        for table in ("params", "tags"):
            db.execute(f"SELECT key, value FROM {table} WHERE run_uuid = ?", (run,)).fetchall()
        db.execute(
            "SELECT key, value, timestamp, step, is_nan FROM metrics WHERE run_uuid = ? ORDER BY key, timestamp, step",
            (run,),
        ).fetchall()
    spent = time.process_time() - start
    db.close()
    return spent


def theirs(client: Path, file: Path, points: int) -> float:
    """CPU seconds that the stock client takes to read it all."""
    quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run([client, "-c", READ, file], check=True, capture_output=True, text=True, env=quiet)
    seen, spent = done.stdout.split()[-2:]
    assert int(seen) == points, (seen, points)
    return float(spent)


def main() -> None:
    client, version = python() or (None, "3.17")
    for name, (runs, metrics, points) in (("long", LONG), ("small", SMALL)):
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            file = filled(folder, version, runs, metrics, points)
            first, again, came = ours(file, folder)
            assert came == runs * metrics * points
            per = came if name == "long" else runs
            reading = None if client is None else theirs(client, file, came) / per * 1e6
            more: dict[str, Any] = {
                "runs": runs,
                "points": came,
                "reading_alone": round(bare(file) / per * 1e6, 2),
                "mlflow": version,
            }
            unit = "cpu_us a point" if name == "long" else "cpu_us a run"
            line(f"import-{name}", first / per * 1e6, reading, unit, TARGETS[name], digits=2, **more)
            line(f"import-{name}-again", again, first, "cpu_s", round(TARGETS["again"] * first, 4), digits=3)


if __name__ == "__main__":
    main()
