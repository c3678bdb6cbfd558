"""skops: scikit-learn's objects without pickle, each type of them on a list."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from loopline.base.errors import Denied, Invalid
from loopline.training.archive import MAX_BYTES
from loopline.training.encoding import Floats
from loopline.training.packages.calling import Calling
from loopline.training.packages.packaged import Permission, Score, Scores, Way, missing

FILE = "model.skops"
OWN = frozenset(
    {
        "functools.partial",  # of a listed function only: what encodes the categories of histogram boosting
        "numpy.dtype",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.calibration._TemperatureScaling",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        "sklearn.utils.validation.check_array",
    }
)
"""Types of scikit-learn that were read: none of them runs anything but its own arithmetic when it is built."""


def way(estimator: Any, about: Calling) -> Way:
    """A scikit-learn estimator as a skops file, if every type in it is on a list."""

    def build(permission: Permission) -> tuple[bytes, dict[str, Any]]:
        sio = _skops("a model that ONNX cannot hold")
        try:
            data: bytes = sio.dumps(estimator)
            types = frozenset(sio.get_untrusted_types(data=data))
        except Exception as error:  # skops raises whatever the parts of an estimator raise
            raise Invalid(
                f"skops cannot write it: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
                why="a part of the model has no form without pickle",
                fix="use an estimator of scikit-learn itself",
            ) from error
        unknown = types - OWN - permission.types
        if unknown:
            raise Denied(
                f"its skops file builds {', '.join(sorted(unknown))}",
                why="types that Loopline does not know must be named by a person",
                fix=f"read what they do, then add to training.packages.trust: {sorted(unknown)}",
            )
        return data, {"types": sorted(types), "call": about.doc(), "skops": _version()}

    return Way("skops", FILE, build)


def load(data: bytes, about: Mapping[str, Any], permitted: frozenset[str]) -> Score:
    """The scores of a skops file, all of whose types are `OWN`, or recorded in the manifest and `permitted`.

    Raises
    ------
    Denied
        If it builds a type that is not; nothing of it is built then.
    Invalid
        If it is damaged.
    """
    sio = _skops("this bundle")
    _refuse_bomb(data)
    try:
        found = frozenset(sio.get_untrusted_types(data=data))
    except Exception as error:
        raise _damaged(error) from error
    allowed = OWN | permitted
    unknown = found - allowed
    if unknown or not found <= frozenset(about["types"]):
        raise Denied(
            f"the bundle's skops file builds {', '.join(sorted(unknown or found - frozenset(about['types'])))}",
            why="a type beyond Loopline's list is built only when the manifest names it and a trusted key signed that",
            fix="train the model in this workspace, with the type in training.packages.trust",
        )
    try:
        model = sio.loads(data, trusted=sorted(found))
    except Exception as error:
        raise _damaged(error) from error
    return _alone(Calling.of(about["call"]).bound(model))


def _alone(score: Score) -> Score:
    """The same scores, by one thread: for a few rows a team of them costs many times the work [14 x for one row]."""
    from threadpoolctl import ThreadpoolController

    threads = ThreadpoolController()

    def found(matrix: Floats) -> Scores:
        with threads.limit(limits=1):
            answer: Scores = score(matrix)
        return answer

    return found


def _refuse_bomb(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise _damaged(error) from error
    if size > MAX_BYTES:
        raise _damaged(ValueError(f"its files are larger than {MAX_BYTES:,} bytes"))


def _skops(what: str) -> Any:
    try:
        import skops.io as sio
    except ImportError as error:
        raise missing("skops", "skops", what) from error
    return sio


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("skops")


def _damaged(error: Exception) -> Invalid:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return Invalid(
        f"model.skops cannot be read: {said[:200]}",
        why="it is damaged, or written by another skops",
        fix="train the model again",
    )
