"""A model that was trained elsewhere, made a model of ours: read without pickle, packaged and compared like any other.

Taken are folders as `mlflow` writes them, by the first of these flavours that is
there: `onnx`, `lightgbm` (its text), `xgboost` (its own format), `sklearn` (skops).
The model reads the columns of a training set in their order, coded as ours are:
numbers as float32, categories as their place in the sorted vocabulary of the
training rows, what is missing as NaN.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from loopline.base.clock import monotonic
from loopline.base.errors import Denied, Invalid
from loopline.base.ids import canonical, content_id, uuid7
from loopline.base.keys import SigningKey
from loopline.features.nouns import TrainingSet
from loopline.framing.metrics import best_threshold
from loopline.framing.spec import FramingSpec
from loopline.training import cache
from loopline.training.archive import MAX_BYTES
from loopline.training.bundle import PROBE_ROWS, build_bundle, read_bundle
from loopline.training.convert import package
from loopline.training.encoding import encode, learn
from loopline.training.nouns import ADOPTED, Model, Run
from loopline.training.packages import skops
from loopline.training.packages.choosing import choose
from loopline.training.packages.packaged import Permission, missing
from loopline.training.packages.runtimes import demands_signature
from loopline.training.packages.trust import Trust
from loopline.training.rows import labels, split
from loopline.training.spec import TrainingSpec
from loopline.workspace import Workspace, verb

FLAVOURS = ("onnx", "lightgbm", "xgboost", "sklearn")
DESCRIPTION = "MLmodel"
LONGEST_DESCRIPTION = 1 << 20
_PICKLED = (".pkl", ".pickle", ".joblib")


@verb("training.adopt")
def adopt(
    ws: Workspace,
    *,
    files: Mapping[str, str],
    source: str,
    training: TrainingSpec,
    training_set: TrainingSet,
    framing: FramingSpec,
    author: str,
) -> tuple[Run, Model]:
    """Package a model that a tracking client brought, for the columns of a training set.

    The same files for the same rows again are the same model.

    Parameters
    ----------
    files : mapping
        Path to digest among the artifacts, as they were pinned.
    source : str
        Where they came from, for the record.

    Raises
    ------
    Invalid
        If it is none of the flavours, reads other columns, or cannot be packaged.
    Denied
        If it can only be opened by running code of its own.
    """
    asked = {"adopt": dict(files), "training_set": training_set.id, "problem": framing.id, "author": author}
    key = content_id({**asked, "packages": training.packages.model_dump(mode="json"), "risk": framing.risk})
    for run in ws.records.find(Run, step_key=key, limit=1):
        for known in ws.records.find(Model, run=run.id, limit=1):
            return run, known
    started, begin = ws.clock(), monotonic()
    names = training_set.features
    described = _described(_read(ws, files, DESCRIPTION)) if DESCRIPTION in files else {}
    _require_columns(described, names)
    fitted, flavour = _opened(ws, files, described, frozenset(training.packages.trust))
    train, test = split(ws, training_set)
    held_out = test if test.height else train
    inputs = learn(train, names, training_set.categorical)
    chosen = choose(
        package(fitted, names),
        inputs=inputs,
        rows=encode(held_out, inputs),
        labels=labels(held_out),
        threshold=best_threshold(framing.value),
        permission=Permission(frozenset(training.packages.trust), False, framing.risk),
    )
    signed = chosen.runtime is not None and demands_signature(chosen.runtime, skops.OWN)
    signer = SigningKey.load(f"workspace-{ws.id}", create=True) if signed else None
    probe = held_out.select(one.name for one in inputs).head(PROBE_ROWS)
    environment = canonical(cache.environment())
    data = build_bundle(
        inputs=inputs,
        threshold=chosen.parity.threshold,
        model=chosen.onnx,
        native=chosen.native,
        probe=probe,
        scores=chosen.score(encode(probe, inputs)),
        about={
            "base_rate": float(labels(train).mean()),
            "views": training_set.views,
            "request": json.loads(ws.blobs.get(training_set.request)) if training_set.request else None,
            "training_set": training_set.id,
            "problem": framing.id,
            "framework": flavour,
            "recipe": f"{ADOPTED}{source}",
            "params": {},
            "seed": 0,
            "code": {"closure": None, "files": {}, "distributions": {}},
            "adopted": {"source": source, "files": dict(files)},
        },
        runtime=chosen.runtime,
        key=signer,
    )
    read_bundle(data, Trust(True, frozenset() if signer is None else frozenset({signer.public})))
    run = Run(
        id=uuid7(started),
        step_key=key,
        recipe=f"{ADOPTED}{source}",
        code={"commit": None, "dirty": None, "closure": None, "files": {}, "distributions": {}},
        environment=ws.blobs.put(environment),
        params={},
        seed=0,
        started_at=started,
        seconds=round(monotonic() - begin, 3),
        cpu_seconds=0.0,
        cached=False,
    )
    bundle = ws.blobs.put(data)
    runtime = chosen.runtime
    model = Model(
        id=content_id({**asked, "bundle": bundle}),
        run=run.id,
        training_set=training_set.id,
        problem=framing.id,
        bundle=bundle,
        features=names,
        framework=flavour,
        author=author,
        threshold=chosen.parity.threshold,
        parity=chosen.parity.kinds,
        created_at=started,
        package=None if runtime is None else {one: v for one, v in runtime.items() if one != "transforms"},
    )
    return run, model


def _read(ws: Workspace, files: Mapping[str, str], path: str) -> bytes:
    if path not in files:
        raise Invalid(
            f"the model has no file {path!r}",
            why=f"its {DESCRIPTION} says so, but it was not logged",
            fix="log the model again, whole",
        )
    return ws.artifacts.blobs.get(files[path])


def _described(data: bytes) -> dict[str, Any]:
    """What the `MLmodel` file says."""
    from ruamel.yaml import YAML

    try:
        if len(data) > LONGEST_DESCRIPTION:
            raise ValueError(f"it has {len(data):,} bytes")
        found = YAML(typ="safe", pure=True).load(data.decode())
        if not isinstance(found, dict) or not isinstance(found.get("flavors") or {}, dict):
            raise ValueError("it is no mapping with flavours")
    except Exception as error:  # the YAML parser's errors share no public base
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise Invalid(
            f"{DESCRIPTION} cannot be read: {said[:200]}", why="it describes the model", fix="log the model again"
        ) from error
    return found


def _require_columns(described: Mapping[str, Any], names: Sequence[str]) -> None:
    """See that the columns in the signature are ours, in our order; a model without named columns is taken as such."""
    try:
        given = json.loads((described.get("signature") or {}).get("inputs") or "[]")
        columns = [str(one["name"]) for one in given if "name" in one]
    except (ValueError, TypeError, AttributeError) as error:
        raise Invalid(
            f"the signature cannot be read: {error}", why="it names the columns", fix="log the model again"
        ) from error
    if columns and columns != list(names):
        lacking, more = [n for n in names if n not in columns], [c for c in columns if c not in names]
        what = f"lacks {', '.join(lacking)}" if lacking else f"also reads {', '.join(more)}" if more else "orders them"
        raise Invalid(
            f"the model reads other columns than the loop has: it {what}" + (" otherwise" if what[0] == "o" else ""),
            why=f"the columns are, in this order: {', '.join(names)}",
            fix="fit it on these columns and log it again",
        )


def _opened(
    ws: Workspace, files: Mapping[str, str], described: Mapping[str, Any], trusted: frozenset[str]
) -> tuple[Any, str]:
    """The fitted model, read without running anything of it, and its flavour."""
    flavours = described.get("flavors") or {}
    for name in FLAVOURS:
        about = flavours.get(name)
        if not isinstance(about, dict):
            continue
        path = str(about.get("data") or about.get("pickled_model") or about.get("model_data") or "")
        if path.endswith(_PICKLED):
            continue
        data = _read(ws, files, path)
        if name == "sklearn" or path.endswith(".skops"):
            return _estimator(data, trusted), name
        if name == "lightgbm":
            return _lightgbm(data), name
        if name == "xgboost":
            return _xgboost(data), name
        return data, name
    alone = [path for path in files if path.endswith(".onnx")]
    if not flavours and len(alone) == 1:
        return _read(ws, files, alone[0]), "onnx"
    pickled = sorted(path for path in files if path.endswith(_PICKLED))
    if pickled:
        raise Denied(
            f"the model is the pickle {pickled[0]}",
            why="a pickle runs what it holds when it is opened, and this one came from outside",
            fix="log it as ONNX (mlflow.onnx.log_model), as a booster's own file, or with serialization_format='skops'",
        )
    raise Invalid(
        f"the model has the flavours {', '.join(sorted(map(str, flavours))) or 'none'}",
        why=f"Loopline adopts {', '.join(FLAVOURS)}",
        fix="log it as ONNX (mlflow.onnx.log_model)",
    )


def _lightgbm(data: bytes) -> Any:
    try:
        import lightgbm

        return lightgbm.Booster(model_str=data.decode())
    except ImportError as error:
        raise missing("lightgbm", "lightgbm", "this model") from error
    except Exception as error:  # LightGBM's own errors, and bytes that are no text
        raise _damaged("LightGBM", error) from error


def _xgboost(data: bytes) -> Any:
    try:
        import xgboost

        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(data))
        return booster
    except ImportError as error:
        raise missing("xgboost", "xgboost", "this model") from error
    except Exception as error:
        raise _damaged("XGBoost", error) from error


def _estimator(data: bytes, trusted: frozenset[str]) -> Any:
    """A scikit-learn estimator out of a skops file, all of whose types are known."""
    try:
        import skops.io as sio
    except ImportError as error:
        raise missing("skops", "skops", "this model") from error
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"its files are larger than {MAX_BYTES:,} bytes")
        types = frozenset(sio.get_untrusted_types(data=data))
    except Exception as error:  # skops raises whatever the parts of a file raise
        raise _damaged("skops", error) from error
    unknown = types - skops.OWN - trusted
    if unknown:
        raise Denied(
            f"the model's skops file builds {', '.join(sorted(unknown))}",
            why="types that Loopline does not know must be named by a person",
            fix=f"read what they do, then add to training.packages.trust: {sorted(unknown)}",
        )
    try:
        return sio.loads(data, trusted=sorted(types))
    except Exception as error:
        raise _damaged("skops", error) from error


def _damaged(who: str, error: Exception) -> Invalid:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return Invalid(f"the model cannot be read: {said[:200]}", why=f"{who} refuses it", fix="log the model again")
