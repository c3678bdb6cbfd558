"""Views read for requests: one look into the online store for all requests of a moment.

Requests that come together name the same few places over and over, and what an entity answers stays the same for
minutes: until its blob changes, or a window moves on by a tile. So keys, blobs and answers are worked out once for
all requests that share them. What is kept from one look to the next is small and flat: answers, no opened blobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from loopline.base.errors import Unavailable
from loopline.base.ids import iso
from loopline.features.hops import US
from loopline.features.reader import FIRST, LAST, Reader, keys_of
from loopline.features.tiles import Blob, Layout, unpack
from loopline.features.views import View

if TYPE_CHECKING:
    from loopline.store.online.protocol import Online

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000
HOT = 512
"""Entities of a view whose last answer is kept."""


class NotNow(Unavailable):
    """The store answers, and what it holds may not be served for the moment that was asked for."""


class TooOld(NotNow):
    """The view stands where it should, and its entity has no event that is young enough, or none at all.

    The store is sound: the same request is refused until the entity has an event.
    """

    view = ""
    absent = False
    """Whether the store holds nothing of the entity, rather than something old."""


class Said(NamedTuple):
    """What a view answers for an entity, and for how long."""

    packed: bytes | None
    """The blob; null where the store has none, or the request names no entity."""
    low: int
    high: int
    """`leaves` hold for moments in [low, high), in microseconds."""
    leaves: tuple[Any, ...]
    newest: int | None
    """Event time of the newest row of the entity, in microseconds."""


class Read(NamedTuple):
    """What the store answers for one row."""

    leaves: list[Any]
    """The lookups and windows of all views, in their order; what the row function takes."""
    ages: tuple[float | None, ...]
    """Seconds since the newest event of the entity, by view (those with a source); null where none is known."""
    stale: tuple[str, ...] = ()
    """Views whose value is older than their `freshness`, or that stand before the refresh that is due."""
    ahead: tuple[str, ...] = ()
    """Views that stand after the refresh that is due: what they hold was not known then, so it is no answer."""
    absent: tuple[str, ...] = ()
    """Views with a `freshness` that hold nothing of the entity: an id that is unknown, or silent for long."""


class ViewReads:
    """The reading side of the views of a space.

    Parameters
    ----------
    layouts : sequence of Layout
        Of the views with lookups or windows, in their order.
    progress : str
        Place that says how far each view goes.
    prefixes : sequence of str
        By view, what the places of its entities begin with.

    Notes
    -----
    Safe to share between threads: what is kept is only ever replaced whole.
    """

    def __init__(self, layouts: Sequence[Layout], progress: str, prefixes: Sequence[str]) -> None:
        self.layouts, self.progress, self._prefixes = tuple(layouts), progress, tuple(prefixes)
        self._readers = [Reader(one) for one in layouts]
        named = [tuple(left for left, _ in one.view.on) for one in layouts]
        distinct = list(dict.fromkeys(named))
        self._keys = [keys_of(names) for names in distinct]
        self._which = [distinct.index(names) for names in named]
        self._levels = [None if one.view.freshness is None else one.view.freshness // US for one in layouts]
        self._unnamed = [Said(None, FIRST, LAST, one.nothing, None) for one in self._readers]
        self._unseen = [Said(None, FIRST, LAST, one.none_seen, None) for one in self._readers]
        self._hot: list[dict[str, Said]] = [{} for _ in layouts]
        self._stood: tuple[bytes | None, list[int | None]] | None = None

    def keys(self, rows: Sequence[Mapping[str, Any]]) -> list[list[str | None]]:
        """The entities that requests name, once for all views of the same entity."""
        return [keys(rows) for keys in self._keys]

    def places(self, named: Sequence[Sequence[str | None]]) -> tuple[list[dict[str, None]], list[str]]:
        """Of what `keys` found: each entity once, and where the store keeps them, view by view."""
        once: list[dict[str, None]] = [dict.fromkeys(key for key in keys if key is not None) for keys in named]
        pairs = zip(self._prefixes, self._which, strict=True)
        return once, [prefix + key for prefix, which in pairs for key in once[which]]

    def answers(
        self,
        named: Sequence[Sequence[str | None]],
        once: Sequence[Mapping[str, None]],
        blobs: Sequence[bytes | None],
        reached: Sequence[int | None],
        times: Sequence[int],
    ) -> list[Read | Unavailable]:
        """What each request reads, or why it cannot be answered.

        Parameters
        ----------
        named, once
            From `keys` and `places`.
        blobs
            What the store holds at the places, in their order, and `reached` how far the views go there.
        times
            Decision times in microseconds since 1970.
        """
        known = self._known(once, blobs)
        asked = [(i, mine, named[which]) for i, (mine, which) in enumerate(zip(known, self._which, strict=True))]
        opened: list[dict[str, Blob]] = [{} for _ in known]
        stand = {(upto, one.refresh) for upto, one in zip(reached, self.layouts, strict=True) if upto is not None}
        calm = not any(level is not None for level in self._levels)
        found: list[Read | Unavailable] = []
        for n, at in enumerate(times):
            said: list[Said] = []
            leaves: list[Any] = []
            for i, mine, keys in asked:
                key = keys[n]
                one = mine[key]
                if not one[1] <= at < one[2]:
                    assert key is not None
                    one = mine[key] = self._told(i, key, one, at, opened[i])
                said.append(one)
                leaves += one[3]
            if calm and all(upto == at - at % refresh for upto, refresh in stand):
                found.append(Read(leaves, _ages([one[4] for one in said], at)))
            else:
                try:
                    found.append(self._weighed(said, reached, at))
                except Unavailable as error:
                    found.append(error)
        return found

    def _known(self, once: Sequence[Mapping[str, None]], blobs: Sequence[bytes | None]) -> list[dict[str | None, Said]]:
        """By view and entity what was said before, where the blob is still the same."""
        known = []
        left = iter(blobs)
        for which, hot, unnamed, unseen in zip(self._which, self._hot, self._unnamed, self._unseen, strict=True):
            mine: dict[str | None, Said] = {None: unnamed}
            for key, packed in zip(once[which], left):  # noqa: B905  # `left` goes on for the next view
                if packed is None:
                    mine[key] = unseen
                else:
                    before = hot.get(key)
                    same = before is not None and before[0] == packed
                    mine[key] = before if same else Said(packed, LAST, FIRST, (), None)  # type: ignore[assignment]
            known.append(mine)
        return known

    def _told(self, i: int, key: str, before: Said, at: int, opened: dict[str, Blob]) -> Said:
        """What the view at place `i` says of an entity at a moment, and how long that holds."""
        packed, reader, hot = before.packed, self._readers[i], self._hot[i]
        assert packed is not None
        blob = opened.get(key)
        if blob is None:
            blob = opened[key] = unpack(packed)
        low, high = reader.lasting(blob, at)
        if len(hot) >= HOT:
            hot.clear()
        made = hot[key] = Said(packed, low, high, reader.leaves(blob, at), blob[0])
        return made

    def _weighed(self, said: Sequence[Said], reached: Sequence[int | None], at: int) -> Read:
        """What counts of what the views say, where one is not at the refresh that is due or has a `freshness`."""
        leaves: list[Any] = []
        known: list[int | None] = []
        stale: tuple[str, ...] = ()
        ahead: tuple[str, ...] = ()
        absent: tuple[str, ...] = ()
        for i, (one, reader) in enumerate(zip(said, self._readers, strict=True)):
            view, upto, level, newest = reader.layout.view, reached[i], self._levels[i], one.newest
            wrong = later = behind = False
            if upto is not None:
                refresh = reader.layout.refresh
                if upto > at:
                    ahead += (view.name,)
                    later = True
                elif upto != at - at % refresh:
                    stale += (view.name,)
                    wrong = behind = level is not None and at - upto > level + refresh
                named = one is not self._unnamed[i]
                if not later and level is not None and named and (newest is None or at - newest > level):
                    if one.packed is None:
                        absent += (view.name,)
                    else:
                        stale += () if wrong or stale[-1:] == (view.name,) else (view.name,)
                    wrong = True
            known.append(None if later else newest)
            if later or (wrong and view.on_stale != "serve"):
                if view.on_stale == "refuse":
                    raise (
                        _not_now(view, upto, newest, at)
                        if later or behind
                        else _too_old(view, newest, at, absent=one.packed is None)
                    )
                leaves += reader.nothing
            else:
                leaves += one.leaves
        return Read(leaves, _ages(known, at), stale, ahead, absent)

    def nothing(self) -> Read:
        """What is answered while the store cannot be read."""
        leaves = [value for reader in self._readers for value in reader.nothing]
        return Read(leaves, (None,) * len(self.layouts), tuple(one.view.name for one in self.layouts))

    def reached(self, packed: bytes | None) -> list[int | None]:
        """The refresh that each view stands at; null for tables without times."""
        before = self._stood
        if before is None or before[0] != packed:
            self._stood = before = packed, self._progress_of(packed)
        return before[1]

    def _progress_of(self, packed: bytes | None) -> list[int | None]:
        kept = {} if packed is None else unpack(packed)["views"]
        try:
            return [kept[one.id][0] for one in self.layouts]
        except KeyError:
            missing = [one.view.name for one in self.layouts if one.id not in kept]
            raise Unavailable(
                f"the online store holds nothing of view {missing[0]}",
                why="the store is empty: it was never filled, or its file was deleted or moved away and a new one made"
                if packed is None
                else "it was never written there, or its definition changed since",
                fix="run `loopline features publish`",
            ) from None


def read_together(
    store: Online, parts: Sequence[ViewReads], rows: Sequence[Mapping[str, Any]], times: Sequence[int]
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
    places = [part.progress for part in parts]
    asked = []
    for part in parts:
        named = part.keys(rows)
        once, mine = part.places(named)
        asked.append((named, once, len(places), len(places) + len(mine)))
        places += mine
    try:
        blobs = store.read(places)
    except Unavailable as error:
        if all(one.view.on_stale == "default" for part in parts for one in part.layouts):
            return [[part.nothing() for part in parts] for _ in rows]
        return [error for _ in rows]
    try:
        reached = [part.reached(packed) for part, packed in zip(parts, blobs, strict=False)]
    except Unavailable as error:
        return [error for _ in rows]
    by_part = [
        part.answers(named, once, blobs[start:stop], upto, times)
        for part, (named, once, start, stop), upto in zip(parts, asked, reached, strict=True)
    ]
    return [_all_or_why(of_row) for of_row in zip(*by_part, strict=True)]


def _all_or_why(reads: Sequence[Read | Unavailable]) -> list[Read] | Unavailable:
    found: list[Read] = []
    for one in reads:
        if isinstance(one, Unavailable):
            return one
        found.append(one)
    return found


def _ages(newest: Sequence[int | None], at: int) -> tuple[float | None, ...]:
    return tuple([None if event is None else (at - event) / SECOND for event in newest])


def moment_of(micros: int | None) -> datetime | None:
    """Microseconds since 1970 as a time; null for none, and for a bound that nothing reaches."""
    return None if micros is None or abs(micros) >= 2**60 else EPOCH + timedelta(microseconds=micros)


def _not_now(view: View, upto: int | None, newest: int | None, at: int) -> NotNow:
    event, reached = moment_of(newest), moment_of(upto)
    if upto is not None and reached is not None and upto > at:
        return NotNow(
            f"view {view.name} stands ahead of {iso(EPOCH + timedelta(microseconds=at))}",
            why=f"it stands at {iso(reached)} and holds what was not known then; it says on_stale=refuse",
            fix="ask as of now; `compute` answers for past moments",
        )
    known = "no event is known" if event is None else f"the newest event is of {iso(event)}"
    return NotNow(
        f"view {view.name} is too old at {iso(EPOCH + timedelta(microseconds=at))}",
        why=f"{known}, the view stands at {reached and iso(reached)}, and it says on_stale=refuse",
        fix="see `loopline features freshness`; run `loopline features publish` if its writer stands still",
    )


def _too_old(view: View, newest: int | None, at: int, *, absent: bool) -> TooOld:
    event, due = moment_of(newest), iso(EPOCH + timedelta(microseconds=at))
    if absent:
        what = f"view {view.name} holds nothing of the entity at {due}"
        why = "no event of it is known within what the view looks back, and the view says on_stale=refuse"
    else:
        known = "no event of the entity is known" if event is None else f"the entity's newest event is of {iso(event)}"
        what = f"view {view.name} is too old at {due}"
        why = f"{known}, and the view says on_stale=refuse"
    fix = 'take on_stale="default" or "serve" where such entities are to be answered'
    made = TooOld(what, why=why, fix=f"correct the entity's id; {fix}" if absent else fix)
    made.view, made.absent = view.name, absent
    return made
