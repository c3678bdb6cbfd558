"""Framing: what is decided, and how we will know it went well."""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "FramingSpec": "loopline.framing.spec",
    "LabelSpec": "loopline.framing.spec",
    "METRICS": "loopline.framing.metrics",
    "OwnerSpec": "loopline.framing.spec",
    "Problem": "loopline.framing.nouns",
    "ValueSpec": "loopline.framing.spec",
    "best_threshold": "loopline.framing.metrics",
    "frame": "loopline.framing.verbs",
}


def __getattr__(name: str) -> Any:
    module = _NAMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(_NAMES)
