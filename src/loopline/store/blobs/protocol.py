"""Bytes by digest: the promise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class Blobs(Protocol):
    """Immutable bytes, named by their SHA-256.

    Atomic: a reader sees a whole blob or none, also after a power cut. Keeping
    the same bytes twice changes nothing. Safe from many threads and processes.
    `get` and `path` check the digest and raise `Invalid` for damaged bytes,
    `NotFound` for absent ones; a full or read-only place is `Unavailable`.
    """

    def put(self, data: bytes) -> str:
        """Keep `data`; return its digest."""
        ...

    def put_file(self, path: Path) -> str:
        """Keep a file's bytes without holding them in memory; return the digest."""
        ...

    def adopt(self, path: Path) -> str:
        """As `put_file`, for a file that nobody will write to again: its bytes are shared where that can be."""
        ...

    def get(self, digest: str) -> bytes:
        """The bytes of `digest`."""
        ...

    def path(self, digest: str) -> Path:
        """A local, read-only file that holds the bytes of `digest`."""
        ...

    def __contains__(self, digest: object) -> bool: ...

    def __iter__(self) -> Iterator[str]:
        """Every digest kept, in no order."""
        ...

    def delete(self, digest: str) -> None:
        """Forget `digest`; forgetting twice changes nothing."""
        ...
