"""A version that a tracking client brought is judged like one of ours, and opened without running anything of it."""

from __future__ import annotations

import io
import json
import pickle
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from tests.training.world import FRAMING, project, rows, training_set, workspace

from loopline import governance, registry
from loopline.base.errors import Denied, Invalid, NotFound
from loopline.base.nouns import to_doc
from loopline.evaluation import EvaluationSpec, GateSpec, evaluate
from loopline.registry.nouns import Version
from loopline.training import TrainingSpec, load_bundle, train
from loopline.training.archive import unpack
from loopline.training.encoding import encode
from loopline.training.nouns import Model, Run
from loopline.training.reproducing.verbs import reproduce

RECIPE = TrainingSpec(recipe="train.py:fit")
GATES = EvaluationSpec(gates=(GateSpec(metric="roc_auc", against="baseline", better_by=0.0),))
FEATURES = ("a", "b", "c", "kind")
OPENED: list[str] = []


@pytest.fixture(autouse=True, scope="module")
def keys_of_the_test(tmp_path_factory):
    """One folder of keys for all of them: they share a workspace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPLINE_KEYS", str(tmp_path_factory.mktemp("keys")))
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory, keys_of_the_test):
    """A loop `small` with one version, and the set that it was trained on."""
    root = tmp_path_factory.mktemp("adopting")
    ws, folder = workspace(root / "ws"), project(root / "p")
    given = training_set(ws, rows(), FEATURES)
    with ws.records.transaction() as tx:
        tx.put(given)
    _, model = train(ws, folder, training=RECIPE, training_set=given, framing=FRAMING, author="user:ada", tracked=False)
    report = evaluate(ws, folder, evaluation=GATES, framing=FRAMING, model=model, champion=None, training_set=given)
    registry.register(ws, name="small", model=model, report=report, author="user:ada", risk="limited", policy={})
    numbers = count(1)
    yield SimpleNamespace(
        ws=ws,
        folder=folder,
        model=model,
        set=given,
        owner=lambda: f"m-{next(numbers):032x}",
        inside=unpack(ws.blobs.get(model.bundle)),
    )
    ws.close()


def brought(world, files: dict[str, bytes], owner: str | None = None, name: str = "small"):
    """A version that a client registered with these files."""
    ws, owner = world.ws.acting_as("user:grace"), owner or world.owner()
    for path, data in files.items():
        ws.artifacts.put(owner, path, data, at_ms=0)
    return registry.deposit(ws, name, source=f"models:/{owner}", owner=owner)


def described(flavours: dict[str, object], columns: tuple[str, ...] = ()) -> bytes:
    inputs = json.dumps([{"type": "double", "name": name} for name in columns])
    return json.dumps({"flavors": flavours, "signature": {"inputs": inputs}}).encode()


def onnx_files(world, columns: tuple[str, ...] = FEATURES) -> dict[str, bytes]:
    return {
        "model.onnx": world.inside["model.onnx"],
        "MLmodel": described({"onnx": {"data": "model.onnx"}, "python_function": {}}, columns),
    }


def adopt(world, number: int, **how):
    return registry.adopt(
        world.ws,
        world.folder,
        "small",
        number,
        training=RECIPE,
        evaluation=GATES,
        framing=how.get("framing", FRAMING),
        training_set=world.set,
        champion=None,
        policy={},
    )


def test_an_onnx_model_is_judged_approved_and_promoted_under_its_number(world):
    found = brought(world, onnx_files(world))
    with pytest.raises(NotFound, match="not judged yet"):
        registry.resolve(world.ws, "small", str(found.number))
    made, report = adopt(world, found.number)
    assert (made.number, made.author) == (found.number, "user:grace")
    assert report.passed and report.rows == rows().filter(split="test").height
    assert registry.resolve(world.ws, "small", str(made.number)) == made
    assert all(one.passed for one in registry.verify(world.ws, made))
    model = world.ws.records.get(Model, made.model)
    assert world.ws.records.get(Run, model.run).recipe == f"adopted from small/{made.number}"
    assert adopt(world, found.number) == (made, report)
    with pytest.raises(Invalid, match="cannot be made again: it was adopted from small") as refused:
        reproduce(world.ws, model)
    assert "trained elsewhere" in refused.value.why and "train it here" in refused.value.fix
    assert "adopted from small" in str(to_doc(governance.why(world.ws, made.id)))
    assert governance.lineage(world.ws, made.id)
    held_out = rows().filter(split="test")
    ours, theirs = (load_bundle(world.ws.blobs.path(one.bundle)) for one in (world.model, model))
    assert np.allclose(ours.predict(held_out), theirs.predict(held_out), atol=1e-6)
    with pytest.raises(Denied, match="is its author"):
        registry.approve(world.ws.acting_as("user:grace"), made, reason="mine")
    with pytest.raises(Denied, match="approvals"):
        registry.promote(world.ws, made, reason="now")
    registry.approve(world.ws.acting_as("user:ada"), made, reason="read the report")
    assert registry.promote(world.ws, made, reason="go").version == made.id
    with pytest.raises(Denied, match="released as production"):
        registry.withdraw(world.ws, "small", made.number)


def test_a_booster_in_its_own_text_is_adopted_and_numbers_go_on(world):
    (text,) = [data for name, data in world.inside.items() if name.startswith("native/")]
    found = brought(world, {"MLmodel": described({"lightgbm": {"data": "model.lgb"}}), "model.lgb": text})
    made, report = adopt(world, found.number)
    assert made.number == found.number and report.passed
    assert brought(world, {"x": b"x"}).number == found.number + 1


def test_a_skops_file_of_known_types_is_adopted(world):
    sio = pytest.importorskip("skops.io")
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train_rows = rows().filter(split="train")
    inputs = load_bundle(world.ws.blobs.path(world.model.bundle)).inputs
    fitted = make_pipeline(SimpleImputer(), LogisticRegression()).fit(
        encode(train_rows, inputs), train_rows["label"].to_numpy().astype(int)
    )
    files = {"MLmodel": described({"sklearn": {"pickled_model": "model.skops"}}), "model.skops": sio.dumps(fitted)}
    made, report = adopt(world, brought(world, files).number)
    assert report.passed and world.ws.records.get(Model, made.model).framework == "sklearn"


def test_a_loop_of_high_risk_takes_nothing_from_outside(world):
    found = brought(world, onnx_files(world))
    with pytest.raises(Denied, match="risk: high"):
        adopt(world, found.number, framing=FRAMING.model_copy(update={"risk": "high"}))


def test_a_version_of_ours_and_one_without_files_are_not_adopted(world):
    with pytest.raises(Invalid, match="was not brought by a client"):
        adopt(world, 1)
    found = registry.deposit(world.ws, "small", source="s3://bucket/model")
    with pytest.raises(Invalid, match="its bytes lie at s3://bucket/model"):
        adopt(world, found.number)


@pytest.mark.parametrize(
    ("files", "error", "said"),
    [
        ({"MLmodel": described({"sklearn": {"pickled_model": "m.pkl"}}), "m.pkl": b""}, Denied, "is the pickle m.pkl"),
        ({"MLmodel": described({"python_function": {}}), "python_model.pkl": b""}, Denied, "is the pickle"),
        ({"MLmodel": described({"keras": {"data": "data"}}), "data/x": b"x"}, Invalid, "the flavours keras"),
        ({"MLmodel": described({"onnx": {"data": "model.onnx"}})}, Invalid, "has no file 'model.onnx'"),
        ({"MLmodel": described({"onnx": {"data": "../../x"}})}, Invalid, "has no file"),
        ({"MLmodel": described({"onnx": {"data": "model.onnx"}}), "model.onnx": b"no"}, Invalid, "no ONNX model"),
        ({"MLmodel": described({"lightgbm": {"data": "model.lgb"}}), "model.lgb": b"no"}, Invalid, "cannot be read"),
        ({"MLmodel": described({"sklearn": {"data": "m.skops"}}), "m.skops": b"PK"}, Invalid, "cannot be read"),
        ({"MLmodel": described({"onnx": {"data": "m"}}, ("other",)), "m": b""}, Invalid, "reads other columns"),
        ({"MLmodel": b"a: &a [*a, *a]\nb: !!python/object/apply:os.system ['x']\n"}, Invalid, "MLmodel cannot be read"),
        ({"MLmodel": b"\xff\xfe"}, Invalid, "MLmodel cannot be read"),
        ({"MLmodel": b"[1, 2]"}, Invalid, "MLmodel cannot be read"),
        ({"x.txt": b"nothing"}, Invalid, "the flavours none"),
    ],
)
def test_what_is_no_model_or_would_run_code_is_refused(world, files, error, said):
    before = len(world.ws.records.find(Version))
    found = brought(world, files)
    with pytest.raises(error, match=said):
        adopt(world, found.number)
    assert len(world.ws.records.find(Version)) == before


class Trap:
    """A pickle that leaves a mark when it is opened."""

    def __reduce__(self):
        return mark, ("opened",)


def mark(word: str) -> None:
    OPENED.append(word)


def test_a_pickle_is_never_opened(world):
    data = pickle.dumps(Trap())
    pickle.load(io.BytesIO(data))
    assert OPENED.pop() == "opened"
    files = {"MLmodel": described({"sklearn": {"pickled_model": "m.pkl"}}), "m.pkl": data, "model.skops": data}
    with pytest.raises(Denied):
        adopt(world, brought(world, files).number)
    files["MLmodel"] = described({"sklearn": {"pickled_model": "model.skops"}})
    with pytest.raises(Invalid):
        adopt(world, brought(world, files).number)
    assert OPENED == []


def test_what_was_brought_changes_no_more_and_lies_under_its_digest(world):
    owner = world.owner()
    found = brought(world, {"MLmodel": b"one"}, owner)
    world.ws.artifacts.put(owner, "MLmodel", b"two", at_ms=1)
    assert world.ws.artifacts.read(found.id[:32], "MLmodel") == b"one"
    world.ws.artifacts.delete(owner)
    world.ws.artifacts.sweep()
    assert world.ws.artifacts.read(found.id[:32], "MLmodel") == b"one"
