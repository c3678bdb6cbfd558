"""What the stock mlflow client can do here: run by a Python that has mlflow, against the address it is given.

Prints one JSON line a feature: its name, and what went wrong, if anything. It imports nothing of Loopline.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # a 5xx shows at once
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

logging.getLogger("mlflow").setLevel(logging.ERROR)
FEATURES: list[Callable[[], None]] = []


def feature(function: Callable[[], None]) -> Callable[[], None]:
    """Have `function` run in its turn."""
    FEATURES.append(function)
    return function


def fresh(name: str = "") -> str:
    """The id of a new experiment."""
    return MlflowClient().create_experiment(f"{name or 'exp'}-{uuid.uuid4().hex[:8]}")


def refused(code: str, call: Callable[..., object], *args: object, **more: object) -> str:
    """See that a call is refused with this code; its message."""
    try:
        call(*args, **more)
    except MlflowException as error:
        assert error.error_code == code, (error.error_code, str(error))
        return str(error)
    raise AssertionError(f"{call} was not refused")


@feature
def the_default_experiment_takes_runs_that_name_none() -> None:
    with mlflow.start_run() as run:
        mlflow.log_metric("a", 1.0)
    found = mlflow.get_run(run.info.run_id)
    assert found.info.experiment_id == "0" and found.info.status == "FINISHED"
    assert mlflow.get_experiment("0").name == "Default"


@feature
def experiments_are_made_found_renamed_deleted_and_restored() -> None:
    client, name = MlflowClient(), f"über/αβγ {uuid.uuid4().hex[:6]}"
    made = client.create_experiment(name, tags={"team": "a", "note": "x y"})
    assert client.get_experiment_by_name(name).experiment_id == made
    found = client.get_experiment(made)
    assert found.tags == {"team": "a", "note": "x y"} and found.lifecycle_stage == "active"
    assert found.artifact_location == f"mlflow-artifacts:/{made}" and found.creation_time > 0
    refused("RESOURCE_ALREADY_EXISTS", client.create_experiment, name)
    client.set_experiment_tag(made, "stage", "b")
    client.delete_experiment_tag(made, "note")
    assert client.get_experiment(made).tags == {"team": "a", "stage": "b"}
    client.rename_experiment(made, name + " 2")
    assert client.get_experiment(made).name == name + " 2"
    client.delete_experiment(made)
    assert client.get_experiment(made).lifecycle_stage == "deleted"
    assert made in {e.experiment_id for e in client.search_experiments(ViewType.DELETED_ONLY)}
    client.restore_experiment(made)
    assert mlflow.set_experiment(name + " 2").experiment_id == made
    refused("RESOURCE_DOES_NOT_EXIST", client.get_experiment, "987654321")
    assert client.get_experiment_by_name("nobody") is None


@feature
def experiments_are_searched_in_pages() -> None:
    client, mark = MlflowClient(), uuid.uuid4().hex[:8]
    for at in range(5):
        client.create_experiment(f"{mark}-{at}", tags={"mark": mark})
    asked = {"filter_string": f"name LIKE '{mark}%'", "order_by": ["name ASC"], "max_results": 2}
    names, token = [], None
    while True:
        found = client.search_experiments(page_token=token, **asked)
        names += [e.name for e in found]
        token = found.token
        if not token:
            break
    assert names == [f"{mark}-{at}" for at in range(5)]
    assert len(client.search_experiments(filter_string=f"tags.mark = '{mark}'")) == 5


@feature
def a_run_is_started_logged_to_and_ended() -> None:
    client, of = MlflowClient(), fresh()
    run = client.create_run(of, run_name="one", tags={"k": "v"})
    assert run.info.status == "RUNNING" and run.info.run_name == "one" and run.data.tags["mlflow.runName"] == "one"
    assert run.info.artifact_uri == f"mlflow-artifacts:/{of}/{run.info.run_id}/artifacts"
    id = run.info.run_id
    client.log_param(id, "depth", 3)
    client.log_param(id, "depth", 3)
    refused("INVALID_PARAMETER_VALUE", client.log_param, id, "depth", 4)
    client.log_metric(id, "loss", 0.5, step=1)
    client.set_tag(id, "owner", "ada")
    client.delete_tag(id, "k")
    client.update_run(id, name="two")
    client.set_terminated(id, "FAILED")
    found = client.get_run(id)
    assert found.data.params == {"depth": "3"} and found.data.metrics == {"loss": 0.5}
    assert found.data.tags["owner"] == "ada" and "k" not in found.data.tags
    assert (
        found.info.run_name == "two" and found.info.status == "FAILED" and found.info.end_time >= found.info.start_time
    )
    client.delete_run(id)
    assert client.get_run(id).info.lifecycle_stage == "deleted"
    refused("INVALID_PARAMETER_VALUE", client.log_metric, id, "loss", 1.0)
    client.restore_run(id)
    assert client.get_run(id).info.lifecycle_stage == "active"
    refused("RESOURCE_DOES_NOT_EXIST", client.get_run, "0" * 32)


@feature
def batches_hold_metrics_params_and_tags() -> None:
    client, of = MlflowClient(), fresh()
    id, now = client.create_run(of).info.run_id, int(time.time() * 1000)
    client.log_batch(
        id,
        [Metric(f"m{at % 10}", at / 7, now + at, at) for at in range(800)],
        [Param(f"p{at}", str(at)) for at in range(100)],
        [RunTag(f"t{at}", "x") for at in range(100)],
    )
    found = client.get_run(id).data
    assert len(found.metrics) == 10 and len(found.params) == 100 and found.tags["t99"] == "x"
    assert found.metrics["m9"] == 799 / 7
    mlflow.set_experiment(experiment_id=of)
    with mlflow.start_run(run_id=id):
        mlflow.log_metrics({"a": 1.0, "b": 2.0}, step=3)
        mlflow.log_params({f"more{at}": at for at in range(150)})  # the client cuts this in two
        mlflow.set_tags({"x": "1", "y": "2"})
    assert len(client.get_run(id).data.params) == 250


@feature
def values_that_are_no_numbers_come_back() -> None:
    client = MlflowClient()
    id = client.create_run(fresh()).info.run_id
    for at, value in enumerate((math.nan, math.inf, -math.inf)):
        client.log_metric(id, f"v{at}", value)
    found = client.get_run(id).data.metrics
    assert math.isnan(found["v0"]) and found["v1"] >= 1.79e308 and found["v2"] <= -1.79e308
    assert math.isnan(client.get_metric_history(id, "v0")[0].value)


@feature
def asynchronous_logging_arrives() -> None:
    with mlflow.start_run(experiment_id=fresh()) as run:
        for at in range(200):
            mlflow.log_metric("m", at, step=at, synchronous=False)
        mlflow.log_params({"a": 1}, synchronous=False)
        mlflow.flush_async_logging()
    client = MlflowClient()
    assert len(client.get_metric_history(run.info.run_id, "m")) == 200
    assert client.get_run(run.info.run_id).data.params == {"a": "1"}


@feature
def histories_keep_the_order_and_are_read_in_pages() -> None:
    client = MlflowClient()
    id, now = client.create_run(fresh()).info.run_id, int(time.time() * 1000)
    points = [Metric("m", float(at), now + at, at) for at in range(3000)]
    for at in range(0, 3000, 1000):
        client.log_batch(id, points[at : at + 1000])
    client.log_batch(id, points[:1000])  # sent twice: nothing twice
    found = client.get_metric_history(id, "m")
    assert [(p.step, p.value) for p in found] == [(at, float(at)) for at in range(3000)]
    store, token, many = client._tracking_client.store, None, []
    while True:
        page = store.get_metric_history(id, "m", max_results=700, page_token=token)
        many += list(page)
        token = page.token
        if not token:
            break
    assert [p.step for p in many] == list(range(3000))
    assert client.get_metric_history(id, "none") == []


@feature
def the_latest_value_is_that_of_the_greatest_step() -> None:
    client = MlflowClient()
    id = client.create_run(fresh()).info.run_id
    for value, at, step in ((1.0, 2000, 5), (2.0, 1000, 7), (3.0, 9000, -3), (4.0, 1000, 7)):
        client.log_metric(id, "m", value, timestamp=at, step=step)
    assert client.get_run(id).data.metrics["m"] == 4.0


@feature
def runs_are_searched_ordered_and_paged() -> None:
    client, of = MlflowClient(), fresh()
    for at in range(12):
        id = client.create_run(of, start_time=1_000 + at, run_name=f"run {at}").info.run_id
        client.log_batch(
            id, [Metric("acc", at / 10, 1, 0)] if at != 7 else [], [Param("kind", "ab"[at % 2])], [RunTag("q", str(at))]
        )
    ask = lambda text, **more: [r.info.run_name for r in client.search_runs([of], text, **more)]  # noqa: E731
    assert ask("metrics.acc > 0.85") == ["run 11", "run 10", "run 9"]
    assert ask("metrics.acc > 0.85 and params.kind = 'b'") == ["run 11", "run 9"]
    assert ask("tags.q = '4'") == ["run 4"]
    assert ask("params.kind LIKE 'A%'") == [] and len(ask("params.kind ILIKE 'A%'")) == 6
    assert ask("tags.\"q\" = '3'") == ask("tags.`q` = '3'") == ["run 3"]
    assert ask("attributes.run_name = 'run 5'") == ["run 5"] and ask("run_name LIKE 'run 1%'") != []
    order = ask("", order_by=["metrics.acc DESC"])
    assert order[:2] == ["run 11", "run 10"] and order[-1] == "run 7", order
    assert ask("", order_by=["metrics.acc ASC"])[-1] == "run 7"
    names, token = [], None
    while True:
        page = client.search_runs([of], "", max_results=5, page_token=token, order_by=["start_time ASC"])
        names += [r.info.run_name for r in page]
        token = page.token
        if not token:
            break
    assert names == [f"run {at}" for at in range(12)]
    refused("INVALID_PARAMETER_VALUE", client.search_runs, [of], "metrics.acc > 'x'")
    refused("INVALID_PARAMETER_VALUE", client.search_runs, [of], "nonsense ~ 1")
    assert ask("params.kind = '''; DROP TABLE runs; --'") == [] and len(ask("")) == 12


@feature
def the_table_of_runs_is_a_frame() -> None:
    try:
        import pandas  # noqa: F401
    except ImportError:
        return
    of = fresh()
    with mlflow.start_run(experiment_id=of):
        mlflow.log_metric("m", 1.5)
    found = mlflow.search_runs([of])
    assert list(found["metrics.m"]) == [1.5]


@feature
def nested_runs_know_their_parent() -> None:
    of = fresh()
    with mlflow.start_run(experiment_id=of) as parent, mlflow.start_run(experiment_id=of, nested=True) as child:
        mlflow.log_metric("m", 1)
    found = MlflowClient().get_run(child.info.run_id)
    assert found.data.tags["mlflow.parentRunId"] == parent.info.run_id
    text = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    assert [r.info.run_id for r in MlflowClient().search_runs([of], text)] == [child.info.run_id]


@feature
def artifacts_go_up_are_listed_come_down_and_are_deleted() -> None:
    client = MlflowClient()
    id = client.create_run(fresh()).info.run_id
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        (top / "deep" / "er").mkdir(parents=True)
        (top / "one.txt").write_text("eins")
        (top / "empty").write_bytes(b"")
        (top / "deep" / "two words.bin").write_bytes(bytes(range(256)) * 9000)
        (top / "deep" / "er" / "ü.json").write_text("{}")
        client.log_artifacts(id, folder)
        client.log_artifact(id, str(top / "one.txt"), "plots")
    client.log_text(id, "hello", "notes/a.txt")
    client.log_dict(id, {"a": 1}, "notes/a.json")
    found = [(f.path, f.is_dir, f.file_size or None) for f in client.list_artifacts(id)]
    assert found == [
        ("deep", True, None), ("empty", False, None), ("notes", True, None), ("one.txt", False, 4),
        ("plots", True, None),
    ], found  # fmt: skip
    assert [f.path for f in client.list_artifacts(id, "deep")] == ["deep/er", "deep/two words.bin"]
    assert client.list_artifacts(id, "one.txt") == [] and client.list_artifacts(id, "none") == []
    with tempfile.TemporaryDirectory() as folder:
        got = Path(client.download_artifacts(id, "", folder))
        assert (got / "deep" / "two words.bin").read_bytes() == bytes(range(256)) * 9000
        assert (got / "deep" / "er" / "ü.json").read_text() == "{}" and (got / "empty").read_bytes() == b""
    assert mlflow.artifacts.load_text(f"runs:/{id}/notes/a.txt") == "hello"
    assert mlflow.artifacts.load_dict(f"runs:/{id}/notes/a.json") == {"a": 1}
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    store = get_artifact_repository(client.get_run(id).info.artifact_uri)
    store.delete_artifacts("deep")
    store.delete_artifacts("one.txt")
    assert [f.path for f in client.list_artifacts(id)] == ["empty", "notes", "plots"]


@feature
def large_artifacts_are_sent_whole() -> None:
    os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"] = "true"
    os.environ["MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE"] = str(5 * 1024 * 1024)
    client = MlflowClient()
    id = client.create_run(fresh()).info.run_id
    try:
        with tempfile.TemporaryDirectory() as folder:
            data = os.urandom(1 << 20) * 12
            (Path(folder) / "big.bin").write_bytes(data)
            client.log_artifact(id, str(Path(folder) / "big.bin"))
            assert Path(client.download_artifacts(id, "big.bin", folder)).read_bytes() == data
    finally:
        del os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"]


@feature
def data_of_a_run_is_told() -> None:
    client = MlflowClient()
    of = fresh()
    id = client.create_run(of).info.run_id
    client.log_inputs(
        id,
        [
            DatasetInput(
                Dataset("train", "abc", "local", "{}", "{}", "{}"), [InputTag("mlflow.data.context", "training")]
            )
        ],
    )
    (found,) = client.get_run(id).inputs.dataset_inputs
    assert found.dataset.name == "train" and found.dataset.digest == "abc" and found.tags[0].value == "training"
    assert len(client.search_runs([of], "dataset.name = 'train'")) == 1
    try:
        import pandas
    except ImportError:
        return
    with mlflow.start_run(experiment_id=of) as run:
        mlflow.log_input(mlflow.data.from_pandas(pandas.DataFrame({"a": [1, 2]}), name="frame"), context="test")
    (found,) = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert found.dataset.name == "frame" and "a" in found.dataset.schema


@feature
def logged_models_are_made_found_tagged_and_deleted() -> None:
    client, of = MlflowClient(), fresh()
    with mlflow.start_run(experiment_id=of) as run:
        made = mlflow.create_external_model("net", params={"depth": "3"}, tags={"a": "b"}, model_type="cnn")
        mlflow.log_metric("acc", 0.9, step=2, model_id=made.model_id)
        mlflow.log_metric("acc", 0.8, step=1, model_id=made.model_id)
    found = mlflow.get_logged_model(made.model_id)
    assert found.name == "net" and found.params == {"depth": "3"} and found.tags["a"] == "b", found
    assert found.source_run_id == run.info.run_id and found.model_type == "cnn"
    assert {(m.key, m.value) for m in found.metrics} >= {("acc", 0.9)}
    mlflow.set_logged_model_tags(made.model_id, {"c": "d/e"})
    mlflow.delete_logged_model_tag(made.model_id, "a")
    assert "a" not in mlflow.get_logged_model(made.model_id).tags
    others = [mlflow.create_external_model(f"n{at}", experiment_id=of) for at in range(3)]
    found = mlflow.search_logged_models([of], filter_string="name = 'net'", output_format="list")
    assert [m.model_id for m in found] == [made.model_id]
    found = mlflow.search_logged_models(
        [of], order_by=[{"field_name": "creation_timestamp", "ascending": True}], output_format="list"
    )
    assert len(found) == 4
    found = mlflow.search_logged_models([of], filter_string="metrics.acc > 0.85", output_format="list")
    assert [m.model_id for m in found] == [made.model_id]
    client.delete_logged_model(others[0].model_id)
    refused("RESOURCE_DOES_NOT_EXIST", client.get_logged_model, others[0].model_id)
    assert len(mlflow.search_logged_models([of], output_format="list")) == 3


@feature
def a_model_of_scikit_learn_is_logged_and_loaded() -> None:
    try:
        import numpy as np
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        return
    x = np.arange(20.0).reshape(-1, 1)
    model = LogisticRegression().fit(x, x[:, 0] > 9)
    with mlflow.start_run(experiment_id=fresh()) as run:
        told = mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn"])
    for uri in (told.model_uri, f"runs:/{run.info.run_id}/model"):
        assert (mlflow.sklearn.load_model(uri).predict(x) == model.predict(x)).all()
    found = mlflow.get_logged_model(told.model_id)
    assert str(found.status).endswith("READY") and found.source_run_id == run.info.run_id
    assert [o.model_id for o in MlflowClient().get_run(run.info.run_id).outputs.model_outputs] == [told.model_id]


@feature
def autologging_of_scikit_learn_tells_everything() -> None:
    try:
        import numpy as np
        from sklearn.ensemble import RandomForestClassifier
    except ImportError:
        return
    mlflow.set_experiment(experiment_id=fresh())
    mlflow.sklearn.autolog(silent=True, log_models=True)
    try:
        with mlflow.start_run() as run:
            x = np.arange(40.0).reshape(-1, 2)
            RandomForestClassifier(n_estimators=3, max_depth=2).fit(x, x[:, 0] > 19)
    finally:
        mlflow.sklearn.autolog(disable=True)
    found = MlflowClient().get_run(run.info.run_id)
    assert found.data.params["n_estimators"] == "3" and "training_score" in found.data.metrics
    assert found.data.tags["estimator_name"] == "RandomForestClassifier"


@feature
def system_metrics_and_figures_are_taken() -> None:
    client = MlflowClient()
    id = client.create_run(fresh()).info.run_id
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        return
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    client.log_figure(id, figure, "plots/line.png")
    client.log_image(id, __import__("numpy").zeros((4, 4, 3), "uint8"), "plots/black.png")
    client.log_table(id, {"a": [1, 2]}, "t.json")
    assert {f.path for f in client.list_artifacts(id, "plots")} == {"plots/line.png", "plots/black.png"}


@feature
def bad_values_are_refused_with_words() -> None:
    client, of = MlflowClient(), fresh()
    id = client.create_run(of).info.run_id
    for key in ("a//b", "../a", "/a", "a\nb", "a@b", ".", "x" * 300):
        refused("INVALID_PARAMETER_VALUE", client.log_metric, id, key, 1.0)
        refused("INVALID_PARAMETER_VALUE", client.log_param, id, key, "1")
        refused("INVALID_PARAMETER_VALUE", client.set_tag, id, key, "1")
    for key in ("a b", "a/b:c-d_e.f", "日本"):
        client.log_metric(id, key, 1.0)
    refused("INVALID_PARAMETER_VALUE", client.log_metric, id, "m", 1.0, timestamp=-5)
    refused("RESOURCE_DOES_NOT_EXIST", client.log_metric, "f" * 32, "m", 1.0)
    refused("INVALID_PARAMETER_VALUE", client.create_experiment, "x" * 600)


@feature
def long_values_are_cut_as_by_its_own_server() -> None:
    client = MlflowClient()
    id = client.create_run(fresh()).info.run_id
    client.log_param(id, "long", "x" * 7000)
    client.set_tag(id, "long", "y" * 9000)
    found = client.get_run(id).data
    assert len(found.params["long"]) == 6000 and len(found.tags["long"]) == 8000


def main(features: list[Callable[[], None]]) -> None:
    """Run each feature, and tell what went wrong."""
    mlflow.set_tracking_uri(sys.argv[1])
    print(json.dumps({"version": mlflow.__version__}), flush=True)
    for each in features:
        start = time.perf_counter()
        try:
            each()
            wrong = None
        except BaseException:
            wrong = traceback.format_exc()
        while mlflow.active_run() is not None:
            mlflow.end_run()
        took = round(time.perf_counter() - start, 2)
        print(json.dumps({"feature": each.__name__, "wrong": wrong, "s": took}), flush=True)


if __name__ == "__main__":
    main(FEATURES)
