"""Whose bundles may bring types of their own, or code: a policy of this machine and a signature, never one alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from loopline.base import keys, settings
from loopline.base.errors import NotFound
from loopline.base.ids import canonical

SIGNATURE = "signature.json"
_PURPOSE = b"loopline bundle manifest v1\n"


@dataclass(frozen=True, slots=True)
class Trust:
    """What is believed where a bundle is loaded; by default nothing.

    `unsafe` is the machine's word (`LOOPLINE_ALLOW_UNSAFE`); `keys` are public
    Ed25519 keys in base64.
    """

    unsafe: bool = False
    keys: frozenset[str] = frozenset()

    def signer(self, manifest: bytes, signature: bytes | None) -> str | None:
        """The trusted key that signed this manifest; null when none did."""
        try:
            doc = json.loads(signature or b"null")
            public, made = doc["key"], doc["signature"]
        except (ValueError, TypeError, KeyError):
            return None
        known = isinstance(public, str) and isinstance(made, str) and public in self.keys
        return public if known and keys.verify(public, made, _PURPOSE + manifest) else None

    def doc(self) -> dict[str, object]:
        """As JSON, for a process that is handed it."""
        return {"unsafe": self.unsafe, "keys": sorted(self.keys)}

    @classmethod
    def of(cls, doc: Mapping[str, object] | None) -> Trust:
        """What `doc` wrote; nothing where there is none."""
        given = (doc or {}).get("keys")
        known = frozenset(str(key) for key in given) if isinstance(given, list) else frozenset()
        return cls((doc or {}).get("unsafe") is True, known)


NOBODY = Trust()


def trust_of(workspace: str) -> Trust:
    """What this machine believes of the workspace with that id: its own key, and those it was forked from."""
    try:
        known = {keys.SigningKey.load(f"workspace-{workspace}").public}
    except NotFound:
        known = set()
    return Trust(settings.allows_unsafe_models(), frozenset(known | set(keys.forebears(workspace).values())))


def sign(manifest: bytes, key: keys.SigningKey) -> bytes:
    """The signature of a manifest, and with it of every file whose digest it names."""
    return canonical({"key": key.public, "signature": key.sign(_PURPOSE + manifest)})
