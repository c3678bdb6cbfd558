"""The door of OpenTelemetry: the binary form is read as its JSON form says, and nonsense is refused in words."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.tracking import Served, served

from loopline.base.errors import Invalid
from loopline.interfaces.otlp import protobuf
from loopline.store.runs.traces.otlp import batches
from loopline.workspace import create_workspace

TRACES, BINARY, JSON = "/v1/traces", "application/x-protobuf", "application/json"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


# the binary form, written the slow way


def number(value: int) -> bytes:
    out = b""
    value &= 0xFFFFFFFFFFFFFFFF
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def part(field: int, data: bytes) -> bytes:
    return number(field << 3 | 2) + number(len(data)) + data


def written_value(value: dict) -> bytes:
    ((kind, given),) = value.items()
    match kind:
        case "stringValue":
            return part(1, given.encode())
        case "boolValue":
            return number(2 << 3) + number(given)
        case "intValue":
            return number(3 << 3) + number(int(given))
        case "doubleValue":
            return number(4 << 3 | 1) + struct.pack("<d", float(given))
        case "arrayValue":
            return part(5, b"".join(part(1, written_value(one)) for one in given.get("values", [])))
        case "kvlistValue":
            return part(6, b"".join(part(1, written_pair(one)) for one in given.get("values", [])))
    return part(7, base64.b64decode(given))


def written_pair(pair: dict) -> bytes:
    return part(1, pair["key"].encode()) + part(2, written_value(pair["value"]))


def written_span(span: dict) -> bytes:
    out = part(1, bytes.fromhex(span["traceId"])) + part(2, bytes.fromhex(span["spanId"]))
    if "parentSpanId" in span:
        out += part(4, bytes.fromhex(span["parentSpanId"]))
    out += part(5, span["name"].encode()) + number(6 << 3) + number(span["kind"])
    for field, name in ((7, "startTimeUnixNano"), (8, "endTimeUnixNano")):
        out += number(field << 3 | 1) + struct.pack("<Q", int(span[name]))
    out += b"".join(part(9, written_pair(one)) for one in span.get("attributes", []))
    for event in span.get("events", []):
        told = number(1 << 3 | 1) + struct.pack("<Q", int(event["timeUnixNano"])) + part(2, event["name"].encode())
        out += part(11, told + b"".join(part(3, written_pair(one)) for one in event.get("attributes", [])))
    for link in span.get("links", []):
        out += part(13, part(1, bytes.fromhex(link["traceId"])) + part(2, bytes.fromhex(link["spanId"])))
    out += part(15, part(2, span["status"]["message"].encode()) + number(3 << 3) + number(span["status"]["code"]))
    return out + part(99, b"from the future") + number(98 << 3) + number(7)


def written(request: dict) -> bytes:
    out = b""
    for of_resource in request["resourceSpans"]:
        told = part(1, b"".join(part(1, written_pair(one)) for one in of_resource["resource"].get("attributes", [])))
        for of_scope in of_resource["scopeSpans"]:
            scope = part(1, part(1, of_scope["scope"]["name"].encode()))
            told += part(2, scope + b"".join(part(2, written_span(one)) for one in of_scope.get("spans", [])))
        out += part(1, told)
    return out


def ids(size: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=size, max_size=size).map(bytes.hex)


LONG = st.integers(-(2**63), 2**63 - 1).map(str)
VALUES = st.recursive(
    st.one_of(
        st.fixed_dictionaries({"stringValue": st.text(max_size=8)}),
        st.fixed_dictionaries({"boolValue": st.booleans()}),
        st.fixed_dictionaries({"intValue": LONG}),
        st.fixed_dictionaries({"doubleValue": st.floats(allow_nan=False, allow_infinity=False) | st.just("NaN")}),
        st.fixed_dictionaries({"bytesValue": st.binary(max_size=6).map(lambda data: base64.b64encode(data).decode())}),
    ),
    lambda inner: (
        st.fixed_dictionaries(
            {"arrayValue": st.fixed_dictionaries({"values": st.lists(inner, min_size=1, max_size=2)})}
        )
        | st.fixed_dictionaries(
            {
                "kvlistValue": st.fixed_dictionaries(
                    {
                        "values": st.lists(
                            st.fixed_dictionaries({"key": st.text(max_size=4), "value": inner}), min_size=1, max_size=2
                        )
                    }
                )
            }
        )
    ),
    max_leaves=4,
)
PAIRS = st.lists(st.fixed_dictionaries({"key": st.text(max_size=6), "value": VALUES}), min_size=1, max_size=3)
MOMENTS = st.integers(1, 2**62).map(str)
SPANS = st.fixed_dictionaries(
    {
        "traceId": ids(16), "spanId": ids(8), "name": st.text(max_size=8), "kind": st.integers(0, 5),
        "startTimeUnixNano": MOMENTS, "endTimeUnixNano": MOMENTS,
        "status": st.fixed_dictionaries({"message": st.text(max_size=5), "code": st.integers(0, 2)}),
    },
    optional={
        "parentSpanId": ids(8), "attributes": PAIRS,
        "events": st.lists(
            st.fixed_dictionaries({"timeUnixNano": MOMENTS, "name": st.just("e")}, optional={"attributes": PAIRS}),
            min_size=1, max_size=2,
        ),
        "links": st.lists(st.fixed_dictionaries({"traceId": ids(16), "spanId": ids(8)}), min_size=1, max_size=2),
    },
)  # fmt: skip
REQUESTS = st.fixed_dictionaries(
    {
        "resourceSpans": st.lists(
            st.fixed_dictionaries(
                {
                    "resource": st.fixed_dictionaries({}, optional={"attributes": PAIRS}),
                    "scopeSpans": st.lists(
                        st.fixed_dictionaries(
                            {"scope": st.fixed_dictionaries({"name": st.text(max_size=5)})},
                            optional={"spans": st.lists(SPANS, min_size=1, max_size=2)},
                        ),
                        min_size=1,
                        max_size=2,
                    ),
                }
            ),
            min_size=1,
            max_size=2,
        )
    }
)


@settings(max_examples=150, deadline=None)
@given(request=REQUESTS)
def test_the_binary_form_is_read_as_the_json_form_says(request):
    assert protobuf.request(written(request)) == request


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=60) | REQUESTS.map(lambda request: written(request)[:-1]))
def test_any_bytes_are_read_or_refused(data):
    try:
        assert isinstance(protobuf.request(data), dict)
    except protobuf.Malformed as error:
        assert str(error)


WILD = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["key", "value", "intValue"]), inner),
    max_leaves=4,
)
PLACES = ("name", "kind", "status", "attributes", "events", "links", "endTimeUnixNano", "parentSpanId", "resource")


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(PLACES), value=WILD, of=st.sampled_from(["mlflow.spanInputs", "mlflow.spanType"]))
def test_a_span_with_anything_in_it_is_kept_or_refused(name, value, of):
    told = [{"key": of, "value": value}] if name == "attributes" else value
    try:
        found = list(batches(request(span(**{name: told}))))
    except Invalid:
        return
    for _, spans in found:
        for one in spans:
            assert json.loads(one.body)["spanId"] == SPAN and (one.name or one.name == "")
            one.body.encode()


@pytest.fixture(scope="module")
def door(tmp_path_factory) -> Iterator[Served]:
    ws = create_workspace(tmp_path_factory.mktemp("otlp") / "ws", actor="user:ada")
    with served(ws) as found:
        yield found
    ws.close()


def span(**more) -> dict:
    return {
        "traceId": TRACE, "spanId": SPAN, "name": "call", "kind": 3, "startTimeUnixNano": "1700000000000000000",
        "endTimeUnixNano": "1700000000250000000", "status": {"message": "", "code": 1}, **more,
    }  # fmt: skip


def request(*spans: dict) -> dict:
    service = [{"key": "service.name", "value": {"stringValue": "shop"}}]
    return {
        "resourceSpans": [
            {"resource": {"attributes": service}, "scopeSpans": [{"scope": {"name": "test"}, "spans": list(spans)}]}
        ]
    }


@pytest.mark.parametrize("kind", [BINARY, JSON])
@pytest.mark.parametrize("packed", [False, True])
def test_spans_of_any_exporter_are_kept_as_they_came(door, kind, packed):
    trace = f"{['1', '2'][packed]}{['3', '4'][kind == JSON]}" * 16
    attributes = [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}]
    sent = request(span(traceId=trace, attributes=attributes), span(traceId=trace, spanId="1" * 16, parentSpanId=SPAN))
    body = written(sent) if kind == BINARY else json.dumps(sent).encode()
    headers = {"content-type": kind, **({"content-encoding": "gzip"} if packed else {})}
    reply = door.send("POST", TRACES, gzip.compress(body) if packed else body, headers)
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"" if kind == BINARY else b"{}", kind)
    found = door.ws.traces.trace(f"tr-{trace}")
    assert (found.experiment, found.state, found.duration_ms, found.spans) == ("0", "OK", 250, 2)
    kept = [json.loads(one) for one in door.ws.traces.spans(found.id)]
    assert sorted(kept, key=str) == sorted(sent["resourceSpans"][0]["scopeSpans"][0]["spans"], key=str)
    shown = door.send("GET", f"/api/3.0/mlflow/traces/get?trace_id={found.id}").json["trace"]
    assert {base64.b64decode(one["traceId"]).hex() for one in shown["spans"]} == {trace}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff", {"content-type": BINARY}, 400),
        (b"{", {"content-type": JSON}, 400),
        (b"[]", {"content-type": JSON}, 400),
        (b"[" * 100_000, {"content-type": JSON}, 400),
        (b"x", {"content-type": "text/plain"}, 400),
        (b"x", {"content-type": BINARY, "content-encoding": "br"}, 400),
        (b"no gzip", {"content-type": BINARY, "content-encoding": "gzip"}, 400),
        (gzip.compress(bytes(70 << 20)), {"content-type": BINARY, "content-encoding": "gzip"}, 400),
        (json.dumps(request(span(traceId="abc"))).encode(), {"content-type": JSON}, 400),
        (json.dumps(request(span(spanId=""))).encode(), {"content-type": JSON}, 400),
        (json.dumps(request(span(startTimeUnixNano="soon"))).encode(), {"content-type": JSON}, 400),
        (json.dumps(request(span(startTimeUnixNano="-5"))).encode(), {"content-type": JSON}, 400),
        (json.dumps(request(span(attributes=5))).encode(), {"content-type": JSON}, 400),
        (json.dumps(request(span())).encode(), {"content-type": JSON, "x-mlflow-experiment-id": "77"}, 404),
        (json.dumps(request(span())).encode(), {"content-type": JSON, "x-mlflow-run-id": "f" * 32}, 404),
    ],
    ids=lambda value: None if isinstance(value, int) else "",
)
def test_nonsense_is_refused_in_words_and_never_as_our_fault(door, body, headers, status):
    reply = door.send("POST", TRACES, body, headers)
    assert reply.status == status, reply
    assert reply.json["error_code"] and len(reply.json["message"]) < 2_000


def test_it_is_behind_the_same_guard(door, tmp_path):
    assert door.send("GET", TRACES).status == 405
    assert door.send("POST", TRACES, b"", {"host": "evil.example", "content-type": BINARY}).status == 421
    ws = create_workspace(tmp_path / "ws", actor="user:ada")
    with served(ws, token="a-token-of-good-length") as closed:
        assert closed.send("POST", TRACES, b"", {"content-type": BINARY}).status == 401
        told = {"content-type": BINARY, "authorization": "Bearer a-token-of-good-length"}
        assert closed.send("POST", TRACES, b"", told).status == 200
    ws.close()


def test_a_run_has_the_traces_that_name_it(door):
    run = door.run()
    body = json.dumps(request(span(traceId="e" * 32))).encode()
    assert door.send("POST", TRACES, body, {"content-type": JSON, "x-mlflow-run-id": run}).status == 200
    assert [one.id for one in door.ws.traces.search(["0"], filter=f"run_id = '{run}'").items] == [f"tr-{'e' * 32}"]
