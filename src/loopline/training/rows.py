"""The rows of a training set: cut, encoded, and as the recipe sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.errors import Invalid
from loopline.data.privacy.tombstones import current
from loopline.features.nouns import TrainingSet
from loopline.features.views import CONFIDENCE
from loopline.training.bundle import PROBE_ROWS
from loopline.training.convert import Packaged
from loopline.training.encoding import Floats, Input, encode, learn
from loopline.training.spec import TrainingSpec
from loopline.training.transforms import Transforms
from loopline.training.transforms import fit as fit_transforms
from loopline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Seen:
    """The columns that the recipe sees, and how the training rows became them."""

    names: tuple[str, ...]
    categorical: tuple[str, ...]
    transforms: Transforms | None

    def around(self, packaged: Packaged, inputs: tuple[Input, ...]) -> Packaged:
        """A packaged model that takes raw inputs."""
        return packaged if self.transforms is None else packaged.behind(self.transforms, len(inputs))


@dataclass(slots=True)
class Rows:
    """What a model is made of and compared on; the frame that it came from is free."""

    inputs: tuple[Input, ...]
    seen: Seen
    labels: npt.NDArray[np.int8]
    weights: npt.NDArray[np.float64] | None
    held_out: Floats
    """The rows to compare on: those with split `test`, else the training rows."""
    held_labels: npt.NDArray[np.int8]
    probe: pl.DataFrame
    matrix: Floats | None
    """The training rows as the recipe sees them."""

    def take(self) -> Floats:
        """The matrix, for the one who asks first: the recipe has it in a form of its own then."""
        assert self.matrix is not None
        taken, self.matrix = self.matrix, None
        return taken


def learned(ws: Workspace, training: TrainingSpec, training_set: TrainingSet) -> Rows:
    """The rows of a training set, encoded by what the training rows know, and behind the declared transforms."""
    train, test = split(ws, training_set)
    held_out = test if test.height else train
    inputs = learn(train, training_set.features, training_set.categorical)
    matrix = encode(train, inputs)
    compared = matrix if held_out is train else encode(held_out, inputs)
    seen = Seen(training_set.features, training_set.categorical, None)
    if training.transforms:
        fitted, matrix = fit_transforms(training.transforms, inputs, matrix, labels(train), seed=training.seed)
        seen = Seen(fitted.names, fitted.categorical, fitted)
    probe = held_out.select(one.name for one in inputs).head(PROBE_ROWS)
    probe = probe.filter(pl.Series([True]).new_from_index(0, probe.height))  # rows of its own, that hold no others
    return Rows(inputs, seen, labels(train), weights(train), compared, labels(held_out), probe, matrix)


def split(ws: Workspace, training_set: TrainingSet) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The training and the held-out rows of a training set.

    Raises
    ------
    Invalid
        If there are no training rows.
    """
    frame = pl.read_ipc(ws.blobs.path(current(ws, training_set.frame)))
    train, test = (_part(frame, name) for name in ("train", "test"))
    if not train.height:
        raise Invalid(
            f"training set {training_set.id[:12]} has no training rows",
            why="every labelled row is held out",
            fix="shorten training.split.test, or wait for more labels",
        )
    return train, test


def _part(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The rows of one split; no copy of them where they stand together, as they do when split by time."""
    mine = (frame.get_column("split") == name).fill_null(False)
    first, rows = mine.arg_max() or 0, int(mine.sum())
    together = frame.slice(first, rows)
    return together if bool(mine.slice(first, rows).all()) else frame.filter(mine)


def labels(frame: pl.DataFrame) -> npt.NDArray[np.int8]:
    """The labels of a training set's rows as 0 and 1."""
    return frame.get_column("label").cast(pl.Int8).to_numpy()


def weights(frame: pl.DataFrame) -> npt.NDArray[np.float64] | None:
    """How sure each label is, 0 to 1; null where the framing declares nothing of it."""
    return frame.get_column(CONFIDENCE).fill_null(1.0).to_numpy() if CONFIDENCE in frame.columns else None
