"""The nouns of training."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopline.base.nouns import noun


@noun("run")
@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a recipe, recorded without asking."""

    id: str
    step_key: str
    recipe: str
    code: dict[str, Any]
    """Commit, dirty digest, closure digest, closure files."""
    environment: str
    """Blob digest of the list of installed distributions."""
    params: dict[str, Any]
    seed: int
    started_at: datetime
    seconds: float
    cpu_seconds: float
    cached: bool
    log: str | None = None


@noun("model")
@dataclass(frozen=True, slots=True)
class Model:
    """A recipe applied to a set: one immutable bundle."""

    id: str
    run: str
    training_set: str
    problem: str
    bundle: str
    """Blob digest of the bundle (one stored zip)."""
    features: tuple[str, ...]
    framework: str
    author: str
    threshold: float
    parity: dict[str, Any]
    """Greatest difference native against packaged, rows checked, by kind of row."""
    created_at: datetime
    package: dict[str, Any] | None = None
    """Its native runtime, what that may build, and why ONNX was refused; null where ONNX ships."""
