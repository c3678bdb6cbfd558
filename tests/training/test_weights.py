"""Labels of less confidence count for less, where the recipe can weigh rows; else the bundle says that it cannot."""

from __future__ import annotations

import numpy as np
import polars as pl
from tests.training.world import FRAMING, LIGHTGBM, project, rows, training_set, workspace

from loopline.training import TrainingSpec, load_bundle, train

SPEC = TrainingSpec(recipe="train.py:fit")
WEIGHING = LIGHTGBM.replace("seed=0,", "seed=0, sample_weight=None,").replace("fit(X, y)", "fit(X, y, sample_weight)")
WRONG = pl.col("unit").str.ends_with("7")


def doubted(confidence: float) -> pl.DataFrame:
    """Rows of which a tenth have the wrong label, and how sure that is."""
    flipped = pl.when(WRONG).then(~pl.col("label")).otherwise(pl.col("label")).alias("label")
    return rows(1500).with_columns(flipped, label_confidence=pl.when(WRONG).then(confidence).otherwise(1.0))


def test_rows_are_weighed_by_the_confidence_of_their_label(tmp_path, caplog):
    ws = workspace(tmp_path / "ws")
    made = {}
    for name, recipe, frame in (
        ("sure", WEIGHING, doubted(1.0)),
        ("doubted", WEIGHING, doubted(0.0)),
        ("plain", LIGHTGBM, doubted(0.0)),
        ("without", WEIGHING, rows(1500)),
    ):
        folder = project(tmp_path / name, recipe.replace("fit(X, y, seed", "fit(X, y, seed"))
        _, model = train(
            ws, folder, training=SPEC, training_set=training_set(ws, frame), framing=FRAMING, author="user:ada"
        )
        made[name] = load_bundle(ws.blobs.path(model.bundle))
    told = {name: bundle.manifest.get("label_confidence") for name, bundle in made.items()}
    mean = round(float(doubted(0.0).filter(split="train")["label_confidence"].mean()), 6)
    assert told == {
        "sure": {"mean": 1.0, "sample_weight": True},
        "doubted": {"mean": mean, "sample_weight": True},
        "plain": {"mean": mean, "sample_weight": False},
        "without": None,
    }
    assert "no parameter sample_weight" in caplog.text
    held_out = rows(1500).filter(split="test")
    scores = {name: bundle.predict(held_out) for name, bundle in made.items()}
    assert np.array_equal(scores["sure"], scores["plain"]), "weights of one, and none, are the same training"
    assert np.abs(scores["doubted"] - scores["sure"]).max() > 0.01
    ws.close()
