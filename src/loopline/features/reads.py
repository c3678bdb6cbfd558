"""Views of several files read together: one look into the online store for all requests of a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loopline.base.errors import Unavailable

if TYPE_CHECKING:
    from loopline.features.online import OnlineFeatures, Read
    from loopline.store.online.protocol import Online


def read_together(
    store: Online, parts: Sequence[OnlineFeatures], rows: Sequence[Mapping[str, Any]], times: Sequence[int]
) -> list[list[Read] | Unavailable]:
    """What views of several files answer for some requests, with one look into their store.

    Parameters
    ----------
    times : sequence of int
        Decision times in microseconds since 1970.

    Returns
    -------
    list
        By row: what each part reads, or why the row cannot be answered.
    """
    places = [part._progress for part in parts]
    asked = []
    for row in rows:
        mine = []
        for part in parts:
            keys = [reader.key(row) for reader in part._readers]
            at = [None if key is None else prefix + key for prefix, key in zip(part._prefixes, keys, strict=True)]
            places += [one for one in at if one is not None]
            mine.append((keys, at))
        asked.append(mine)
    if len(rows) > 1:
        places = list(dict.fromkeys(places))
    try:
        blobs: dict[str | None, bytes | None] = dict(zip(places, store.read(places), strict=True))
    except Unavailable as error:
        if all(one.view.on_stale == "default" for part in parts for one in part.layouts):
            return [[part._nothing() for part in parts] for _ in rows]
        return [error for _ in rows]
    try:
        progress = [part._reached(blobs[part._progress]) for part in parts]
    except Unavailable as error:
        return [error for _ in rows]
    found: list[list[Read] | Unavailable] = []
    get = blobs.get
    for mine, time in zip(asked, times, strict=True):
        try:
            found.append([
                part._one(keys, [get(one) for one in at], reached, time)
                for part, (keys, at), reached in zip(parts, mine, progress, strict=True)
            ])  # fmt: skip
        except Unavailable as error:
            found.append(error)
    return found
