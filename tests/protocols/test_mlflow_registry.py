"""The registry through the door of tracking clients: the stock client, and requests that no client sends."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.protocols.tracking import Served, served

from loopline import registry
from loopline.evaluation.nouns import Estimate, Report, Verdict
from loopline.registry.nouns import Version
from loopline.training.bundle import build_bundle, read_bundle
from loopline.training.encoding import learn
from loopline.training.nouns import Model
from loopline.workspace import Workspace, create_workspace

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = Path(__file__).parent / "clients" / "mlflow_registry_scenario.py"
CLIENTS = ROOT / ".clients"
NEWEST, OLDER = "mlflow", sorted(path.name for path in CLIENTS.glob("mlflow-*"))
FEATURES = 17
START = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = pl.DataFrame({"amount": [1.0, 500.0], "country": ["DE", "FR"]})


def onnx_of(slope: float) -> bytes:
    """A logistic line over two inputs, as probabilities of both classes."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.array([[0.001 * slope], [slope]], dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["X", "w"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["one"]),
        helper.make_node("Sub", ["unit", "one"], ["none"]),
        helper.make_node("Concat", ["none", "one"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "line",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.ones(1, dtype=np.float32), "unit")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def trained(ws: Workspace, mark: str, slope: float) -> Version:
    """A version as a loop registers it."""
    inputs = learn(ROWS, ["amount", "country"], {"country"})
    bundle = build_bundle(
        inputs=inputs,
        threshold=0.6,
        model=onnx_of(slope),
        native={},
        probe=ROWS,
        scores=np.array([0.5, 0.5]),
        about={},
    )
    model = Model(
        id=f"model-{mark}",
        run=f"run-{mark}",
        training_set="set",
        problem="problem",
        bundle=ws.blobs.put(bundle),
        features=("amount", "country"),
        framework="onnx",
        author="user:ada",
        threshold=0.6,
        parity={},
        created_at=ws.clock(),
    )
    verdict = Verdict("roc_auc on all", True, "roc_auc", "all", 0.7, 0.69, 0.68, "baseline", "0.69 against 0.68")
    report = Report(
        id=f"report-{mark}",
        model=model.id,
        champion=None,
        rows=1000,
        test_from=START - timedelta(days=28),
        test_to=START,
        metrics={"roc_auc": Estimate(0.7, 0.69, 0.71), "brier": Estimate(None)},
        champion_metrics={},
        baseline_metrics={},
        differences={},
        baseline_differences={},
        calibration=(),
        slices=(),
        verdicts=(verdict,),
        passed=True,
        threshold=0.6,
        created_at=ws.clock(),
    )
    with ws.records.transaction() as tx:
        tx.put(model)
        tx.put(report)
    return registry.register(ws, name="loop", model=model, report=report, author="user:ada", risk="limited", policy={})


@pytest.fixture(autouse=True, scope="module")
def keys_of_the_test(tmp_path_factory):
    """One folder of keys for all of them: they share a workspace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPLINE_KEYS", str(tmp_path_factory.mktemp("keys")))
        yield


@pytest.fixture(scope="module")
def house(tmp_path_factory, keys_of_the_test) -> Iterator[Served]:
    """A workspace whose loop has released its version 1, and registered a second."""
    ws = create_workspace(tmp_path_factory.mktemp("house") / "ws", actor="user:ada")
    first = trained(ws, "one", 1.0)
    registry.approve(ws.acting_as("user:bob"), first, reason="looks right")
    registry.promote(ws, first, reason="approved")
    trained(ws, "two", 2.0)
    with served(ws) as found:
        yield found
    ws.close()


@pytest.mark.parametrize("client", [NEWEST, *OLDER])
def test_the_stock_client_does_with_the_registry_what_its_users_do(client, house):
    python = CLIENTS / client / "bin" / "python"
    if not python.exists():
        said = f"the client is missing; type: make env-clients (no {python})"
        if os.environ.get("REQUIRE") == "all":
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    command = [python, SCENARIO, f"http://127.0.0.1:{house.port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"feature')]
    wrong = {one["feature"]: one["wrong"] for one in told if one["wrong"]}
    assert wrong == {}, "\n".join(wrong.values())
    for line in done.stdout.splitlines():
        if line.startswith('{"scored"'):
            first = registry.resolve(house.ws, "loop", "1")
            ours = read_bundle(house.ws.blobs.get(first.bundle)).predict(ROWS)
            assert json.loads(line)["scored"] == pytest.approx(ours.tolist(), abs=1e-6)
    assert done.returncode == 0 and len(told) == FEATURES, done.stderr[-2000:]
