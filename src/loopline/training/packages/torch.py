"""PyTorch: a module that gives probabilities, exported to ONNX by the dynamo exporter.

PyTorch has no native file that is free of code, so what does not export ships as
a pickle or not at all (`docs/decisions/packages.md`).
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from typing import Any

from loopline.training.packages import pickled
from loopline.training.packages.calling import Calling
from loopline.training.packages.graph import INPUT, trimmed, two_columns
from loopline.training.packages.packaged import Packaged, cannot_package, stopped


def package(model: Any, names: Sequence[str]) -> Packaged:
    """A fitted module: (n, inputs) float32 to probabilities (n,), (n, 1) or (n, 2)."""
    import torch

    if not isinstance(model, torch.nn.Module):
        raise cannot_package(type(model).__name__, "it is no torch.nn.Module", "return the module from the recipe")
    module = copy.deepcopy(model).cpu().float().eval()
    about = Calling("torch", None)
    native = about.bound(module)
    try:
        native(torch.zeros(2, len(names)).numpy())
    except RuntimeError as error:
        said = str(error).splitlines()[0][:200]
        raise cannot_package(type(model).__name__, f"it cannot score X: {said}", "fit it on X as given") from error
    onnx, refusal = None, None
    try:
        onnx = _exported(module, len(names))
    except Exception as error:
        refusal = stopped(error)
    return Packaged(
        onnx=onnx,
        native=native,
        files={},
        framework=f"torch {torch.__version__}",
        ways=(pickled.way(module, about),),
        refusal=refusal,
    )


def _exported(module: Any, inputs: int) -> bytes:
    import torch

    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            program = torch.onnx.export(
                module,
                (torch.zeros(3, inputs),),
                dynamo=True,
                input_names=[INPUT],
                dynamic_shapes=({0: torch.export.Dim("rows")},),
                external_data=False,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    assert program is not None
    model = program.model_proto
    two_columns(model)
    _forget(model)
    return trimmed(model)


def _forget(model: Any) -> None:
    """Take out what the exporter notes of the machine: lines of source with their paths."""
    del model.metadata_props[:]
    model.doc_string = ""
    parts = [model.graph, *model.functions]
    for part in parts:
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
        for one in (*part.node, *part.value_info, *getattr(part, "initializer", ())):
            one.doc_string = ""
            if hasattr(one, "metadata_props"):
                del one.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
