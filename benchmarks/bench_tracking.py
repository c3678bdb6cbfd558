"""The stock mlflow client against `loopline track` and against `mlflow server`, one after the other on one machine.

Both on SQLite, filled with the same 10,000 runs. Ours acknowledges what every process outlives (WAL, NORMAL), theirs
is as shipped (rollback journal, FULL; four workers whose answers wait 40 ms for an acknowledgement). `tuned` is the
best set-up of theirs that is known: two gunicorn workers of eight threads, no job runners. Rates are the client's, in
a loop; most of a call against us is the client's own work. Needs `python3 tools/environment.py client mlflow 3.17`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopline.store.runs.protocol import Point
from loopline.workspace import create_workspace

ROOT = Path(__file__).resolve().parent.parent
CLIENT = Path(os.environ.get("MLFLOW_ENV", ROOT / ".clients" / "mlflow-3.17")) / "bin"
MEASURE = Path(__file__).parent / "tracking_client.py"
RUNS, FILLED = 10_000, "filled"
Told = tuple[dict[str, float], dict[str, dict[str, float]]]
"""Of a server: what it takes to run, and what the client measured."""
TARGETS = {
    "log_metric": 20.0, "log_batch": 6.0, "create_finish": 20.0, "small_run": 15.0, "small_file": 5.0, "upload_mb": 5.0,
    "download_mb": 1.0, "search": 40.0, "newest": 1.0,
}  # fmt: skip
"""How many times theirs as shipped."""
READY_S, IDLE_MB, SEARCH_MS = 2.0, 150.0, 10.0


def rows() -> Iterator[tuple[str, int, dict[str, float], dict[str, str]]]:
    """Runs to fill both with: name, start, metrics, params."""
    for at in range(RUNS):
        metrics = {f"m{n}": ((at * 7919 + n) % 1000) / 1000 for n in range(8)}
        metrics |= {"acc": (at * 31 % 997) / 997, "loss": (at * 17 % 991) / 991}
        yield f"run {at}", 1_000_000 + at, metrics, {f"p{n}": str(at % (n + 2)) for n in range(10)}


def fill_ours(folder: Path) -> None:
    """The runs in a workspace."""
    ws = create_workspace(folder, actor="user:bench")
    log = ws.runs
    of = log.create_experiment(FILLED, at_ms=0).id
    for name, start, metrics, params in rows():
        run = log.create_run(of, start_ms=start, name=name, tags={"a": "b", "mlflow.runName": name}).id
        log.log(run, metrics=[Point(key, value, start, 0) for key, value in metrics.items()], params=params)
    log.compact()
    ws.close()


def fill_theirs(file: Path) -> None:
    """The runs in a database of theirs."""
    subprocess.run([CLIENT / "mlflow", "db", "upgrade", f"sqlite:///{file}"], check=True, capture_output=True)
    db = sqlite3.connect(file)
    place = "mlflow-artifacts:/77"
    db.execute("INSERT INTO experiments VALUES (77, ?, ?, 'active', 0, 0, 'default')", (FILLED, place))
    for at, (name, start, metrics, params) in enumerate(rows()):
        run = f"{at:032x}"
        db.execute(
            "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, lifecycle_stage, artifact_uri,"
            " experiment_id) VALUES (?, ?, 'UNKNOWN', 'bench', 'RUNNING', ?, 'active', ?, 77)",
            (run, name, start, f"{place}/{run}/artifacts"),
        )
        points = [(key, value, start, run) for key, value in metrics.items()]
        tags = {"a": "b", "mlflow.runName": name}
        db.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, 0, 0)", points)
        db.executemany("INSERT INTO latest_metrics VALUES (?, ?, ?, 0, 0, ?)", points)
        db.executemany("INSERT INTO params VALUES (?, ?, ?)", [(key, value, run) for key, value in params.items()])
        db.executemany("INSERT INTO tags VALUES (?, ?, ?)", [(key, value, run) for key, value in tags.items()])
    db.commit()
    db.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def below(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += below(int(child))
    return found


def pss_mb(pid: int) -> float:
    """Memory of a process and those below it, what they share counted once."""
    total = 0
    for one in below(pid):
        text = Path(f"/proc/{one}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


@contextmanager
def serving(command: list[str], port: int, folder: Path, **environment: str) -> Iterator[dict[str, float]]:
    """A server, until the block ends: its pid, how long it took to answer, and its memory when idle."""
    start = time.perf_counter()
    with (folder / "log").open("ab") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=out, start_new_session=True, env={**os.environ, **environment}
        )
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).read()
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - start > 120:
                    sys.exit(f"{command[0]} did not start:\n{(folder / 'log').read_text()[-2000:]}")
                time.sleep(0.02)
        ready = time.perf_counter() - start
        time.sleep(5)
        yield {"pid": process.pid, "ready_s": ready, "idle_mb": pss_mb(process.pid)}
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def measured(port: int, pid: float) -> dict[str, dict[str, float]]:
    """What the client says."""
    address = f"http://127.0.0.1:{port}"
    done = subprocess.run(
        [CLIENT / "python", MEASURE, address, str(int(pid))], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(command: list[str], port: int, folder: Path, **environment: str) -> Told:
    """A server measured."""
    with serving(command, port, folder, **environment) as told:
        return told, measured(port, told["pid"])


def theirs(folder: Path, *more: str, **environment: str) -> Told:
    """Their server measured, in a folder of its own."""
    folder.mkdir()
    fill_theirs(folder / "m.db")
    port = free_port()
    command = [str(CLIENT / "mlflow"), "server", "--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/m.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), *more]
    return one(command, port, folder, **environment)


def line(bench: str, ours: float, baseline: float, unit: str, target: float, ok: bool, **more: float | None) -> None:
    """One JSON line."""
    found = {"bench": bench, "ours": round(ours, 2), "baseline": round(baseline, 2), "unit": unit}
    found |= {"ratio": round(ours / baseline, 3), "target": target, "ok": ok}
    print(json.dumps(found | {name: value for name, value in more.items() if value is not None}), flush=True)


def main() -> None:
    if not (CLIENT / "mlflow").exists():
        sys.exit("mlflow is missing; type: python3 tools/environment.py client mlflow 3.17")
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        (top / "ours").mkdir()
        fill_ours(top / "ours" / "ws")
        port = free_port()
        loopline = str(Path(sys.executable).parent / "loopline")
        us, we = one([loopline, "track", "--port", str(port), "--workspace", "ws"], port, top / "ours")
        them, they = theirs(top / "shipped")
        tuned_options = ("--workers", "2", "--gunicorn-opts", "--threads 8")
        tuned, best = theirs(top / "tuned", *tuned_options, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    for name, target in TARGETS.items():
        ours, baseline, other = we[name], they[name], best[name]
        line(
            f"tracking_{name}",
            ours["per_s"],
            baseline["per_s"],
            "per_s",
            target,
            ours["per_s"] >= target * baseline["per_s"],
            tuned=round(other["per_s"], 2),
            ratio_tuned=round(ours["per_s"] / other["per_s"], 2),
            server_cpu_ms=round(ours["server_cpu_ms"], 2),
            baseline_cpu_ms=round(baseline["server_cpu_ms"], 2),
            tuned_cpu_ms=round(other["server_cpu_ms"], 2),
        )
    cpu, other_cpu = we["search"]["server_cpu_ms"], they["search"]["server_cpu_ms"]
    line("tracking_search_cpu", cpu, other_cpu, "cpu_ms", SEARCH_MS, cpu <= SEARCH_MS)
    for name, unit, most in (("ready_s", "s", READY_S), ("idle_mb", "MB", IDLE_MB)):
        line(f"tracking_{name}", us[name], them[name], unit, most, us[name] <= most, tuned=round(tuned[name], 2))


if __name__ == "__main__":
    main()
