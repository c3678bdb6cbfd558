"""Latest value by key: the promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol


class Online(Protocol):
    """One blob per (view, key), with the event time of its value.

    A put with an older event time than the one kept changes nothing. Safe from
    many processes; a reader never waits for a writer.
    """

    def put_many(self, view: str, values: Mapping[str, tuple[datetime, bytes]]) -> None:
        """Keep values by key, all or none."""
        ...

    def get(self, view: str, key: str) -> tuple[datetime, bytes] | None:
        """The newest value of a key with its event time (UTC); null when never put."""
        ...

    def get_many(self, view: str, keys: Sequence[str]) -> list[tuple[datetime, bytes] | None]:
        """As `get`, in the order of `keys`."""
        ...

    def delete(self, view: str, key: str) -> None:
        """Forget a key."""
        ...
