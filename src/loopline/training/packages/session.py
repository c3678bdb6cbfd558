"""ONNX Runtime, as every door opens it."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from loopline.base.errors import Invalid
from loopline.training.encoding import Floats
from loopline.training.packages.packaged import Score, Scores


def open_session(model: bytes) -> ort.InferenceSession:
    """An ONNX Runtime session with one thread: the cheapest for small models [14 us a row]."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base
        raise Invalid(
            f"model.onnx cannot be loaded: {str(error).splitlines()[0]}",
            why="ONNX Runtime refuses it",
            fix="train the model again",
        ) from error


def scorer(model: bytes) -> Score:
    """The scores of an ONNX model: (n, k) float32 to the last column of its last output, (n,) float64."""
    session = open_session(model)
    name, last = session.get_inputs()[0].name, session.get_outputs()[-1].name

    def score(matrix: Floats) -> Scores:
        if not len(matrix):
            return np.empty(0)
        (out,) = session.run([last], {name: matrix})
        return np.asarray(out[:, 1], dtype=np.float64)

    return score
