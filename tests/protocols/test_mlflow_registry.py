"""The registry through the door of tracking clients: the stock client, and requests that no client sends."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sklearn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.protocols.tracking import API, FILES, Served, served
from tests.registry.candidates import committed

from loopline import registry
from loopline.base.errors import Denied, Invalid
from loopline.interfaces.mlflow.errors import Refusal
from loopline.interfaces.mlflow.registry import settled
from loopline.interfaces.mlflow.registry_bundle import folder
from loopline.interfaces.mlflow.registry_search import MODEL_FIELDS, VERSION_FIELDS, Seen, matcher
from loopline.registry.nouns import Version
from loopline.training.archive import unpack
from loopline.training.bundle import build_bundle, read_bundle
from loopline.training.encoding import encode, learn
from loopline.training.packages import skops
from loopline.training.packages.calling import calling
from loopline.training.packages.packaged import Permission
from loopline.training.packages.runtimes import behind, opened
from loopline.training.spec import TransformSpec
from loopline.training.transforms import fit
from loopline.workspace import Workspace, create_workspace

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = Path(__file__).parent / "clients" / "mlflow_registry_scenario.py"
CLIENTS = ROOT / ".clients"
NEWEST, OLDER = "mlflow", sorted(path.name for path in CLIENTS.glob("mlflow-*"))
FEATURES = 18
NATIVE = ("lightgbm", "skops")
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


INPUTS = learn(ROWS, ["amount", "country"], {"country"})


def native(kind: str) -> bytes:
    """A bundle that ships in a native runtime, its columns scaled and encoded first."""
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.uniform(0, 600, 200), rng.integers(0, 2, 200)]).astype(np.float32)
    specs = [
        TransformSpec(columns="numbers", scale="standard", impute=0.0),
        TransformSpec(columns="categories", encode="onehot"),
    ]
    y = (X[:, 0] + 300 * X[:, 1] > 450).astype(np.int8)
    transforms, seen = fit(specs, INPUTS, X, y, seed=1)
    if kind == "lightgbm":
        import lightgbm

        made = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, lightgbm.Dataset(seen, y), 5)
        file, data, about = "model.txt", made.model_to_string().encode(), {"lightgbm": lightgbm.__version__}
    elif kind == "xgboost":
        xgboost = pytest.importorskip("xgboost", reason="the extra loopline[xgboost] is not installed")
        made = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(seen, y), 5)
        file, data, about = "model.ubj", bytes(made.save_raw("ubj")), {"xgboost": xgboost.__version__}
    else:
        from sklearn.naive_bayes import GaussianNB

        fitted = GaussianNB().fit(seen, y)
        way = skops.way(fitted, calling(fitted, None))
        file, (data, about) = way.file, way.build(Permission())
    runtime = {
        "name": kind,
        "file": f"native/{file}",
        **about,
        "onnx": {"why": "a test"},
        "transforms": [transforms.doc()],
    }
    score = behind([transforms], opened(kind, data, about))
    return build_bundle(
        inputs=INPUTS,
        threshold=0.6,
        model=None,
        native={file: data},
        probe=ROWS,
        scores=score(encode(ROWS, INPUTS)),
        about={"environment": {"packaging": {"scikit-learn": sklearn.__version__}}},
        runtime=runtime,
    )


def trained(
    ws: Workspace, mark: str, slope: float = 1.0, *, bundle: bytes | None = None, name: str = "loop"
) -> Version:
    """A version as a loop registers it."""
    bundle = bundle or build_bundle(
        inputs=INPUTS,
        threshold=0.6,
        model=onnx_of(slope),
        native={},
        probe=ROWS,
        scores=1 / (1 + np.exp(-slope * np.array([0.001, 1.5]))),
        about={},
    )
    model, report = committed(ws, mark, bundle=bundle, features=("amount", "country"), framework="onnx", threshold=0.6)
    return registry.register(ws, name=name, model=model, report=report, author="user:ada", risk="limited", policy={})


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
    for kind in NATIVE:
        trained(ws, kind, bundle=native(kind), name=f"loop-{kind}")
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
    scored = set()
    for line in done.stdout.splitlines():
        if line.startswith('{"name"'):
            one = json.loads(line)
            first = registry.resolve(house.ws, one["name"], "1")
            ours = read_bundle(house.ws.blobs.get(first.bundle)).predict(ROWS)
            assert one["scored"] == pytest.approx(ours.tolist(), abs=1e-6)
            scored.add(one["name"])
    if os.environ.get("REQUIRE") == "all" and client == NEWEST:
        assert scored == {"loop", *(f"loop-{kind}" for kind in NATIVE)}
    assert done.returncode == 0 and len(told) == FEATURES, done.stderr[-2000:]


def refused(reply, code="INVALID_PARAMETER_VALUE", status=400) -> str:
    assert reply.status == status, reply
    assert reply.json["error_code"] == code, reply
    return str(reply.json["message"])


@pytest.mark.parametrize(
    ("path", "method", "fields"),
    [
        ("registered-models/create", "POST", {"name": 5}),
        ("registered-models/create", "POST", {}),
        ("registered-models/create", "POST", {"name": "a\x00b"}),
        ("registered-models/create", "POST", {"name": "../../etc"}),
        ("registered-models/create", "POST", {"name": "x", "tags": [{"value": "v"}]}),
        ("registered-models/create", "POST", {"name": "x", "tags": [{"key": "a//b", "value": "v"}]}),
        ("registered-models/rename", "POST", {"name": "loop"}),
        ("registered-models/alias", "POST", {"name": "loop", "alias": "x", "version": "-1"}),
        ("registered-models/alias", "POST", {"name": "loop", "alias": "x", "version": "1; DROP TABLE facts"}),
        ("registered-models/alias", "POST", {"name": "loop", "alias": "x/../production", "version": "1"}),
        ("registered-models/alias", "POST", {"name": "loop", "alias": "x\n", "version": "1"}),
        ("model-versions/create", "POST", {"name": "loop"}),
        ("model-versions/create", "POST", {"name": "loop", "source": "/"}),
        ("model-versions/create", "POST", {"name": "loop", "source": "x" * 3000}),
        ("model-versions/create", "POST", {"name": "loop", "source": "runs:/%" + "25" * 12 + "2e/x"}),
        ("model-versions/transition-stage", "POST", {"name": "loop", "version": "1", "stage": ["Production"]}),
        ("model-versions/search", "POST", {"filter": "name = 'a' ; --"}),
        ("model-versions/search", "POST", {"filter": "name LIKE 5"}),
        ("model-versions/search", "POST", {"order_by": ["source_path"]}),
        ("model-versions/search", "POST", {"page_token": "WzAsIDFd"}),
        ("model-versions/search", "POST", {"max_results": 200_001}),
    ],
)
def test_nonsense_is_refused_in_words(house, path, method, fields):
    assert refused(house.call(path, method, **fields))


def test_the_files_of_a_version_are_read_but_never_written(house):
    where = house.send("GET", API + "model-versions/get-download-uri?name=loop&version=1").json["artifact_uri"]
    owner = where.removeprefix("mlflow-artifacts:/")
    kept = house.send("GET", f"{FILES}/{owner}/model.onnx")
    first = registry.resolve(house.ws, "loop", "1")
    assert kept.body == unpack(house.ws.blobs.get(first.bundle))["model.onnx"]
    for method in ("PUT", "DELETE"):
        refused(house.send(method, f"{FILES}/{owner}/model.onnx", b"evil"), "RESOURCE_DOES_NOT_EXIST", 404)
        refused(house.send(method, f"{FILES}/{owner}/more.txt", b"evil"), "RESOURCE_DOES_NOT_EXIST", 404)
    assert house.send("GET", f"{FILES}/{owner}/model.onnx").body == kept.body


def test_a_damaged_file_of_a_version_is_not_handed_out(house):
    run = house.run()
    house.send("PUT", f"{FILES}/0/{run}/artifacts/model/MLmodel", b"a model that will be damaged")
    house.call("registered-models/create", name="damaged")
    made = house.call("model-versions/create", name="damaged", source=f"runs:/{run}/model", run_id=run).json
    owner = made["model_version"]["source"].removeprefix("mlflow-artifacts:/")
    digest = house.ws.artifacts.find(owner.split("/")[1], "MLmodel").digest
    blob = house.ws.artifacts.blobs.where(digest)
    blob.chmod(0o600)
    blob.write_bytes(b"a model that WAS damaged....")
    assert "damaged" in refused(house.send("GET", f"{FILES}/{owner}/MLmodel"))


def test_a_request_cannot_name_another_to_get_around_the_gate(house):
    for fields in (
        {"name": "loop", "alias": "production", "version": "2", "actor": "user:bob", "approvals": {"needed": 0}},
        {"name": "loop", "alias": "production", "version": "02"},
    ):
        said = refused(house.call("registered-models/alias", **fields), "PERMISSION_DENIED", 403)
        assert "approvals: none, wanted 1" in said and "user:ada is its author" in said
    assert registry.resolve(house.ws, "loop", "production").number == 1


def test_who_would_release_a_clients_version_is_told_what_can_be_done_where_it_lies(house):
    house.call("registered-models/create", name="foreign")
    run = house.run()
    house.send("PUT", f"{FILES}/0/{run}/artifacts/model/MLmodel", b"a model of a client")
    house.call("model-versions/create", name="foreign", source=f"runs:/{run}/model", run_id=run)
    asked = {"name": "foreign", "alias": "production", "version": "1"}
    said = refused(house.call("registered-models/alias", **asked), "PERMISSION_DENIED", 403)
    assert "no project to judge it in" in said and "`name: foreign`" in said and "loopline registry adopt 1" in said
    page = house.ws.root.parent / "loop.yaml"
    page.touch()
    said = refused(house.call("registered-models/alias", **asked), "PERMISSION_DENIED", 403)
    page.unlink()
    assert "no project" not in said and f"in the project {page.parent.name}, `loopline registry adopt 1`" in said


def test_a_version_with_all_its_conditions_is_promoted_by_the_stage_too(house):
    third = trained(house.ws, "three", 3.0)
    registry.approve(house.ws.acting_as("user:bob"), third, reason="better")
    number = str(third.number)
    moved = house.call("model-versions/transition-stage", name="loop", version=number, stage="Production").json
    assert moved["model_version"]["current_stage"] == "Production"
    release = registry.history(house.ws, "loop")[0]
    assert release.version == third.id and "through a tracking client" in release.reason
    first = house.send("GET", API + "model-versions/get?name=loop&version=1").json["model_version"]
    assert first["current_stage"] == "Archived"
    registry.rollback(house.ws, "loop", reason="back")


def written(version: Version, bundle: bytes, workspace: str, where: Path) -> Path:
    """The folder of a version, as a client has it after loading."""
    for path, data in folder(version, unpack(bundle), workspace).items():
        target = where / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return where


@pytest.mark.parametrize("kind", [*NATIVE, "xgboost"])
def test_a_version_in_a_native_runtime_is_a_folder_without_pickle_that_scores_alike(house, kind, tmp_path, monkeypatch):
    bundle = native(kind)
    where = written(registry.resolve(house.ws, "loop", "1"), bundle, house.ws.id, tmp_path)
    assert not [path for path in where.rglob("*") if path.suffix in (".pkl", ".onnx")]
    needed = (where / "requirements.txt").read_text().split()
    assert any(line.startswith(f"{kind}==") for line in needed) and not any("onnxruntime" in line for line in needed)
    monkeypatch.syspath_prepend(str(where / "code"))
    for module in ("loopline_bundle", "loopline_native"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    loaded = importlib.import_module("loopline_bundle")._load_pyfunc(str(where))
    rows = {"amount": [1.0, 500.0, None, 320.0, 450.5], "country": ["DE", "FR", None, "XX", "DE"]}
    ours = read_bundle(bundle).predict(pl.DataFrame(rows))
    assert np.array_equal(np.asarray(loaded.predict(rows)["probability"]), ours)


def test_the_library_s_own_flavour_stands_there_where_it_takes_the_inputs_as_they_are(house, tmp_path):
    def flavours(doc: dict[str, object]) -> set[str]:
        bundle = {
            "manifest.json": json.dumps({"inputs": [], "threshold": 0.5, **doc}).encode(),
            "native/model.txt": b"",
        }
        found = folder(registry.resolve(house.ws, "loop", "1"), bundle, house.ws.id)
        return set(json.loads(found["MLmodel"])["flavors"])

    runtime = {"name": "lightgbm", "file": "native/model.txt"}
    assert flavours({"runtime": runtime}) == {"lightgbm", "python_function"}
    assert flavours({"runtime": {**runtime, "transforms": [[]]}}) == {"python_function"}


def test_a_pickle_and_types_that_nobody_here_signed_for_are_not_given_out(house):
    version = registry.resolve(house.ws, "loop", "1")
    for runtime, said in (
        ({"name": "pickle", "file": "native/model.pkl"}, "pickle runtime"),
        ({"name": "another", "file": "native/x"}, "another runtime"),
        ({"name": "skops", "file": "native/model.skops", "types": ["os.system"]}, "no key trusted here"),
    ):
        bundle = {"manifest.json": json.dumps({"runtime": runtime, "inputs": [], "threshold": 0.5}).encode()}
        with pytest.raises(Denied, match=said):
            folder(version, bundle, house.ws.id)


@example(text="a", pattern="%a%a%", ignore=False)
@given(text=st.text(max_size=30), pattern=st.text(alphabet="ab%_.*\\ü", max_size=12), ignore=st.booleans())
def test_like_is_what_its_slow_definition_says(text, pattern, ignore):
    def slow(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "%":
            return any(slow(p[1:], t[at:]) for at in range(len(t) + 1))
        return bool(t) and (p[0] in ("_", t[0])) and slow(p[1:], t[1:])

    for given_text in (text, text.replace("c", "a"), "ab" * 3, pattern.replace("%", "xy").replace("_", "z")):
        fits = matcher(f"name {'ILIKE' if ignore else 'LIKE'} '{pattern}'", MODEL_FIELDS)
        seen = Seen({"name": given_text.lower() if ignore else given_text}, {}, False)
        assert fits(seen) == slow(pattern, seen.fields["name"])


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60) | st.from_regex(r"(name|tags\.`x`|run_id) (=|LIKE|IN) '.{0,20}'( AND .*)?"))
def test_any_filter_is_read_or_refused_and_finds_no_more_than_there_is(text):
    try:
        fits = matcher(text, VERSION_FIELDS)
    except (Refusal, Invalid):
        return
    fields = {"name": "n", "version_number": 1, "run_id": None, "source_path": "s", "creation_timestamp": 1}
    assert fits(Seen({**fields, "last_updated_timestamp": 1}, {"x": "y"}, False)) in (True, False)


def test_a_name_that_sounds_like_a_conflict_is_refused_at_once(house):
    name = "someone else changed it since it was read, has moved: generation 2"
    name = name.replace(":", "")
    assert house.call("registered-models/create", name=name).status == 200
    start = time.perf_counter()
    refused(house.call("registered-models/create", name=name), "RESOURCE_ALREADY_EXISTS")
    assert time.perf_counter() - start < 1.0


def test_the_door_tries_again_exactly_what_was_overtaken(house):
    tries = []

    def overtaken():
        tries.append(True)
        with house.ws.records.transaction() as tx:
            tx.move("nothing", "at all", "x", expect=len(tries) - 3 if len(tries) < 4 else 0, at=START)

    settled(overtaken)
    assert len(tries) == 3
