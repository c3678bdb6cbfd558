"""A workspace with candidates in it, made from real nouns in real stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loopline import registry
from loopline.base.clock import ManualClock
from loopline.evaluation.nouns import Estimate, Report, Verdict
from loopline.registry.nouns import Version
from loopline.training.nouns import Model
from loopline.workspace import Workspace, create_workspace

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def ws(tmp_path: Path, clock: ManualClock) -> Iterator[Workspace]:
    made = create_workspace(tmp_path / "project" / ".loopline", clock=clock, actor="user:ada")
    yield made
    made.close()


@pytest.fixture
def candidate(ws: Workspace) -> Callable[..., tuple[Model, Report]]:
    """`candidate("one", passed=True)`: a model and its report, committed."""

    def make(mark: str, *, passed: bool = True) -> tuple[Model, Report]:
        model = Model(
            id=f"model-{mark}",
            run=f"run-{mark}",
            training_set="set",
            problem="problem",
            bundle=ws.blobs.put(f"bundle {mark}".encode()),
            features=("a", "b"),
            framework="lightgbm",
            author="user:ada",
            threshold=0.5,
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
            threshold=0.5,
            created_at=ws.clock(),
        )
        with ws.records.transaction() as tx:
            tx.put(model)
            tx.put(report)
        return model, report

    return make


@pytest.fixture
def registered(ws: Workspace, candidate: Callable[..., tuple[Model, Report]]) -> Callable[..., Version]:
    def make(mark: str, *, passed: bool = True, policy: dict[str, object] | None = None) -> Version:
        model, report = candidate(mark, passed=passed)
        return registry.register(
            ws, name="claims", model=model, report=report, author="user:ada", risk="limited", policy=policy or {}
        )

    return make


@pytest.fixture
def released(ws: Workspace, registered: Callable[..., Version], clock: ManualClock) -> Callable[..., Version]:
    def make(mark: str) -> Version:
        version = registered(mark)
        registry.approve(ws.acting_as("user:bob"), version, reason="looks right")
        registry.promote(ws, version, reason="approved")
        clock.advance(timedelta(days=1))
        return version

    return make
