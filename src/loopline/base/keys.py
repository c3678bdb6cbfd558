"""Private keys: Ed25519, one file each, outside every workspace."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from loopline.base import settings
from loopline.base.errors import Invalid, NotFound, Unavailable


def key_path(name: str) -> Path:
    """Where the key `name` lives; different names never share a file."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    if safe != name or safe.startswith("."):
        safe = f"{safe.lstrip('.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return settings.keys_folder() / f"{safe}.pem"


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 private key of this machine.

    `public` is the raw public key in base64; `fingerprint` names it shortly.
    """

    name: str
    private: Ed25519PrivateKey
    public: str

    @classmethod
    def load(cls, name: str, *, create: bool = False) -> SigningKey:
        """The key called `name`, made on first use if `create` says so.

        Two processes that create the same key at once end up with one key.

        Raises
        ------
        NotFound
            If there is no such key and `create` is false.
        Invalid
            If the file holds no Ed25519 key.
        Unavailable
            If the keys folder cannot be read or written.
        """
        path = key_path(name)
        try:
            pem = path.read_bytes()
        except FileNotFoundError:
            if not create:
                raise NotFound(
                    f"there is no key {name!r}",
                    why=f"{path} does not exist on this machine",
                    fix="copy the key from the machine that has it, or set LOOPLINE_KEYS to its folder",
                ) from None
            pem = _create(path)
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise _no_key(path, str(error)) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise _no_key(path, f"it holds a {type(private).__name__}")
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return cls(name, private, base64.b64encode(public).decode())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key, first 16 hex digits."""
        return fingerprint(self.public)

    def secret(self, purpose: str) -> bytes:
        """32 secret bytes for `purpose`, the same as long as the key is: HMAC-SHA256 of its name under the key."""
        raw = self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return hmac.digest(raw, f"loopline/{purpose}".encode(), "sha256")

    def sign(self, message: bytes) -> str:
        """The signature of `message`, in base64."""
        return base64.b64encode(self.private.sign(message)).decode()


def adopt_forebears(workspace: str, former: str) -> SigningKey:
    """Make the key of a forked workspace, and keep beside it whose signatures count there too.

    They are kept in the keys folder, out of reach of whoever can write the
    workspace only. The key of the pseudonyms is handed on, so that new ones
    match those in the tables.

    Raises
    ------
    NotFound
        If this machine has no key of the workspace `former`.
    """
    known = {former: SigningKey.load(f"workspace-{former}").public, **forebears(former)}
    key = SigningKey.load(f"workspace-{workspace}", create=True)
    try:
        _forebears(workspace).write_text(json.dumps(known, indent=1) + "\n")
        pseudonyms = key_path(f"pseudonyms-{former}")
        if pseudonyms.exists():
            shutil.copy(pseudonyms, key_path(f"pseudonyms-{workspace}"))  # keeps who may read it
    except OSError as error:
        raise _unreadable(_forebears(workspace), error) from error
    return key


def forebears(workspace: str) -> dict[str, str]:
    """Ids of the workspaces that this one was forked from, and their public keys; none for most."""
    try:
        found: dict[str, str] = json.loads(_forebears(workspace).read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _no_key(_forebears(workspace), str(error)) from error
    return found


def _forebears(workspace: str) -> Path:
    return key_path(f"workspace-{workspace}").with_suffix(".forebears.json")


def fingerprint(public: str) -> str:
    """The short name of a public key given in base64."""
    return hashlib.sha256(base64.b64decode(public)).hexdigest()[:16]


def verify(public: str, signature: str, message: bytes) -> bool:
    """Whether `signature` (base64) over `message` was made by the key `public` (base64).

    Malformed keys and signatures verify nothing.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public, validate=True))
        key.verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _create(path: Path) -> bytes:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as part:
                part.write(pem)
                part.flush()
                os.fsync(part.fileno())
            try:
                os.link(name, path)
            except FileExistsError:
                return path.read_bytes()
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise _unreadable(path, error) from error
    return pem


def _unreadable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"the key {path} cannot be used: {error.strerror}",
        why="private keys live outside the workspace, in the keys folder",
        fix="make the folder writable, or set LOOPLINE_KEYS to one that is",
    )


def _no_key(path: Path, reason: str) -> Invalid:
    return Invalid(
        f"{path} is not an Ed25519 private key: {reason}",
        why="Loopline signs with Ed25519 keys in PEM",
        fix="restore the file from a backup, or move it away and have a new key made",
    )
