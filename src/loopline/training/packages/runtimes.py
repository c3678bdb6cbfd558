"""The native runtimes a bundle may name: what each demands of whoever loads it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from loopline.base.errors import Denied, Invalid
from loopline.training.encoding import Floats
from loopline.training.packages.packaged import Score, Scores
from loopline.training.packages.trust import SIGNATURE, Trust
from loopline.training.transforms import Transforms, from_doc

Demands = Literal["nothing", "types", "unsafe"]
NATIVE = "native/"


@dataclass(frozen=True, slots=True)
class Runtime:
    """One runtime: the module here with `load`, and what loading it demands.

    `nothing`: its file holds numbers. `types`: it builds objects, of listed types.
    `unsafe`: it runs code.
    """

    name: str
    module: str
    demands: Demands
    shown: str


RUNTIMES = {
    one.name: one
    for one in (
        Runtime("lightgbm", "lightgbm", "nothing", "LightGBM, from its own text"),
        Runtime("xgboost", "xgboost", "nothing", "XGBoost, from its own UBJSON"),
        Runtime("skops", "skops", "types", "scikit-learn, from a skops file with a list of types"),
        Runtime("pickle", "pickled", "unsafe", "Python, from a pickle in a process of its own (unsafe)"),
    )
}


def open_runtime(manifest: Mapping[str, Any], raw: bytes, files: Mapping[str, bytes], trust: Trust) -> Score:
    """The scores of the native model in a bundle, once it was found that it may be loaded.

    Parameters
    ----------
    manifest, raw
        Read, and its bytes: what a signature is over.
    files : mapping
        All files of the bundle; their digests hold.

    Raises
    ------
    Denied
        If loading it demands more trust than there is.
    Invalid
        If the bundle names no known runtime, or its file is damaged.
    """
    doc = manifest["runtime"]
    found = RUNTIMES.get(str(doc.get("name"))) if isinstance(doc, Mapping) else None
    if found is None:
        raise Invalid(
            f"the bundle ships in an unknown runtime: {str(doc)[:100]}",
            why=f"this Loopline knows ONNX, {', '.join(RUNTIMES)}",
            fix="pip install --upgrade loopline",
        )
    signer = trust.signer(raw, files.get(SIGNATURE))
    if found.demands == "unsafe":
        _require_unsafe(doc, trust, signer)
    permitted = frozenset(str(name) for name in doc.get("types", ())) if signer else frozenset()
    score = opened(found.name, files[str(doc["file"])], doc, permitted)
    return behind([from_doc(one) for one in doc.get("transforms", ())], score)


def opened(name: str, data: bytes, about: Mapping[str, Any], permitted: frozenset[str] | None = None) -> Score:
    """The scores of a native model's file; by default of one just written here, whose types were permitted then."""
    found = RUNTIMES[name]
    module = importlib.import_module(f"loopline.training.packages.{found.module}")
    more = {}
    if found.demands == "types":
        more = {"permitted": frozenset(about["types"]) if permitted is None else permitted}
    score: Score = module.load(data, about, **more)
    return score


def behind(transforms: list[Transforms], score: Score) -> Score:
    """The scores of raw inputs, from those of transformed ones; the first transform sees the raw inputs."""
    if not transforms:
        return score

    def found(matrix: Floats) -> Scores:
        for one in transforms:
            matrix = one.apply(matrix)
        return score(matrix)

    return found


def demands_signature(doc: Mapping[str, Any], own: frozenset[str]) -> bool:
    """Whether a bundle with this runtime is only loaded when it is signed."""
    found = RUNTIMES[doc["name"]].demands
    return found == "unsafe" or (found == "types" and not frozenset(doc["types"]) <= own)


def _require_unsafe(doc: Mapping[str, Any], trust: Trust, signer: str | None) -> None:
    lacks = []
    if doc.get("risk") == "high":
        lacks.append("its risk is high, for which pickles are off")
    if not trust.unsafe:
        lacks.append("this machine does not allow unsafe models")
    if signer is None:
        lacks.append("no key that is trusted here signed it")
    if lacks:
        raise Denied(
            f"the bundle holds a pickle, which is not opened: {'; '.join(lacks)}",
            why="opening a pickle runs whatever code is in it",
            fix="ship the model as ONNX; or train it in this workspace, and set LOOPLINE_ALLOW_UNSAFE=1 here",
        )
