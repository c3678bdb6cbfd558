"""The control API over HTTP."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {"Access": "guard", "Guard": "guard", "control_app": "control"}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
