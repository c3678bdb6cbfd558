"""No code of a bundle runs where policy and signature do not both allow it: a canary file would tell."""

from __future__ import annotations

import functools
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.preprocessing import FunctionTransformer
from tests.training.packages.models import INPUTS, asked, bundled, chosen, data, frame, parsed
from tests.training.test_bundle import repacked
from tests.training.world import FRAMING, START, workspace

from loopline import serving
from loopline.base.errors import Denied, Invalid, LooplineError
from loopline.base.ids import canonical
from loopline.base.keys import SigningKey
from loopline.evaluation.verbs import _bundle as evaluated
from loopline.governance import features, served_as
from loopline.loop import world
from loopline.testing.inference import linear_bundle, start, variant
from loopline.training import Model, Run
from loopline.training.archive import pack, unpack
from loopline.training.bundle import build_bundle, load_bundle, read_bundle
from loopline.training.packages import skops
from loopline.training.packages.calling import Calling
from loopline.training.packages.trust import SIGNATURE, Trust, sign, trust_of
from loopline.training.verbs import _found

CALL = Calling(None, ("a", "b", "c", "kind")).doc()


class Evil:
    """Writes the id of the process that opens it."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        code = f"__import__('pathlib').Path({str(self.canary)!r}).write_text(str(__import__('os').getpid()))"
        return eval, (f"({code}, len)[1]",)


@pytest.fixture
def canary(tmp_path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def ws(tmp_path):
    found = workspace(tmp_path / "ws")
    SigningKey.load(f"workspace-{found.id}", create=True)
    yield found
    found.close()


def hostile(payload: bytes, *, name="pickle", file="model.pickle", key=None, **about) -> bytes:
    """A bundle in a native runtime, all of whose digests hold."""
    probe = frame(asked(3))
    doc = {"name": name, "file": f"native/{file}", "call": CALL, "types": [], "onnx": {"why": "x"}, **about}
    return build_bundle(
        inputs=INPUTS, threshold=0.5, model=None, native={file: payload}, probe=probe, scores=np.zeros(3), about={},
        runtime=doc, key=key,
    )  # fmt: skip


def torch_file(canary: Path) -> bytes:
    """What torch.save writes: a zip around a pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Evil(canary)))
        archive.writestr("model/version", b"3")
    return out.getvalue()


def skops_file(canary: Path) -> bytes:
    sio = pytest.importorskip("skops.io", reason="the extra loopline[skops] is not installed")
    return sio.dumps(FunctionTransformer(functools.partial(os.system, f"touch {canary}")))


def attacks(canary: Path, ws) -> dict[str, bytes]:
    evil = pickle.dumps(Evil(canary))
    stranger = SigningKey.load("stranger", create=True)
    own = SigningKey.load(f"workspace-{ws.id}")
    signed = unpack(hostile(b"something else", key=own))
    moved = {**unpack(hostile(evil)), SIGNATURE: signed[SIGNATURE]}
    onnx = repacked(linear_bundle(INPUTS, [1.0] * 4), lambda files, _: files.update({"model.onnx": evil}))
    beside = unpack(linear_bundle(INPUTS, [1.0] * 4))
    return {
        "a pickle, unsigned": hostile(evil),
        "a pickle, signed by a stranger": hostile(evil, key=stranger),
        "a pickle with another bundle's signature": pack(moved),
        "a pickle with a signature that is none": pack({**unpack(hostile(evil)), SIGNATURE: b"[1]"}),
        "a pickle for risk high, signed": hostile(evil, key=own, risk="high"),
        "a pickle as LightGBM": hostile(evil, name="lightgbm"),
        "a pickle as XGBoost": hostile(evil, name="xgboost"),
        "a pickle as skops": hostile(evil, name="skops"),
        "a pickle as ONNX": onnx,
        "a pickle as a runtime of its own": hostile(evil, name="os"),
        "a pickle as the module that opens it": hostile(evil, name="pickled"),
        "a torch file": hostile(torch_file(canary)),
        "a torch file as torch": hostile(torch_file(canary), name="torch"),
        "a torch file as skops": hostile(torch_file(canary), name="skops"),
        "a signed pickle in the old format": pack({**beside, "native/model.pickle": evil, SIGNATURE: sign(b"", own)}),
    }


READERS = {
    "bundle": lambda ws, digest: read_bundle(ws.blobs.get(digest), trust_of(ws.id)),
    "file": lambda ws, digest: load_bundle(ws.blobs.path(digest), trust_of(ws.id)),
    "evaluation": lambda ws, digest: evaluated(ws, model(digest)),
    "replay": lambda ws, digest: world.scored(ws, model(digest), None),
    "governance": lambda ws, digest: served_as._bundle(ws.blobs.path(digest), trust_of(ws.id)),
}


def model(digest: str) -> Model:
    return Model("m", "run", "t", FRAMING.id, digest, ("a", "b", "c", "kind"), "python", "user:ada", 0.5, {}, START)


@pytest.fixture(params=[False, True], ids=["forbidden", "allowed"])
def allowed(request, monkeypatch):
    if request.param:
        monkeypatch.setenv("LOOPLINE_ALLOW_UNSAFE", "1")
    return request.param


def test_no_reader_runs_a_line_of_a_hostile_bundle_whatever_the_machine_allows(ws, canary, allowed):
    made = attacks(canary, ws)
    if not allowed:
        made["a pickle, signed by us"] = hostile(pickle.dumps(Evil(canary)), key=SigningKey.load(f"workspace-{ws.id}"))
    for what, bundle in made.items():
        digest = ws.blobs.put(bundle)
        for where, read in READERS.items():
            with pytest.raises(LooplineError):
                read(ws, digest)
            assert not canary.exists(), f"{what} ran in {where}"
        assert features._importance(ws, model(digest)) == {}
        assert not canary.exists(), f"{what} ran in the catalogue"


def test_a_pickle_that_policy_and_signature_allow_is_opened_in_another_process_only(ws, canary, monkeypatch):
    bundle = hostile(pickle.dumps(Evil(canary)), key=SigningKey.load(f"workspace-{ws.id}"))
    with pytest.raises(Denied, match="does not allow unsafe models"):
        read_bundle(bundle, trust_of(ws.id))
    assert not canary.exists()
    monkeypatch.setenv("LOOPLINE_ALLOW_UNSAFE", "1")
    with pytest.raises(Invalid):  # `len` gives no probabilities
        read_bundle(bundle, trust_of(ws.id))
    assert int(canary.read_text()) != os.getpid()


@pytest.mark.parametrize("types", [[], ["functools.partial", "posix.system"]])
def test_a_skops_file_that_names_its_own_types_is_not_built_unless_a_trusted_key_signed_them(ws, canary, types):
    made = {
        "unsigned": hostile(skops_file(canary), name="skops", types=types),
        "a stranger": hostile(skops_file(canary), name="skops", types=types, key=SigningKey.load("s", create=True)),
    }
    for bundle in made.values():
        for read in READERS.values():
            with pytest.raises(Denied, match=r"posix\.system"):
                read(ws, ws.blobs.put(bundle))
    assert not canary.exists()


def test_a_skops_file_builds_no_type_that_its_manifest_does_not_name(ws):
    pytest.importorskip("skops", reason="the extra loopline[skops] is not installed")
    x, y = data()
    _, made = chosen(HistGradientBoostingClassifier(max_iter=3, categorical_features=[3]).fit(x, y), x, y)
    files = unpack(bundled(made))
    manifest = parsed(files.pop("manifest.json"))
    assert set(manifest["runtime"]["types"]) <= skops.OWN
    assert SIGNATURE not in files
    manifest["runtime"]["types"].remove("functools.partial")
    with pytest.raises(Denied, match=r"functools\.partial"):
        read_bundle(pack({**files, "manifest.json": canonical(manifest)}))


def test_a_skops_file_that_would_grow_is_refused_before_it_is_read(ws, monkeypatch):
    pytest.importorskip("skops", reason="the extra loopline[skops] is not installed")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 100_000)
    monkeypatch.setattr(skops, "MAX_BYTES", 50_000)
    with pytest.raises(Invalid, match="larger than"):
        read_bundle(hostile(out.getvalue(), name="skops"))


def test_the_step_cache_opens_no_hostile_bundle(ws, canary, allowed):
    for n, bundle in enumerate(attacks(canary, ws).values()):
        run = Run(f"r{n}", f"key{n}", "x", {}, "e", {}, 0, START, 0.0, 0.0, False)
        with ws.records.transaction() as tx:
            tx.put(run)
            tx.put(Model(f"m{n}", run.id, "t", "p", ws.blobs.put(bundle), (), "f", "user:ada", 0.5, {}, START))
        assert _found(ws, f"key{n}") is None
    assert not canary.exists()


def test_a_server_refuses_hostile_bundles_and_goes_on_with_the_last_good_one(ws, canary, monkeypatch):
    monkeypatch.setenv("LOOPLINE_ALLOW_UNSAFE", "1")
    good = linear_bundle(INPUTS, [1.0, 0.0, 0.0, 0.0])

    def deploy(bundle, number):
        return serving.deploy(
            ws, "ep", variants=(variant(ws, bundle, number=number),), release=serving.ReleaseSpec(), salt=str(number)
        )

    deploy(good, 1)
    server = start(ws, "ep")
    try:
        server.wait(1)
        made = attacks(canary, ws)
        for n, what in enumerate(("a pickle, unsigned", "a pickle with another bundle's signature", "a torch file"), 2):
            deploy(made[what], n)
            assert server.until(lambda s: s.error is not None).generation == 1
            status, _, answer = server.call("POST", "/predict/ep", {"rows": asked(1, nulls=False)})
            assert status == 200, answer
    finally:
        server.stop()
    assert not canary.exists()


def test_only_the_machines_own_word_and_a_key_it_knows_make_trust(ws, monkeypatch):
    key = SigningKey.load(f"workspace-{ws.id}")
    assert trust_of(ws.id) == Trust(False, frozenset({key.public}))
    monkeypatch.setenv("LOOPLINE_ALLOW_UNSAFE", "true")
    assert not trust_of(ws.id).unsafe
    monkeypatch.setenv("LOOPLINE_ALLOW_UNSAFE", "1")
    assert trust_of(ws.id).unsafe
    assert trust_of("another") == Trust(True, frozenset())
    assert Trust.of(trust_of(ws.id).doc()) == trust_of(ws.id)
    assert Trust.of(None) == Trust.of({"unsafe": "yes", "keys": "abc"}) == Trust()
