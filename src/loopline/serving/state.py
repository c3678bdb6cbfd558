"""What an endpoint should serve and what it does serve, as files that change whole.

`<workspace>/serving/<endpoint>/desired.json` is written by `serving.deploy` and
signed with the workspace's key; `status.json` is written by the data plane, the
journals of `segments/` by its workers. Either side may be down or restarted.
"""

from __future__ import annotations

import json
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from loopline.base.errors import Denied, Invalid
from loopline.base.ids import canonical
from loopline.base.keys import SigningKey, verify
from loopline.base.nouns import from_doc, to_doc
from loopline.serving import router
from loopline.serving.nouns import DesiredState, EndpointStatus

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Place:
    """The folder of one endpoint in a workspace."""

    workspace: Path
    endpoint: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.endpoint):
            raise Invalid(
                f"{self.endpoint!r} cannot name an endpoint",
                why="it is part of an address and of a folder",
                fix="use letters, digits, dots, dashes and underscores, at most 100",
            )

    @property
    def folder(self) -> Path:
        return self.workspace / "serving" / self.endpoint

    @property
    def desired(self) -> Path:
        return self.folder / "desired.json"

    @property
    def status(self) -> Path:
        return self.folder / "status.json"

    @property
    def segments(self) -> Path:
        return self.folder / "segments"

    @property
    def killed(self) -> Path:
        """While a file lies here, every request is refused."""
        return self.folder / "KILL"

    @property
    def run(self) -> Path:
        """Sockets of the running processes."""
        return self.workspace / "run"

    @property
    def door(self) -> Path:
        """A datagram here has the supervisor look at the desired state now."""
        return self.run / f"inference-{self.endpoint}.sock"


class DesiredSource(Protocol):
    """Where a supervisor learns what it should serve."""

    def newest(self) -> bytes | None:
        """The newest signed document, whole; null while there is none. Never waits."""
        ...


class FolderSource:
    """The desired state in the workspace's own folder."""

    def __init__(self, place: Place) -> None:
        self._path = place.desired

    def newest(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the file `path`: a reader sees the old bytes or the new ones, never a part.

    With `durable` also after a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as handle:
            handle.write(data)
            handle.flush()
            if durable:
                os.fsync(handle.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def key_name(workspace_id: str) -> str:
    """The name of the key that signs for a workspace."""
    return f"workspace-{workspace_id}"


def sign(state: DesiredState, key: SigningKey) -> bytes:
    """The signed document of a desired state."""
    doc = to_doc(state)
    return json.dumps({"doc": doc, "public": key.public, "signature": key.sign(canonical(doc))}, indent=1).encode()


def check(signed: bytes, *, public: str | None) -> tuple[DesiredState, str]:
    """The desired state in a signed document, and the public key that signed it.

    Parameters
    ----------
    signed : bytes
        What `sign` made.
    public : str or None
        The key it must be signed with; null takes the key it names (first use).

    Raises
    ------
    Invalid
        If it is damaged or says something impossible.
    Denied
        If the signature is not that key's over this content.
    """
    try:
        outer = json.loads(signed)
        doc, named, signature = outer["doc"], str(outer["public"]), str(outer["signature"])
        state = from_doc(DesiredState, doc)
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(
            f"the desired state cannot be read: {type(error).__name__}",
            why="it is no document that serving.deploy wrote",
            fix="deploy again",
        ) from error
    if (public is not None and named != public) or not verify(named, signature, canonical(doc)):
        raise Denied(
            "the desired state is not signed by this workspace",
            why="its signature does not fit its content or the known key",
            fix="deploy again from the workspace that this server belongs to",
        )
    router.check(state.variants)
    return state, named


def read_status(place: Place) -> EndpointStatus | None:
    """What the supervisor last wrote; null when none ever ran."""
    try:
        return from_doc(EndpointStatus, json.loads(place.status.read_bytes()))
    except FileNotFoundError:
        return None


def write_status(place: Place, status: EndpointStatus) -> None:
    """Write what is served now."""
    write_atomic(place.status, json.dumps(to_doc(status), indent=1).encode(), durable=False)


def poke(path: Path) -> None:
    """Wake who listens at the datagram socket `path`; nobody listening is no error."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        with short_path(path) as name:
            sender.sendto(b"1", name)


class short_path:
    """A name for a socket path of any length: the kernel takes 107 bytes only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= 100:
            return str(self._path)
        self._folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(self, *_: Any) -> None:
        if self._folder >= 0:
            os.close(self._folder)
