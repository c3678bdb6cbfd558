"""The signature's format, against other people's tools and against noise."""

from __future__ import annotations

import base64
import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.base.errors import Invalid
from loopline.base.keys import SigningKey
from loopline.registry.envelope import PAYLOAD, pre_authentication, seal, unseal


def test_the_bytes_signed_are_those_of_the_dsse_protocol():
    signed = pre_authentication("http://example.com/HelloWorld", b"hello world")
    assert signed == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@given(st.data())
def test_no_changed_byte_of_an_envelope_goes_unnoticed(data):
    key = SigningKey.load("signer", create=True)
    envelope = seal({"subject": "x", "n": 1}, key)
    place = data.draw(st.integers(0, len(envelope) - 1))
    changed = bytearray(envelope)
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        inside = unseal(bytes(changed), key.public)
    except Invalid:
        return
    assert inside == {"subject": "x", "n": 1}


def test_a_key_that_did_not_sign_opens_nothing():
    one, other = SigningKey.load("one", create=True), SigningKey.load("other", create=True)
    with pytest.raises(Invalid, match="is not of the key"):
        unseal(seal({"a": 1}, one), other.public)


def test_what_the_key_signed_as_another_type_opens_nothing():
    key = SigningKey.load("signer", create=True)
    payload = b'{"a": 1}'
    signature = {"keyid": key.fingerprint, "sig": key.sign(pre_authentication("text/plain", payload))}
    doc = {"payloadType": "text/plain", "payload": base64.b64encode(payload).decode(), "signatures": [signature]}
    with pytest.raises(Invalid, match="is not of the key"):
        unseal(json.dumps(doc).encode(), key.public)


def test_openssl_checks_an_envelope_without_us(require, tmp_path):
    openssl = require("openssl")
    key = SigningKey.load("signer", create=True)
    doc = json.loads(seal({"a": 1}, key))
    (tmp_path / "message").write_bytes(pre_authentication(PAYLOAD, base64.b64decode(doc["payload"])))
    (tmp_path / "sig").write_bytes(base64.b64decode(doc["signatures"][0]["sig"]))
    der = bytes.fromhex("302a300506032b6570032100") + base64.b64decode(key.public)
    (tmp_path / "key.der").write_bytes(der)
    done = subprocess.run(
        [
            *(openssl, "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key.der"),
            *("-rawin", "-in", "message", "-sigfile", "sig"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "Verified Successfully" in done.stdout, done.stderr
