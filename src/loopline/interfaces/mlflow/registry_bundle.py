"""A version that a loop trained and judged, as a folder that `mlflow` loads.

Made of the bundle when it is first asked for, the same bytes each time, and kept
under their digests like everything else: `MLmodel` (flavours `python_function` and
that of the library, signature of the inputs), `model.onnx` or the file of a native
runtime that needs no pickle, the bundle's manifest and the lines of code that bring
rows into the model's coding.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from loopline.base.errors import Denied, NotFound
from loopline.base.ids import content_id, iso
from loopline.interfaces.mlflow.operations import SPOKEN
from loopline.interfaces.mlflow.registry_shapes import millis
from loopline.registry.nouns import Version
from loopline.training.archive import unpack
from loopline.workspace import Workspace

CODE, NATIVE = "loopline_bundle", "loopline_native"
LAYOUT = 2
"""Of the folder; another one is another folder."""
PYTHON = "3.11"
NEEDED = ("mlflow", "numpy", "pandas")


def owner(version: Version) -> str:
    """Whose files they are among the artifacts."""
    return content_id({"mlflow folder": LAYOUT, "version": version.id, "bundle": version.bundle})[:32]


def show(ws: Workspace, version: Version) -> str:
    """Have the folder of a version among the artifacts, and say whose it is.

    Raises
    ------
    Denied
        If it is a pickle, or builds types that no key trusted here has signed for.
    Invalid, NotFound
        If the bundle is damaged, or was freed.
    """
    whose = owner(version)
    try:
        ws.artifacts.find(whose, "MLmodel")
        return whose
    except NotFound:
        pass
    for path, data in folder(version, unpack(ws.blobs.get(version.bundle)), ws.id).items():
        ws.artifacts.put(whose, path, data, at_ms=millis(version.created_at))
    return whose


def folder(version: Version, bundle: dict[str, bytes], workspace: str) -> dict[str, bytes]:
    """Path to bytes of the folder, `MLmodel` last: once it is there, all is."""
    manifest = json.loads(bundle["manifest.json"])
    runtime = manifest.get("runtime")
    if runtime is None:
        path, modules, needed = "model.onnx", [CODE], ["onnxruntime>=1.20"]
    else:
        needed = _permitted(version, manifest, bundle, workspace)
        path, modules = str(runtime["file"]), [CODE, NATIVE]
    name = path.rpartition("/")[2]
    shipped = files("loopline.interfaces.mlflow.shipped")
    requirements = sorted([*NEEDED, *needed])
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={PYTHON}", "pip", {"pip": requirements}],
    }
    env = {"python": PYTHON, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    return {
        name: bundle[path],
        "loopline.json": bundle["manifest.json"],
        **{f"code/{module}.py": shipped.joinpath(f"{module}.py").read_bytes() for module in modules},
        "requirements.txt": "".join(f"{line}\n" for line in requirements).encode(),
        "conda.yaml": _written(conda),
        "python_env.yaml": _written(env),
        "MLmodel": _written(_description(version, manifest, name)),
    }


def _permitted(version: Version, manifest: dict[str, Any], bundle: dict[str, bytes], workspace: str) -> list[str]:
    """What must be installed to open a native model, once it was found that it may be given out."""
    from loopline.training.packages import skops
    from loopline.training.packages.runtimes import RUNTIMES, demands_signature
    from loopline.training.packages.trust import SIGNATURE, trust_of

    runtime = manifest["runtime"]
    name, lacks = str(runtime.get("name")), ""
    if name not in RUNTIMES or RUNTIMES[name].demands == "unsafe":
        lacks = f"it ships in its {name} runtime, and whoever opens it runs what is in it"
    elif demands_signature(runtime, skops.OWN):
        signed = trust_of(workspace).signer(bundle["manifest.json"], bundle.get(SIGNATURE))
        lacks = "" if signed else "it builds types beyond Loopline's list, and no key trusted here signed for them"
    if lacks:
        raise Denied(
            f"version {version.number} of {version.name} is not given out as an MLflow model",
            why=lacks,
            fix="ask a Loopline server for predictions, or train it so that ONNX or a safe file can hold it",
        )
    installed = (manifest.get("environment") or {}).get("packaging") or {}
    versions = {"scikit-learn": installed.get("scikit-learn")} if name == "skops" else {}
    versions[name] = runtime.get(name)
    return [f"{package}=={number}" if number else package for package, number in versions.items()]


def _flavour(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """The library's own flavour, over coded columns; none where other columns are made of these first."""
    runtime = manifest.get("runtime")
    if runtime is None:
        about = {"onnx_session_options": None, "onnx_version": "1.16.0", "providers": ["CPUExecutionProvider"]}
        return {"onnx": {"code": None, "data": name, **about}}
    if runtime.get("transforms"):
        return {}
    match runtime["name"]:
        case "lightgbm":
            about = {"lgb_version": runtime.get("lightgbm"), "model_class": "lightgbm.basic.Booster"}
            return {"lightgbm": {"code": None, "data": name, **about}}
        case "xgboost":
            about = {
                "xgb_version": runtime.get("xgboost"),
                "model_class": "xgboost.core.Booster",
                "model_format": "ubj",
            }
            return {"xgboost": {"code": None, "data": name, **about}}
    return {}  # the flavour of scikit-learn asks whoever loads it to allow pickles, also for skops


def _description(version: Version, manifest: dict[str, Any], name: str) -> dict[str, Any]:
    inputs = [
        {
            "type": "string" if one["kind"] == "category" else "double",
            "name": one["name"],
            "required": not one.get("nullable", False),
        }
        for one in manifest["inputs"]
    ]
    outputs = [
        {"type": "double", "name": "probability", "required": True},
        {"type": "boolean", "name": "decision", "required": True},
    ]
    return {
        "flavors": {
            **_flavour(manifest, name),
            "python_function": {
                "code": "code",
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": CODE,
                "python_version": PYTHON,
            },
        },
        "metadata": {"loopline": {"version": version.id, "bundle": version.bundle, "threshold": manifest["threshold"]}},
        "mlflow_version": SPOKEN,
        "model_uuid": owner(version),
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None},
        "utc_time_created": iso(version.created_at).replace("T", " ").rstrip("Z"),
    }


def _written(doc: Any) -> bytes:
    """JSON, which is YAML too."""
    return json.dumps(doc, indent=2).encode() + b"\n"
