"""ONNX: a model that somebody else converted, its object, its bytes or its path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from loopline.base.errors import Invalid, NotFound
from loopline.training.encoding import Floats
from loopline.training.packages.graph import renamed_input, trimmed, two_columns
from loopline.training.packages.packaged import Packaged, Scores, cannot_package, positive
from loopline.training.packages.session import open_session

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
FILE = "given.onnx"


def package(model: Any, names: Sequence[str]) -> Packaged:
    """A model with one float32 input (n, inputs) and probabilities as its last output."""
    found = _read(model)
    given = found.SerializeToString(deterministic=True)
    _refuse_foreign(found)
    inputs = [one for one in found.graph.input if one.name not in {i.name for i in found.graph.initializer}]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise cannot_package("ONNX model", "it does not take one float32 matrix", "give it one input, X (n, inputs)")
    shape = inputs[0].type.tensor_type.shape.dim
    if len(shape) != 2 or shape[1].dim_value not in (0, len(names)):
        why = f"its input is not (n, {len(names)})"
        raise cannot_package("ONNX model", why, "make it for X as given")
    if shape[0].dim_value:
        raise cannot_package("ONNX model", f"it takes {shape[0].dim_value} rows, no more and no less", "free dim 0")
    session = open_session(given)
    name, last = session.get_inputs()[0].name, session.get_outputs()[-1]
    if last.type not in ("tensor(float)", "tensor(double)"):
        raise cannot_package("ONNX model", f"its last output is {last.type}", "put the probabilities last (no ZipMap)")

    def native(matrix: Floats) -> Scores:
        return positive(session.run([last.name], {name: matrix})[0], len(matrix))

    del found.graph.input[:]
    found.graph.input.extend(inputs)
    renamed_input(found)
    two_columns(found)
    return Packaged(onnx=trimmed(found), native=native, files={FILE: given}, framework=f"onnx {onnx.__version__}")


def _read(model: Any) -> onnx.ModelProto:
    found = onnx.ModelProto()
    try:
        if isinstance(model, onnx.ModelProto):
            found.CopyFrom(model)
        else:
            found.ParseFromString(model.read_bytes() if isinstance(model, Path) else model)
        onnx.checker.check_model(found)
    except FileNotFoundError as error:
        raise NotFound(
            f"the recipe returned a path to {error.filename}",
            why="there is no such file",
            fix="return a path that exists, or the bytes of the model",
        ) from error
    except Exception as error:  # protobuf's and onnx's errors share no base
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise Invalid(
            f"the recipe returned {type(model).__name__} that is no ONNX model: {said[:200]}",
            why="onnx.checker refuses it",
            fix="return an onnx.ModelProto, its bytes or its path",
        ) from error
    return found


def _refuse_foreign(model: onnx.ModelProto) -> None:
    foreign = {one.domain for one in model.opset_import} - DOMAINS
    if foreign or model.functions:
        what = ", ".join(sorted(foreign)) or "functions of its own"
        raise cannot_package("ONNX model", f"it uses {what}", "use the operators of ai.onnx and ai.onnx.ml")
    for tensor in _tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise cannot_package(
                "ONNX model",
                f"the weights {tensor.name} lie in another file",
                "save it in one file (onnx.save_model with save_as_external_data=False)",
            )


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
