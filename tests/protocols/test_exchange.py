"""What the stock mlflow client and W&B write comes in; what goes out, the stock client reads."""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest
from tests.protocols.test_mlflow_client import CLIENTS, NEWEST, OLDER, python_of
from tests.protocols.tracking import served

from loopline.interfaces.mlflow.registry_bundle import show
from loopline.registry import shelving
from loopline.registry.exporting import registered
from loopline.registry.importing import PROMPT, import_models
from loopline.registry.shelf import entries, shelf
from loopline.store.runs.traces.protocol import Span
from loopline.training.exchange import export_runs, import_mlflow, import_wandb
from loopline.training.exchange.verbs import mlflow_source
from loopline.workspace import Workspace, create_workspace

SCENARIO = Path(__file__).parent / "clients" / "mlflow_exchange.py"
ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
PROTECTED = "the alias 'production' of scorer is protected here: only a promotion sets it"


def client(name: str, *words: object) -> str:
    """Have the stock client do something; what it prints."""
    command = [str(python_of(name)), str(SCENARIO), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def brought(ws: Workspace, source: str, *folders: Path, left: list[str]) -> None:
    """All of it came but what is `left`, and again nothing does."""
    for again in range(2):
        with mlflow_source(source, artifacts=folders) as found:
            came = import_models(ws, found, import_mlflow(ws, found, source))
        assert came.conflicts == []
        assert came.left_out == left
        new = (came.runs, came.known, came.points, came.models, came.files, came.versions)
        assert new == ((0, 6, 0, 0, 0, 0) if again else (6, 0, 56, 1, 3, 2))


@pytest.mark.parametrize("name", OLDER or ["mlflow-3.16"])  # these have all of mlflow, with its database
def test_a_database_comes_in_and_what_goes_out_reads_the_same(name, tmp_path):
    if name not in OLDER:
        pytest.skip(f"a client with a database is missing; type: make clients (no {CLIENTS / name})")
    address = f"sqlite:///{tmp_path}/mlflow.db"
    client(name, "write", address, tmp_path)
    ws = create_workspace(tmp_path / "ws")
    brought(ws, address, left=[PROTECTED])
    assert [one.number for one in entries(ws, "scorer")] == [1, 3]
    expected = json.loads(client(name, "read", address))
    assert expected["registered"]["scorer"]["aliases"].pop("production") == 1  # that one only a promotion sets
    assert list(expected["registered"]["scorer"]["versions"]["3"]["files"]) == ["weights.bin"]
    gone = partial(registered, ws, shown=partial(show, ws))
    export_runs(
        ws, tmp_path / "out", every=True, deleted=True, version=name.removeprefix("mlflow-"), registered=gone
    )  # fmt: skip
    assert json.loads(client(name, "read", f"sqlite:///{tmp_path}/out/mlflow.db")) == with_infinities(expected)
    ws.close()


def with_infinities(told: dict) -> dict:  # type: ignore[type-arg]
    """The stock database keeps infinity as the greatest number; what goes out of here says infinity."""
    return json.loads(json.dumps(told).replace('"1.7976931348623157e+308"', '"inf"'))


def test_a_file_store_comes_in(tmp_path):
    ws = create_workspace(tmp_path / "ws")
    client(NEWEST, "write", f"file://{tmp_path}/mlruns", tmp_path)
    brought(ws, str(tmp_path / "mlruns"), tmp_path / "artifacts", left=[PROTECTED])
    ws.close()


def test_a_server_comes_in_page_by_page_files_through_its_proxy(tmp_path):
    one, two = create_workspace(tmp_path / "one"), create_workspace(tmp_path / "two")
    with served(one) as door:
        address = f"http://127.0.0.1:{door.port}"
        client(NEWEST, "write", address, tmp_path)
        brought(two, address, left=[])
        shelving.create(one, "ask", tags={PROMPT: "true"}, prompt=True)
        shelving.deposit(one, "ask", source="x", tags={"mlflow.prompt.text": "How {{many}}?", PROMPT: "true"})
        one.traces.add_spans(
            "0", [Span(f"tr-{n}", "9" * 16, None, "asked", None, "OK", 5, 9, "{}") for n in range(102)]
        )
        with mlflow_source(address) as found:
            came = import_models(two, found, import_mlflow(two, found, address))
        assert (came.names, came.versions, came.runs) == (1, 1, 0) and shelf(two, "ask").prompt
        assert entries(two, "ask")[0].tags["mlflow.prompt.text"] == "How {{many}}?"
        assert came.left_out == ["102 traces of the experiment 'Default': traces do not come"]
    one.close()
    two.close()


PROGRAM = """
import os, sys
import wandb

with wandb.init(project="churn", name="real", config={"lr": 0.1, "opt": {"name": "adam"}}) as run:
    for step in range(400):
        run.log({"loss": 1 / (step + 1), "val": {"acc": step}, "odd": float("nan"), "word": "w" * 100})
    print("printed")
    run.summary["best"] = 0.99
    if "crash" in sys.argv:
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["whole", "crash"])
def test_what_wandb_writes_offline_comes_in(how, tmp_path):
    found = sorted(CLIENTS.glob("wandb*/bin/python"))
    if not found:
        pytest.skip("the client is missing; type: python3 tools/environment.py client wandb 0.31")
    quiet = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([found[-1], "-c", PROGRAM, how], env={**os.environ, **quiet}, cwd=tmp_path, check=how == "whole")
    ws = create_workspace(tmp_path / "ws")
    came = import_wandb(ws, tmp_path / "wandb")
    (document,) = ws.runs.search_runs([ws.runs.experiment_named("churn").id]).items
    run = ws.runs.run(json.loads(document)["info"]["run_id"])
    assert (came.runs, run.name, run.params["opt.name"], came.left_out) == (1, "real", "adam", [])
    losses = [(point.step, point.value) for point in ws.runs.history(run.id, "loss").items]
    assert losses == [(step, 1 / (step + 1)) for step in range(len(losses))]
    if how == "whole":
        assert run.status == "FINISHED" and len(losses) == 400
        assert {point.key: point.value for point in run.metrics}["best"] == 0.99
        assert "printed" in ws.artifacts.read(run.id, "output.log").decode()
        other = ws.artifacts.read(run.id, "wandb/other.jsonl").decode().splitlines()
        assert len(other) == 400 and json.loads(other[7])["word"] == "w" * 100
    else:
        assert run.status == "KILLED"
    assert import_wandb(ws, tmp_path / "wandb").known == 1
    ws.close()
