"""Transforms as the first nodes of a model's ONNX graph: one file answers for raw inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from loopline.training.transforms import Column, Transforms

INPUT = "X"
"""The raw matrix, in every model that is served."""
INNER = "transformed"


def with_transforms(model: bytes, transforms: Transforms, inputs: int) -> bytes:
    """The model with `transforms` before it.

    Parameters
    ----------
    model : bytes
        ONNX with one float32 input `X` (n, columns of the transforms).
    inputs : int
        Columns of the raw matrix.

    Returns
    -------
    bytes
        ONNX with one float32 input `X` (n, inputs) and the same outputs.
    """
    found = onnx.load_model_from_string(model)
    graph = found.graph
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == INPUT:
                node.input[place] = INNER
    own = _Nodes()
    placed: list[int] = []
    parts = []
    for places in _together(transforms.columns):
        columns = [transforms.columns[n] for n in places]
        parts.append(own.made(columns))
        placed += places
    own.add("Concat", parts, "transform/all", axis=1)
    own.add("Gather", ["transform/all", own.constant(np.argsort(placed))], INNER, axis=1)
    nodes = [*own.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(own.constants)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, inputs]))
    if not any(one.domain == "" for one in found.opset_import):
        found.opset_import.append(helper.make_opsetid("", 15))
    for one in found.opset_import:
        if one.domain == "":
            one.version = max(one.version, 13)
    onnx.checker.check_model(found)
    return bytes(found.SerializeToString(deterministic=True))


def _together(columns: Sequence[Column]) -> list[list[int]]:
    """Places of the columns that are computed by the same nodes: all numbers, all flags, the tables of one input."""
    found: dict[tuple[str, int], list[int]] = {}
    for n, column in enumerate(columns):
        found.setdefault((column.kind, column.source if column.kind == "table" else -1), []).append(n)
    return list(found.values())


class _Nodes:
    """Nodes and constants that are being added; their names start with `transform/`."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        name = output or f"transform/{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, list(inputs), [name], name=f"transform/node{len(self.nodes)}", **attributes)
        )
        return name

    def constant(self, values: Any) -> str:
        name = f"transform/constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def made(self, columns: Sequence[Column]) -> str:
        match columns[0].kind:
            case "number":
                return self.numbers(columns)
            case "flag":
                return self.flags(columns)
        return self.table(columns[0].source, columns)

    def numbers(self, columns: Sequence[Column]) -> str:
        x = self._picked([c.source for c in columns])
        fill = self.constant(np.array([[np.nan if c.fill is None else c.fill for c in columns]], np.float32))
        known = self.add("Where", [self.add("IsNaN", [x]), fill, x])
        shifted = self.add("Sub", [known, self.constant(np.array([[c.shift for c in columns]], np.float32))])
        return self.add("Div", [shifted, self.constant(np.array([[c.by for c in columns]], np.float32))])

    def flags(self, columns: Sequence[Column]) -> str:
        null = self.add("IsNaN", [self._picked([c.source for c in columns])])
        return self.add("Cast", [null], to=TensorProto.FLOAT)

    def table(self, source: int, columns: Sequence[Column]) -> str:
        size = len(columns[0].table) - 1
        x = self.add("Gather", [INPUT, self.constant(np.array(source, np.int64))], axis=1)
        last = self.constant(np.array(size, np.float32))
        code = self.add("Where", [self.add("IsNaN", [x]), last, x])
        bounded = self.add("Clip", [code, self.constant(np.array(0, np.float32)), last])
        place = self.add("Cast", [bounded], to=TensorProto.INT64)
        values = np.array([[np.nan if v is None else v for v in c.table] for c in columns], np.float32).T
        return self.add("Gather", [self.constant(values), place], axis=0)

    def _picked(self, sources: Sequence[int]) -> str:
        return self.add("Gather", [INPUT, self.constant(np.array(sources, np.int64))], axis=1)
