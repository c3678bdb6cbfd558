"""Latest value by key: the promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

SEPARATOR = "\x1f"


def place(view: str, key: str) -> str:
    """Where the value of `key` in `view` stands, as `read` and `write` name it."""
    return f"{view}{SEPARATOR}{key}"


class Online(Protocol):
    """One blob per (view, key), with the event time of its value.

    A put with an older event time than the one kept changes nothing. Safe from
    many processes; a reader never waits for a writer. A store that cannot be
    reached is `Unavailable`, never empty.
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

    def read(self, places: Sequence[str]) -> list[bytes | None]:
        """The values at some places of several views, as of one moment; the path of every request."""
        ...

    def write(
        self,
        values: Mapping[str, bytes],
        at: datetime,
        *,
        gone: Sequence[str] = (),
        only_if: tuple[str, bytes | None] | None = None,
    ) -> bool:
        """Keep values by place and forget others, all or none, whatever event time is kept there.

        Parameters
        ----------
        at : datetime
            Event time of all values.
        only_if : (place, value), optional
            Nothing is written unless that place holds that value (null: nothing).

        Returns
        -------
        bool
            Whether it was written.
        """
        ...

    def keys(self, view: str) -> list[str]:
        """The keys of a view, sorted; not for the path of a request."""
        ...

    def count(self, view: str) -> int:
        """How many keys a view has; not for the path of a request."""
        ...
