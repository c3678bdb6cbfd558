"""Versions: approved, signed, reversible."""

from loopline.base.lazy import exports

_HOMES = {
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

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
