"""The run log: calls that log, searches over 10,000 runs, charts, and bytes of long series.

Beside the tables that an SQL tracking server keeps (text keys, an index a column, JSON built for each answer) on bare
sqlite3 without an ORM, in the same durability (WAL, NORMAL). CPU of the whole process: compaction in its thread counts.
"""

from __future__ import annotations

import json
import math
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from loopline.store.runs.protocol import Point
from loopline.store.runs.sqlite import SqliteRuns

RUNS, LONG, LONGEST, CALL = 10_000, 1_000_000, 10_000_000, 10_000
TABLES = """
CREATE TABLE runs (id TEXT PRIMARY KEY, experiment INTEGER, name TEXT, start INTEGER, stage TEXT);
CREATE INDEX by_experiment ON runs (experiment);
CREATE TABLE metrics (run TEXT, key TEXT, value REAL, at INTEGER, step INTEGER, nan INTEGER,
    PRIMARY KEY (key, at, step, run, value, nan));
CREATE INDEX metrics_run ON metrics (run);
CREATE INDEX metrics_run_key ON metrics (run, key, at, step);
CREATE TABLE latest (run TEXT, key TEXT, value REAL, at INTEGER, step INTEGER, nan INTEGER, PRIMARY KEY (key, run));
CREATE INDEX latest_run ON latest (run);
CREATE TABLE params (run TEXT, key TEXT, value TEXT, PRIMARY KEY (key, run));
CREATE INDEX params_run ON params (run);
"""
SEARCH = """
SELECT r.id, r.name, r.start FROM runs r
JOIN (SELECT run, value FROM latest WHERE key = 'm0' AND value > 0.5) f ON f.run = r.id
LEFT JOIN (SELECT run, value FROM latest WHERE key = 'm1') o ON o.run = r.id
WHERE r.experiment = 1 AND r.stage = 'active' ORDER BY o.value IS NULL, o.value DESC, r.start DESC, r.id LIMIT 100
"""
NEWEST = """
SELECT id, name, start FROM runs WHERE experiment = 1 AND stage = 'active' ORDER BY start DESC, id LIMIT 100
"""


def cpu(call: Callable[[int], object], n: int, repeats: int = 3) -> float:
    """CPU microseconds of one call, best of a few rounds of `n`."""
    best = math.inf
    for turn in range(repeats):
        start = time.process_time()
        for i in range(n):
            call(turn * n + i)
        best = min(best, time.process_time() - start)
    return best / n * 1e6


def line(bench: str, ours: float, baseline: float, target: float, unit: str = "cpu_us", **more: object) -> None:
    """One JSON line."""
    found = {"bench": bench, "ours": round(ours, 2), "baseline": round(baseline, 2), "unit": unit}
    ratio = round(ours / baseline, 4) if baseline else None
    print(json.dumps(found | {"ratio": ratio, "target": target, "ok": ours <= target} | more), flush=True)


def plain(path: Path) -> sqlite3.Connection:
    """The tables of an SQL tracking server."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.executescript(TABLES)
    return connection


def plain_log(connection: sqlite3.Connection, run: str, points: list[tuple[str, float, int, int]]) -> None:
    """One call, as such a server writes it."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT OR IGNORE INTO metrics VALUES (?, ?, ?, ?, ?, 0)",
        [(run, key, value, at, step) for key, value, at, step in points],
    )
    newest = {key: (run, key, value, at, step) for key, value, at, step in points}
    connection.executemany("INSERT OR REPLACE INTO latest VALUES (?, ?, ?, ?, ?, 0)", list(newest.values()))
    connection.execute("COMMIT")


def plain_page(connection: sqlite3.Connection, sql: str) -> bytes:
    """One page: the runs, what belongs to them, and its JSON."""
    found = []
    for run, name, start in connection.execute(sql).fetchall():
        metrics = connection.execute("SELECT key, value, at, step FROM latest WHERE run = ?", (run,)).fetchall()
        params = connection.execute("SELECT key, value FROM params WHERE run = ?", (run,)).fetchall()
        found.append({"info": {"run_id": run, "name": name, "start": start}, "metrics": metrics, "params": params})
    return json.dumps(found).encode()


def searches(folder: Path) -> None:
    """10,000 runs of five metrics and five params."""
    draw = random.Random(1)
    log, bare = SqliteRuns(folder / "runs.db"), plain(folder / "plain.db")
    experiment = log.create_experiment("bench", at_ms=1).id
    bare.execute("BEGIN")
    start = time.process_time()
    spent = 0.0
    for n in range(RUNS):
        at = draw.randrange(10**12)
        metrics = [(f"m{k}", draw.random(), 1, 0) for k in range(5)]
        params = {f"p{k}": str(draw.random()) for k in range(5)}
        began = time.process_time()
        run = log.create_run(experiment, start_ms=at, name=f"run {n}", user="u", tags={"t": str(n % 7)}).id
        log.log(run, metrics=[Point(*metric) for metric in metrics], params=params)
        log.change_run(run, status="FINISHED", end_ms=at + 1)
        spent += time.process_time() - began
        bare.execute("INSERT INTO runs VALUES (?, 1, ?, ?, 'active')", (run, f"run {n}", at))
        bare.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, 0)", [(run, *metric) for metric in metrics])
        bare.executemany("INSERT INTO latest VALUES (?, ?, ?, ?, ?, 0)", [(run, *metric) for metric in metrics])
        bare.executemany("INSERT INTO params VALUES (?, ?, ?)", [(run, *item) for item in params.items()])
    rest = time.process_time() - start - spent
    bare.execute("COMMIT")
    line(
        "runs-small-run", spent / RUNS * 1e6, rest / RUNS * 1e6, 800, what="create, log 5 + 5, finish; bare: no commits"
    )
    asked = {"filter": "metrics.m0 > 0.5", "order_by": ["metrics.m1 DESC"], "limit": 100}
    first = time.process_time()
    log.search_runs([experiment], **asked)  # type: ignore[arg-type]
    first = time.process_time() - first
    ours = cpu(lambda _: b",".join(log.search_runs([experiment], **asked).items), 100)  # type: ignore[arg-type]
    base = cpu(lambda _: plain_page(bare, SEARCH), 5)
    line("runs-search", ours, base, 2_000, runs=RUNS, first_ms=round(first * 1e3, 1))
    log.search_runs([experiment], limit=100)
    ours = cpu(lambda _: b",".join(log.search_runs([experiment], limit=100).items), 100)
    line("runs-newest", ours, cpu(lambda _: plain_page(bare, NEWEST), 20), 1_000, runs=RUNS)
    log.close()


def calls(folder: Path) -> None:
    """One metric a call; a thousand a call."""
    draw = random.Random(2)
    log, bare = SqliteRuns(folder / "calls.db"), plain(folder / "plain-calls.db")
    run = log.create_run("0", start_ms=1).id
    ours = cpu(lambda i: log.log(run, metrics=[Point("loss", draw.random(), i, i)]), 3_000)
    base = cpu(lambda i: plain_log(bare, run, [("loss", draw.random(), i, i)]), 3_000)
    empty = cpu(lambda i: bare.execute("UPDATE latest SET step = ?", (i,)), 3_000)
    line("runs-metric", ours, base, 50 + empty, commit_alone=round(empty, 1))
    batches = [
        [Point(f"k{j % 10}", draw.random(), i * 100 + j // 10, i * 100 + j // 10) for j in range(1_000)]
        for i in range(150)
    ]
    run = log.create_run("0", start_ms=1).id
    ours = cpu(lambda i: log.log(run, metrics=batches[i]), 50)
    run = log.create_run("0", start_ms=1).id
    base = cpu(lambda i: plain_log(bare, run, [point[:4] for point in batches[i]]), 50)
    line("runs-batch", ours, base, 1_500, points=1_000, keys=10, what="with its share of compaction")
    log.close()


def columns(start: int, n: int, draw: random.Random) -> tuple[bytes, bytes, bytes]:
    """Random doubles, a step and a jittered second apart."""
    values = array("d", [draw.random() for _ in range(n)])
    times = array("q", [10**12 + 1_000 * step + draw.randrange(50) for step in range(start, start + n)])
    return values.tobytes(), times.tobytes(), array("q", range(start, start + n)).tobytes()


def series(folder: Path) -> None:
    """Ten million points: logged, compacted, drawn."""
    draw = random.Random(3)
    path = folder / "series.db"
    log, bare = SqliteRuns(path), plain(folder / "plain-series.db")
    run = log.create_run("0", start_ms=1).id
    plan = [("short", LONG), *((f"k{n}", (LONGEST - LONG) // 4) for n in range(3)), ("long", (LONGEST - LONG) // 4)]
    spent = 0.0
    for key, n in plan:
        for start in range(0, n, CALL):
            packed = {key: columns(start, min(CALL, n - start), draw)}
            began = time.process_time()
            log.log_columns(run, packed)
            spent += time.process_time() - began
    began = time.process_time()
    log.compact(run)
    spent += time.process_time() - began
    log.db.checkpoint()
    n = LONGEST // 50
    began = time.process_time()
    for start in range(0, n, 1_000):
        plain_log(
            bare, run, [("m", draw.random(), 10**12 + 1_000 * step, step) for step in range(start, start + 1_000)]
        )
    base = (time.process_time() - began) / n * 1e6
    line("runs-columns", spent / LONGEST * 1e6, base, 2.0, unit="cpu_us a point", points=LONGEST, points_a_call=CALL)
    bare.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    each, theirs = path.stat().st_size / LONGEST, (folder / "plain-series.db").stat().st_size / n
    line("runs-bytes", each, theirs, 30, unit="bytes a point", points=LONGEST, gb_of_1e8=round(each * 1e8 / 1e9, 2))

    def drawn(key: str) -> float:
        return cpu(lambda _: log.chart(run, key, buckets=320), 20)

    def bare_chart(_: int) -> None:
        rows = bare.execute(
            "SELECT step, value FROM metrics WHERE run = ? AND key = 'm' ORDER BY step", (run,)
        ).fetchall()
        size = len(rows) / 320
        for bucket in range(320):
            part = [value for _, value in rows[int(bucket * size) : int((bucket + 1) * size)]]
            min(part), max(part)

    base = cpu(bare_chart, 1, 2) * LONG / n
    line("runs-chart", drawn("short"), base, 5_000, points=LONG, baseline_from=n)
    line("runs-chart-long", drawn("long"), base * 2.25, 5_000, points=(LONGEST - LONG) // 4, baseline_from=n)
    log.close()


def idle(folder: Path) -> None:
    """Memory that an opened log adds to the interpreter, after a search and a call."""
    told = """
import sys, tempfile
from pathlib import Path
import msgspec, sqlite3, base64, hashlib, json, uuid, threading
def pss():
    return sum(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("Pss:"))
before = pss()
from loopline.store.runs.protocol import Point
from loopline.store.runs.sqlite import SqliteRuns
log = SqliteRuns(Path(sys.argv[1]))
run = log.create_run("0", start_ms=1).id
log.log(run, metrics=[Point("m", 1.0, 1, 1)])
log.search_runs(["0"], order_by=["metrics.m"])
loaded = [name for name in ("numpy", "polars", "sqlalchemy") if name in sys.modules]
assert not loaded, loaded
print((pss() - before) / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", told, str(folder / "idle.db")], check=True, capture_output=True, text=True
    )
    line("runs-idle", float(done.stdout), 370, 20, unit="MiB", what="baseline: a stock tracking server of one worker")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for part in (idle, calls, searches, series):
            part(Path(place))
