"""Signed statements: a DSSE envelope around an in-toto statement.

Both formats are open: anyone with the public key can check a bundle without
Loopline (`docs/decisions/signing.md` shows how).

References
----------
DSSE v1 protocol (secure-systems-lab); in-toto Attestation Framework, Statement v1.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from loopline.base import keys
from loopline.base.errors import Invalid
from loopline.base.ids import canonical

STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD = "application/vnd.in-toto+json"


def statement(name: str, sha256: str, predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """An in-toto statement that says `predicate` of the bytes with that SHA-256 (hex)."""
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": sha256}}],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def pre_authentication(kind: str, payload: bytes) -> bytes:
    """The bytes that DSSE signs: type and payload, each with its length."""
    parts = (b"DSSEv1", str(len(kind.encode())).encode(), kind.encode(), str(len(payload)).encode(), payload)
    return b" ".join(parts)


def seal(doc: Mapping[str, Any], key: keys.SigningKey) -> bytes:
    """The envelope (canonical JSON) of `doc`, signed with `key`."""
    payload = canonical(dict(doc))
    return canonical(
        {
            "payloadType": PAYLOAD,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": key.fingerprint, "sig": key.sign(pre_authentication(PAYLOAD, payload))}],
        }
    )


def unseal(envelope: bytes, public: str) -> dict[str, Any]:
    """The statement inside, once its signature by the key `public` (base64) has been checked.

    Raises
    ------
    Invalid
        If it is not an envelope, or no signature in it is of that key.
    """
    try:
        doc = json.loads(envelope)
        payload = base64.b64decode(doc["payload"], validate=True)
        kind = doc["payloadType"]
        signatures = [str(entry["sig"]) for entry in doc["signatures"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(
            f"this is not a DSSE envelope: {error}",
            why="a signature is kept as one",
            fix="register the model again",
        ) from error
    message = pre_authentication(str(kind), payload)
    if kind != PAYLOAD or not any(keys.verify(public, signature, message) for signature in signatures):
        raise Invalid(
            f"the signature is not of the key {keys.fingerprint(public)}",
            why="the envelope was changed, or another key signed it",
            fix="register the model again, or restore the blob from a backup",
        )
    inside: dict[str, Any] = json.loads(payload)
    return inside
