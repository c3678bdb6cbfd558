"""Keeping the online store fresh: what came since the last time goes there, and how fresh it is can be asked."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from loopline.base.errors import Conflict, Invalid
from loopline.base.ids import content_id, iso
from loopline.base.spec import length_text
from loopline.data.history.progress import POINTER, Progress
from loopline.data.spec import TableSpec
from loopline.features.nouns import EMPTIED, NEVER, Published, ViewFreshness
from loopline.features.online import PROGRESS, OnlineFeatures
from loopline.features.requests import groups_of, space_of
from loopline.features.sources import declared, rows_within, version_of
from loopline.features.spec import FeaturesSpec
from loopline.features.tiles import pack, unpack
from loopline.features.views import Views, load_views
from loopline.store.online.protocol import Online, place
from loopline.workspace import Workspace, query, verb

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime.max.replace(tzinfo=UTC)
_NONE = timedelta(0)
_TRIES = 10
_WRITERS: weakref.WeakKeyDictionary[Online, dict[str, OnlineFeatures]] = weakref.WeakKeyDictionary()
"""Writers of this process by store and space: one that goes on need not read the past again."""


@verb("features.publish")
def publish(
    ws: Workspace,
    project: Path,
    *,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    views: tuple[str, ...] | None = None,
    training_sets: tuple[str, ...] | None = None,
    upto: datetime | None = None,
    backfill: bool = False,
) -> list[Published]:
    """Bring the online store up to what is known: rows that came since the last time, or all that still matter.

    Each file of views is kept on its own. Safe to repeat and to interrupt: entities and how far they go are
    written together. A view whose definition changed is built anew.

    Parameters
    ----------
    views : tuple of str, optional
        Files with views instead of those of `features`.
    training_sets : tuple of str, optional
        The views that these were made of, as they were then, instead of any file: what models trained on them read.
    upto : datetime, optional
        As known at this moment; the workspace's now by default. It never goes back, and never ahead of what the
        tables have taken in: rows that were known by then may still be missing.
    backfill : bool
        Build everything from the tables again, whatever the store holds; a damaged file is set aside first.

    Raises
    ------
    Invalid
        If a view that reads a table in time has no `refresh`, or `upto` lies ahead of the clock.
    NotFound
        If a table holds nothing yet.
    Conflict
        If another process publishes the same views meanwhile.
    """
    now = ws.clock()
    moment = upto or now
    if moment > now:
        raise Invalid(
            f"features cannot be published as of {iso(moment)} at {iso(now)}",
            why="what becomes known until then is not there yet",
            fix="choose an earlier `upto`",
        )
    if backfill and (away := ws.stores.mend_online()) is not None:
        ws.note(damaged=str(away))
    return [
        _published(ws, group, declared(group, tables), moment, backfill)
        for group in served(ws, project, views or features.views, training_sets)
    ]


def served(
    ws: Workspace, project: Path, files: Sequence[str], training_sets: Sequence[str] | None = None
) -> list[Views]:
    """The views of each file, or of each one that training sets were made of, where any of them reads a table."""
    if training_sets is None:
        groups = [load_views(project, (file,)) for file in files]
    else:
        groups = [group for made in training_sets for group in groups_of(ws, made) or ()]
    once = {group.id: group for group in groups}
    return [group for group in once.values() if any(one.leaves() for one in group.views)]


def _published(
    ws: Workspace, group: Views, tables: Mapping[str, TableSpec], upto: datetime, backfill: bool
) -> Published:
    upto = min(upto, taken_in(ws, tables) or upto)
    space = space_of(group)
    writers = _WRITERS.setdefault(ws.online, {})
    online = writers.get(space) or OnlineFeatures(ws.online, group, tables=tables, space=space)
    versions = {name: version_of(ws, name) for name in tables}
    stands = None if backfill else online.known_to
    if stands is None:
        rows = {
            name: rows_within(ws, group, name, spec, version=versions[name], since=upto, until=_END)
            for name, spec in tables.items()
        }
        entities = online.rebuild(rows, upto, versions)
    else:
        upto = max(upto, stands)
        before = online.versions
        if not online.current:
            online = OnlineFeatures(ws.online, group, tables=tables, space=space)
            online.restore({
                name: rows_within(ws, group, name, spec, version=before[name], since=stands, until=_END)
                for name, spec in tables.items()
                if name in before
            })  # fmt: skip
        new = {name: _added(ws, name, before.get(name, -1), versions) for name in tables}
        entities = online.apply_all(new, upto, versions=versions)
    writers[space] = online
    doc = {"space": space, "upto": iso(upto), "versions": versions, "entities": entities}
    return Published(
        content_id(doc), group.id, tuple(one.view.name for one in online.layouts), upto, versions, entities
    )


def build_anew(ws: Workspace, group: Views, tables: Mapping[str, TableSpec]) -> bool:
    """Build what the store holds of a file's views from the tables again, as of the same moment: rows were erased.

    What any writer remembers, in whichever process, counts no more. False where the tables were not what the store
    was filled from.
    """
    space, needed = space_of(group), declared(group, tables)
    online = OnlineFeatures(ws.online, group, tables=needed, space=space)
    for _ in range(_TRIES):
        stands = online.known_to
        if stands is None or set(online.versions) != set(needed):
            return False
        versions = {name: version_of(ws, name) for name in needed}
        rows = {
            name: rows_within(ws, group, name, spec, version=versions[name], since=stands, until=_END)
            for name, spec in needed.items()
        }
        try:
            online.rebuild(rows, stands, versions)
        except Conflict:  # somebody published meanwhile
            continue
        _WRITERS.get(ws.online, {}).pop(space, None)
        return True
    raise Conflict(
        f"the online values of {', '.join(group.names[:3])} are written faster than they can be built anew",
        why=f"other writers went on {_TRIES} times in a row",
        fix="stop them, then do it again",
    )


def forget_writers(ws: Workspace, names: Collection[str]) -> None:
    """Have every writer of these spaces, in whichever process, restore before it goes on: rows were erased."""
    for space in sorted(names):
        progress = place(PROGRESS, space)
        for _ in range(_TRIES):
            (packed,) = ws.online.read([progress])
            if packed is None:
                break
            kept = unpack(packed)
            views = {name: one[:2] for name, one in kept["views"].items()}  # how many are left is not known
            value = pack({**kept, "views": views, "built": kept.get("built", 0) + 1})
            if ws.online.write({progress: value}, ws.clock(), only_if=(progress, packed)):
                break
        else:
            raise Conflict(
                f"the online values of {space} are written faster than their writers can be stopped",
                why=f"other writers went on {_TRIES} times in a row",
                fix="stop them, then do it again",
            )
        _WRITERS.get(ws.online, {}).pop(space, None)


def taken_in(ws: Workspace, tables: Mapping[str, TableSpec]) -> datetime | None:
    """Up to when all rows of these tables were taken in; null where none of them is ingested, or says times."""
    pointers = [ws.records.pointer(POINTER, name) for name, spec in tables.items() if spec.known_at is not None]
    return min((to for one in pointers if one is not None and (to := Progress.of(one).known_to)), default=None)


def _added(ws: Workspace, name: str, after: int, versions: dict[str, int]) -> pl.DataFrame:
    """The rows of a table that came since a version, and into `versions` up to which they go."""
    while True:
        version = version_of(ws, name)
        rows = ws.tables.added(name, after=after) if version > after else pl.DataFrame()
        if version_of(ws, name) == version:  # no one appended meanwhile
            versions[name] = version
            return rows


@query("features.freshness")
def freshness(
    ws: Workspace,
    project: Path,
    *,
    features: FeaturesSpec,
    views: tuple[str, ...] | None = None,
    training_sets: tuple[str, ...] | None = None,
    at: datetime | None = None,
    count: bool = False,
) -> list[ViewFreshness]:
    """How fresh each view of the online store is, and whether it keeps its service level.

    A view is late when its newest event is older than its `freshness`, and when it stands more than one refresh
    behind the one that is due; a view that was never published is late too, and one that was while the store
    holds nothing of it.

    Parameters
    ----------
    views, training_sets : tuple of str, optional
        Which views, as for `publish`.
    at : datetime, optional
        The workspace's now by default.
    count : bool
        Count the entities too: a view that lost some is late. It looks at every key of the store.
    """
    now = at or ws.clock()
    found = []
    for group in served(ws, project, views or features.views, training_sets):
        online = OnlineFeatures(ws.online, group, space=space_of(group))
        progress = online.progress()
        lost = online.lost() if count else {}
        for layout in online.layouts:
            one = layout.view
            stands, newest = progress.get(one.name, (None, None))
            behind = None if stands is None or one.refresh is None else max(_due(now, one.refresh) - stands, _NONE)
            age = None if newest is None else now - newest
            why = None
            if one.name not in progress:
                why = EMPTIED if ws.records.find(Published, limit=1, views=group.id) else NEVER
            elif one.name in lost:
                held, written = lost[one.name]
                why = f"lost entities: {held:,} of the {written:,} that were published are left"
            elif behind is not None and one.refresh is not None and behind > one.refresh:
                why = f"stands {length_text(behind)} behind the refresh that is due"
            elif one.freshness is not None and (age is None or age > one.freshness):
                allowed, kept = length_text(one.freshness), length_text(one.lookback)
                if age is None:
                    why = f"no event of the last {kept}, which is all that it keeps; allowed are {allowed}"
                else:
                    why = f"its newest event is {length_text(age)} old, allowed are {allowed}"
            found.append(
                ViewFreshness(one.name, one.source or "", one.refresh, stands, behind, newest, age, one.freshness, why)
            )
    return found


def _due(now: datetime, refresh: timedelta) -> datetime:
    """The refresh at or before a moment."""
    return now - (now - EPOCH) % refresh
