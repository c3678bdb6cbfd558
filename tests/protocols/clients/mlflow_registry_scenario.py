"""What the stock mlflow client can do with the registry here: run by a Python that has mlflow, against an address.

Prints one JSON line a feature: its name, and what went wrong, if anything. It imports nothing of Loopline. The
server has a model `loop` whose versions a loop trained: 1 is released as production, 2 has no approval yet.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_scenario import fresh, refused

FEATURES: list[Callable[[], None]] = []
BAD, DENIED, NONE = "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST"


def feature(function: Callable[[], None]) -> Callable[[], None]:
    """Have `function` run in its turn."""
    FEATURES.append(function)
    return function


def name(of: str = "model") -> str:
    """A name that nothing has yet."""
    return f"{of}-{uuid.uuid4().hex[:8]}"


class Doubles(mlflow.pyfunc.PythonModel):
    """Twice what it is given."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        return [2 * value for value in model_input["x"]]


def logged(times: float = 2.0) -> str:
    """The id of a logged model: a scikit-learn line through zero."""
    import numpy
    from sklearn.linear_model import LinearRegression

    fitted = LinearRegression(fit_intercept=False).fit(numpy.array([[1.0], [2.0]]), numpy.array([times, 2 * times]))
    with mlflow.start_run(experiment_id=fresh()):
        return str(mlflow.sklearn.log_model(fitted, name="line", pip_requirements=["scikit-learn"]).model_id)


def folder(under: str = "model", text: str = "one") -> str:
    """The id of a run with a small folder of files."""
    client = MlflowClient()
    run = str(client.create_run(fresh()).info.run_id)
    client.log_text(run, text, f"{under}/MLmodel")
    client.log_text(run, text, f"{under}/data/weights.txt")
    return run


def brought(of: str | None = None, text: str = "one") -> tuple[str, str]:
    """Name and number of a version that a client brought."""
    client, run = MlflowClient(), folder(text=text)
    made = of or name()
    if of is None:
        client.create_registered_model(made)
    found = client.create_model_version(made, f"runs:/{run}/model", run)
    return made, str(found.version)


@feature
def a_logged_model_is_registered_and_loaded_by_number_alias_stage_and_id() -> None:
    client, id, made = MlflowClient(), logged(3.0), name()
    found = mlflow.register_model(f"models:/{id}", made, tags={"team": "fraud"})
    assert (str(found.version), found.status) == ("1", "READY"), found
    client.set_registered_model_alias(made, "candidate", "1")
    client.transition_model_version_stage(made, "1", "Staging")
    for uri in (
        f"models:/{made}/1",
        f"models:/{made}@candidate",
        f"models:/{made}/Staging",
        f"models:/{id}",
        f"models:/{made}/latest",
    ):
        model = mlflow.sklearn.load_model(uri)
        assert abs(model.predict([[2.0]])[0] - 6.0) < 1e-9, uri
    assert abs(mlflow.pyfunc.load_model(f"models:/{made}/1").predict([[1.0]])[0] - 3.0) < 1e-9
    again = client.get_model_version(made, "1")
    assert again.tags["team"] == "fraud" and again.tags["loopline.judged"] == "false"
    assert client.get_model_version_by_alias(made, "candidate").version in ("1", 1)


@feature
def log_model_registers_at_once_and_by_run() -> None:
    import numpy
    from sklearn.linear_model import LinearRegression

    made = name()
    fitted = LinearRegression().fit(numpy.array([[1.0], [2.0]]), numpy.array([1.0, 2.0]))
    with mlflow.start_run(experiment_id=fresh()) as run:
        mlflow.sklearn.log_model(fitted, name="line", registered_model_name=made, pip_requirements=["scikit-learn"])
    found = mlflow.register_model(f"runs:/{run.info.run_id}/line", made)
    assert str(found.version) == "2" and found.run_id == run.info.run_id
    assert {str(v.version) for v in MlflowClient().search_model_versions(f"name = '{made}'")} == {"1", "2"}


@feature
def what_was_registered_stays_as_it_was() -> None:
    client = MlflowClient()
    run, made = folder(text="one"), name()
    client.create_registered_model(made)
    found = client.create_model_version(made, f"runs:/{run}/model", run)
    client.log_text(run, "two", "model/MLmodel")
    where = mlflow.artifacts.download_artifacts(f"models:/{made}/{found.version}")
    assert Path(where, "MLmodel").read_text() == "one"
    uri = client.get_model_version_download_uri(made, found.version)
    with tempfile.TemporaryDirectory() as here:
        Path(here, "x.txt").write_text("x")
        refused_upload(uri, here)


def refused_upload(uri: str, here: str) -> None:
    """See that nothing is written under an address."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        get_artifact_repository(uri).log_artifact(str(Path(here, "x.txt")))
    except Exception as error:
        assert "404" in str(error) or "400" in str(error) or "not" in str(error).lower(), error
    else:
        raise AssertionError("a version's files were written to")


@feature
def names_tags_and_descriptions_change() -> None:
    client, made = MlflowClient(), name()
    client.create_registered_model(made, tags={"a": "1"}, description="first")
    refused("RESOURCE_ALREADY_EXISTS", client.create_registered_model, made)
    client.update_registered_model(made, description="second")
    client.set_registered_model_tag(made, "b", "2")
    client.delete_registered_model_tag(made, "a")
    found = client.get_registered_model(made)
    assert (found.description, dict(found.tags)) == ("second", {"b": "2"}), found
    brought(made)
    client.update_model_version(made, "1", description="the first one")
    client.set_model_version_tag(made, "1", "k", "v")
    client.set_model_version_tag(made, "1", "gone", "v")
    client.delete_model_version_tag(made, "1", "gone")
    one = client.get_model_version(made, "1")
    assert one.description == "the first one" and one.tags["k"] == "v" and "gone" not in one.tags
    refused(BAD, client.set_model_version_tag, made, "1", "loopline.judged", "true")
    refused(BAD, client.set_registered_model_tag, made, "x" * 300, "v")
    refused(BAD, client.set_registered_model_tag, made, "k", "v" * 100_001)
    refused(NONE, client.get_registered_model, name())
    refused(NONE, client.get_model_version, made, "99")
    for bad in ("a/b", "a:b", "", " ", "..", "a\nb", "a@b", "x" * 300):
        refused(BAD, client.create_registered_model, bad)
    for good in ("Größe 1", "a.b-c_d e", "日本"):
        client.create_registered_model(f"{good} {uuid.uuid4().hex[:6]}")


@feature
def renaming_takes_versions_and_aliases_along() -> None:
    client, (made, _) = MlflowClient(), brought()
    brought(made)
    client.set_registered_model_alias(made, "best", "2")
    to = name("renamed")
    client.rename_registered_model(made, to)
    refused(NONE, client.get_registered_model, made)
    assert client.get_model_version_by_alias(to, "best").version in ("2", 2)
    assert brought(to)[1] == "3"
    client.create_registered_model(made)
    assert brought(made)[1] == "3"


@feature
def numbers_are_never_given_again() -> None:
    client, (made, first) = MlflowClient(), brought()
    assert first == "1" and brought(made)[1] == "2"
    client.set_registered_model_alias(made, "best", "2")
    client.delete_model_version(made, "2")
    refused(NONE, client.get_model_version, made, "2")
    assert "best" not in client.get_registered_model(made).aliases
    refused(BAD, client.get_model_version_by_alias, made, "best")
    assert brought(made)[1] == "3"
    client.delete_registered_model(made)
    refused(NONE, client.get_registered_model, made)
    client.create_registered_model(made)
    assert brought(made)[1] == "4"


@feature
def versions_that_are_made_at_once_have_numbers_without_gaps() -> None:
    made, found, wrong = name(), [], []
    MlflowClient().create_registered_model(made)
    run = folder()

    def some() -> None:
        client = MlflowClient()
        try:
            for _ in range(8):
                found.append(int(client.create_model_version(made, f"runs:/{run}/model", run).version))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
    assert sorted(found) == list(range(1, 33)), sorted(found)


@feature
def aliases_that_mean_something_else_are_refused() -> None:
    client, (made, number) = MlflowClient(), brought()
    for alias in ("latest", "LATEST", "v3", "V12", "3", "deadbeef99", "a b", "a/b", "a@b", "", "x" * 300, "a.b"):
        try:
            client.set_registered_model_alias(made, alias, number)
        except MlflowException as error:
            assert error.error_code == BAD, (alias, str(error))
        else:
            raise AssertionError(alias)
    for alias in ("challenger", "new_one-2", "größer"):
        client.set_registered_model_alias(made, alias, number)
        assert str(client.get_model_version_by_alias(made, alias).version) == number
    client.delete_registered_model_alias(made, "challenger")
    client.delete_registered_model_alias(made, "challenger")


@feature
def protected_aliases_and_the_stage_production_ask_for_what_is_missing() -> None:
    client, (made, number) = MlflowClient(), brought()
    for alias in ("production", "champion"):
        said = refused(DENIED, client.set_registered_model_alias, made, alias, number)
        assert all(word in said for word in ("report", "gates", "approvals", "signature", "registry adopt")), said
        refused(DENIED, client.delete_registered_model_alias, made, alias)
    said = refused(DENIED, client.transition_model_version_stage, made, number, "Production")
    assert "adopt" in said
    for alias in ("Production", "CHAMPION", "ｐroduction"):
        refused(BAD, client.set_registered_model_alias, made, alias, number)
    said = refused(DENIED, client.set_registered_model_alias, "loop", "production", "2")
    assert "approvals" in said and "author" in said and "approve" in said, said
    assert str(client.get_model_version_by_alias("loop", "production").version) == "1"
    refused(DENIED, client.delete_registered_model_alias, "loop", "production")
    refused(DENIED, client.transition_model_version_stage, "loop", "1", "Archived")


@feature
def what_a_loop_trained_is_there_and_loads() -> None:
    client = MlflowClient()
    found = client.get_registered_model("loop")
    assert {alias: str(version) for alias, version in found.aliases.items()}["production"] == "1"
    first = client.get_model_version("loop", "1")
    assert first.current_stage == "Production" and first.tags["loopline.judged"] == "true"
    assert [str(one.version) for one in client.get_latest_versions("loop", ["Production"])] == ["1"]
    where = {mlflow.artifacts.download_artifacts(uri) for uri in ("models:/loop@production", "models:/loop/Production")}
    assert {path.name for path in Path(where.pop()).rglob("*") if path.is_file()} >= {
        "MLmodel",
        "model.onnx",
        "loopline.json",
        "requirements.txt",
        "loopline_bundle.py",
    }
    info = mlflow.models.get_model_info("models:/loop@production")
    assert set(info.flavors) == {"onnx", "python_function"} and info.signature is not None
    if not importable("onnxruntime"):
        return
    import pandas

    model = mlflow.pyfunc.load_model("models:/loop@production")
    rows = pandas.DataFrame({"amount": [1.0, 500.0], "country": ["DE", "FR"]})
    scored = model.predict(rows)
    assert list(scored.columns) == ["probability", "decision"] and len(scored) == 2, scored
    assert scored["probability"].between(0, 1).all()
    print(json.dumps({"name": "loop", "scored": [float(x) for x in scored["probability"]]}), flush=True)


@feature
def what_a_loop_trained_and_onnx_cannot_hold_loads_by_its_own_library() -> None:
    import pandas

    for kind, module in (("lightgbm", "lightgbm"), ("skops", "skops")):
        info = mlflow.models.get_model_info(f"models:/loop-{kind}/1")
        assert "python_function" in info.flavors and info.signature is not None
        if not importable(module):
            continue
        model = mlflow.pyfunc.load_model(f"models:/loop-{kind}/1")
        scored = model.predict(pandas.DataFrame({"amount": [1.0, 500.0], "country": ["DE", "FR"]}))
        print(json.dumps({"name": f"loop-{kind}", "scored": [float(x) for x in scored["probability"]]}), flush=True)


def importable(module: str) -> bool:
    """Whether the client has a module."""
    import importlib.util

    return importlib.util.find_spec(module) is not None


@feature
def what_was_judged_is_neither_renamed_nor_deleted() -> None:
    client = MlflowClient()
    for number in ("1", "2"):
        said = refused(DENIED, client.delete_model_version, "loop", number)
        assert "retired" in said, said
    refused(DENIED, client.delete_registered_model, "loop")
    refused(DENIED, client.rename_registered_model, "loop", name())


@feature
def a_loop_and_a_client_share_one_row_of_numbers() -> None:
    client = MlflowClient()
    first = int(brought("loop")[1])
    second = int(brought("loop")[1])
    assert first >= 3 and second == first + 1
    client.delete_model_version("loop", str(second))


@feature
def stages_move_and_make_room() -> None:
    client, (made, _) = MlflowClient(), brought()
    brought(made)
    client.transition_model_version_stage(made, "1", "staging")
    client.transition_model_version_stage(made, "2", "Staging", archive_existing_versions=True)
    assert [client.get_model_version(made, n).current_stage for n in ("1", "2")] == ["Archived", "Staging"]
    assert [str(v.version) for v in client.get_latest_versions(made, ["Staging"])] == ["2"]
    assert len(client.get_latest_versions(made)) == 2
    refused(BAD, client.transition_model_version_stage, made, "1", "nowhere")
    refused(BAD, client.transition_model_version_stage, made, "1", "None", archive_existing_versions=True)


@feature
def sources_that_lead_elsewhere_are_refused() -> None:
    client, made, run = MlflowClient(), name(), folder()
    client.create_registered_model(made)
    for source in (
        "/etc", "file:///etc", "file:/etc/passwd", "file://localhost/etc", ".", "../x", "C:\\x", "etc/passwd", "",
        f"runs:/{run}/../../../etc", f"runs:/{run}/%2e%2e/x", f"mlflow-artifacts:/0/{run}/artifacts/../../x",
        f"mlflow-artifacts:/0/{run}/artifacts/%252e%252e/x", "models:/nobody/1", "models://host/a/1", "runs://h/x/y",
        f"runs:/{'f' * 32}/model", f"runs:/{run}/nothing", "ftp://a/b", "sqlite:///x.db", "models:/m-" + "f" * 32,
        "s3://bucket/../x", f"runs:/{run}/model\x00", "FILE:///etc", "javascript:alert(1)",
    ):  # fmt: skip
        try:
            client.create_model_version(made, source, run)
        except MlflowException as error:
            assert error.error_code in (BAD, NONE), (source, str(error))
        else:
            raise AssertionError(source)
    assert client.search_model_versions(f"name = '{made}'") == []
    found = client.create_model_version(made, "s3://bucket/model", run)
    assert (
        "elsewhere" in found.tags.get("loopline.digest", "")
        or "elsewhere" in client.get_model_version(made, found.version).tags["loopline.digest"]
    )
    assert client.get_model_version_download_uri(made, found.version) == "s3://bucket/model"


@feature
def versions_are_copied() -> None:
    client, (made, number), to = MlflowClient(), brought(text="copied"), name()
    found = client.copy_model_version(f"models:/{made}/{number}", to)
    assert (found.name, str(found.version)) == (to, "1")
    where = mlflow.artifacts.download_artifacts(f"models:/{to}/1")
    assert Path(where, "MLmodel").read_text() == "copied"
    found = client.copy_model_version("models:/loop/1", to)
    assert str(found.version) == "2" and found.tags["loopline.judged"] == "false"


@feature
def models_and_versions_are_found() -> None:
    client, mark = MlflowClient(), uuid.uuid4().hex[:8]
    for at in range(5):
        client.create_registered_model(f"s{mark}-{at}", tags={"at": str(at), "mark": mark})
    every = client.search_registered_models(f"name LIKE 's{mark}%'", order_by=["name DESC"], max_results=2)
    assert [one.name for one in every] == [f"s{mark}-4", f"s{mark}-3"] and every.token
    rest = client.search_registered_models(
        f"name LIKE 's{mark}%'", order_by=["name DESC"], max_results=2, page_token=every.token
    )
    assert [one.name for one in rest] == [f"s{mark}-2", f"s{mark}-1"]
    assert len(client.search_registered_models(f"tags.mark = '{mark}' AND tags.at != '2'")) == 4
    assert len(client.search_registered_models(f"name ILIKE 'S{mark.upper()}%'")) == 5
    assert len(client.search_registered_models(f"name = 's{mark}-1' OR name = 's{mark}-2'")) == 2
    run = folder()
    for _ in range(3):
        client.create_model_version(f"s{mark}-0", f"runs:/{run}/model", run, tags={"k": "v"})
    of = f"name = 's{mark}-0'"
    assert len(client.search_model_versions(of)) == len(client.search_model_versions(f"run_id = '{run}'")) == 3
    assert [str(v.version) for v in client.search_model_versions(of, order_by=["version_number ASC"])] == [
        "1",
        "2",
        "3",
    ]
    assert next(str(v.version) for v in client.search_model_versions(of)) == "3"
    assert len(client.search_model_versions(f"{of} AND version_number > 1 AND tags.k = 'v'")) == 2
    assert len(client.search_model_versions(f"run_id IN ('{run}', 'x')")) == 3
    for bad in (
        "nope = 'x'",
        "name = 'a' AND",
        "name > 'a'",
        "version_number LIKE '1'",
        "'; DROP TABLE facts; --",
        "name = 'a' UNION SELECT 1",
        "tags.k > 'v'",
        "metrics.a = 1",
    ):
        refused(BAD, client.search_model_versions, bad)
    assert client.search_model_versions("name = 'x'' OR ''1''=''1'") == []
    refused(BAD, client.search_registered_models, page_token="nonsense")
    refused(BAD, client.search_registered_models, max_results=1001)
    start = time.perf_counter()
    client.search_registered_models("name LIKE '" + "%a" * 200 + "%b'")
    assert time.perf_counter() - start < 5


@feature
def prompts_are_kept_beside_and_hidden_from_models() -> None:
    genai = getattr(mlflow, "genai", mlflow)
    made = name("prompt")
    first = genai.register_prompt(name=made, template="Say {{what}}", commit_message="one", tags={"by": "ada"})
    second = genai.register_prompt(name=made, template="Please say {{what}}", commit_message="two")
    assert (int(first.version), int(second.version)) == (1, 2)
    assert genai.load_prompt(f"prompts:/{made}/1").template == "Say {{what}}"
    genai.set_prompt_alias(made, alias="production", version=1)
    loaded = genai.load_prompt(f"prompts:/{made}@production")
    assert loaded.format(what="yes") == "Say yes"
    client = MlflowClient()
    assert made not in [one.name for one in client.search_registered_models(max_results=1000)]
    assert made not in [one.name for one in client.search_model_versions()]
    assert made in [one.name for one in genai.search_prompts()]
    genai.delete_prompt_alias(made, alias="production")


def main() -> None:
    mlflow.set_tracking_uri(sys.argv[1])
    print(json.dumps({"version": mlflow.__version__}), flush=True)
    wanted = sys.argv[2:]
    for each in FEATURES:
        if wanted and each.__name__ not in wanted:
            continue
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
    main()
