"""ONNX models as they are served: float32 `X` in, probabilities (n, 2) out, equal bytes for equal models."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from loopline.training.transform_graph import INPUT

__all__ = ["INPUT", "OUTPUT", "renamed_input", "trimmed", "two_columns"]
OUTPUT = "probabilities"


def trimmed(model: onnx.ModelProto) -> bytes:
    """Serialised with the probabilities as its only output, and nothing that differs between runs."""
    kept = [o for o in model.graph.output if o.name == OUTPUT] or [model.graph.output[-1]]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    model.graph.name = "model"
    # Converters write these from a set, whose order is another in one process of several.
    model.opset_import.sort(key=lambda one: one.domain)
    return bytes(model.SerializeToString(deterministic=True))


def renamed_input(model: onnx.ModelProto) -> None:
    """Have its one input be called `X`, in the main graph and in those within."""
    old = model.graph.input[0].name
    if old == INPUT:
        return
    _rename(model.graph, old)
    model.graph.input[0].name = INPUT


def _rename(graph: onnx.GraphProto, old: str) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = INPUT
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, old)


def two_columns(model: onnx.ModelProto) -> None:
    """Have its last output be (n, 2): a single probability p becomes 1 - p and p."""
    last = model.graph.output[-1]
    if len(last.type.tensor_type.shape.dim) == 2 and last.type.tensor_type.shape.dim[1].dim_value == 2:
        return
    name = last.name
    nodes = [
        helper.make_node("Cast", [name], ["package/float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["package/float", "package/shape"], ["package/p"]),
        helper.make_node("Sub", ["package/one", "package/p"], ["package/q"]),
        helper.make_node("Concat", ["package/q", "package/p"], [OUTPUT], axis=1),
    ]
    model.graph.initializer.extend(
        [
            helper.make_tensor("package/shape", TensorProto.INT64, [2], [-1, 1]),
            helper.make_tensor("package/one", TensorProto.FLOAT, [1], [1.0]),
        ]
    )
    model.graph.node.extend(nodes)
    model.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 2]))
