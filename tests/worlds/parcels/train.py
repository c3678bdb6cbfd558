"""The recipe: a few boosted trees."""

import lightgbm as lgb
import numpy as np
import polars as pl


def fit(X: pl.DataFrame, y: np.ndarray, seed: int = 0, **params: object) -> lgb.LGBMClassifier:
    settings = {"n_estimators": 60, "num_leaves": 15, "learning_rate": 0.08, "min_child_samples": 40, "n_jobs": 2,
                "deterministic": True, "force_row_wise": True, "verbose": -1}  # fmt: skip
    return lgb.LGBMClassifier(**settings | params, random_state=seed).fit(X.to_numpy(), y)
