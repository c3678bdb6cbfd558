"""A small world to train in: a project folder and a training set, both real."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from loopline.base.clock import ManualClock
from loopline.base.ids import content_id
from loopline.features.nouns import TrainingSet
from loopline.framing.spec import FramingSpec, ValueSpec
from loopline.workspace import Workspace, create_workspace

START = datetime(2020, 1, 1, tzinfo=UTC)
FRAMING = FramingSpec(
    label="late", unit="unit", value=ValueSpec(true_positive=40, false_positive=-12, false_negative=-55)
)
LIGHTGBM = """
from lightgbm import LGBMClassifier
from shared import TREES


def fit(X, y, seed=0, leaves=7):
    model = LGBMClassifier(n_estimators=TREES, num_leaves=leaves, verbose=-1, n_jobs=1, random_state=seed)
    return model.fit(X, y)
"""
SHARED = "from deeper import HALF\n\nTREES = 2 * HALF\n"
DEEPER = "HALF = 6\n"


def workspace(folder: Path) -> Workspace:
    """A workspace whose clock stands still."""
    return create_workspace(folder, clock=ManualClock(START + timedelta(days=400)), actor="user:ada")


def project(folder: Path, recipe: str = LIGHTGBM, **files: str) -> Path:
    """A folder with `train.py`, its helpers and other files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"train": recipe, "shared": SHARED, "deeper": DEEPER, **files}.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def rows(n: int = 3000, *, days: int = 40, seed: int = 0, timed: bool = True) -> pl.DataFrame:
    """Labelled rows: three numbers (one with nulls), a category, days; the last quarter of the days is held out."""
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(0, days, n))
    mood = rng.normal(0, 0.5, days)[day]
    a, b, c = (rng.normal(size=n).astype(np.float32) for _ in range(3))
    kind = rng.choice(["x", "y", "z"], n)
    logit = 1.5 * a + b * c + (kind == "z") + mood - 0.5
    frame = pl.DataFrame(
        {
            "unit": [f"u{i}" for i in range(n)],
            "decision_time": [START + timedelta(days=int(d), hours=1) for d in day] if timed else [None] * n,
            "a": a,
            "b": [None if rng.random() < 0.1 else float(v) for v in b],
            "c": c,
            "kind": [None if rng.random() < 0.05 else str(k) for k in kind],
            "label": rng.random(n) < 1 / (1 + np.exp(-logit)),
            "split": np.where(day >= days * 3 // 4, "test", "train"),
            "place": rng.choice(["north", "south", "rare"], n, p=[0.6, 0.39, 0.01]),
        },
        schema_overrides={"b": pl.Float32, "decision_time": pl.Datetime("us", "UTC")},
    )
    return frame


def training_set(
    ws: Workspace, frame: pl.DataFrame, features: tuple[str, ...] = ("a", "b", "c", "kind")
) -> TrainingSet:
    """The training set that holds `frame`."""
    out = io.BytesIO()
    frame.write_ipc(out)
    blob = ws.blobs.put(out.getvalue())
    counts = dict(frame.get_column("split").value_counts().iter_rows())
    return TrainingSet(
        id=content_id({"frame": blob, "features": list(features)}),
        snapshot="snapshot",
        frame=blob,
        features=features,
        categorical=tuple(f for f in features if frame.schema[f] == pl.String),
        views="views",
        train_rows=counts.get("train", 0),
        test_rows=counts.get("test", 0),
        train_to=START,
        test_to=START + timedelta(days=40),
        excluded={},
    )
