"""For the stock client: `write URI FOLDER` leaves a history there; `read URI` tells as JSON what it finds there."""

import json
import math
import sys
from pathlib import Path

import mlflow
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import LoggedModelInput, LoggedModelOutput, Metric, Param, RunTag, ViewType


def write(uri: str, folder: str) -> None:
    """Experiments, nested runs, odd values, files, data, models, versions, things that are deleted."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient()
    local = not uri.startswith("http")
    place = {"artifact_location": Path(folder, "artifacts").absolute().as_uri()} if local else {}
    experiment = client.create_experiment("churn/été", **place, tags={"team": "growth"})
    with mlflow.start_run(experiment_id=experiment, run_name="parent", description="first of all") as parent:
        mlflow.log_params({"depth": 3, "a/b": "x", "long": "y" * 5_000, "empty": ""})
        for step in range(50):
            mlflow.log_metric("loss", 1 / (step + 1), step=step, timestamp=1_700_000_000_000 + step)
        mlflow.log_metric("eval/auc", math.nan, step=0, timestamp=5)
        mlflow.log_metric("eval/auc", 0.5, step=1, timestamp=6)
        mlflow.log_metric("peak", math.inf, step=-3, timestamp=7)
        mlflow.set_tag("été", "ünïcode ✓\nsecond line")
        mlflow.log_text("hello", "notes/a b.txt")
        mlflow.log_dict({"x": 1}, "c.json")
        data = MetaDataset(HTTPDatasetSource("https://example.org/rows.csv"), name="rows", digest="abc")
        mlflow.log_input(data, context="training")
        with mlflow.start_run(experiment_id=experiment, run_name="child", nested=True):
            mlflow.log_metric("loss", 2.0)
    model = client.create_logged_model(experiment, "scorer", source_run_id=parent.info.run_id, params={"p": "1"},
                                       tags={"t": "2"}, model_type="demo")  # fmt: skip
    file = Path(folder) / "weights.bin"
    file.write_bytes(bytes(range(256)))
    client.log_model_artifact(model.model_id, str(file))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(parent.info.run_id, [LoggedModelOutput(model.model_id, 4)])
    mlflow.log_metric("test/auc", 0.75, step=4, run_id=parent.info.run_id, model_id=model.model_id, dataset=data,
                      timestamp=9)  # fmt: skip
    other = client.create_run(experiment, run_name="reads it")
    client.log_inputs(other.info.run_id, models=[LoggedModelInput(model.model_id)])
    client.log_batch(other.info.run_id, [Metric("m", 1.0, 1, 0)], [Param("q", "1")], [RunTag("r", "s")])
    client.set_terminated(other.info.run_id, "FAILED", end_time=1_700_000_100_000)
    gone = client.create_run(experiment, run_name="gone")
    client.log_param(gone.info.run_id, "kept", "yes")
    client.delete_run(gone.info.run_id)
    client.create_run("0", run_name="still running")
    thrown = client.create_experiment("thrown away", **place)
    client.create_run(thrown, run_name="with it")
    client.delete_experiment(thrown)
    client.create_registered_model("scorer", tags={"owner": "ada"}, description="scores")
    for _ in range(3):
        client.create_model_version("scorer", f"models:/{model.model_id}", run_id=parent.info.run_id,
                                    tags={"v": "w"}, description="a version", model_id=model.model_id)  # fmt: skip
    client.delete_model_version("scorer", "2")
    client.set_registered_model_alias("scorer", "challenger", "3")
    if local:  # a server of ours has only a promotion set it
        client.set_registered_model_alias("scorer", "production", "1")


def read(uri: str) -> None:
    """Everything of every run."""
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    found = {}
    for experiment in client.search_experiments(view_type=ViewType.ALL):
        runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
        models = client.search_logged_models([experiment.experiment_id])
        found[experiment.name] = {
            "stage": experiment.lifecycle_stage,
            "tags": experiment.tags,
            "models": [
                {"id": one.model_id, "name": one.name, "params": one.params, "tags": one.tags, "run": one.source_run_id,
                 "metrics": [(m.key, repr(m.value), m.step, m.dataset_digest) for m in one.metrics or ()],
                 "files": [f.path for f in client.list_logged_model_artifacts(one.model_id)]}
                for one in models
            ],
            "runs": {run.info.run_id: _run(client, run) for run in runs},
        }  # fmt: skip
    models = {}
    for model in client.search_registered_models():
        versions = client.search_model_versions(f"name='{model.name}'")
        models[model.name] = {
            "about": model.description, "tags": model.tags, "aliases": model.aliases,
            "versions": {one.version: _version(client, one) for one in versions},
        }  # fmt: skip
    print(json.dumps({"experiments": found, "registered": models}))


def _version(client: mlflow.MlflowClient, one: mlflow.entities.model_registry.ModelVersion) -> dict[str, object]:
    tags = {key: value for key, value in one.tags.items() if not key.startswith("loopline.")}
    place = mlflow.artifacts.download_artifacts(client.get_model_version_download_uri(one.name, one.version))
    files = {str(file.relative_to(place)): file.stat().st_size for file in Path(place).rglob("*") if file.is_file()}
    return {"about": one.description, "tags": tags, "run": one.run_id, "stage": one.current_stage,
            "source": one.source, "files": files}  # fmt: skip


def _run(client: mlflow.MlflowClient, run: mlflow.entities.Run) -> dict[str, object]:
    info = run.info
    points = {
        key: sorted((repr(p.value), p.timestamp, p.step) for p in client.get_metric_history(info.run_id, key))
        for key in run.data.metrics
    }
    return {
        "name": info.run_name, "user": info.user_id, "status": info.status, "stage": info.lifecycle_stage,
        "start": info.start_time, "end": info.end_time, "params": run.data.params, "tags": run.data.tags,
        "latest": {key: repr(value) for key, value in run.data.metrics.items()}, "points": points,
        "data": [(one.dataset.name, one.dataset.digest, {t.key: t.value for t in one.tags})
                 for one in run.inputs.dataset_inputs],
        "read": [one.model_id for one in run.inputs.model_inputs],
        "made": [(one.model_id, one.step) for one in run.outputs.model_outputs],
        "files": _files(client, info.run_id, ""),
    }  # fmt: skip


def _files(client: mlflow.MlflowClient, run: str, under: str) -> dict[str, int]:
    found = {}
    for one in client.list_artifacts(run, under or None):
        found |= _files(client, run, one.path) if one.is_dir else {one.path: one.file_size}
    return found


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
