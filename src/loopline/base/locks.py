"""Work that is done by one process of a machine at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopline.base.errors import Unavailable


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until nobody else on this machine holds the lock, and hold it; it ends with its holder.

    Parameters
    ----------
    lock : Path
        A file that is made, and stays.

    Raises
    ------
    Unavailable
        If it cannot be made.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = lock.open("w")
    except OSError as error:
        raise Unavailable(
            f"{lock.parent} cannot be written: {error.strerror}", why="a lock lies there", fix="make it writable"
        ) from error
    with held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
