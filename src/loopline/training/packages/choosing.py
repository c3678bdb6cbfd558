"""Which runtime ships: ONNX where it answers as the fitted model, else the first native one that does and may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loopline.base.errors import Invalid, LooplineError
from loopline.base.log import logger
from loopline.training.encoding import Floats, Input
from loopline.training.packages import session
from loopline.training.packages.packaged import Packaged, Permission, Score, Scores
from loopline.training.packages.runtimes import NATIVE, behind, opened
from loopline.training.parity import Differs, Parity, boundary_rows, check

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What ships. `onnx` is null where `runtime` is not, and the other way round."""

    onnx: bytes | None
    runtime: dict[str, Any] | None
    """For the manifest: name, file, what its loader must know, why ONNX was refused."""
    native: dict[str, bytes]
    score: Score
    parity: Parity


def choose(
    packaged: Packaged,
    *,
    inputs: Sequence[Input],
    rows: Floats,
    labels: npt.NDArray[np.int8] | None = None,
    threshold: float,
    permission: Permission | None = None,
) -> Chosen:
    """Judge each form of a model against the fitted one, and take the first that answers alike.

    Parameters
    ----------
    inputs : sequence of Input, k
    rows : (n, k) float32
        Held out where there are such rows.
    labels : (n,), optional
        Of those rows: AUC and calibration must not move either.
    threshold : float
        Positive from here on.
    permission : Permission, optional
        What the project allows beyond ONNX and safe files; nothing by default.

    Raises
    ------
    Invalid
        If the fitted model cannot score the rows, or no form of it may ship. It
        says what each one lacked.
    """
    boundary = boundary_rows(rows, inputs, packaged.thresholds)

    def judged(score: Score) -> Parity:
        return check(
            packaged.native,
            _guarded(score),
            evaluation=rows,
            boundary=boundary,
            threshold=threshold,
            framework=packaged.framework,
            labels=labels,
        )

    if packaged.onnx is not None:
        try:
            score = _loaded(packaged.onnx)
            return Chosen(packaged.onnx, None, dict(packaged.files), score, judged(score))
        except Differs as error:
            refused: LooplineError = error
            why = error.doc()
    else:
        why = {"why": packaged.refusal or "there is no conversion"}
        refused = Invalid(f"{packaged.framework} does not ship as ONNX: {why['why']}", why="", fix="")
    allowed, lacks = permission or Permission(), []
    for way in packaged.ways:
        try:
            data, about = way.build(allowed)
            score = behind(list(packaged.transforms), opened(way.runtime, data, about))
            agreed = judged(score)
        except LooplineError as error:
            lacks.append(error)
            continue
        log.warning("ONNX was refused (%s); the model ships in its native runtime: %s", why["why"], way.runtime)
        runtime = {
            **about,
            "name": way.runtime,
            "file": NATIVE + way.file,
            "onnx": why,
            **({"transforms": [one.doc() for one in packaged.transforms]} if packaged.transforms else {}),
            **({"unsafe": True, "risk": allowed.risk} if way.runtime == "pickle" else {}),
        }
        return Chosen(None, runtime, {**packaged.files, way.file: data}, score, agreed)
    said = "; ".join(f"{way.runtime}: {error.what}" for way, error in zip(packaged.ways, lacks, strict=True))
    raise Invalid(
        refused.what,
        why=(f"nothing wrong is registered, and no native runtime may ship instead ({said})" if said else refused.why),
        fix=lacks[0].fix if lacks else refused.fix,
    ) from refused


def _loaded(onnx: bytes) -> Score:
    """The scores of a converted model; some converters write what no runtime loads."""
    try:
        return session.scorer(onnx)
    except Invalid as error:
        raise Differs(error.what) from error


def _guarded(score: Score) -> Score:
    """A packaged model whose own errors count as answering differently."""

    def found(matrix: Floats) -> Scores:
        try:
            return score(matrix)
        except LooplineError:
            raise
        except Exception as error:  # ONNX Runtime's errors share no public base
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise Differs(f"the packaged model cannot score rows that the fitted one can: {said[:200]}") from error

    return found
