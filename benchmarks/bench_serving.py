"""One row through the whole server, beside a common web framework and the bare model call.

LightGBM, 200 trees, 15 inputs, as ONNX. Ours checks the contract and logs every
answer; the baseline is Starlette with a pydantic model on uvicorn and uvloop, with
ranges checked and nothing logged. CPU is that of the one worker process, user and
system. The same client drives both, from the other core.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import line

INPUTS, TREES, ROWS = 15, 200, 30_000
NAMES = [f"x{n}" for n in range(INPUTS)]


def bundle() -> bytes:
    import lightgbm as lgb
    import polars as pl

    from loopline.training.bundle import build_bundle, open_session
    from loopline.training.convert import package
    from loopline.training.encoding import learn

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, INPUTS)).astype(np.float32)
    label = (rows[:, 0] + rows[:, 1] * rows[:, 2] + rng.normal(size=20_000) > 0).astype(int)
    model = lgb.LGBMClassifier(n_estimators=TREES, num_leaves=31, verbose=-1, n_jobs=2).fit(rows, label)
    packed = package(model, NAMES)
    frame = pl.DataFrame(rows, schema=NAMES)
    session = open_session(packed.onnx)
    (out,) = session.run([session.get_outputs()[-1].name], {session.get_inputs()[0].name: rows[:64]})
    return build_bundle(
        inputs=learn(frame, NAMES, ()),
        threshold=0.5,
        model=packed.onnx,
        native={},
        probe=frame.head(64),
        scores=out[:, 1].astype(np.float64),
        about={},
    )


def requests(count: int, *, ids: bool) -> list[Any]:
    from loopline.serving.client import Request

    rng = np.random.default_rng(1)
    rows = rng.normal(size=(2_000, INPUTS)).clip(-3, 3).astype(np.float32)
    mark = time.monotonic_ns()
    docs = [dict(zip(NAMES, map(float, row), strict=True)) for row in rows]
    return [
        Request(docs[n % 2_000], id=f"{mark}-{n}" if ids else None, entity=f"e{n}" if ids else None)
        for n in range(count)
    ]


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drive(port: int, pid: int, connections: int, count: int, *, ids: bool) -> tuple[float, float]:
    """CPU us per request of the server, and requests per second."""
    from loopline.serving.client import Client

    client = Client(port, "bench", connections=connections)
    client.replay(requests(2_000, ids=False))
    work = requests(count, ids=ids)
    cpu, wall = cpu_s(pid), time.perf_counter()
    answers = client.replay(work)
    cpu, wall = cpu_s(pid) - cpu, time.perf_counter() - wall
    assert {a.status for a in answers} == {200}
    return cpu / count * 1e6, count / wall


def baseline(path: str, port: int) -> None:
    """The server to compare with."""
    import uvicorn
    from pydantic import BaseModel, Field, create_model
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from loopline.training.bundle import load_bundle

    made = load_bundle(Path(path))
    fields: Any = {n: (float, Field(ge=-10, le=10)) for n in NAMES}
    row = create_model("Row", **fields)

    class Body(BaseModel):
        rows: list[row]  # type: ignore[valid-type]
        ids: list[str] | None = None
        entities: list[str] | None = None

    async def predict(request: Request) -> JSONResponse:
        body = Body.model_validate(await request.json())
        matrix = np.array([[getattr(r, n) for n in NAMES] for r in body.rows], np.float32)
        ids = body.ids or ["x"] * len(body.rows)
        return JSONResponse({"predictions": made.score(matrix).tolist(), "ids": ids, "version": "v1"})

    app = Starlette(routes=[Route("/predict/bench", predict, methods=["POST"])])
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", log_level="error", access_log=False)


def main() -> None:
    os.environ["LOOPLINE_KEYS"] = tempfile.mkdtemp()
    from loopline import serving
    from loopline.testing.inference import start, variant
    from loopline.training.bundle import read_bundle
    from loopline.workspace import create_workspace

    folder = Path(tempfile.mkdtemp())
    data = bundle()
    (folder / "b.bundle").write_bytes(data)
    ws = create_workspace(folder / ".loopline", actor="user:bench")
    serving.deploy(ws, "bench", variants=(variant(ws, data),), release=serving.ReleaseSpec(), salt="s")
    server = start(ws, "bench")
    port = server.port + 1
    other = subprocess.Popen([sys.executable, __file__, "--baseline", str(folder / "b.bundle"), str(port)])
    try:
        server.wait(1)
        (worker,) = server.workers
        time.sleep(3)
        ours, theirs = [], []
        for _ in range(3):  # in turn, so that a busy moment hits both
            ours.append(drive(server.port, worker, 64, ROWS, ids=True))
            theirs.append(drive(port, other.pid, 64, ROWS // 6, ids=True))
        (cpu, _), (cpu_other, _) = min(ours), min(theirs)
        rate, rate_other = max(r for _, r in ours), max(r for _, r in theirs)
        line(
            "serving-cpu-64",
            cpu,
            cpu_other,
            "CPU us/request",
            "<= 50, <= 1/4 of the baseline",
            ok=cpu <= min(50, cpu_other / 4),
        )
        line("serving-rate-64", rate, rate_other, "requests/s", ">= 10000", ok=rate >= 10_000)
        core, core_other = 1e6 / cpu, 1e6 / cpu_other
        line("serving-rate-core", core, core_other, "requests/CPU s", ">= 15000", ok=core >= 15_000)
        _, single = drive(server.port, worker, 1, 3_000, ids=True)
        _, single_other = drive(port, other.pid, 1, 1_000, ids=True)
        alone, alone_other = 1e6 / single, 1e6 / single_other
        line("serving-latency-1", alone, alone_other, "us/request, 1 connection", "<= 150", ok=alone <= 150)
        model = read_bundle(data)
        row = np.zeros((1, INPUTS), np.float32)
        spent = time.process_time()
        for _ in range(5_000):
            model.score(row)
        bare = (time.process_time() - spent) / 5_000 * 1e6
        line(
            "serving-over-model",
            cpu,
            bare,
            "CPU us, whole request against the bare model call",
            "<= 4 x",
            ok=cpu <= 4 * bare,
        )
        begun = time.perf_counter()
        done = serving.flush(ws, "bench")
        took = time.perf_counter() - begun
        print(f"flush: {done.rows:,} rows in {took:.2f} s", file=sys.stderr)
    finally:
        server.stop()
        other.terminate()
        other.wait()


if __name__ == "__main__":
    if "--baseline" in sys.argv:
        baseline(sys.argv[2], int(sys.argv[3]))
    else:
        main()
