"""What ships of each kind of model: ONNX against the fitted model, and the native runtime where ONNX is refused.

`python benchmarks/bench_packages.py` prints one JSON line; `--table` prints the table of docs/reference/packages.md.
The baseline is the model's own prediction of one row; ours is the packaged one, median of 2,000 single rows.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl

from loopline.training.encoding import Input
from loopline.training.packages.choosing import Chosen, choose
from loopline.training.packages.frameworks import package
from loopline.training.packages.packaged import Permission

NAMES = ("a", "b", "c", "kind")
INPUTS = tuple(Input(name, "number") for name in NAMES)
ROWS = 2000


def data(nulls: bool) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows with a category in the last column; float32, null is NaN."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(ROWS, 4)).astype(np.float32)
    x[:, 3] = rng.integers(0, 5, ROWS)
    y = (x[:, 0] + x[:, 1] * (x[:, 3] % 2) + rng.normal(size=ROWS) > 0).astype(np.int8)
    if nulls:
        x[rng.random(x.shape) < 0.08] = np.nan
    return pl.from_numpy(x, schema=list(NAMES)), y


def models() -> Iterator[tuple[str, str, bool, Callable[[pl.DataFrame, np.ndarray], Any]]]:
    """Framework, model, whether it takes nulls, and how it is fitted."""
    yield from _sklearn()
    yield from _lightgbm()
    for framework, build in (("xgboost", _xgboost), ("torch", _torch)):
        try:
            importlib.import_module(framework)
        except ImportError:
            print(f"{framework} is not installed: left out", file=sys.stderr)
            continue
        yield from build()
    yield "Python", "a function of X", True, lambda x, y: lambda rows: rows["a"].is_nan().to_numpy() * 0.25 + 0.5


def _sklearn() -> Iterator[tuple[str, str, bool, Callable[..., Any]]]:
    from sklearn import (
        calibration,
        discriminant_analysis,
        ensemble,
        linear_model,
        naive_bayes,
        neighbors,
        neural_network,
        preprocessing,
        svm,
        tree,
    )
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    def of(model: Any) -> Callable[..., Any]:
        return lambda x, y: model.fit(x, y)

    lr, hgb = linear_model.LogisticRegression, ensemble.HistGradientBoostingClassifier
    gb = ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0)
    found = {
        "LogisticRegression": (False, lr()),
        "HistGradientBoosting": (True, hgb(max_iter=30, random_state=0)),
        "HistGradientBoosting, categorical_features": (True, hgb(max_iter=30, categorical_features=[3])),
        "RandomForest": (True, ensemble.RandomForestClassifier(20, random_state=0)),
        "ExtraTrees": (True, ensemble.ExtraTreesClassifier(20, random_state=0)),
        "DecisionTree": (True, tree.DecisionTreeClassifier(max_depth=5, random_state=0)),
        "GradientBoosting": (False, gb),
        "AdaBoost": (False, ensemble.AdaBoostClassifier(n_estimators=20, random_state=0)),
        "Bagging of trees": (True, ensemble.BaggingClassifier(random_state=0)),
        "MLP": (False, neural_network.MLPClassifier((16,), max_iter=60, random_state=0)),
        "SVC(probability)": (False, svm.SVC(probability=True, random_state=0)),
        "KNeighbors": (False, neighbors.KNeighborsClassifier()),
        "GaussianNB": (False, naive_bayes.GaussianNB()),
        "LinearDiscriminantAnalysis": (False, discriminant_analysis.LinearDiscriminantAnalysis()),
        "QuadraticDiscriminantAnalysis": (False, discriminant_analysis.QuadraticDiscriminantAnalysis()),
        "SGD(log_loss)": (False, linear_model.SGDClassifier(loss="log_loss", random_state=0)),
        "Calibrated, sigmoid": (False, calibration.CalibratedClassifierCV(lr(), method="sigmoid")),
        "Calibrated, isotonic": (False, calibration.CalibratedClassifierCV(gb, method="isotonic")),
        "Calibrated, temperature": (False, calibration.CalibratedClassifierCV(lr(), method="temperature")),
        "Voting, soft": (False, ensemble.VotingClassifier([("a", lr()), ("b", gb)], voting="soft")),
        "Stacking": (False, ensemble.StackingClassifier([("a", lr()), ("b", gb)], cv=3)),
        "impute + scale + LogisticRegression": (
            True, make_pipeline(SimpleImputer(), preprocessing.StandardScaler(), lr())),
        "impute + polynomial + LogisticRegression": (
            True, make_pipeline(SimpleImputer(), preprocessing.PolynomialFeatures(), lr(max_iter=500))),
        "impute + splines + LogisticRegression": (
            True, make_pipeline(SimpleImputer(), preprocessing.SplineTransformer(), lr(max_iter=500))),
    }  # fmt: skip
    for name, (nulls, model) in found.items():
        yield "scikit-learn", name, nulls, of(model)


def _lightgbm() -> Iterator[tuple[str, str, bool, Callable[..., Any]]]:
    import lightgbm as lgb

    quiet = {"n_estimators": 30, "verbose": -1, "n_jobs": 1, "random_state": 0}
    yield "LightGBM", "LGBMClassifier", True, lambda x, y: lgb.LGBMClassifier(**quiet).fit(x, y)
    yield "LightGBM", "dart", True, lambda x, y: lgb.LGBMClassifier(boosting_type="dart", **quiet).fit(x, y)
    yield (
        "LightGBM",
        "rf",
        True,
        lambda x, y: lgb.LGBMClassifier(boosting_type="rf", subsample=0.7, subsample_freq=1, **quiet).fit(x, y),
    )
    yield (
        "LightGBM",
        "categorical_feature",
        True,
        lambda x, y: lgb.train(
            {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_per_group": 5},
            lgb.Dataset(x.to_numpy(), y, categorical_feature=[3]),
            30,
        ),
    )
    yield "LightGBM", "linear_tree", True, lambda x, y: lgb.LGBMClassifier(linear_tree=True, **quiet).fit(x, y)


def _xgboost() -> Iterator[tuple[str, str, bool, Callable[..., Any]]]:
    import xgboost as xgb

    plain = {"n_estimators": 30, "max_depth": 4, "n_jobs": 1, "random_state": 0}
    for name, options in {
        "XGBClassifier": {},
        "exact": {"tree_method": "exact"},
        "lossguide": {"grow_policy": "lossguide", "max_leaves": 9},
        "parallel trees": {"num_parallel_tree": 3},
        "base_score": {"base_score": 0.2},
        "dart": {"booster": "dart", "rate_drop": 0.3},
        "gblinear": {"booster": "gblinear"},
    }.items():
        yield (
            "XGBoost",
            name,
            True,
            lambda x, y, options=options: xgb.XGBClassifier(**plain, **options).fit(x.to_numpy(), y),
        )


def _torch() -> Iterator[tuple[str, str, bool, Callable[..., Any]]]:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, columns: int) -> None:
            super().__init__()
            self.inner = nn.Sequential(
                nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, columns)
            )
            self.columns = columns

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = self.inner(torch.nan_to_num(x))
            return torch.sigmoid(z) if self.columns == 1 else torch.softmax(z, dim=1)

    class Depends(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(torch.stack([row[0] if float(row[1]) > 0 else row[2] for row in x]))

    def fitted(net: nn.Module, x: pl.DataFrame, y: np.ndarray) -> nn.Module:
        torch.manual_seed(0)
        rows, wanted = torch.from_numpy(x.to_numpy().copy()), torch.from_numpy(y.astype(np.float32))
        steps = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(60):
            steps.zero_grad()
            nn.functional.binary_cross_entropy(net(rows)[:, -1], wanted).backward()
            steps.step()
        return net

    yield "PyTorch", "MLP, sigmoid", True, lambda x, y: fitted(Net(1), x, y)
    yield "PyTorch", "MLP, softmax", True, lambda x, y: fitted(Net(2), x, y)
    yield "PyTorch", "a branch on the data", False, lambda x, y: Depends()


def judged(fit: Callable[..., Any], nulls: bool) -> tuple[Chosen | None, str, Any]:
    """What ships, or why nothing does; and the packaged model."""
    x, y = data(nulls)
    packaged = package(fit(x, y), NAMES)
    rows = np.ascontiguousarray(x.to_numpy()).astype(np.float32)
    try:
        made = choose(packaged, inputs=INPUTS, rows=rows, labels=y, threshold=0.3, permission=Permission(unsafe=True))
    except Exception as error:  # shown in the table
        return None, str(error).splitlines()[0], packaged
    return made, "", packaged


def single(score: Callable[..., Any], rows: np.ndarray) -> float:
    """Microseconds for a row, median."""
    took = []
    for n in range(min(len(rows), 2000)):
        begin = time.perf_counter()
        score(rows[n : n + 1])
        took.append(time.perf_counter() - begin)
    return float(np.median(took)) * 1e6


def main() -> None:
    """Judge all, print."""
    warnings.simplefilter("ignore")
    lines, wrong = [], 0
    for framework, name, nulls, fit in models():
        made, why, _ = judged(fit, nulls)
        if made is None:
            lines.append((framework, name, "-", why, "nothing", "-"))
            wrong += 1
            continue
        worst = max(kind["worst"] for kind in made.parity.kinds.values())
        rows = sum(kind["rows"] for kind in made.parity.kinds.values())
        if made.runtime is None:
            lines.append((framework, name, f"{worst:.0e}", "same", "ONNX", f"{worst:.0e} on {rows:,}"))
        else:
            found = made.runtime["onnx"]
            off = f"{found['off']:,} of {found['rows']:,} {found['kind']} rows" if found.get("rows") else found["why"]
            seen = f"{found['worst']:.0e}" if "worst" in found else "-"
            lines.append((framework, name, seen, off, made.runtime["name"], f"{worst:.0e} on {rows:,}"))
        wrong += worst > 1e-5
    if "--table" in sys.argv:
        print("| framework | model | ONNX, worst | ONNX against fitted | ships as | worst, rows |")
        print("| --- | --- | --- | --- | --- | --- |")
        for line in lines:
            print("| " + " | ".join(line) + " |")
        return
    x, _ = data(True)
    import lightgbm as lgb

    made, _, packaged = judged(lambda x, y: lgb.LGBMClassifier(n_estimators=30, verbose=-1, n_jobs=1).fit(x, y), True)
    assert made is not None
    rows = np.ascontiguousarray(x.to_numpy()).astype(np.float32)
    ours, baseline = single(made.score, rows), single(packaged.native, rows)
    print(
        json.dumps(
            {
                "bench": "packages: one row, LightGBM as ONNX against its own predict",
                "ours": round(ours, 1),
                "baseline": round(baseline, 1),
                "unit": "us",
                "ratio": round(ours / baseline, 3),
                "target": 1.0,
                "ok": ours <= baseline and not wrong,
                "models": len(lines),
                "shipping_wrong_or_nothing": wrong,
            }
        )
    )


if __name__ == "__main__":
    main()
