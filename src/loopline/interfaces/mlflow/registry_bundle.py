"""A version that a loop trained and judged, as a folder that `mlflow` loads.

Made of the bundle when it is first asked for, the same bytes each time, and kept
under their digests like everything else: `MLmodel` (flavours `onnx` and
`python_function`, signature of the inputs), `model.onnx`, the bundle's manifest and
the lines of code that bring rows into the model's coding.
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

CODE = "loopline_bundle"
LAYOUT = 1
"""Of the folder; another one is another folder."""
PYTHON = "3.11"
NEEDED = ("mlflow", "numpy", "onnxruntime>=1.20", "pandas")


def owner(version: Version) -> str:
    """Whose files they are among the artifacts."""
    return content_id({"mlflow folder": LAYOUT, "version": version.id, "bundle": version.bundle})[:32]


def show(ws: Workspace, version: Version) -> str:
    """Have the folder of a version among the artifacts, and say whose it is.

    Raises
    ------
    Denied
        If the version ships in a runtime of its own: there is no ONNX model to give out.
    Invalid, NotFound
        If the bundle is damaged, or was freed.
    """
    whose = owner(version)
    try:
        ws.artifacts.find(whose, "MLmodel")
        return whose
    except NotFound:
        pass
    for path, data in folder(version, unpack(ws.blobs.get(version.bundle))).items():
        ws.artifacts.put(whose, path, data, at_ms=millis(version.created_at))
    return whose


def folder(version: Version, bundle: dict[str, bytes]) -> dict[str, bytes]:
    """Path to bytes of the folder, `MLmodel` last: once it is there, all is."""
    manifest = json.loads(bundle["manifest.json"])
    if "model.onnx" not in bundle:
        runtime = (manifest.get("runtime") or {}).get("name", "another runtime")
        raise Denied(
            f"version {version.number} of {version.name} is not given out as an MLflow model",
            why=f"it ships in its {runtime} runtime: ONNX would answer differently, or there is no conversion",
            fix="ask a Loopline server for predictions, or load the bundle with loopline.training.load_bundle",
        )
    code = files("loopline.interfaces.mlflow.shipped").joinpath(f"{CODE}.py").read_bytes()
    needed = "".join(f"{line}\n" for line in NEEDED)
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={PYTHON}", "pip", {"pip": list(NEEDED)}],
    }
    env = {"python": PYTHON, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    return {
        "model.onnx": bundle["model.onnx"],
        "loopline.json": bundle["manifest.json"],
        f"code/{CODE}.py": code,
        "requirements.txt": needed.encode(),
        "conda.yaml": _written(conda),
        "python_env.yaml": _written(env),
        "MLmodel": _written(_description(version, manifest)),
    }


def _description(version: Version, manifest: dict[str, Any]) -> dict[str, Any]:
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
            "onnx": {
                "code": None,
                "data": "model.onnx",
                "onnx_session_options": None,
                "onnx_version": "1.16.0",
                "providers": ["CPUExecutionProvider"],
            },
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
