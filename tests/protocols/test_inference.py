"""A real server in processes of its own, on loopback."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from loopline import serving
from loopline.base.clock import monotonic
from loopline.serving.client import Client, Request
from loopline.serving.router import assign
from loopline.serving.state import Place, check
from loopline.testing.inference import Server, linear_bundle, start, variant
from loopline.training.encoding import Input
from loopline.workspace import create_workspace

INPUTS = [
    Input("a", "number", (), False, 0.0, -5.0, 5.0),
    Input("b", "number", (), True, 0.3, -5.0, 5.0),
    Input("kind", "category", ("x", "y"), True, 0.0),
]
EXTRA = Input("extra", "number", (), True, 0.0, 0.0, 1.0)
ROW = {"a": 1.0, "b": None, "kind": "y"}
SCORE = 1 / (1 + np.exp(-1.5))
OLD, NEW = linear_bundle(INPUTS, [1.0, 1.0, 0.5]), linear_bundle(INPUTS, [-1.0, 1.0, 0.5])
WIDER = linear_bundle([*INPUTS, EXTRA], [1.0, 1.0, 0.5, 1.0])


@pytest.fixture
def ws(tmp_path):
    return create_workspace(tmp_path / ".loopline", actor="user:ada")


@pytest.fixture
def servers():
    """Starts servers, and leaves no process behind."""
    started: list[Server] = []

    def begin(ws, **options) -> Server:
        started.append(start(ws, "ep", **options))
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            server.stop()
        for worker in server.workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def deploy(ws, *variants, salt="r1", **options):
    return serving.deploy(ws, "ep", variants=variants, release=serving.ReleaseSpec(), salt=salt, **options)


def requests(count, row=ROW, prefix=""):
    return (Request(row, id=f"{prefix}{n}", entity=f"e{n}") for n in range(count))


def log_ids(ws):
    serving.flush(ws, "ep")
    return serving.predictions(ws, "ep").collect()["prediction_id"].to_list()


class Stream(threading.Thread):
    """A client that goes on sending until told to stop."""

    def __init__(self, port: int, row=ROW, connections: int = 8) -> None:
        super().__init__(daemon=True)
        self.client, self.row, self.sent, self.stopped = Client(port, "ep", connections=connections), row, 0, False
        self.responses = []

    def _requests(self):
        while not self.stopped:
            self.sent += 1
            yield Request(self.row, id=f"s{self.sent}", entity=f"e{self.sent}")

    def run(self):
        self.responses = asyncio.run(self.client.send(self._requests()))

    def reach(self, count):
        end = monotonic() + 30
        while self.sent < count and monotonic() < end and self.is_alive():
            time.sleep(0.01)
        assert self.sent >= count

    def end(self):
        self.stopped = True
        self.join(30)
        return Counter(r.status for r in self.responses)


# One server that only answers


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("LOOPLINE_KEYS", str(tmp_path_factory.mktemp("keys")))
    ws = create_workspace(tmp_path_factory.mktemp("world") / ".loopline", actor="user:ada")
    deploy(ws, variant(ws, OLD), variant(ws, NEW, number=2, share=0, role="shadow"))
    server = start(ws, "ep")
    server.wait(1)
    yield ws, server
    server.stop()
    patch.undo()


@pytest.fixture
def post(world):
    def send(path, body, headers=None):
        status, found, answer = world[1].call("POST", path, body, headers)
        return status, found, json.loads(answer)

    return send


def test_rows_are_answered_with_their_ids_and_version_and_logged_with_a_paired_shadow(world, post):
    ws, server = world
    body = {"rows": [ROW, ROW], "ids": ["p1", "p2"], "entities": ["e1", 7]}
    body["decision_times"] = ["2026-01-01T02:00:00+02:00", None]
    status, _, answer = post("/predict/ep", body)
    assert (status, answer["ids"], answer["version"]) == (200, ["p1", "p2"], server.status.serving[0].version)
    assert answer["predictions"] == pytest.approx([SCORE, SCORE], abs=1e-6)
    time.sleep(0.2)
    serving.flush(ws, "ep")
    rows = {(r["prediction_id"], r["role"]): r for r in serving.predictions(ws, "ep").collect().to_dicts()}
    one, shadow = rows["p1", "champion"], rows["p1", "shadow"]
    assert one["decision_time"].isoformat() == "2026-01-01T00:00:00+00:00"
    assert (one["entity"], one["a"], one["b"], one["kind"], one["missing"]) == ("e1", 1.0, None, "y", 1)
    assert one["decision"] and not shadow["decision"]
    assert rows["p2", "champion"]["entity"] == "7"


def test_a_request_without_ids_gets_some(post):
    first, second = (post("/predict/ep", {"rows": [ROW]})[2]["ids"][0] for _ in range(2))
    assert first and second and first != second


def test_the_same_id_is_one_prediction_in_the_log(world, post):
    ws, _ = world
    for _ in range(3):
        post("/predict/ep", {"rows": [ROW], "ids": ["again"]})
    champion = serving.predictions(ws, "ep")
    serving.flush(ws, "ep")
    champion = serving.predictions(ws, "ep").collect().to_dicts()
    assert [r["role"] for r in champion if r["prediction_id"] == "again"].count("champion") == 1


def test_a_row_that_breaks_the_contract_hard_is_refused_naming_every_rule(post):
    status, _, answer = post("/predict/ep", {"rows": [ROW, {"a": None, "b": "1", "kind": 3}]})
    assert status == 422
    assert "row 1" in answer["error"]
    assert all(rule in answer["error"] for rule in ("null:a", "type:b", "unseen:kind"))
    assert "missing:a" in post("/predict/ep", {"rows": [{}]})[2]["error"]


def test_a_soft_violation_is_answered_and_logged(world, post):
    ws, _ = world
    status, _, _ = post("/predict/ep", {"rows": [{**ROW, "a": 77, "kind": "q"}], "ids": ["soft"]})
    assert status == 200
    serving.flush(ws, "ep")
    rows = serving.predictions(ws, "ep").collect().to_dicts()
    (row,) = [r for r in rows if r["prediction_id"] == "soft" and r["role"] == "champion"]
    assert row["broken"] == ["range:a", "unseen:kind"]


def tensors(**columns):
    kinds = {"a": "FP32", "b": "FP64", "kind": "BYTES"}
    return [{"name": n, "datatype": kinds.get(n, "FP32"), "shape": [len(v)], "data": v} for n, v in columns.items()]


BAD = [
    ("/predict/ep", b""),
    ("/predict/ep", b"{"),
    ("/predict/ep", b"[]"),
    ("/predict/ep", b"null"),
    ("/predict/ep", b"\xff\xfe"),
    ("/predict/ep", b'{"rows": [{"a": NaN}]}'),
    ("/predict/ep", b'{"rows": [{"a": 1e999}]}'),
    ("/predict/ep", {"rows": []}),
    ("/predict/ep", {"rows": {}}),
    ("/predict/ep", {"rows": [1]}),
    ("/predict/ep", {"rows": [None]}),
    ("/predict/ep", {"rows": [ROW], "ids": []}),
    ("/predict/ep", {"rows": [ROW], "ids": [["x"]]}),
    ("/predict/ep", {"rows": [ROW], "ids": ["x" * 600]}),
    ("/predict/ep", {"rows": [ROW], "entities": ["a", "b"]}),
    ("/predict/ep", {"rows": [ROW], "decision_times": ["2026-01-01T00:00:00"]}),
    ("/predict/ep", {"rows": [ROW], "decision_times": ["soon"]}),
    ("/predict/ep", {"rows": [ROW], "rwos": 1}),
    ("/predict/ep", {"rows": [{"a": {"deep": 1}}]}),
    ("/predict/ep", {"rows": [{"a": [1, 2]}]}),
    ("/predict/ep", {"rows": [{}] * 10_001}),
    ("/predict/ep", b'{"rows": [' + b"[" * 5000 + b"]" * 5000 + b"]}"),
    ("/predict/other", {"rows": [ROW]}),
    ("/predict/ep/more", {"rows": [ROW]}),
    ("/invocations", {}),
    ("/invocations", {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}),
    ("/invocations", {"inputs": {"a": [1], "b": []}}),
    ("/v2/models/ep/infer", b"{"),
    ("/v2/models/ep/infer", {}),
    ("/v2/models/ep/infer", {"inputs": []}),
    ("/v2/models/other/infer", {"inputs": tensors(a=[1.0])}),
    ("/v2/models/ep/versions/9/infer", {"inputs": tensors(a=[1.0])}),
    ("/v2/models/ep/infer", {"inputs": tensors(a=[1.0], b=[1.0, 2.0])}),
    ("/v2/models/ep/infer", {"inputs": tensors(a=["text"])}),
    ("/v2/models/ep/infer", {"inputs": tensors(zz=[1.0])}),
    ("/v2/models/ep/infer", {"inputs": [{"name": "a", "datatype": "FP32", "shape": [3], "data": [1.0]}]}),
    ("/v2/models/ep/infer", {"inputs": [{"name": "a", "datatype": "FP32", "shape": [-1], "data": [1.0]}]}),
    ("/v2/models/ep/infer", {"inputs": [{"name": "a", "datatype": "FP32", "shape": [], "data": [1.0]}]}),
    ("/v2/models/ep/infer", {"inputs": [{"name": "a", "datatype": "WAT", "shape": [1], "data": [1.0]}]}),
    ("/v2/models/ep/infer", {"inputs": tensors(a=[1.0]), "outputs": [{"name": "nope"}]}),
    ("/v2/models/ep/infer", {"inputs": tensors(a=[1.0]), "parameters": {"decision_time": "soon"}}),
    ("/v2/models/ep/infer", {"inputs": tensors(a=[1.0]) * 2}),
]


@pytest.mark.parametrize(("path", "body"), BAD, ids=range(len(BAD)))
def test_bad_input_gets_a_clean_4xx_that_says_why(post, path, body):
    status, headers, answer = post(path, body)
    assert 400 <= status < 500
    assert headers["content-type"] == "application/json"
    assert list(answer) == ["error"] and answer["error"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"no gzip", {"content-encoding": "gzip"}),
        (gzip.compress(json.dumps({"rows": [ROW]}).encode())[:-9], {"content-encoding": "gzip"}),
        (gzip.compress(b" " * 40_000_000), {"content-encoding": "gzip"}),
        (b"{}", {"content-encoding": "br"}),
        (json.dumps({"rows": [ROW]}).encode(), {"origin": "https://evil.example"}),
        (json.dumps({"rows": [ROW]}).encode(), {"origin": "http://evil.example:80", "host": "evil.example:80"}),
        (json.dumps({"rows": [ROW]}).encode(), {"sec-fetch-site": "cross-site"}),
        (b" " * 33_000_000, {}),
    ],
    ids=range(8),
)
def test_bad_bodies_get_a_clean_4xx(post, body, headers):
    status, _, answer = post("/predict/ep", body, headers)
    assert 400 <= status < 500 and answer["error"]


def test_bad_http_and_wrong_methods_get_a_clean_4xx(world):
    _, server = world
    for raw in (b"rubbish\r\n\r\n", b"POST /predict/ep HTTP/1.1\r\ncontent-length: -4\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), 5) as door:
            door.sendall(raw)
            answer = door.recv(4096)
        assert answer.startswith(b"HTTP/1.1 400") and b'{"error":' in answer
    for method, path in (("GET", "/predict/ep"), ("DELETE", "/v2/models/ep"), ("POST", "/metrics"), ("GET", "/x")):
        status, _, answer = server.call(method, path)
        assert 400 <= status < 500 and "error" in json.loads(answer)


def test_pipelined_requests_are_answered_in_their_order_whichever_way_they_take(world):
    _, server = world
    body = json.dumps({"rows": [ROW], "ids": ["%d"]})
    raw, kinds = b"", "pgpppgpgg"
    for n, kind in enumerate(kinds):
        data = (body % n).encode()
        post = f"POST /predict/ep HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data
        raw += post if kind == "p" else b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 5) as door:
        door.sendall(raw)
        found = b""
        while found.count(b"HTTP/1.1 200") < len(kinds) or not found.endswith(b"}"):
            found += door.recv(65536)
    seen = "".join("p" if b"predictions" in part else "g" for part in found.split(b"HTTP/1.1 200")[1:])
    assert seen == kinds
    assert [n for n in range(len(kinds)) if f'"ids":["{n}"]'.encode() in found] == [
        n for n, kind in enumerate(kinds) if kind == "p"
    ]


def test_gzip_and_expect_100_are_understood(world):
    _, server = world
    body = gzip.compress(json.dumps({"rows": [ROW]}).encode())
    assert server.call("POST", "/predict/ep", body, {"content-encoding": "gzip"})[0] == 200
    assert server.call("POST", "/predict/ep", {"rows": [ROW]}, {"expect": "100-continue"})[0] == 200


def test_the_open_inference_protocol_carries_ids_and_answers_as_metadata_promises(world, post):
    ws, server = world
    meta = json.loads(server.call("GET", "/v2/models/ep")[2])
    assert [(i["name"], i["datatype"]) for i in meta["inputs"]] == [("a", "FP32"), ("b", "FP32"), ("kind", "BYTES")]
    body = {
        "id": "oip-1",
        "inputs": tensors(a=[1.0], b=[None], kind=["y"]),
        "parameters": {"entity": "e9", "decision_time": "2026-02-01T00:00:00Z"},
    }
    for path in ("/v2/models/ep/infer", "/v2/models/ep/versions/1/infer"):
        status, _, answer = post(path, body)
        assert (status, answer["model_name"], answer["model_version"], answer["id"]) == (200, "ep", "1", "oip-1")
        outputs = {o["name"]: o for o in answer["outputs"]}
        assert outputs["score"]["data"] == pytest.approx([SCORE], abs=1e-6)
        assert (outputs["decision"]["data"], outputs["score"]["shape"]) == ([True], [1])
        assert [(o["name"], o["datatype"]) for o in answer["outputs"]] == [
            (o["name"], o["datatype"]) for o in meta["outputs"]
        ]
    serving.flush(ws, "ep")
    rows = serving.predictions(ws, "ep").collect().to_dicts()
    (row,) = [r for r in rows if r["prediction_id"] == "oip-1" and r["role"] == "champion"]
    assert row["entity"] == "e9" and row["decision_time"].month == 2


def test_the_binary_extension_gives_the_same_answers(world):
    _, server = world
    texts = b"".join(struct.pack("<I", len(t)) + t for t in (b"y", b"x"))
    parts = [np.array([1, 2], "<f4").tobytes(), np.array([np.nan, 1], "<f8").tobytes(), texts]
    names = [("a", "FP32"), ("b", "FP64"), ("kind", "BYTES")]
    inputs = [
        {"name": n, "datatype": k, "shape": [2, 1], "parameters": {"binary_data_size": len(p)}}
        for (n, k), p in zip(names, parts, strict=True)
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    status, found, answer = server.call("POST", "/v2/models/ep/infer", head + b"".join(parts), headers)
    size = int(found["inference-header-content-length"])
    scores = np.frombuffer(answer[size : size + 16], "<f8")
    assert status == 200
    assert scores == pytest.approx([SCORE, 1 / (1 + np.exp(-3.0))], abs=1e-6)
    for wrong in (head + b"".join(parts)[:-1], head + b"".join(parts) + b"x"):
        status, _, answer = server.call("POST", "/v2/models/ep/infer", wrong, headers)
        assert status == 400 and json.loads(answer)["error"]


def test_the_stock_client_gets_its_answer_by_its_default_call(world, require):
    require("tritonclient")
    import tritonclient.http as triton

    client = triton.InferenceServerClient(f"127.0.0.1:{world[1].port}")
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("ep")
    assert client.get_model_metadata("ep")["name"] == "ep"
    inputs = [triton.InferInput("a", [1], "FP32"), triton.InferInput("kind", [1], "BYTES")]
    inputs[0].set_data_from_numpy(np.array([1.0], np.float32))
    inputs[1].set_data_from_numpy(np.array([b"y"], object))
    result = client.infer("ep", inputs, request_id="t1")
    assert result.as_numpy("score") == pytest.approx([SCORE], abs=1e-6)


def test_health_metrics_ping_and_invocations_answer(world, post):
    _, server = world
    for path in ("/health", "/ping", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/ep/ready"):
        assert server.call("GET", path)[0] == 200
    split = {"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())]}}
    for body in (
        split,
        {"instances": [ROW]},
        {"dataframe_records": [ROW]},
        {"inputs": {k: [v] for k, v in ROW.items()}},
    ):
        assert post("/invocations", body)[2]["predictions"] == pytest.approx([SCORE], abs=1e-6)
    end = monotonic() + 5
    while b"loopline_requests_total" not in server.call("GET", "/metrics")[2] and monotonic() < end:
        time.sleep(0.05)
    assert b'loopline_generation{endpoint="ep"} 1' in server.call("GET", "/metrics")[2]


def test_a_second_supervisor_and_a_port_in_use_are_one_clear_error(world, ws):
    busy, server = world
    command = [sys.executable, "-m", "loopline.interfaces.inference", "--endpoint=ep"]
    twice = subprocess.run([*command, f"--workspace={busy.root}", "--port=0"], capture_output=True, text=True)
    taken = subprocess.run(
        [*command, f"--workspace={ws.root}", f"--port={server.port}"], capture_output=True, text=True
    )
    other = subprocess.run([*command, f"--workspace={ws.root}", "--host=0.0.0.0"], capture_output=True, text=True)
    assert (twice.returncode, taken.returncode, other.returncode) == (1, 1, 1)
    assert "served already" in twice.stderr and "is in use" in taken.stderr and "127.0.0.1" in other.stderr
    assert "Traceback" not in twice.stderr + taken.stderr + other.stderr


# Servers that something happens to


def test_new_versions_are_taken_under_load_without_one_error(ws, servers):
    old, new = variant(ws, OLD), variant(ws, NEW, number=2)
    deploy(ws, old)
    server = servers(ws, workers=2)
    server.wait(1)
    stream = Stream(server.port)
    stream.start()
    for generation in range(2, 6):
        stream.reach(stream.sent + 500)
        deploy(ws, new if generation % 2 == 0 else old, salt=f"r{generation}")
        server.wait(generation)
    stream.reach(stream.sent + 500)
    assert set(stream.end()) == {200}
    assert {r.version for r in stream.responses} == {old.version, new.version}
    assert sorted(log_ids(ws)) == sorted(f"s{n + 1}" for n in range(stream.sent))


def test_a_killed_worker_is_replaced_and_every_answer_is_in_the_log_once(ws, servers):
    deploy(ws, variant(ws, OLD))
    server = servers(ws, workers=2)
    server.wait(1)
    stream = Stream(server.port)
    stream.start()
    for _ in range(3):
        stream.reach(stream.sent + 300)
        before = server.workers
        os.kill(before[0], signal.SIGKILL)
        end = monotonic() + 20
        while monotonic() < end and len(set(server.workers) - set(before)) < 1:
            time.sleep(0.02)
    stream.reach(stream.sent + 300)
    assert set(stream.end()) == {200}
    assert sorted(log_ids(ws)) == sorted(f"s{n + 1}" for n in range(stream.sent))


def ended(pid: int) -> bool:
    """Whether a process ends within a few seconds; one that its parent has not buried yet has ended."""
    for _ in range(100):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_without_its_supervisor_and_without_the_records_serving_goes_on(ws, servers):
    deploy(ws, variant(ws, OLD))
    server = servers(ws)
    server.wait(1)
    stream = Stream(server.port)
    stream.start()
    stream.reach(300)
    server.process.kill()
    server.process.wait()
    orphans = server.workers
    stream.reach(stream.sent + 300)
    ws.close()
    for path in ws.root.glob("records.db*"):
        path.unlink()
    for blob in ws.blobs:
        ws.blobs.delete(blob)
    Place(ws.root, "ep").desired.unlink()
    again = servers(ws, port=server.port)
    again.until(lambda s: s.generation == 1 and not set(orphans) & set(again.workers) and len(again.workers) == 1)
    stream.reach(stream.sent + 300)
    assert set(stream.end()) == {200}
    assert again.stop() == 0
    log = serving.predictions(ws, "ep").collect()
    assert sorted(log["prediction_id"]) == sorted(f"s{n + 1}" for n in range(stream.sent))
    assert all(ended(pid) for pid in orphans)


def test_a_bad_canary_rolls_back_by_itself_and_stays_out_until_a_new_release(ws, servers):
    old = variant(ws, OLD, share=8_000)
    canary = variant(ws, WIDER, number=2, share=2_000, role="canary")
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    (ws.root / "run").mkdir(exist_ok=True)
    os.chdir(ws.root / "run")
    bell.bind("wake.sock")
    bell.settimeout(10)
    deploy(ws, old, canary)
    server = servers(ws)
    server.wait(1)
    assert bell.recv(8) == b"1"
    rng = np.random.default_rng(0)
    rows = [{**ROW, "extra": None if rng.random() < 0.9 else 0.5} for _ in range(2_000)]
    sent = [Request(row, id=f"r{n}", entity=f"e{n}") for n, row in enumerate(rows)]
    responses = Client(server.port, "ep").replay(sent)
    assert {r.status for r in responses} == {200}
    status = server.until(lambda s: s.rolled_back)
    assert bell.recv(8) == b"1"
    bell.close()
    assert status.rolled_back == canary.version and status.reason.startswith("missing")
    assert [v.share for v in status.serving] == [10_000]
    assert {g.name for g in status.guardrails if g.verdict == "worse"} == {"missing"}
    assert {r.version for r in Client(server.port, "ep").replay(requests(300, prefix="after"))} == {old.version}
    log = serving.predictions(ws, "ep")
    serving.flush(ws, "ep")
    log = serving.predictions(ws, "ep").collect().to_dicts()
    desired = check(Place(ws.root, "ep").desired.read_bytes(), public=None)[0]
    for row in log:
        if row["version"] == canary.version:
            assert assign(desired.variants, "r1", row["entity"]).version == canary.version
            assert row["role"] == "canary" and row["chance"] == pytest.approx(0.2)

    server.process.kill()
    server.process.wait()
    again = servers(ws, port=server.port)
    again.until(lambda s: s.rolled_back == canary.version)
    deploy(ws, variant(ws, OLD, share=5_000), variant(ws, WIDER, number=2, share=5_000, role="canary"))
    assert again.wait(2).rolled_back == canary.version
    assert {r.version for r in Client(again.port, "ep").replay(requests(300, prefix="step"))} == {old.version}
    deploy(ws, old, canary, salt="r2")
    assert again.wait(3).rolled_back is None
    versions = {
        r.version for r in Client(again.port, "ep").replay(requests(300, prefix="new", row={**ROW, "extra": 0.1}))
    }
    assert versions == {old.version, canary.version}


def test_a_row_that_only_the_canary_cannot_read_is_answered_by_the_champion(ws, servers):
    needed = linear_bundle([*INPUTS, Input("need", "number", (), False, 0.0, 0, 1)], [1.0, 1.0, 0.5, 1.0])
    old = variant(ws, OLD, share=5_000)
    deploy(ws, old, variant(ws, needed, number=2, share=5_000, role="canary"))
    server = servers(ws)
    server.wait(1)
    responses = Client(server.port, "ep").replay(requests(40))
    assert {(r.status, r.version) for r in responses} == {(200, old.version)}
    assert {r.fallback for r in responses} == {None, "contract"}
    assert [r.score for r in responses] == pytest.approx([SCORE] * 40, abs=1e-6)
    serving.flush(ws, "ep")
    log = serving.predictions(ws, "ep").collect().to_dicts()
    assert all((r["routed"] == r["version"]) == (r["fallback"] is None) for r in log)
    assert {tuple(r["broken"]) for r in log if r["fallback"]} == {("missing:need",)}


def test_what_cannot_be_loaded_is_refused_and_the_last_good_version_stays(ws, servers):
    good = variant(ws, OLD)
    deploy(ws, good)
    server = servers(ws)
    server.wait(1)
    deploy(ws, variant(ws, b"this is no bundle", number=2))
    status = server.until(lambda s: s.error)
    assert status.generation == 1 and "generation 2" in status.error
    desired = Place(ws.root, "ep").desired
    for damaged in (b"{}", desired.read_bytes().replace(b'"generation": 2', b'"generation": 7')):
        desired.write_bytes(damaged)
        before = status.error
        status = server.until(lambda s, before=before: s.error != before)
        assert status.generation == 1
    assert {r.version for r in Client(server.port, "ep").replay(requests(50))} == {good.version}


def test_the_switch_stops_the_answers_and_gives_them_back(ws, servers):
    deploy(ws, variant(ws, OLD))
    server = servers(ws)
    server.wait(1)
    body = {"rows": [ROW]}
    serving.kill(ws, "ep", reason="harm")
    server.wait(2)
    status, _, answer = server.call("POST", "/predict/ep", body)
    assert status == 503 and "switched off" in json.loads(answer)["error"]
    serving.kill(ws, "ep", off=False, reason="mended")
    server.wait(3)
    assert server.call("POST", "/predict/ep", body)[0] == 200
    Place(ws.root, "ep").killed.touch()  # by hand, with the control plane dead
    end = monotonic() + 5
    while server.call("POST", "/predict/ep", body)[0] != 503 and monotonic() < end:
        time.sleep(0.02)
    assert server.call("POST", "/predict/ep", body)[0] == 503


def test_asked_to_end_it_drains_commits_and_leaves_no_process(ws, servers):
    deploy(ws, variant(ws, OLD))
    server = servers(ws, workers=2)
    server.wait(1)
    Client(server.port, "ep").replay(requests(500))
    workers = server.workers
    assert server.stop() == 0
    assert sorted(serving.predictions(ws, "ep").collect()["prediction_id"]) == sorted(str(n) for n in range(500))
    assert server.status.requests == 500
    assert not server.workers
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert list(Path(Place(ws.root, "ep").segments).iterdir()) == []
