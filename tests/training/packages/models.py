"""Small models and rows, and what ships of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from loopline.base.keys import SigningKey
from loopline.training.bundle import Bundle, build_bundle, read_bundle
from loopline.training.encoding import Input, encode
from loopline.training.packages import skops
from loopline.training.packages.choosing import Chosen, choose
from loopline.training.packages.frameworks import package
from loopline.training.packages.packaged import Packaged, Permission
from loopline.training.packages.runtimes import demands_signature
from loopline.training.packages.trust import Trust

NAMES = ("a", "b", "c", "kind")
KINDS = ("v", "w", "x", "y", "z")
INPUTS = (
    *(Input(name, "number", (), True, 0.1, -9.0, 9.0) for name in NAMES[:3]),
    Input("kind", "category", KINDS, True, 0.1),
)
UNSAFE = Permission(unsafe=True)


def data(rows: int = 600, *, nulls: bool = True, seed: int = 3) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows as a recipe sees them (float32, a code of 5 kinds last, null is NaN), and labels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    x[:, 3] = rng.integers(0, 5, rows)
    y = (x[:, 0] + x[:, 1] * (x[:, 3] % 2) + rng.normal(size=rows) > 0).astype(np.int8)
    if nulls:
        x[rng.random(x.shape) < 0.08] = np.nan
    return pl.from_numpy(x, schema=list(NAMES)), y


def asked(count: int = 40, *, nulls: bool = True, seed: int = 8) -> list[dict[str, Any]]:
    """Rows as a client sends them: nulls, and kinds never seen."""
    rng = np.random.default_rng(seed)
    kinds = [*KINDS, *(["never", None] if nulls else [])]
    rows = []
    for _ in range(count):
        row: dict[str, Any] = {name: float(np.float32(rng.normal())) for name in NAMES[:3]}
        row["kind"] = kinds[rng.integers(len(kinds))]
        if nulls and rng.random() < 0.3:
            row[NAMES[rng.integers(3)]] = None
        rows.append(row)
    return rows


def frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Those rows as a frame."""
    return pl.DataFrame(rows, schema={"a": pl.Float32, "b": pl.Float32, "c": pl.Float32, "kind": pl.String})


def chosen(model: Any, x: pl.DataFrame, y: np.ndarray, permission: Permission | None = None) -> tuple[Packaged, Chosen]:
    """The packaged model, and what ships of it."""
    packaged = package(model, NAMES)
    rows = np.ascontiguousarray(x.to_numpy()).astype(np.float32)
    return packaged, choose(packaged, inputs=INPUTS, rows=rows, labels=y, threshold=0.3, permission=permission)


def bundled(made: Chosen, key: SigningKey | None = None) -> bytes:
    """A bundle of it, signed where that is demanded."""
    probe = frame(asked(20, nulls=made.parity.kinds["null"].get("refused") is None))
    signed = made.runtime is not None and demands_signature(made.runtime, skops.OWN)
    return build_bundle(
        inputs=INPUTS,
        threshold=made.parity.threshold,
        model=made.onnx,
        native=made.native,
        probe=probe,
        scores=made.score(encode(probe, INPUTS)),
        about={},
        runtime=made.runtime,
        key=key if signed else None,
    )


def shipped(made: Chosen, key: SigningKey | None = None) -> Bundle:
    """What a server makes of that bundle, on a machine that trusts the key."""
    return read_bundle(bundled(made, key), Trust(True, frozenset({key.public} if key else ())))


def parsed(manifest: bytes) -> dict[str, Any]:
    """A manifest, read."""
    doc: dict[str, Any] = json.loads(manifest)
    return doc
