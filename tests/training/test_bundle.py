from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from tests.training.world import FRAMING, project, rows, training_set, workspace

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import canonical, digest
from loopline.training import TrainingSpec, load_bundle, read_bundle, train
from loopline.training.archive import pack, unpack


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    ws = workspace(folder / "ws")
    _, model = train(
        ws,
        project(folder / "p"),
        training=TrainingSpec(recipe="train.py:fit"),
        training_set=training_set(ws, rows(1200)),
        framing=FRAMING,
        author="user:ada",
    )
    yield ws.blobs.get(model.bundle)
    ws.close()


def repacked(data: bytes, change) -> bytes:
    """The bundle after `change(files, manifest)`, with digests that hold again."""
    files = unpack(data)
    manifest = json.loads(files.pop("manifest.json"))
    change(files, manifest)
    manifest["files"] = {name: digest(content) for name, content in files.items()}
    return pack({**files, "manifest.json": canonical(manifest)})


def test_a_bundle_scores_rows_singly_as_in_batches_and_no_rows_too(data):
    bundle = read_bundle(data)
    frame = rows(300, seed=9)
    together = bundle.predict(frame)
    apart = np.concatenate([bundle.predict(frame[i]) for i in range(frame.height)])
    np.testing.assert_allclose(together, apart, atol=1e-6)
    assert together.dtype == np.float64
    assert ((together > 0) & (together < 1)).all()
    assert bundle.predict(frame.head(0)).shape == (0,)
    assert bundle.session.get_session_options().intra_op_num_threads == 1


def test_a_bundle_is_the_same_after_unpacking_and_packing(data):
    assert repacked(data, lambda files, manifest: None) == data


@pytest.mark.parametrize("name", ["model.onnx", "native/model.txt", "probe.arrow", "manifest.json"])
def test_a_changed_removed_or_added_file_is_found(data, name):
    files = unpack(data)
    with pytest.raises(Invalid):
        read_bundle(pack({**files, name: files[name] + b" x"}))
    with pytest.raises(Invalid):
        read_bundle(pack({k: v for k, v in files.items() if k != name}))
    with pytest.raises(Invalid, match="not those its manifest names"):
        read_bundle(pack({**files, "extra": b""}))


def test_a_model_that_scores_its_probe_rows_differently_is_refused(data):
    def coarser(files, manifest):
        for spec in manifest["inputs"]:
            spec["categories"] = list(reversed(spec["categories"]))

    with pytest.raises(Invalid, match="probe rows differently"):
        read_bundle(repacked(data, coarser))


def test_a_score_recorded_wrongly_by_more_than_the_tolerance_is_refused(data):
    def shifted(by):
        def change(files, manifest):
            probe = pl.read_ipc(files["probe.arrow"])
            import io

            out = io.BytesIO()
            probe.with_columns(pl.col("_score") + by).write_ipc(out)
            files["probe.arrow"] = out.getvalue()

        return change

    read_bundle(repacked(data, shifted(1e-6)))
    with pytest.raises(Invalid, match="probe rows differently"):
        read_bundle(repacked(data, shifted(1e-4)))


def test_a_newer_format_a_broken_manifest_and_a_missing_file_are_told(data, tmp_path):
    with pytest.raises(Invalid, match="format 2"):
        read_bundle(repacked(data, lambda files, manifest: manifest.update(format=2)))
    with pytest.raises(Invalid, match="damaged"):
        read_bundle(repacked(data, lambda files, manifest: manifest.pop("inputs")))
    with pytest.raises(Invalid, match="cannot be loaded"):
        read_bundle(repacked(data, lambda files, manifest: files.update({"model.onnx": b"nothing"})))
    with pytest.raises(NotFound, match="gone"):
        load_bundle(tmp_path / "gone")
