"""Where the latest values live: in the workspace, or where `LOOPLINE_ONLINE` says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loopline.base import settings
from loopline.base.errors import Invalid

if TYPE_CHECKING:
    from loopline.store.online.redis import RedisOnline
    from loopline.store.online.sqlite import SqliteOnline

SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix")


def at(root: Path, workspace: str) -> SqliteOnline | RedisOnline:
    """The online values of the workspace in the folder `root`, whose id begins its keys on a shared server.

    Raises
    ------
    Invalid
        If `LOOPLINE_ONLINE` names no kind of store.
    """
    url = settings.online_url()
    if url is None:
        from loopline.store.online.sqlite import SqliteOnline

        return SqliteOnline(root / "online.db")
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        raise Invalid(
            f"LOOPLINE_ONLINE={scheme}... names no online store",
            why=f"it begins with one of {', '.join(SCHEMES)}, or is not set: then a file of the workspace is used",
            fix="write for example redis://localhost:6379/0",
        )
    from loopline.store.online.redis import RedisOnline

    return RedisOnline(f"{scheme.replace('valkey', 'redis')}://{rest}", prefix=workspace)


def mend(root: Path) -> Path | None:
    """Set a damaged file of the workspace aside, to be filled again; where it is now, or null where none is damaged."""
    from loopline.store.online.sqlite import damaged, set_aside

    file = root / "online.db"
    return set_aside(file) if settings.online_url() is None and damaged(file) else None
