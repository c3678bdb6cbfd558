"""The Open Inference Protocol, REST: tensors as JSON or as its binary extension."""

from __future__ import annotations

import struct
from math import prod
from typing import Any

import msgspec
import numpy as np

from loopline.interfaces.inference.messages import Reader, Zoned, decode, names
from loopline.serving.calls import Call, Refused
from loopline.serving.route import Route

NUMBERS = {
    "BOOL": "?", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
OUTPUTS = {"score": "FP64", "decision": "BOOL"}
EXTENSIONS = ["binary_tensor_data"]


class Tensor(msgspec.Struct):
    """An input tensor."""

    name: str
    shape: list[int]
    datatype: str
    data: Any = None
    parameters: dict[str, Any] = {}


class Wanted(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class Request(msgspec.Struct):
    """An inference request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[Wanted] | None = None


_request = msgspec.json.Decoder(Request)
_encode = msgspec.json.Encoder().encode


class Inference:
    """One request and how it wants to be answered."""

    def __init__(self, request: Request, call: Call) -> None:
        self.request, self.call = request, call

    def reply(self, endpoint: str) -> tuple[bytes, int | None]:
        """The body, and the length of its JSON part where binary tensors follow."""
        answers = self.call.answers
        columns = {"score": [a.score for a in answers], "decision": [a.decision for a in answers]}
        by_default = bool(self.request.parameters.get("binary_data_output", False))
        wanted = self.request.outputs or [Wanted(name) for name in OUTPUTS]
        outputs: list[dict[str, Any]] = []
        tail = []
        for output in wanted:
            kind = OUTPUTS[output.name]
            doc: dict[str, Any] = {"name": output.name, "datatype": kind, "shape": [len(answers)]}
            if output.parameters.get("binary_data", by_default):
                data = np.array(columns[output.name], NUMBERS[kind]).tobytes()
                doc["parameters"] = {"binary_data_size": len(data)}
                tail.append(data)
            else:
                doc["data"] = columns[output.name]
            outputs.append(doc)
        first = answers[0]
        parameters: dict[str, Any] = {"version": first.by.variant.version}
        if any(a.fallback for a in answers):
            parameters["fallback"] = ",".join(sorted({a.fallback for a in answers if a.fallback}))
        doc = {
            "model_name": endpoint,
            "model_version": str(first.by.variant.number),
            "id": self.request.id or first.id,
            "parameters": parameters,
            "outputs": outputs,
        }
        head = _encode(doc)
        return head + b"".join(tail), len(head) if tail else None


def read(reader: Reader, body: bytes, json_length: int | None = None) -> Inference:
    """An inference request.

    Parameters
    ----------
    reader : Reader
        Of the route that will answer.
    body : bytes
        JSON, and the binary tensors behind it.
    json_length : int or None
        Length of the JSON part; null when all is JSON.

    Raises
    ------
    Refused
        With 400 for anything that the protocol or the model's metadata forbids.
    """
    if json_length is not None and not 0 <= json_length <= len(body):
        raise Refused(400, f"Inference-Header-Content-Length is {json_length}, the body has {len(body)} bytes")
    request: Request = decode(_request, body if json_length is None else body[:json_length])
    tail = memoryview(b"" if json_length is None else body)[json_length or 0 :]
    known = known_inputs(reader.route)
    columns: dict[str, list[Any]] = {}
    for tensor in request.inputs:
        if known and tensor.name not in known:
            raise Refused(400, f"there is no input {tensor.name!r}; the inputs are {', '.join(sorted(known))}")
        if tensor.name in columns:
            raise Refused(400, f"input {tensor.name!r} is given twice")
        size = tensor.parameters.get("binary_data_size")
        if size is not None:
            if not isinstance(size, int) or not 0 <= size <= len(tail):
                raise Refused(400, f"binary_data_size of {tensor.name!r} is {size!r}, {len(tail)} bytes are left")
            columns[tensor.name], tail = _binary(tensor, bytes(tail[:size])), tail[size:]
        else:
            columns[tensor.name] = _listed(tensor)
    if len(tail):
        raise Refused(400, f"{len(tail)} bytes follow the last tensor")
    if len({len(values) for values in columns.values()}) != 1:
        raise Refused(400, "the inputs must have the same first dimension")
    for output in request.outputs or ():
        if output.name not in OUTPUTS:
            raise Refused(400, f"there is no output {output.name!r}; the outputs are {', '.join(OUTPUTS)}")
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return Inference(request, reader.rows(rows, **_extras(request, len(rows))))


def known_inputs(route: Route | None) -> dict[str, str]:
    """Name and datatype of every input that a version of the route reads."""
    if route is None:
        return {}
    return {name: kind for loaded in reversed(route.loaded) for name, kind in loaded.inputs.asked.items()}


def _shape(tensor: Tensor) -> int:
    """Rows of a tensor: its shape is [n] or [n, 1]."""
    if tensor.datatype != "BYTES" and tensor.datatype not in NUMBERS:
        raise Refused(400, f"input {tensor.name!r} has the unknown datatype {tensor.datatype!r}")
    shape = tensor.shape
    if not shape or any(n < 0 for n in shape) or prod(shape[1:]) != 1:
        raise Refused(400, f"input {tensor.name!r} has shape {shape}, expected [n] or [n, 1]")
    return shape[0]


def _listed(tensor: Tensor) -> list[Any]:
    count = _shape(tensor)
    if not isinstance(tensor.data, list):
        raise Refused(400, f"input {tensor.name!r} has no data")
    values: list[Any] = []
    for item in tensor.data:
        while isinstance(item, list) and len(item) == 1:
            item = item[0]
        values.append(item)
    if len(values) != count:
        raise Refused(400, f"input {tensor.name!r} has shape {tensor.shape} and {len(values)} values")
    allowed: tuple[type, ...] = (str,) if tensor.datatype == "BYTES" else (int, float)
    if tensor.datatype == "BOOL":
        allowed = (bool, int)
    for value in values:
        if value is not None and not isinstance(value, allowed):
            raise Refused(400, f"input {tensor.name!r} of datatype {tensor.datatype} holds {value!r:.60}")
    return values


def _binary(tensor: Tensor, data: bytes) -> list[Any]:
    count = _shape(tensor)
    if tensor.datatype != "BYTES":
        kind = np.dtype(NUMBERS[tensor.datatype])
        if len(data) != count * kind.itemsize:
            raise Refused(400, f"input {tensor.name!r} has shape {tensor.shape} and {len(data)} bytes")
        values = np.frombuffer(data, kind).tolist()
        return [None if v != v else v for v in values] if kind.kind == "f" else values
    texts, at = [], 0
    try:
        for _ in range(count):
            (size,) = struct.unpack_from("<I", data, at)
            if at + 4 + size > len(data):
                raise Refused(400, f"input {tensor.name!r} ends within a text")
            texts.append(data[at + 4 : at + 4 + size].decode())
            at += 4 + size
    except (struct.error, UnicodeDecodeError) as error:
        raise Refused(400, f"input {tensor.name!r} holds no BYTES tensor: {error}") from error
    if at != len(data):
        raise Refused(400, f"input {tensor.name!r} has {len(data) - at} bytes too many")
    return texts


def _extras(request: Request, count: int) -> dict[str, Any]:
    """Ids, entities and decision times from `id` and `parameters`."""
    given = request.parameters
    more: dict[str, Any] = {}
    if request.id:
        more["ids"] = [request.id] if count == 1 else [f"{request.id}/{n}" for n in range(count)]
    for name, one in (("entities", "entity"), ("decision_times", "decision_time"), ("ids", "prediction_id")):
        value = given.get(name, [given[one]] if one in given else None)
        if value is None:
            continue
        kind: Any = list[str | int | None]
        if name == "decision_times":
            kind = list[Zoned | None]
        try:
            read = msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise Refused(400, f"parameter {name!r}: {error}") from error
        more[name] = read if name == "decision_times" else names(read)
    return more
