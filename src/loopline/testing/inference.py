"""A small model, and a running inference server, for tests and trials."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
from onnx import TensorProto, helper, numpy_helper

from loopline.base.clock import monotonic
from loopline.base.settings import child_environment
from loopline.serving.nouns import EndpointStatus, Variant
from loopline.serving.state import Place, read_status
from loopline.training.bundle import build_bundle
from loopline.training.encoding import Input, encode
from loopline.workspace import Workspace


def linear_bundle(
    inputs: Sequence[Input], weights: Sequence[float], *, bias: float = 0.0, base_rate: float | None = None
) -> bytes:
    """A bundle whose score is sigmoid(weights . values + bias), null counting as 0.

    Its probe holds one row: the lowest value or first category of each input.
    """
    count = len(inputs)
    constants = [
        numpy_helper.from_array(np.array(weights, np.float32).reshape(count, 1), "w"),
        numpy_helper.from_array(np.array([bias], np.float32), "b"),
        numpy_helper.from_array(np.array([0.0], np.float32), "zero"),
        numpy_helper.from_array(np.array([1.0], np.float32), "one"),
    ]
    nodes = [
        helper.make_node("IsNaN", ["X"], ["nan"]),
        helper.make_node("Where", ["nan", "zero", "X"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["wx"]),
        helper.make_node("Add", ["wx", "b"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, count])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    probe = pl.DataFrame(
        {
            i.name: pl.Series([i.categories[0]])
            if i.kind == "category"
            else pl.Series([i.low or 0.0], dtype=pl.Float32)
            for i in inputs
        }
    )
    z = np.nan_to_num(encode(probe, tuple(inputs)).astype(np.float64)) @ np.array(weights) + bias
    return build_bundle(
        inputs=tuple(inputs),
        threshold=0.5,
        model=model.SerializeToString(),
        native={},
        probe=probe,
        scores=1 / (1 + np.exp(-z)),
        about={} if base_rate is None else {"base_rate": base_rate},
    )


def variant(ws: Workspace, bundle: bytes, *, number: int = 1, share: int = 10_000, role: str = "champion") -> Variant:
    """A variant of a bundle that is kept in the workspace."""
    digest = ws.blobs.put(bundle)
    return Variant(version=f"v{number}-{digest[:8]}", number=number, bundle=digest, share=share, role=role)


@dataclass
class Server:
    """An inference server in processes of its own."""

    place: Place
    process: subprocess.Popen[str]
    port: int

    @property
    def workers(self) -> list[int]:
        """Process ids of its workers."""
        pattern = f"inference-{self.place.endpoint}-*.worker"
        return sorted(int(p.stem.rpartition("-")[2]) for p in self.place.run.glob(pattern))

    @property
    def status(self) -> EndpointStatus | None:
        """What it last wrote."""
        return read_status(self.place)

    def wait(self, generation: int, *, timeout_s: float = 30.0) -> EndpointStatus:
        """Wait until it serves `generation`."""
        return self.until(lambda s: s.generation >= generation, timeout_s=timeout_s)

    def until(self, true: Any, *, timeout_s: float = 30.0) -> EndpointStatus:
        """Wait until `true(status)`."""
        end = monotonic() + timeout_s
        while monotonic() < end:
            status = self.status
            if status is not None and true(status):
                return status
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}")
            _pause()
        raise TimeoutError(f"not within {timeout_s} s: {self.status}")

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own."""
        door = HTTPConnection("127.0.0.1", self.port, timeout=10)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        door.request(method, path, data, headers or {})
        answer = door.getresponse()
        result = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        door.close()
        return result

    def stop(self) -> int:
        """Have it drain and end; its exit status."""
        self.process.terminate()
        return self.process.wait(40)


def start(ws: Workspace, endpoint: str, *, port: int = 0, workers: int = 1) -> Server:
    """Start a server; returns when it listens."""
    command = [
        *(sys.executable, "-P", "-m", "loopline.interfaces.inference", f"--workspace={ws.root}"),
        *(f"--endpoint={endpoint}", f"--port={port}", f"--workers={workers}"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment())
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the server ended with {process.wait()}")
    return Server(Place(Path(ws.root), endpoint), process, json.loads(line)["port"])


@contextmanager
def serving(ws: Workspace, endpoint: str, *, port: int = 0, workers: int = 1) -> Iterator[Server]:
    """A server for the length of a block."""
    server = start(ws, endpoint, port=port, workers=workers)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def _pause() -> None:
    import time

    time.sleep(0.02)
