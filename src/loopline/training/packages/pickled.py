"""The last way: a pickle, marked unsafe, that only a process of its own ever opens."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopline.base.errors import Denied, Invalid
from loopline.training.packages.apart import Apart
from loopline.training.packages.calling import Calling
from loopline.training.packages.packaged import Permission, Score, Way, missing

FILE = "model.pickle"


def way(model: Any, about: Calling) -> Way:
    """Any Python object as a pickle, with the project's own code inside, where the project allows it."""

    def build(permission: Permission) -> tuple[bytes, dict[str, Any]]:
        if permission.risk == "high":
            raise Denied(
                "it would have to ship as a pickle, which is off for risk: high",
                why="whoever can change a pickle runs code where it is loaded",
                fix="return a model that converts to ONNX, or has a safe file of its own",
            )
        if not permission.unsafe:
            raise Denied(
                "it would have to ship as a pickle, which this project does not allow",
                why="whoever can change a pickle runs code where it is loaded",
                fix="return a model that converts to ONNX, or set training.packages.unsafe: true in loop.yaml",
            )
        return _dumped(model), {"call": about.doc(), "cloudpickle": importlib.metadata.version("cloudpickle")}

    return Way("pickle", FILE, build)


def load(data: bytes, about: Mapping[str, Any]) -> Score:
    """The scores of a pickle, opened in a process of its own. Whether it may be is decided before."""
    return Apart(data, Calling.of(about["call"]))


def _dumped(model: Any) -> bytes:
    try:
        import cloudpickle
    except ImportError as error:
        raise missing("cloudpickle", "unsafe", "a pickle that brings the project's code along") from error
    own = [module for module in sys.modules.copy().values() if _is_of_a_project(module)]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(model))
    except Exception as error:  # whatever the parts of an object raise
        raise Invalid(
            f"it cannot be pickled: {type(error).__name__}: {str(error)[:200]}",
            why="a part of the model holds something that lives in this process only",
            fix="open files, connections and locks when the model is called, not when it is fitted",
        ) from error
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _is_of_a_project(module: Any) -> bool:
    """Whether a module is a project's: loaded as one, or from the folder of one that was."""
    file = getattr(module, "__file__", None)
    if not file or not getattr(module, "__spec__", None):
        return False
    if module.__name__.startswith("_loopline_project_"):
        return True
    folder = Path(file).parent
    return any(folder == Path(other) for other in _project_folders())


def _project_folders() -> set[str]:
    found = set()
    for name, module in sys.modules.copy().items():
        if name.startswith("_loopline_project_") and getattr(module, "__file__", None):
            found.add(str(Path(str(module.__file__)).parent))
    return found
