"""Features from the online store: written in micro-batches, read for each request, the same as in batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from loopline.base.errors import Conflict, Invalid, Unavailable
from loopline.features.hops import US
from loopline.features.reads import EPOCH, Read, ViewReads, moment_of, read_together
from loopline.features.tiles import Layout, pack, unpack
from loopline.features.views import View, Views
from loopline.store.online.protocol import Online, place

if TYPE_CHECKING:
    import polars as pl

    from loopline.data.spec import TableSpec
    from loopline.features.writer import ViewWriter

PROGRESS = "progress"
"""View under which the store keeps how far each view goes, by space."""


class Staged(NamedTuple):
    """What a micro-batch changes, not written yet."""

    values: dict[str, bytes]
    gone: list[str]
    """Entities of which nothing is left."""
    progress: bytes
    """How far all views go once this is written."""
    upto: datetime


class OnlineFeatures:
    """The views of a project over an online store.

    Parameters
    ----------
    store : Online
    views : Views
        Each view that reads a table in time declares `refresh`.
    tables : mapping, optional
        Declarations of the sources, for `apply`: their times and keys. Without one, rows carry `event_time`
        and `known_at` and are never corrected.
    space : str
        Who writes together: all views of a space go forward at once, by one writer.

    Raises
    ------
    Invalid
        If a view that reads a table in time has no `refresh`.

    Notes
    -----
    A read at time t answers what `compute` answers for t, to the bit, when each view stands at the last multiple
    of its `refresh` at or before t. Of a view that stands before it the old values are served, or what `on_stale`
    says; of one that stands after it none are, whatever `on_stale` says: null, or refused with `refuse`.
    Reading takes no frames: one `read` of the store, one binary search a window.
    """

    def __init__(
        self, store: Online, views: Views, *, tables: Mapping[str, TableSpec] | None = None, space: str = "default"
    ) -> None:
        self._store, self.views = store, views
        self._tables = tables or {}
        self._progress = place(PROGRESS, space)
        self.layouts = [Layout(one) for one in views.views if one.leaves()]
        self._kept = [f"{space}/{one.id}" for one in self.layouts]
        self._prefixes = [place(name, "") for name in self._kept]
        self._writers: list[ViewWriter] | None = None
        self._written: bytes | None = None
        self._versions: dict[str, int] = {}
        self._rows = 0
        for one in self.layouts:
            _require_refresh(one.view)
        self.reads = ViewReads(self.layouts, self._progress, self._prefixes)

    # ---- reading

    def read(self, row: Mapping[str, Any], at: datetime) -> Read:
        """The leaves of one request at its decision time.

        Raises
        ------
        Unavailable
            If the store cannot be read, a view was never written, or one that says `refuse` is too old.
        """
        return self.read_many([row], at)[0]

    def read_many(self, rows: Sequence[Mapping[str, Any]], at: datetime | Sequence[datetime]) -> list[Read]:
        """As `read`, for several requests, with one look into the store."""
        times = [at] * len(rows) if isinstance(at, datetime) else at
        found = read_together(self._store, [self.reads], rows, [(time - EPOCH) // US for time in times])
        made: list[Read] = []
        for one in found:
            if isinstance(one, Unavailable):
                raise one
            made += one
        return made

    def progress(self) -> dict[str, tuple[datetime | None, datetime | None]]:
        """By view: the refresh that it stands at, and its newest event. Views never written are absent."""
        (packed,) = self._store.read([self._progress])
        kept = {} if packed is None else unpack(packed)["views"]
        return {
            one.view.name: (moment_of(kept[one.id][0]), moment_of(kept[one.id][1]))
            for one in self.layouts
            if one.id in kept
        }

    def lost(self) -> dict[str, tuple[int, int]]:
        """By view that holds fewer entities than were written: how many it holds, and how many it should.

        Counts all keys: not for the path of a request.
        """
        (packed,) = self._store.read([self._progress])
        kept = {} if packed is None else unpack(packed)["views"]
        found = {}
        for one, name in zip(self.layouts, self._kept, strict=True):
            _, _, *known = kept.get(one.id, (None, None))
            if known and known[0] and (held := self._store.count(name)) < known[0]:
                found[one.view.name] = held, known[0]
        return found

    # ---- writing

    @property
    def current(self) -> bool:
        """Whether this writer knows all that the store holds, so that it can go on."""
        (packed,) = self._store.read([self._progress])
        return self._writers is not None and packed == self._written

    @property
    def known_to(self) -> datetime | None:
        """Until when rows were let in; null when nothing was ever written, or not all of the views."""
        (packed,) = self._store.read([self._progress])
        kept = {} if packed is None else unpack(packed)
        whole = kept and all(one.id in kept["views"] for one in self.layouts)
        return moment_of(kept["known_to"]) if whole else None

    def apply(self, source: str, rows: pl.DataFrame, upto: datetime, *, version: int | None = None) -> int:
        """Let rows of one source in that became known until `upto`; see `apply_all`."""
        return self.apply_all({source: rows}, upto, versions=None if version is None else {source: version})

    def apply_all(
        self, rows: Mapping[str, pl.DataFrame], upto: datetime, *, versions: Mapping[str, int] | None = None
    ) -> int:
        """Let rows in that became known until `upto`, and move all views there.

        Parameters
        ----------
        rows : mapping
            New rows by source, in the order they came; sources without new rows may be absent. Rows known at
            an earlier `upto` or before are taken for repeated and left out, and so are those known after this one
            (they may come again), unless `versions` are given.
        upto : datetime
        versions : mapping, optional
            Versions of the tables that these rows bring the views up to. Rows of versions that are in already
            change nothing, whenever they were known.

        Returns
        -------
        int
            How many entities changed.

        Raises
        ------
        Conflict
            If another writer went on with this space, or this one does not know what was written before:
            `restore` first.

        Notes
        -----
        Entities and how far they go are written in one transaction, so a writer that dies leaves the state
        before or after. Repeating a call changes nothing.
        """
        return self.write(self.stage(rows, upto, versions=versions))

    def stage(
        self, rows: Mapping[str, pl.DataFrame], upto: datetime, *, versions: Mapping[str, int] | None = None
    ) -> Staged:
        """Work out what `apply_all` would write, without writing: the costly half, which may be done beforehand.

        What was staged is written in the order it was staged in, all of it.
        """
        moment = (upto - EPOCH) // US
        writers = self._opened()
        new = {name: frame for name, frame in rows.items() if not self._have(name, versions)}
        self._take(writers, new, None if versions is not None else (self._known_to, moment), moment)
        self._versions.update(versions or {})
        self._known_to = max(self._known_to, moment)
        values: dict[str, bytes] = {}
        gone: list[str] = []
        for prefix, writer in zip(self._prefixes, writers, strict=True):
            for key, blob in writer.changed().items():
                if blob is None:
                    gone.append(prefix + key)
                else:
                    values[prefix + key] = blob
        return Staged(values, gone, self._reach(), upto)

    def write(self, staged: Staged) -> int:
        """Have the store hold what was staged; the number of entities that changed.

        Raises
        ------
        Conflict
            If another writer went on with this space: nothing was written, `restore` first.
        """
        values = {**staged.values, self._progress: staged.progress}
        if not self._store.write(values, staged.upto, gone=staged.gone, only_if=(self._progress, self._written)):
            self._writers, self._written = None, None
            raise Conflict(
                "another writer went on with the online store",
                why="one writer holds a space at a time; nothing was written",
                fix="stop one of them, and run `loopline features publish`",
            )
        self._written = staged.progress
        return len(staged.values) + len(staged.gone)

    def restore(self, rows: Mapping[str, pl.DataFrame]) -> None:
        """Build what the writer knows from the tables again, as of what the store holds, without writing.

        Parameters
        ----------
        rows : mapping
            Of each source the rows (of the versions that were applied) that happened within the views' lookback
            before the store's moment.
        """
        (packed,) = self._store.read([self._progress])
        self._writers, self._known_to, self._versions = None, -(2**62), {}
        self._written = packed
        writers = self._fresh()
        if packed is not None:
            kept = unpack(packed)
            self._known_to, self._versions = kept["known_to"], kept["versions"]
            self._built = kept.get("built", 0)
            versioned = {name: frame for name, frame in rows.items() if name in self._versions}
            others = {name: frame for name, frame in rows.items() if name not in self._versions}
            self._take(writers, versioned, None, self._known_to)
            self._take(writers, others, (-(2**62), self._known_to), self._known_to)
            for writer in writers:
                writer.changed()
        self._writers = writers

    def rebuild(self, rows: Mapping[str, pl.DataFrame], upto: datetime, versions: Mapping[str, int]) -> int:
        """Write all of the views from the tables as of `upto`, whatever the store holds of them; backfill.

        Entities of which nothing is left are forgotten, and every other writer has to `restore`.
        """
        moment = (upto - EPOCH) // US
        (self._written,) = self._store.read([self._progress])
        self._built = 1 + (0 if self._written is None else unpack(self._written).get("built", 0))
        self._writers, self._known_to, self._versions = None, moment, dict(versions)
        writers = self._fresh()
        self._take(writers, rows, None, moment)
        values: dict[str, bytes] = {}
        gone: list[str] = []
        for name, prefix, writer in zip(self._kept, self._prefixes, writers, strict=True):
            blobs = writer.everything()
            values.update({prefix + key: blob for key, blob in blobs.items() if blob is not None})
            gone += [prefix + key for key in self._store.keys(name) if blobs.get(key) is None]
        self._writers = writers
        self.write(Staged(values, gone, self._reach(), upto))
        return len(values)

    def entities(self, view: str) -> list[str]:
        """The keys of the entities that the store holds of a view, sorted."""
        names = {one.view.name: name for one, name in zip(self.layouts, self._kept, strict=True)}
        return self._store.keys(names[view])

    @property
    def versions(self) -> dict[str, int]:
        """The version of each source that the store's views go up to, as far as they were told."""
        (packed,) = self._store.read([self._progress])
        return {} if packed is None else dict(unpack(packed)["versions"])

    _known_to = -(2**62)
    _built = 0
    """How often the space was built anew: what a writer remembered from before counts no more."""

    def _have(self, name: str, versions: Mapping[str, int] | None) -> bool:
        return versions is not None and name in versions and versions[name] <= self._versions.get(name, -1)

    def _fresh(self) -> list[ViewWriter]:
        from loopline.features.writer import ViewWriter

        return [ViewWriter(one) for one in self.layouts]

    def _opened(self) -> list[ViewWriter]:
        if self._writers is None:
            (packed,) = self._store.read([self._progress])
            if packed is not None:
                raise Conflict(
                    "this writer does not know what the online store holds already",
                    why="what is written next builds on the rows before",
                    fix="call restore with those rows first, or run `loopline features publish`",
                )
            self._writers = self._fresh()
        return self._writers

    def _take(
        self, writers: Sequence[ViewWriter], rows: Mapping[str, pl.DataFrame], span: tuple[int, int] | None, upto: int
    ) -> None:
        from loopline.features.writer import Rows

        sources = {}
        for name, frame in rows.items():
            sources[name] = Rows(frame, self._tables.get(name), self._rows)
            self._rows += frame.height
        for writer in writers:
            view = writer.layout.view
            found = sources.get(view.source or "")
            if found is not None and found.height:
                writer.take(found, span, upto)
            elif writer.layout.timed:
                writer.advance(upto)

    def _reach(self) -> bytes:
        """How far the writers of all views go, and how many entities each has, packed."""
        writers = self._writers or []
        views = {one.layout.id: [one.upto if one.layout.timed else None, one.newest, one.known] for one in writers}
        return pack({"known_to": self._known_to, "versions": self._versions, "built": self._built, "views": views})


def spaces(store: Online) -> dict[str, list[str]]:
    """Who has written into a store, and under which names it keeps the views of each."""
    found = {}
    for space in store.keys(PROGRESS):
        (packed,) = store.read([place(PROGRESS, space)])
        if packed is not None:
            found[space] = [f"{space}/{view}" for view in unpack(packed)["views"]]
    return found


def _require_refresh(view: View) -> None:
    if view.maker is not None:
        raise Invalid(
            f"view {view.name} cannot be served online",
            why="a function makes its source's rows from whole tables, not from new rows",
            fix="ingest what it makes as a table of its own",
        )
    if view.refresh is None and any(leaf.op != "lookup" for leaf in view.leaves()):
        raise Invalid(
            f"view {view.name} cannot be served online",
            why="without `refresh` its rows are seen at every microsecond, which no store can keep up with",
            fix='say how often it is refreshed: @view(..., refresh="1h")',
        )
