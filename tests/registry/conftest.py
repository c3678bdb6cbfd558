"""A workspace with candidates in it, made from real nouns in real stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.registry.candidates import START, committed

from loopline import registry
from loopline.base.clock import ManualClock
from loopline.evaluation.nouns import Report
from loopline.registry.nouns import Version
from loopline.training.nouns import Model
from loopline.workspace import Workspace, create_workspace


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
        return committed(
            ws,
            mark,
            bundle=f"bundle {mark}".encode(),
            features=("a", "b"),
            framework="lightgbm",
            threshold=0.5,
            passed=passed,
        )

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
