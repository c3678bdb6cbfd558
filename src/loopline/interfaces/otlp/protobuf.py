"""Reads the binary form of an OTLP request into its JSON form, without a generated class.

Both are the same message (opentelemetry-proto 1.x, `ExportTraceServiceRequest`): in JSON
names are lowerCamelCase, ids of spans hexadecimal, other bytes base64, and whole numbers
of 64 bits texts. Fields that this Loopline does not know are left out.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

DEPTH = 32
"""Of lists and maps in attributes."""


class Malformed(ValueError):
    """The bytes are no such message."""


class _Field(NamedTuple):
    name: str
    read: Callable[[Any, int], Any]
    """Takes what stands there (bytes or an integer), and how deep it lies."""
    wire: int
    """0 varint, 1 eight bytes, 2 bytes with a length, 5 four bytes."""
    many: bool = False


def request(data: bytes) -> dict[str, Any]:
    """The JSON form of an `ExportTraceServiceRequest`.

    Raises
    ------
    Malformed
        If the bytes are none.
    """
    return _message(_REQUEST, memoryview(data), 0)


def _message(fields: dict[int, _Field], data: memoryview, depth: int) -> dict[str, Any]:
    if depth > DEPTH:
        raise Malformed("attributes lie too deep in each other")
    found: dict[str, Any] = {}
    at, end = 0, len(data)
    while at < end:
        tag, at = data[at], at + 1  # nearly every tag and length is one byte
        if tag > 0x7F:
            tag, at = _varint(data, at - 1)
        wire, field = tag & 7, fields.get(tag >> 3)
        value: Any
        if wire == 2:
            size, at = data[at] if at < end else 0x80, at + 1
            if size > 0x7F:
                size, at = _varint(data, at - 1)
            value, at = data[at : at + size], at + size
        elif wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = data[at : at + size], at + size
        else:
            raise Malformed(f"a field of the kind {wire}")
        if at > end:
            raise Malformed("it ends within a field")
        if field is None:
            continue
        if field.wire != wire:
            raise Malformed(f"{field.name} is of the kind {wire}")
        read = field.read(value, depth)
        if field.many:
            found.setdefault(field.name, []).append(read)
        else:
            found[field.name] = read
    return found


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    found = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found & 0xFFFFFFFFFFFFFFFF, at
            shift += 7
            if shift > 63:
                raise Malformed("a number has too many bytes")
    except IndexError:
        raise Malformed("it ends within a number") from None


def _text(value: memoryview, depth: int) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        raise Malformed("a text is no UTF-8") from None


def _hex(value: memoryview, depth: int) -> str:
    return value.hex()


def _long(value: int, depth: int) -> str:
    return str(value - (1 << 64) if value >> 63 else value)


def _small(value: int, depth: int) -> int:
    return value


def _fixed(value: memoryview, depth: int) -> str:
    return str(int.from_bytes(value, "little"))


def _double(value: memoryview, depth: int) -> float | str:
    (found,) = struct.unpack("<d", value)
    if found != found:
        return "NaN"
    return float(found) if abs(found) != float("inf") else "Infinity" if found > 0 else "-Infinity"


def _within(fields: dict[int, _Field]) -> Callable[[Any, int], Any]:
    return lambda value, depth: _message(fields, value, depth + 1)


_VALUE: dict[int, _Field] = {
    1: _Field("stringValue", _text, 2),
    2: _Field("boolValue", lambda value, depth: bool(value), 0),
    3: _Field("intValue", _long, 0),
    4: _Field("doubleValue", _double, 1),
    7: _Field("bytesValue", lambda value, depth: base64.b64encode(value).decode(), 2),
}
_PAIR = {1: _Field("key", _text, 2), 2: _Field("value", _within(_VALUE), 2)}
_VALUE[5] = _Field("arrayValue", _within({1: _Field("values", _within(_VALUE), 2, many=True)}), 2)
_VALUE[6] = _Field("kvlistValue", _within({1: _Field("values", _within(_PAIR), 2, many=True)}), 2)
_ATTRIBUTES = _Field("attributes", _within(_PAIR), 2, many=True)
_EVENT = {
    1: _Field("timeUnixNano", _fixed, 1),
    2: _Field("name", _text, 2),
    3: _ATTRIBUTES,
    4: _Field("droppedAttributesCount", _small, 0),
}
_LINK = {
    1: _Field("traceId", _hex, 2),
    2: _Field("spanId", _hex, 2),
    3: _Field("traceState", _text, 2),
    4: _ATTRIBUTES,
    5: _Field("droppedAttributesCount", _small, 0),
    6: _Field("flags", lambda value, depth: int.from_bytes(value, "little"), 5),
}
_SPAN = {
    1: _Field("traceId", _hex, 2),
    2: _Field("spanId", _hex, 2),
    3: _Field("traceState", _text, 2),
    4: _Field("parentSpanId", _hex, 2),
    5: _Field("name", _text, 2),
    6: _Field("kind", _small, 0),
    7: _Field("startTimeUnixNano", _fixed, 1),
    8: _Field("endTimeUnixNano", _fixed, 1),
    9: _ATTRIBUTES,
    10: _Field("droppedAttributesCount", _small, 0),
    11: _Field("events", _within(_EVENT), 2, many=True),
    12: _Field("droppedEventsCount", _small, 0),
    13: _Field("links", _within(_LINK), 2, many=True),
    14: _Field("droppedLinksCount", _small, 0),
    15: _Field("status", _within({2: _Field("message", _text, 2), 3: _Field("code", _small, 0)}), 2),
    16: _Field("flags", lambda value, depth: int.from_bytes(value, "little"), 5),
}
_RESOURCE = {1: _ATTRIBUTES, 2: _Field("droppedAttributesCount", _small, 0)}
_SCOPE = {1: _Field("name", _text, 2), 2: _Field("version", _text, 2), 3: _ATTRIBUTES}
_SCOPE_SPANS = {
    1: _Field("scope", _within(_SCOPE), 2),
    2: _Field("spans", _within(_SPAN), 2, many=True),
    3: _Field("schemaUrl", _text, 2),
}
_RESOURCE_SPANS = {
    1: _Field("resource", _within(_RESOURCE), 2),
    2: _Field("scopeSpans", _within(_SCOPE_SPANS), 2, many=True),
    3: _Field("schemaUrl", _text, 2),
}
_REQUEST = {1: _Field("resourceSpans", _within(_RESOURCE_SPANS), 2, many=True)}
