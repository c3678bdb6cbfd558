"""The key of a workspace's pseudonyms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopline.base.errors import NotFound, Unavailable
from loopline.base.keys import SigningKey

if TYPE_CHECKING:
    from loopline.workspace import Workspace

_KEY = "pseudonym_key"


def secret(ws: Workspace, *, create: bool = True) -> bytes:
    """The key of this workspace's pseudonyms; it lies with the private keys, outside the workspace.

    Raises
    ------
    Unavailable
        If pseudonyms were made with another key: new ones would match none of them.
    """
    name = f"pseudonyms-{ws.id}"
    known = ws.records.meta(_KEY)
    try:
        key = SigningKey.load(name, create=create and known is None)
    except NotFound as error:
        raise Unavailable(
            "the key of the pseudonyms is not on this machine",
            why="tables hold pseudonyms made with it; others would match none of them",
            fix=f"copy {name}.pem into the keys folder, or set LOOPLINE_KEYS to where it is",
        ) from error
    if known is None:
        with ws.records.transaction() as tx:
            tx.set_meta(_KEY, key.fingerprint)
    elif known != key.fingerprint:
        raise Unavailable(
            f"the key {name} is another one than before",
            why=f"pseudonyms here were made with {known}, this is {key.fingerprint}",
            fix="restore the key from a backup",
        )
    return key.secret("pseudonyms")
