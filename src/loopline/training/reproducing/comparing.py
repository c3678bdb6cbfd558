"""How near one bundle comes to another."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.base.ids import digest
from loopline.framing.metrics import METRICS
from loopline.framing.spec import ValueSpec
from loopline.training.archive import unpack
from loopline.training.bundle import MANIFEST, PROBE, Bundle, read_bundle
from loopline.training.packages.trust import Trust

BUNDLE, SCORES, NEAR, METRIC, NOT = 4, 3, 2, 1, 0
WITHIN = 1e-6
Interval = tuple[float | None, float | None, float | None]
"""The value of a metric as it was reported, and the bounds of its interval."""


@dataclass(frozen=True, slots=True)
class Nearness:
    """The level, the greatest difference of a score, and metrics beside what was reported."""

    level: int
    difference: float | None
    metrics: dict[str, dict[str, float | None]]


def compared(
    was: bytes | None,
    wanted: str,
    now: bytes,
    held_out: pl.DataFrame,
    labels: npt.NDArray[np.int8],
    reported: Mapping[str, Interval],
    *,
    trust: Trust,
    value: ValueSpec | None = None,
) -> Nearness:
    """Compare a bundle that was made again with the one of before.

    Parameters
    ----------
    was : bytes, optional
        The bundle of before; null where its bytes are lost.
    wanted : str
        Digest of the bundle of before.
    held_out : DataFrame
        Rows that scores and metrics are compared on, with the inputs as columns; may be empty.
    reported : mapping
        Metric to what the report says; metrics without an interval are not judged.
    """
    made = read_bundle(now, trust)
    metrics = _metrics(made, held_out, labels, reported, value)
    if digest(now) == wanted:
        return Nearness(BUNDLE, 0.0, metrics)
    difference, same = None, False
    if was is not None:
        before = read_bundle(was, trust)
        probe = pl.read_ipc(io.BytesIO(unpack(was)[PROBE]))
        pairs = [(made.predict(frame), before.predict(frame)) for frame in (probe, held_out) if frame.height]
        same = bool(pairs) and all(ours.tobytes() == theirs.tobytes() for ours, theirs in pairs)
        gaps = [np.abs(ours - theirs) for ours, theirs in pairs]
        difference = float(np.max(np.concatenate(gaps), initial=0.0)) if gaps else None
    judged = [one for one in metrics.values() if one["low"] is not None and one["high"] is not None]
    inside = bool(judged) and all(_inside(one) for one in judged)
    if same:
        level = SCORES
    elif difference is not None and difference <= WITHIN:
        level = NEAR
    else:
        level = METRIC if inside else NOT
    return Nearness(level, difference, metrics)


def bytes_unlike(was: bytes, now: bytes) -> dict[str, list[str]]:
    """Files of two bundles whose bytes differ, and parts of their manifests; empty where they are the same."""
    ours, theirs = unpack(now), unpack(was)
    files = [name for name in sorted({*ours, *theirs} - {MANIFEST}) if ours.get(name) != theirs.get(name)]
    one, other = json.loads(ours[MANIFEST]), json.loads(theirs[MANIFEST])
    parts = [name for name in sorted({*one, *other} - {"files"}) if one.get(name) != other.get(name)]
    return {name: found for name, found in (("files", files), ("manifest", parts)) if found}


def _metrics(
    made: Bundle,
    held_out: pl.DataFrame,
    labels: npt.NDArray[np.int8],
    reported: Mapping[str, Interval],
    value: ValueSpec | None,
) -> dict[str, dict[str, float | None]]:
    if not held_out.height:
        return {}
    scores = made.predict(held_out)
    found: dict[str, dict[str, float | None]] = {}
    for name, (was, low, high) in reported.items():
        if name in METRICS:
            now = METRICS[name](labels, scores, made.threshold, value)
            found[name] = {"was": was, "low": low, "high": high, "now": now if math.isfinite(now) else None}
    return found


def _inside(one: Mapping[str, float | None]) -> bool:
    low, high, now = one["low"], one["high"], one["now"]
    return low is not None and high is not None and now is not None and low <= now <= high
