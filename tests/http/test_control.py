"""The control API: verbs at their paths, one guard around everything."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from loopline.base.errors import FAMILIES, Denied
from loopline.interfaces.http import control_app
from loopline.interfaces.http.openapi import STATUS, path_of
from loopline.interfaces.http.signatures import arguments
from loopline.loop.project import load
from loopline.workspace import VERBS, Workspace, create_workspace

HOME = "http://127.0.0.1:8400"
PAGE = """\
name: churn
framing: {label: churned, unit: customer_id, decision_time: snapshot_at}
data: customers.csv
training: train.py:fit
"""
TOKEN = "a-token-of-good-length"


def fault(request: Request) -> PlainTextResponse:
    raise RuntimeError("a bug in a page")


def greet(request: Request) -> PlainTextResponse:
    return PlainTextResponse("a page")


PAGES = [Route("/", greet), Route("/broken", fault), Mount("/deep", routes=[Route("/page", greet)])]


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "loop.yaml").write_text(PAGE)
    ws = create_workspace(tmp_path / ".loopline", actor="user:ada")
    yield ws
    ws.close()


def application(ws: Workspace, **settings: Any) -> Starlette:
    return control_app(ws, load(ws.root.parent), routes=PAGES, **settings)


async def ask(app: Starlette, method: str, path: str, **more: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=HOME) as client:
        return await client.request(method, path, **more)


@pytest.fixture
def call(ws: Workspace) -> Any:
    import anyio

    app = application(ws)
    return lambda method, path, **more: anyio.run(lambda: ask(app, method, path, **more))


def test_it_says_that_it_runs(call):
    answer = call("GET", "/health")
    assert answer.status_code == 200
    assert answer.json()["loop"] == "churn"


def test_every_path_of_every_mounted_route_refuses_what_comes_from_elsewhere(call, ws):
    def walk(routes: Any, prefix: str = "") -> Iterator[str]:
        for route in routes:
            if isinstance(route, Mount):
                yield from walk(route.routes, prefix + route.path)
            else:
                yield prefix + route.path.replace("{stage}", "loop").replace("{verb}", "history")

    foreign = (
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1:8401"}, 421),
        ({"host": "127.0.0.1"}, 421),
        ({"host": "localhost.evil.example:8400"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:8400.evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    )
    paths = [*walk(application(ws).routes), "/not/there"]
    assert {"/", "/deep/page", "/health", "/api/openapi.json"} <= set(paths)
    for path in paths:
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
            for headers, status in foreign:
                assert call(method, path, headers=headers).status_code == status, (method, path, headers)


def test_its_own_pages_and_plain_clients_are_let_in(call):
    for headers in (
        {},
        {"host": "localhost:8400"},
        {"host": "LOCALHOST:8400"},
        {"host": "[::1]:8400"},
        {"origin": HOME, "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ):
        assert call("GET", "/deep/page", headers=headers).text == "a page"


def test_two_host_headers_are_refused(ws):
    import anyio

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    hosts = [(b"host", b"127.0.0.1:8400"), (b"host", b"evil.example")]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/health",
        "raw_path": b"/health",
        "query_string": b"",
        "headers": hosts,
    }
    anyio.run(lambda: application(ws)(scope, receive, send))
    assert sent[0]["status"] == 421


@pytest.mark.parametrize("path", ["/", "/health", "/broken", "/not/there", "/api/v1/loop/nothing"])
def test_every_answer_forbids_scripts_of_others_and_frames(call, path):
    headers = call("GET", path).headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_a_bind_that_others_can_reach_needs_a_token(ws):
    with pytest.raises(Denied, match="without authentication"):
        application(ws, host="0.0.0.0")
    with pytest.raises(Denied, match="too short"):
        application(ws, host="0.0.0.0", token="short")


def test_with_a_token_nothing_is_answered_without_it(ws):
    import anyio

    app = application(ws, host="10.0.0.5", token=TOKEN, names=("models.example",))
    basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
    for given, status in (
        (None, 401),
        ("Bearer wrong", 401),
        (f"Digest {TOKEN}", 401),
        ("Basic !!!", 401),
        (f"Bearer {TOKEN}", 200),
        (f"Basic {basic}", 200),
    ):
        for host in ("10.0.0.5:8400", "models.example:8400"):
            headers = {"host": host} | ({"authorization": given} if given else {})
            answer = anyio.run(lambda h=headers: ask(app, "GET", "/", headers=h))
            assert answer.status_code == status, given


def test_a_verb_is_called_by_its_name_and_answers_with_its_noun(call, ws):
    answer = call("POST", "/api/v1/framing/frame", json={"name": "churn"})
    assert answer.status_code == 200
    assert answer.json()["spec"]["unit"] == "customer_id"
    assert ws.records.entries()[-1]["action"] == "framing.frame"


def test_a_query_is_read_by_get_and_a_verb_is_not(call):
    assert call("GET", "/api/v1/loop/history?limit=3").json() == []
    answer = call("GET", "/api/v1/loop/propose")
    assert (answer.status_code, answer.json()["error"]["what"]) == (405, "loop.propose changes something")


@pytest.mark.parametrize(
    ("path", "more", "status", "said"),
    [
        ("/api/v1/loop/propose", {"json": {"reasn": "x"}}, 422, "takes no argument 'reasn'"),
        ("/api/v1/loop/propose", {"json": {"reason": 3}}, 422, "reason: Input should be a valid string"),
        ("/api/v1/loop/propose", {"json": [1]}, 422, "not an object"),
        ("/api/v1/loop/propose", {"content": "{", "headers": {"content-type": "application/json"}}, 422, "not JSON"),
        (
            "/api/v1/loop/propose",
            {"content": "[" * 100_000, "headers": {"content-type": "application/json"}},
            422,
            "not JSON",
        ),
        (
            "/api/v1/loop/propose",
            {"content": "a=b", "headers": {"content-type": "text/plain"}},
            415,
            "application/json",
        ),
        ("/api/v1/loop/command", {"json": {}}, 422, "lacks the argument 'do'"),
        ("/api/v1/loop/command", {"json": {"do": "pause"}}, 404, "idle"),
        ("/api/v1/loop/nothing", {"json": {}}, 404, "no verb"),
        ("/api/v1/data/ingest", {"json": {"project": "/etc"}}, 422, "no argument 'project'"),
        ("/api/v1/data/ingest", {"json": {"tables": {}}}, 422, "no argument 'tables'"),
        ("/api/v1/registry/promote", {"json": {"version": "x", "reason": "y", "approvals": {}}}, 422, "approvals"),
        ("/api/v1/registry/resolve", {"json": {"name": "churn", "ref": "9"}}, 404, ""),
        (
            "/api/v1/features/materialise",
            {"json": {"since": "2026-01-01T00:00", "until": "2026-01-02T00:00Z"}},
            422,
            "no zone",
        ),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong(call, path, more, status, said):
    answer = call("POST", path, **more)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"code", "what", "why", "fix"}
    assert said in error["what"]


def test_a_fault_shows_nothing_of_the_inside(call):
    answer = call("GET", "/broken")
    assert answer.status_code == 500
    assert "a bug in a page" not in answer.text


def test_a_body_beyond_the_limit_is_not_read(call):
    large = b'{"reason": "' + b"x" * (5 << 20) + b'"}'
    kind = {"content-type": "application/json"}
    assert call("POST", "/api/v1/loop/propose", content=large, headers=kind).status_code == 413

    async def pieces() -> Any:
        for at in range(0, len(large), 1 << 16):
            yield large[at : at + (1 << 16)]

    assert call("POST", "/api/v1/loop/propose", content=pieces(), headers=kind).status_code == 413


def test_a_service_account_cannot_approve_over_http(ws):
    import anyio

    app = application(ws.acting_as("service:loop"))
    body = {"version": "12345678", "reason": "because"}
    answer = anyio.run(lambda: ask(app, "POST", "/api/v1/registry/approve", json=body))
    assert answer.status_code == 403


def test_the_openapi_page_describes_every_verb_that_can_be_called(call):
    page = call("GET", "/api/openapi.json").json()
    callable_verbs = {path_of(info) for info in VERBS.values() if arguments(info) is not None}
    assert callable_verbs | {"/health"} == set(page["paths"])
    assert "/api/v1/registry/approve" in callable_verbs
    text = call("GET", "/api/openapi.json").text
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in page["components"]["schemas"]


def test_parts_of_verbs_and_what_is_done_beside_the_workspace_have_no_path(call):
    inner = {info.name for info in VERBS.values() if not info.offered and info.call.__module__.startswith("loopline.")}
    assert {"training.declare_search", "training.record_trial", "loop.set_clock", "governance.fork"} <= inner
    for name in inner:
        assert call("POST", f"/api/v1/{name.replace('.', '/')}", json={}).status_code == 404


def test_each_family_of_errors_has_its_status():
    assert set(STATUS) == set(FAMILIES)
    assert len(set(STATUS.values())) == len(STATUS)
