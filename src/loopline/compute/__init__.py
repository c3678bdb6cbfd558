"""Run a step: in a fresh process, or several at once. Nothing forks, nothing is pickled."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Pool": "pool",
    "StepFailed": "process",
    "StepSpec": "spec",
    "run_step": "process",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = ["Pool", "StepFailed", "StepSpec", "run_step"]
