"""The door for tracking clients, spoken to byte by byte: what is refused, how, and that nothing is a 500."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.routing import Mount
from tests.protocols.tracking import API, Served, served

from loopline.interfaces.asgi import application, tracking
from loopline.interfaces.http.guard import Access
from loopline.interfaces.mlflow.door import ALONE, BELOW, OPERATIONS
from loopline.loop.project import load
from loopline.store.runs.traces.protocol import Trace
from loopline.workspace import create_workspace

PAGE = """\
name: churn
framing: {label: churned, unit: customer_id, decision_time: snapshot_at}
data: customers.csv
training: train.py:fit
"""
TOKEN, TRACE = "a-token-of-good-length", "tr-" + "a" * 32
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def door(tmp_path_factory) -> Iterator[Served]:
    ws = create_workspace(tmp_path_factory.mktemp("door") / "ws", actor="user:ada")
    ws.traces.put(Trace(TRACE, "0", 0, 0, "OK"))
    ws.traces.judge(TRACE, "a-1", {"assessment_name": "x", "feedback": {"value": 1}})
    with served(ws) as found:
        yield found
    ws.close()


def refused(reply, code="INVALID_PARAMETER_VALUE", status=400) -> str:
    assert reply.status == status, reply
    assert reply.json["error_code"] == code, reply
    return str(reply.json["message"])


def test_probes_say_what_clients_wait_for(door):
    assert door.send("GET", "/health").status == 200
    version = door.send("GET", "/version")
    assert tuple(map(int, version.body.split(b"."))) >= (3, 17, 0) and "x-loopline-version" in version.headers
    info = door.send("GET", "/api/3.0/mlflow/server-info").json
    assert info["multipart_uploads_enabled"] is info["workspaces_enabled"] is False


@pytest.mark.parametrize("prefix", ["/api/2.0", "/api/3.0", "/ajax-api/2.0", "/ajax-api/3.0"])
def test_every_prefix_answers_alike(door, prefix):
    assert door.send("GET", f"{prefix}/mlflow/experiments/get?experiment_id=0").json["experiment"]["name"] == "Default"


def test_what_is_not_there_is_told_so_that_clients_take_another_way(door):
    for method, path in (
        ("GET", API + "nowhere"),
        ("DELETE", API + "runs/get"),
        ("POST", "/api/2.0/mlflow-artifacts/elsewhere"),
        ("GET", "/api/3.0/mlflow/gateway/endpoints/list"),
    ):
        refused(door.send(method, path), "ENDPOINT_NOT_FOUND", 404)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("runs/log-metric", {"run_id": "r", "key": 5, "value": 1, "timestamp": 1}, "key"),
        ("runs/log-metric", {"run_id": "r", "key": "k", "value": "x", "timestamp": 1}, "value"),
        ("runs/log-metric", {"run_id": "r", "key": "k", "value": True, "timestamp": 1}, "value"),
        ("runs/log-metric", {"run_id": "r", "key": "k", "value": 1}, "timestamp"),
        ("runs/log-metric", {"run_id": "r", "key": "k", "value": 1, "timestamp": 2**63}, "timestamp"),
        ("runs/log-metric", {"run_id": "r", "key": "k", "value": 1, "timestamp": 1.5}, "timestamp"),
        ("runs/log-metric", {"key": "k", "value": 1, "timestamp": 1}, "run_id"),
        ("runs/log-batch", {"run_id": "r", "metrics": {}}, "metrics"),
        ("runs/log-batch", {"run_id": "r", "metrics": [{"key": "k", "value": 1, "timestamp": []}]}, "timestamp"),
        ("runs/log-batch", {"run_id": "r", "metrics": [{"value": 1, "timestamp": 1}]}, "metrics[0].key"),
        ("runs/log-batch", {"run_id": "r", "params": [{"key": "a"}, {"value": "1"}]}, "params[1].key"),
        ("runs/log-batch", {"run_id": "r", "tags": [{"key": 1}]}, "tags"),
        ("runs/search", {"experiment_ids": "0"}, "experiment_ids"),
        ("runs/search", {"experiment_ids": ["0"], "max_results": 50_001}, "max_results"),
        ("runs/search", {"experiment_ids": ["0"], "max_results": "many"}, "max_results"),
        ("runs/search", {"experiment_ids": ["0"], "run_view_type": "SOME"}, "view_type"),
        ("runs/search", {"experiment_ids": ["0"], "order_by": [1]}, "order_by"),
        ("runs/update", {"run_id": "r", "status": "SLEEPING"}, "status"),
        ("experiments/create", {"name": ["a"]}, "name"),
        ("experiments/create", {}, "name"),
        ("experiments/get", None, "experiment_id"),
        ("runs/log-inputs", {"run_id": "r", "datasets": [{"dataset": {"name": "n"}}]}, "digest"),
        ("logged-models", {"experiment_id": "0", "params": [{"value": "x"}]}, "params[0].key"),
    ],
)
def test_a_wrong_type_or_a_missing_field_is_told_by_name(door, path, body, field):
    reply = door.send("GET", API + path) if body is None else door.call(path, **body)
    assert field in refused(reply)


def test_numbers_come_as_numbers_or_text_and_leave_as_numbers(door):
    run = door.run()
    sent = {"run_id": run, "key": "m", "value": "-1.5e3", "timestamp": "12", "step": "-7", "unknown": {"a": [1]}}
    assert door.call("runs/log-metric", **sent).status == 200
    (found,) = door.send("GET", f"{API}metrics/get-history?run_id={run}&metric_key=m").json["metrics"]
    assert found == {"key": "m", "value": -1500.0, "timestamp": 12, "step": -7}


def test_values_that_are_no_numbers_travel_as_words(door):
    run = door.run()
    for step, word in enumerate(("NaN", "Infinity", "-Infinity")):
        sent = {"run_id": run, "key": "m", "value": word, "timestamp": 1, "step": step}
        assert door.call("runs/log-metric", **sent).status == 200
    reply = door.send("GET", f"{API}metrics/get-history?run_id={run}&metric_key=m")
    values = [float(m["value"]) for m in reply.json["metrics"]]
    assert values[0] != values[0] and values[1] > 1.79e308 and values[2] < -1.79e308
    json.loads(door.send("GET", f"{API}runs/get?run_id={run}").body, parse_constant=pytest.fail)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b'"x"', b"\xff\xfe", b'{"run_id": "\xff"}', b"[" * 200_000])
def test_a_body_that_is_no_object_is_the_clients_mistake(door, body):
    refused(door.send("POST", API + "runs/log-metric", body, JSON))


def test_a_body_of_another_kind_is_not_read(door):
    assert "Content-Type" in refused(door.send("POST", API + "runs/create", b"{}", {"content-type": "text/plain"}))


def test_a_very_long_value_is_cut_and_a_body_beyond_all_bounds_is_refused(door):
    run = door.run()
    assert door.call("runs/log-parameter", run_id=run, key="p", value="x" * 10_000_000).status == 200
    found = door.send("GET", f"{API}runs/get?run_id={run}").json["run"]["data"]["params"]
    assert [len(p["value"]) for p in found] == [6000]
    assert door.call("runs/log-batch", run_id=run, params=[{"key": "r", "value": "x" * 7_000}]).status == 200
    found = door.send("GET", f"{API}runs/get?run_id={run}").json["run"]["data"]["params"]
    assert [len(p["value"]) for p in found] == [6000, 6000]
    refused(door.call("runs/log-parameter", run_id=run, key="q", value="x" * 17_000_000), status=413)


def test_limits_of_a_batch_hold(door):
    run = door.run()
    point = {"key": "m", "value": 1.0, "timestamp": 1}
    refused(door.call("runs/log-batch", run_id=run, metrics=[{**point, "step": at} for at in range(1001)]))
    refused(door.call("runs/log-batch", run_id=run, params=[{"key": f"p{at}", "value": "1"} for at in range(101)]))
    refused(door.call("runs/log-batch", run_id=run, tags=[{"key": f"p{at}", "value": "1"} for at in range(101)]))
    both = [{"key": f"p{at}", "value": "1"} for at in range(100)]
    refused(door.call("runs/log-batch", run_id=run, metrics=[{**point, "step": at} for at in range(950)], params=both))
    twice = [{"key": "p", "value": "1"}, {"key": "p", "value": "2"}]
    assert "Duplicate" in refused(door.call("runs/log-batch", run_id=run, params=twice))


def test_a_batch_that_is_refused_in_part_is_refused_whole(door):
    run = door.run()
    door.call("runs/log-parameter", run_id=run, key="p", value="1")
    point = {"key": "m", "value": 1.0, "timestamp": 1, "step": 0}
    refused(door.call("runs/log-batch", run_id=run, metrics=[point], params=[{"key": "p", "value": "2"}]))
    assert door.send("GET", f"{API}runs/get?run_id={run}").json["run"]["data"]["metrics"] == []


@pytest.mark.parametrize("name", ["a//b", "../a", "a/../b", "/a", "a\x00b", "a\nb", "a@b", "a;b", "x" * 251, "a/.", ""])
def test_a_key_that_leads_elsewhere_is_refused(door, name):
    run = door.run()
    refused(door.call("runs/log-metric", run_id=run, key=name, value=1, timestamp=1))
    refused(door.call("runs/log-parameter", run_id=run, key=name, value="1"))
    refused(door.call("runs/set-tag", run_id=run, key=name, value="1"))


@pytest.mark.parametrize("name", ["a/b", "ä ö:ü", "日本/語", "a-b_c.d", "1"])
def test_keys_are_letters_of_any_script_and_a_few_signs(door, name):
    run = door.run()
    assert door.call("runs/log-metric", run_id=run, key=name, value=1, timestamp=1).status == 200
    found = door.send("GET", f"{API}runs/get?run_id={run}").json["run"]["data"]["metrics"]
    assert [m["key"] for m in found] == [name]


def test_experiments_keep_their_names_for_themselves(door):
    assert door.call("experiments/create", name="mine").status == 200
    refused(door.call("experiments/create", name="mine"), "RESOURCE_ALREADY_EXISTS")
    refused(door.call("experiments/create", name="a\nb"))
    refused(door.call("experiments/create", name="x" * 501))
    refused(door.call("experiments/create", name="there", artifact_location="runs:/x"))
    missing = door.send("GET", API + "experiments/get-by-name?experiment_name=nobody")
    assert "nobody" in refused(missing, "RESOURCE_DOES_NOT_EXIST", 404)
    refused(door.send("GET", API + "experiments/get?experiment_id=../../etc"), "RESOURCE_DOES_NOT_EXIST", 404)


def test_a_filter_that_tries_to_inject_finds_nothing_or_is_refused(door):
    run = door.run()
    for text in ("params.a = ''' OR 1=1 --'", "tags.`x` = 'y''; DROP TABLE runs; --'"):
        reply = door.call("runs/search", experiment_ids=["0"], filter=text)
        assert (reply.status, reply.json) == (200, {"runs": []}), text
    for text in ("1=1", "params.a = 'b' UNION SELECT 1", "metrics.a > (SELECT 1)", "params.a = 'b", "a" * 200_000):
        refused(door.call("runs/search", experiment_ids=["0"], filter=text))
    assert door.send("GET", f"{API}runs/get?run_id={run}").status == 200


def test_histories_of_many_runs_are_given_together(door):
    runs = [door.run() for _ in range(2)]
    for run in runs:
        points = [{"key": "m", "value": at, "timestamp": at, "step": at} for at in range(10)]
        assert door.call("runs/log-batch", run_id=run, metrics=points).status == 200
    asked = "&".join(f"run_id={run}" for run in runs)
    found = door.send("GET", f"{API}metrics/get-history-bulk?{asked}&metric_key=m").json["metrics"]
    assert [(m["run_id"], m["step"]) for m in found] == [(run, at) for run in sorted(runs) for at in range(10)]
    asked = "&".join(f"run_ids={run}" for run in runs)
    path = f"{API}metrics/get-history-bulk-interval?{asked}&metric_key=m"
    found = door.send("GET", f"{path}&start_step=2&end_step=8&max_results=3").json["metrics"]
    assert [(m["run_id"], m["step"]) for m in found] == [(run, at) for run in runs for at in (2, 5, 8)]
    refused(door.send("GET", f"{path}&start_step=2"))


def test_a_run_that_was_deleted_takes_nothing_until_it_is_restored(door):
    run = door.run()
    assert door.call("runs/delete", run_id=run).status == 200
    refused(door.call("runs/log-metric", run_id=run, key="m", value=1, timestamp=1))
    assert door.call("runs/restore", run_id=run).status == 200
    assert door.call("runs/log-metric", run_id=run, key="m", value=1, timestamp=1).status == 200


def test_an_older_client_may_say_run_uuid(door):
    run = door.run()
    assert door.call("runs/log-parameter", run_uuid=run, key="a", value="b").status == 200
    assert door.send("GET", f"{API}runs/get?run_uuid={run}").json["run"]["info"]["run_uuid"] == run


ABSENT = 501
"""Of what is not done over this protocol; clients do not try it again."""


def placed(path: str) -> str:
    """A path with ids of things that are there, or could be."""
    ids = {"model_id": "m-" + "0" * 32, "tag_key*": "k", "trace_id": TRACE, "assessment_id": "a-1", "key*": "k"}
    return re.sub(r"\{([^}]*)\}", lambda found: ids.get(found[1], "x"), path)


def test_every_operation_refuses_nonsense_as_the_clients_mistake(door):
    values = (None, "", "x", 5, -1, 1e308, True, [], [[]], {}, {"a": 1}, "\x00", "../..", "9" * 400)
    for one in OPERATIONS:
        path = placed(one.path)
        for value in values:
            body = dict.fromkeys(one.asks.__struct_fields__, value)
            reply = door.send(one.method, API + path, json.dumps(body).encode(), JSON)
            assert reply.status < 500 or reply.status == ABSENT, (one.path, value, reply)
            if reply.status != 200:
                assert set(reply.json) == {"error_code", "message"}, (one.path, value, reply)


WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_request_is_answered_as_a_fault_of_the_server(door, data):
    one = data.draw(st.sampled_from(OPERATIONS))
    body = {name: data.draw(WILD) for name in one.asks.__struct_fields__ if data.draw(st.booleans())}
    path = placed(one.path)
    sent = json.dumps(body).encode("utf-8", "surrogatepass")
    status = door.send(one.method, API + path, sent, JSON).status
    assert status < 500 or status == ABSENT, (one.path, body)


def test_every_route_of_the_door_stands_behind_the_guard(tmp_path):
    import anyio

    ws = create_workspace(tmp_path / "ws", actor="user:ada")
    app = tracking(ws, Access.at("127.0.0.1", 8400))

    async def ask(path: str, headers: dict[str, str], method: str = "GET") -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8400") as client:
            return await client.request(method, path, headers=headers)

    tops = [route.path for route in app.routes]  # type: ignore[attr-defined]
    assert any(isinstance(route, Mount) for route in app.routes)  # type: ignore[attr-defined]
    paths = [*tops, *(f"/api/2.0/mlflow/{one.path}" for one in OPERATIONS), "/api/2.0/mlflow-artifacts/artifacts/x"]
    for path in paths:
        for headers, status in (
            ({"host": "evil.example"}, 421),
            ({"origin": "http://evil.example"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
        ):
            for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
                reply = anyio.run(ask, path, headers, method)
                assert reply.status_code == status, (path, headers)
                if path.startswith((*BELOW, *ALONE)):
                    assert set(reply.json()) == {"error_code", "message"}
    ws.close()


def test_the_server_of_a_project_has_the_door_too(tmp_path):
    import anyio

    (tmp_path / "loop.yaml").write_text(PAGE)
    ws = create_workspace(tmp_path / ".loopline", actor="service:loop")
    app = application(ws, load(tmp_path))

    async def ask(method: str, path: str, **more: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8400") as client:
            return await client.request(method, path, **more)

    made = anyio.run(lambda: ask("POST", API + "runs/create", json={"experiment_id": "0"})).json()["run"]["info"]
    assert made["user_id"] not in ("loop", "")  # a person logs, not the account of the loop
    assert (
        anyio.run(lambda: ask("GET", "/")).status_code == anyio.run(lambda: ask("GET", "/version")).status_code == 200
    )
    foreign = anyio.run(lambda: ask("GET", "/version", headers={"host": "evil.example"}))
    assert foreign.status_code == 421 and foreign.json()["error_code"] == "PERMISSION_DENIED"
    ws.close()


def test_a_token_opens_the_door_and_its_name_is_who_logs(tmp_path):
    ws = create_workspace(tmp_path / "ws", actor="user:machine")
    with served(ws, token=TOKEN) as door:
        assert refused(door.call("runs/create", experiment_id="0"), "UNAUTHENTICATED", 401)
        for wrong in ("Bearer nonsense", "Basic " + base64.b64encode(b"ada:no").decode()):
            refused(door.send("GET", "/version", None, {"authorization": wrong}), "UNAUTHENTICATED", 401)
        basic = base64.b64encode(f"grace:{TOKEN}".encode()).decode()
        for header, user in ((f"Bearer {TOKEN}", "machine"), (f"Basic {basic}", "grace")):
            sent = b'{"experiment_id": "0", "user_id": "unknown"}'
            reply = door.send("POST", API + "runs/create", sent, {**JSON, "authorization": header})
            assert reply.json["run"]["info"]["user_id"] == user
        sent = b'{"experiment_id": "0", "user_id": "eve"}'
        reply = door.send("POST", API + "runs/create", sent, {**JSON, "authorization": f"Basic {basic}"})
        assert reply.json["run"]["info"]["user_id"] == "grace"
    ws.close()


def test_two_servers_may_stand_before_one_workspace(tmp_path):
    spaces = [create_workspace(tmp_path / "ws", actor="user:ada") for _ in range(2)]
    with served(spaces[0]) as one, served(spaces[1]) as two:
        run = one.run()

        def log(at: int) -> None:
            door = (one, two)[at % 2]
            told = door.call("runs/log-metric", run_id=run, key="m", value=at, timestamp=at, step=at)
            ended = door.call("runs/update", run_id=run, status="FINISHED", end_time=at)
            assert (told.status, ended.status) == (200, 200)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(log, range(40)))
        for door in (one, two):
            found = door.send("GET", f"{API}metrics/get-history?run_id={run}&metric_key=m").json["metrics"]
            assert sorted(m["step"] for m in found) == list(range(40))
            assert door.send("GET", f"{API}runs/get?run_id={run}").json["run"]["info"]["status"] == "FINISHED"
    for ws in spaces:
        ws.close()


def test_an_answer_leaves_in_one_write(tmp_path, monkeypatch):
    from loopline.interfaces.http import listening

    written: list[bytes] = []
    plain = listening.Gathering

    class Watched:
        def __init__(self, transport: Any) -> None:
            self._transport = transport

        def write(self, data: bytes) -> None:
            written.append(data)
            self._transport.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

    monkeypatch.setattr(listening, "Gathering", lambda transport, loop: plain(Watched(transport), loop))
    ws = create_workspace(tmp_path / "ws", actor="user:ada")
    with served(ws) as door:
        run = door.run()
        written.clear()
        assert door.call("runs/log-metric", run_id=run, key="m", value=1, timestamp=1).status == 200
    assert len(written) == 1 and written[0].startswith(b"HTTP/1.1 200") and written[0].endswith(b"\r\n\r\n{}")
    ws.close()


def test_connections_send_without_waiting_for_acknowledgement(tmp_path, monkeypatch):
    import asyncio

    from loopline.interfaces.http import listening

    seen: list[int] = []
    plain = listening.Gathering

    def watched(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> listening.Gathering:
        connection = transport.get_extra_info("socket")
        seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return plain(transport, loop)

    monkeypatch.setattr(listening, "Gathering", watched)
    ws = create_workspace(tmp_path / "ws", actor="user:ada")
    with served(ws) as door:
        assert door.send("GET", "/version").status == 200
    assert seen and all(seen)
    ws.close()
