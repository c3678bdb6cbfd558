"""A model and its report as a training and an evaluation leave them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from loopline.evaluation.nouns import Estimate, Report, Verdict
from loopline.training.nouns import Model
from loopline.workspace import Workspace

START = datetime(2026, 3, 1, tzinfo=UTC)


def committed(
    ws: Workspace,
    mark: str,
    *,
    bundle: bytes,
    features: tuple[str, ...],
    framework: str,
    threshold: float,
    passed: bool = True,
) -> tuple[Model, Report]:
    """The two, on record; `passed` says whether the one gate lets the model through."""
    model = Model(
        id=f"model-{mark}",
        run=f"run-{mark}",
        training_set="set",
        problem="problem",
        bundle=ws.blobs.put(bundle),
        features=features,
        framework=framework,
        author="user:ada",
        threshold=threshold,
        parity={},
        created_at=ws.clock(),
    )
    verdict = Verdict("roc_auc on all", passed, "roc_auc", "all", 0.7, 0.69, 0.68, "baseline", "0.69 against 0.68")
    report = Report(
        id=f"report-{mark}",
        model=model.id,
        champion=None,
        rows=1000,
        test_from=START - timedelta(days=28),
        test_to=START,
        metrics={"roc_auc": Estimate(0.7, 0.69, 0.71), "brier": Estimate(None)},
        champion_metrics={},
        baseline_metrics={},
        differences={},
        baseline_differences={},
        calibration=(),
        slices=(),
        verdicts=(verdict,),
        passed=passed,
        threshold=threshold,
        created_at=ws.clock(),
    )
    with ws.records.transaction() as tx:
        tx.put(model)
        tx.put(report)
    return model, report
