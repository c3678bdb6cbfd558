"""Versions: approved, signed, reversible."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "register": "verbs",
    "amend": "verbs",
    "add_key": "verbs",
    "approve": "verbs",
    "reject": "verbs",
    "promote": "verbs",
    "rollback": "verbs",
    "retire": "verbs",
    "standing": "queries",
    "verify": "queries",
    "resolve": "queries",
    "history": "queries",
    "evidence": "evidence",
    "Version": "nouns",
    "Approval": "nouns",
    "Release": "nouns",
    "Evidence": "nouns",
    "PublicKey": "nouns",
    "Retirement": "nouns",
    "Condition": "nouns",
    "Standing": "nouns",
    "RegistrySpec": "spec",
    "ApprovalsSpec": "spec",
    "KeepSpec": "spec",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value
