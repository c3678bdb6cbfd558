"""Answers requests, logs them, and moves traffic between versions on evidence."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "deploy": "verbs",
    "flush": "verbs",
    "kill": "verbs",
    "status": "verbs",
    "predictions": "verbs",
    "supervisor_pid": "supervised",
    "workers_left": "supervised",
    "DesiredState": "nouns",
    "EndpointStatus": "nouns",
    "Guardrail": "nouns",
    "Variant": "nouns",
    "ReleaseSpec": "spec",
    "ServingSpec": "spec",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_HOME)
