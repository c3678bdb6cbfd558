"""The bundle: one file that server, edge and audit load alike.

A stored zip of `manifest.json` (inputs, threshold, base rate, feature versions,
code, environment, digests), `model.onnx` (float32 `X` to probabilities), `native/`
(the library's own text where it has one) and `probe.arrow` (64 rows with their
scores, replayed at every load). Where ONNX would answer differently there is no
`model.onnx`: the manifest's `runtime` names the file under `native/` that is scored
instead, and why; format 2, signed where it could run code. Bundles of before hold
`program.json` in place of the manifest's `request`.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import canonical, digest
from loopline.base.keys import SigningKey
from loopline.training.archive import pack, unpack
from loopline.training.encoding import Floats, Input, encode
from loopline.training.packages.packaged import Score
from loopline.training.packages.runtimes import open_runtime
from loopline.training.packages.session import open_session
from loopline.training.packages.trust import NOBODY, SIGNATURE, Trust, sign

FORMAT, NATIVE_FORMAT = 1, 2
MANIFEST, MODEL, PROBE, PROGRAM = "manifest.json", "model.onnx", "probe.arrow", "program.json"
PROBE_SCORE = "_score"
PROBE_ROWS = 64
TOLERANCE = 1e-5

Scores = npt.NDArray[np.float64]

__all__ = [
    "Bundle",
    "Floats",
    "Input",
    "Scores",
    "build_bundle",
    "load_bundle",
    "open_session",
    "read_bundle",
    "replay",
]


class Bundle:
    """A model, ready to score. Safe to share between threads."""

    def __init__(self, manifest: Mapping[str, Any], model: bytes | None, native: Score | None = None) -> None:
        self.manifest = dict(manifest)
        self.inputs: tuple[Input, ...] = tuple(
            Input(**{**doc, "categories": tuple(doc.get("categories", ()))}) for doc in manifest["inputs"]
        )
        self.threshold = float(manifest["threshold"])
        self.base_rate: float | None = manifest.get("base_rate")
        """Share of positives among the training rows; null where the bundle does not say."""
        self._native = native
        if model is not None:
            self.session = open_session(model)
            self.input_name: str = self.session.get_inputs()[0].name
            self.output_name: str = self.session.get_outputs()[-1].name

    @property
    def request(self) -> dict[str, Any] | None:
        """What requests bring, and how the inputs are made of it (`features.requests`); null where nothing says so."""
        found: dict[str, Any] | None = self.manifest.get("request")
        return found

    @property
    def runtime(self) -> str:
        """What scores: `onnx`, `lightgbm`, `xgboost`, `skops` or `pickle`."""
        doc = self.manifest.get("runtime")
        return "onnx" if doc is None else str(doc["name"])

    @property
    def names(self) -> tuple[str, ...]:
        """The columns it reads, in the order of the matrix."""
        return tuple(i.name for i in self.inputs)

    def matrix(self, frame: pl.DataFrame) -> Floats:
        """The rows as the model reads them: (n, inputs) float32, null and unseen are NaN."""
        return encode(frame, self.inputs)

    def score(self, matrix: Floats) -> Scores:
        """Probability of the positive class per row of a float32 matrix; (n,) float64."""
        if not len(matrix):
            return np.empty(0)
        if self._native is not None:
            return self._native(matrix)
        (out,) = self.session.run([self.output_name], {self.input_name: matrix})
        return np.asarray(out[:, 1], dtype=np.float64)

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Probability of the positive class per row of a frame; (n,) float64."""
        return self.score(self.matrix(frame))


def build_bundle(
    *,
    inputs: tuple[Input, ...],
    threshold: float,
    model: bytes | None,
    native: Mapping[str, bytes],
    probe: pl.DataFrame,
    scores: Scores,
    about: Mapping[str, Any],
    runtime: Mapping[str, Any] | None = None,
    key: SigningKey | None = None,
) -> bytes:
    """The bytes of a bundle; equal arguments give equal bytes.

    Parameters
    ----------
    inputs : tuple of Input
        In the order of the model's columns.
    threshold : float
        A row is decided positive when its score is at least this.
    model : bytes
        ONNX with one float32 input (n, inputs) and probabilities (n, 2) as its
        last output; null where `runtime` says what scores.
    native : mapping
        File name to bytes, kept under `native/`.
    probe, scores : DataFrame and (n,) float64
        At most 64 rows with the input columns, and their scores.
    about : mapping
        JSON for the manifest: base rate, views, request, training set, problem, code, environment.
    runtime : mapping, optional
        The native runtime, as `packages.choosing` chose it.
    key : SigningKey, optional
        Signs the manifest, where loading demands it.
    """
    if (model is None) == (runtime is None):
        raise ValueError("a bundle holds an ONNX model or names a native runtime")
    rows = probe.select(i.name for i in inputs).head(PROBE_ROWS)
    probed = io.BytesIO()
    rows.with_columns(pl.Series(PROBE_SCORE, scores[: rows.height], dtype=pl.Float64)).write_ipc(probed)
    files = {PROBE: probed.getvalue(), **{f"native/{name}": data for name, data in native.items()}}
    if model is not None:
        files[MODEL] = model
    manifest = {
        **about,
        "format": FORMAT if runtime is None else NATIVE_FORMAT,
        **({} if runtime is None else {"runtime": dict(runtime)}),
        "inputs": [_input_doc(i) for i in inputs],
        "output": {"name": "score", "kind": "probability"},
        "threshold": threshold,
        "files": {name: digest(data) for name, data in files.items()},
    }
    written = canonical(manifest)
    return pack({**files, MANIFEST: written, **({} if key is None else {SIGNATURE: sign(written, key)})})


def _input_doc(spec: Input) -> dict[str, Any]:
    doc = dataclasses.asdict(spec)
    return {**doc, "categories": list(spec.categories)}


def load_bundle(path: Path, trust: Trust = NOBODY) -> Bundle:
    """The bundle in the file `path`, checked: digests hold and the probe rows score as recorded.

    Parameters
    ----------
    trust : Trust
        What is believed here. Without any, nothing that could run code is opened.

    Raises
    ------
    NotFound
        If there is no such file.
    Denied
        If it demands more trust than there is.
    Invalid
        If it is not a bundle, is damaged, or scores its probe rows differently
        here (by more than 1e-5, or on the other side of its threshold).
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"no bundle {Path(path).name}",
            why="the file does not exist",
            fix="fetch the bundle from the registry, or train the model again",
        ) from error
    return read_bundle(data, trust)


def read_bundle(data: bytes, trust: Trust = NOBODY) -> Bundle:
    """As `load_bundle`, from bytes."""
    files = unpack(data)
    manifest = _manifest(files)
    native = manifest.get("runtime") is not None
    if manifest.get("format") != (NATIVE_FORMAT if native else FORMAT):
        raise Invalid(
            f"the bundle has format {manifest.get('format')}",
            why=f"this Loopline reads format {FORMAT}, and {NATIVE_FORMAT} with a native runtime",
            fix="pip install --upgrade loopline",
        )
    beside = {MANIFEST, SIGNATURE} if native else {MANIFEST}
    if {name: digest(data) for name, data in files.items() if name not in beside} != manifest.get("files"):
        raise _damaged("its files are not those its manifest names")
    try:
        about = {**manifest, "request": _request(files, manifest)}
        if native:
            bundle = Bundle(about, None, open_runtime(manifest, files[MANIFEST], files, trust))
        else:
            bundle = Bundle(about, files[MODEL])
        probe = pl.read_ipc(io.BytesIO(files[PROBE]))
        recorded = probe.get_column(PROBE_SCORE).to_numpy()
    except (KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error
    replay(bundle, probe, recorded)
    return bundle


def replay(bundle: Bundle, probe: pl.DataFrame, recorded: Scores) -> None:
    """Refuse a bundle whose probe rows score differently here than when it was made."""
    scores = bundle.predict(probe)
    worst = float(np.max(np.abs(scores - recorded), initial=0.0))
    clear = np.abs(recorded - bundle.threshold) > TOLERANCE
    flipped = int(np.sum(((scores >= bundle.threshold) != (recorded >= bundle.threshold)) & clear))
    if not worst <= TOLERANCE or flipped:
        raise Invalid(
            f"the bundle scores its probe rows differently here: by up to {worst:.2g}, {flipped} decisions flip",
            why="a model must answer here as it did when it was judged",
            fix="compare the onnxruntime versions and processors, or train the model here",
        )


def _manifest(files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        doc = json.loads(files[MANIFEST])
    except (KeyError, ValueError) as error:
        raise _damaged("it has no readable manifest.json") from error
    if not isinstance(doc, dict):
        raise _damaged("its manifest is not an object")
    return doc


def _request(files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The document of requests; of a bundle of before, made of its expressions."""
    found: dict[str, Any] | None = manifest.get("request")
    if found is not None or PROGRAM not in files:
        return found
    doc = json.loads(files[PROGRAM])
    if doc.get("id") != manifest.get("views"):
        raise _damaged("its features' expressions are not those of its training rows")
    return {"format": 1, "groups": [doc], "columns": {}, "contract": None}


def _damaged(why: str) -> Invalid:
    return Invalid(
        f"the bundle is damaged: {why}",
        why="registered bytes never change",
        fix="fetch the bundle from the registry, or train the model again",
    )
