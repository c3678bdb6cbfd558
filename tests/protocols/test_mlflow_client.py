"""The stock mlflow client, in an environment of its own, does what its users do with it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.docs.pages import free_pair
from tests.protocols.tracking import API, FILES, Served, served, until

from loopline.workspace import create_workspace

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "clients"
SCENARIOS = {"mlflow_scenario.py": 21, "mlflow_traces_scenario.py": 14}
"""What users do, and how many features each list has."""
CLIENTS = ROOT / ".clients"
NEWEST, OLDER = "mlflow", sorted(path.name for path in CLIENTS.glob("mlflow-*"))
LOOPLINE = str(Path(sys.executable).parent / "loopline")
TOKEN = "a-token-of-good-length"
READY_S, IDLE_BYTES = 2.0, 150 * 1024 * 1024


@pytest.fixture(scope="module")
def track(tmp_path_factory):
    """`loopline track` on a free port: its address, its process, and how many CPU seconds it took to be ready."""
    folder, port = tmp_path_factory.mktemp("track"), free_pair()
    command = [LOOPLINE, "track", "--json", "--port", str(port), "--workspace", "ws"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    used = psutil.Process(process.pid).cpu_times()
    yield told["tracking"], process, used.user + used.system
    process.terminate()
    assert process.wait(20) in (0, -15)
    process.stdout.close()


def test_it_is_ready_soon_and_idles_in_little_memory(track):
    _, process, used = track
    assert used < READY_S
    time.sleep(0.2)
    assert psutil.Process(process.pid).memory_full_info().pss < IDLE_BYTES


def test_it_loads_no_engine_that_it_does_not_need():
    heavy = ["polars", "numpy", "pandas", "lightgbm", "sklearn", "deltalake", "onnxruntime", "sqlalchemy", "jinja2"]
    program = (
        "import sys; from loopline.interfaces import track; from loopline.interfaces.asgi import tracking; "
        f"sys.exit(' '.join(set({heavy}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def python_of(client: str) -> Path:
    """The Python of a client's environment; without it the test is skipped, or fails where nothing may be."""
    python = CLIENTS / client / "bin" / "python"
    if not python.exists():
        said = f"the client is missing; type: make env-clients (no {python})"
        if os.environ.get("REQUIRE") == "all":
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    return python


@pytest.fixture(scope="module")
def python() -> Path:
    return python_of(NEWEST)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("client", [NEWEST, *OLDER])
def test_the_stock_client_does_all_that_its_users_do(client, scenario, track):
    python = python_of(client)
    done = subprocess.run([python, HERE / scenario, track[0]], capture_output=True, text=True, timeout=250, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    wrong = {one["feature"]: one["wrong"] for one in told[1:] if one["wrong"]}
    assert wrong == {}, "\n".join(wrong.values())
    assert done.returncode == 0 and len(told) == SCENARIOS[scenario] + 1, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("environment", "user"),
    [
        ({"MLFLOW_TRACKING_TOKEN": TOKEN}, None),
        ({"MLFLOW_TRACKING_USERNAME": "grace", "MLFLOW_TRACKING_PASSWORD": TOKEN}, "grace"),
        ({"MLFLOW_TRACKING_TOKEN": "another-of-good-length"}, "refused"),
    ],
)
def test_the_stock_client_brings_a_token(environment, user, tmp_path, python):
    program = (
        "import mlflow, sys; mlflow.set_tracking_uri(sys.argv[1]); "
        "print(mlflow.MlflowClient().create_run('0').info.user_id)"
    )
    ws = create_workspace(tmp_path / "ws", actor="user:machine")
    with served(ws, token=TOKEN) as door:
        done = subprocess.run(
            [python, "-c", program, f"http://127.0.0.1:{door.port}"],
            capture_output=True,
            text=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **environment},
            check=False,
        )
    ws.close()
    if user == "refused":
        assert done.returncode != 0 and "UNAUTHENTICATED" in done.stderr, done.stderr
    else:
        assert done.stdout.strip() == (user or "machine"), done.stderr


def test_what_was_acknowledged_outlives_a_server_that_is_killed(tmp_path):
    command, port = [LOOPLINE, "track", "--json", "--workspace", "ws"], free_pair()

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen([*command, "--port", str(port)], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline()
        return process

    process, door = start(), Served(port)
    run, answered = door.run(), 0
    killing = threading.Timer(0.5, process.kill)
    killing.start()
    with suppress(OSError, http.client.HTTPException):
        while True:
            at = answered
            told = door.call("runs/log-metric", run_id=run, key="m", value=at, timestamp=at, step=at)
            sent = door.send("PUT", f"{FILES}/0/{run}/artifacts/{at}", b"%d" % at)
            assert (told.status, sent.status) == (200, 200)
            answered += 1
    process.wait(10)
    again = start()
    found = door.send("GET", f"{API}metrics/get-history?run_id={run}&metric_key=m").json["metrics"]
    assert answered > 10 and [m["step"] for m in found][:answered] == list(range(answered))
    for at in range(answered):
        assert door.send("GET", f"{FILES}/0/{run}/artifacts/{at}").body == b"%d" % at
    again.terminate()
    again.wait(20)
    for one in (process, again):
        assert one.stdout is not None
        one.stdout.close()


def test_it_ends_in_order_while_a_client_is_connected(tmp_path):
    port = free_pair()
    command = [LOOPLINE, "track", "--port", str(port), "--workspace", "ws"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and "runs of ws" in process.stdout.readline()
    with socket.create_connection(("127.0.0.1", port)):
        process.terminate()
        until(lambda: process.poll() is not None, 15)
    process.stdout.close()
    assert (tmp_path / "ws" / "runs.db").exists()
