"""Where an alias was, and how far back it can go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from loopline.registry.nouns import Release


def path(releases: Iterable[Release]) -> list[str]:
    """The versions one can go back through, oldest first, the present one last.

    A promotion goes on top. A rollback takes off what lies above its target, so
    that rolling back twice never returns to the version that was taken out.

    Parameters
    ----------
    releases : Release
        Of one alias, oldest first.
    """
    standing: list[str] = []
    for release in releases:
        if release.act == "rollback" and release.version in standing:
            last = len(standing) - 1 - standing[::-1].index(release.version)
            del standing[last + 1 :]
        else:
            standing.append(release.version)
    return standing


def retained(releases: Sequence[Release], *, versions: int, at_least: timedelta, now: datetime) -> set[str]:
    """The versions that must stay ready.

    Those that an alias points at, the `versions` that were released last, and
    those that were in service within `at_least` before `now`.

    Parameters
    ----------
    releases : Release
        Of one model, all aliases, oldest first.
    """
    current: dict[str, str] = {}
    left: dict[str, datetime] = {}
    newest: list[str] = []
    for release in releases:
        before = current.get(release.alias)
        if before is not None:
            left[before] = release.at
        current[release.alias] = release.version
        if release.version in newest:
            newest.remove(release.version)
        newest.append(release.version)
    recent = {version for version, at in left.items() if now - at < at_least}
    return set(current.values()) | set(newest[-versions:]) | recent
