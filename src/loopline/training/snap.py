"""Thresholds that float32 can say: so that native and packaged trees split alike.

A tree asks `x <= t`. For a float32 x the answer is the same when t is first
rounded down to float32; rounded to nearest, t may land above an x that lay
above it, and the row takes the other branch.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

_LINE = re.compile(r"^(num_cat|threshold|decision_type)=(.*)$", re.MULTILINE)
_CATEGORICAL = 1
_ZERO = float(np.float32(1e-35))
"""LightGBM reads values this near to zero as zero."""


def snap_down(values: npt.ArrayLike) -> Doubles:
    """The greatest float32 not above each value, as float64; NaN stays NaN."""
    exact = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf), dtype=np.float32)
    return np.where(near.astype(np.float64) > exact, below, near).astype(np.float64)


def snap_lightgbm(text: str) -> str:
    """A LightGBM model text whose numeric thresholds are float32 values.

    Thresholds inside the band that LightGBM reads as zero move to its edges,
    which changes none of its answers, and lets others give the same ones.
    Thresholds of categorical splits are indices into their sets and stay. The
    list of tree sizes goes, since the trees change length; LightGBM then counts
    for itself.
    """
    head, mark, trees = text.partition("\nTree=0\n")
    if not mark:
        return text
    head = re.sub(r"^tree_sizes=.*\n", "", head + "\n", flags=re.MULTILINE).rstrip("\n")
    blocks = (mark + trees).split("\nTree=")
    return head + "\n" + "\nTree=".join(_snap_tree(block) for block in blocks)


def _snap_tree(block: str) -> str:
    fields = {m[1]: m[2] for m in _LINE.finditer(block)}
    if not fields.get("threshold"):
        return block
    kinds = np.array(fields["decision_type"].split(), dtype=np.int64)
    old = fields["threshold"].split()
    snapped = _out_of_zero(snap_down(np.array(old, dtype=np.float64)))
    new = [was if kind & _CATEGORICAL else repr(float(t)) for was, kind, t in zip(old, kinds, snapped, strict=True)]
    return block.replace(f"\nthreshold={fields['threshold']}\n", f"\nthreshold={' '.join(new)}\n", 1)


def _out_of_zero(values: Doubles) -> Doubles:
    below = float(np.nextafter(np.float32(-_ZERO), np.float32(-np.inf)))
    return np.where(
        (values >= -_ZERO) & (values < 0), below, np.where((values >= 0) & (values <= _ZERO), _ZERO, values)
    )


def split_thresholds(text: str) -> dict[int, Doubles]:
    """The distinct numeric thresholds of a LightGBM model text, by feature index."""
    features: list[npt.NDArray[np.int64]] = []
    values: list[Doubles] = []
    for block in text.split("\nTree=")[1:]:
        fields = dict(line.partition("=")[::2] for line in block.split("\n\n", 1)[0].splitlines())
        if fields.get("threshold"):
            numeric = np.array(fields["decision_type"].split(), dtype=np.int64) & _CATEGORICAL == 0
            features.append(np.array(fields["split_feature"].split(), dtype=np.int64)[numeric])
            values.append(np.array(fields["threshold"].split(), dtype=np.float64)[numeric])
    if not features:
        return {}
    feature, value = np.concatenate(features), np.concatenate(values)
    return {int(f): np.unique(value[feature == f]) for f in np.unique(feature)}
