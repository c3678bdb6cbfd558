"""Rows by version, in Delta Lake tables of a local folder."""

from __future__ import annotations

import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from loopline.base.errors import Conflict, Invalid, LooplineError, NotFound, Unavailable
from loopline.store.tables import commits
from loopline.store.tables.files import TARGET_BYTES, compacted, files_of, vacuumed
from loopline.store.tables.handle import Handle
from loopline.store.tables.log import LOG, actions, added, commit_path, sync, tables_in
from loopline.store.tables.protocol import TableFile, TableVersion
from loopline.store.tables.schema import fitted, table_schema

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_TRIES = 20
NAMED = 5
"""Files that an error names."""
_REOPEN = 10
_FULL = ("no space", "os error 28", "file too large", "os error 27", "quota exceeded", "os error 122")
_STREAMED = 100_000
"""Rows of a lazy frame that are in memory at a time."""
_SETTINGS = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": str(commits.INTERVAL),
}


class DeltaTables:
    """`Tables` in a folder of Delta tables; any Delta reader can open them.

    Idempotency is Delta's own: the `key` of an append is an application
    transaction in the same commit as its rows. Every version stays readable.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._writers: dict[str, tuple[DeltaTable, int]] = {}
        self._readers: dict[str, Handle] = {}
        self._plain: dict[str, commits.Plain] = {}
        self._keys: dict[str, tuple[int, set[str]]] = {}
        self._newest: dict[str, int] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def append(
        self, name: str, rows: pl.DataFrame | pl.LazyFrame, *, key: str | None = None, after: int | None = None
    ) -> TableVersion:
        """Add `rows`, creating the table at the first append.

        Parameters
        ----------
        name : str
            Segments of letters, digits, `.`, `_` and `-`, joined by `/`.
        rows : DataFrame or LazyFrame
            Times must carry a zone; they are kept in UTC with microseconds.
            Categories are kept as text. A lazy frame is streamed into the one commit.
        key : str, optional
            Names this append: a second one with the same key changes nothing
            and answers with the version of the first.
        after : int, optional
            Only where this is the newest version (-1: where there is no table yet),
            for rows that were chosen by what the table held then.

        Raises
        ------
        Conflict
            If a column would change its type, or the table is not at version `after`.
        Invalid
            If a column has a type no table can keep, or the name is no name.
        Unavailable
            If the table is damaged, or the place is full or read-only.
        """
        folder = self._folder(name)
        with self._locks[name], self._speaking_of(name):
            for _ in range(_TRIES):
                known = self._known(name, folder)
                newest = known.version if known is not None else self._writers[name][0].version()
                if key is not None and key in self._known_keys(name, newest):
                    return self._version_of(name, newest, key)
                _in_order(name, after, newest)
                kept = known.kept if known is not None else table_schema(self._writers[name][0])
                fitting = fitted(name, rows, None if newest < 0 else kept)
                try:
                    if known is not None and (made := commits.append(folder, known, fitting, key)) is not None:
                        self._plain[name], files = made
                        commits.checkpoint(folder, newest + 1)
                        return TableVersion(name, newest + 1, files)
                    written = self._write(name, folder, fitting, kept, key, alone=after is not None)
                    sync(folder, written)
                    return written
                except commits.Taken:
                    continue
                except DeltaError as error:
                    made_meanwhile = newest < 0 and self._exists(name)
                    if not made_meanwhile and not isinstance(error, (CommitFailedError, TableNotFoundError)):
                        raise
                    self._forget(name)
            raise Unavailable(
                f"nothing could be appended to the table {name}",
                why=f"other writers were faster, {_TRIES} times in a row",
                fix="append again, in fewer and larger pieces",
            )

    def scan(self, name: str, *, version: int | None = None) -> pl.LazyFrame:
        """The rows of `name`, newest version by default; columns newer than a row are null in it."""
        with self._locks[name], self._speaking_of(name):
            table = self._reader(name)
            if table is None:
                raise self._absent(name)
            if version is None or version == table.version():
                self._require_files(name, table)
                return pl.scan_delta(table)
            if not 0 <= version < table.version():
                raise NotFound(
                    f"the table {name} has no version {version}",
                    why=f"its versions are 0 to {table.version()}",
                    fix="give one of those, or none for the newest",
                )
            older = Handle(self._folder(name), version=version)
            self._require_files(name, older)
            return pl.scan_delta(older)

    def version(self, name: str) -> int | None:
        """Newest version number; null when there is no such table."""
        with self._locks[name], self._speaking_of(name):
            if not self._exists(name):
                self._forget(name)
                return None
            known = [table for table in (self._readers.get(name), self._writers.get(name, (None, 0))[0]) if table]
            if not known:
                table = self._reader(name)
                return None if table is None else table.version()
            newest = max(table.version() for table in known)
            if name in self._plain:
                newest = max(newest, self._plain[name].version)
            seen = self._newest.get(name, newest)
            if seen > newest and self._has(name, seen):
                newest = seen
            while self._has(name, newest + 1):
                newest += 1
            self._newest[name] = newest
            return newest

    def keys(self, name: str) -> frozenset[str]:
        """The keys of all appends to `name`; none where there is no such table."""
        version = self.version(name)
        with self._locks[name], self._speaking_of(name):
            return frozenset(self._known_keys(name, version) if version is not None else ())

    def added(self, name: str, *, after: int) -> pl.DataFrame:
        """The rows that versions later than `after` brought, read from their files alone."""
        folder = self._folder(name)
        version = self.version(name)
        if version is None:
            raise self._absent(name)
        with self._speaking_of(name):
            files = [folder / file for later in range(after + 1, version + 1) for file in added(folder, later)]
            parts = [pl.read_parquet(file) for file in files]
        if not parts:
            return self.scan(name).head(0).collect()
        return pl.concat(parts, how="diagonal_relaxed")

    def files(self, name: str, *, version: int | None = None) -> Sequence[TableFile]:
        """The files that hold the rows of a version, newest by default, by path."""
        with self._locks[name], self._speaking_of(name):
            table = self._reader(name)
            if table is None:
                raise self._absent(name)
            if version is not None and version != table.version():
                table = Handle(self._folder(name), version=version)
            self._require_files(name, table)
            return files_of(table)

    def compact(self, name: str, *, target_bytes: int = TARGET_BYTES) -> TableVersion:
        """Write small files together; the rows stay, and so do the old files until `vacuum`."""
        with self._locks[name], self._speaking_of(name):
            if not self._exists(name):
                raise self._absent(name)
            version = compacted(self._folder(name), target_bytes)
            written = TableVersion(name, version, tuple(added(self._folder(name), version, kept=True)))
            self._forget(name)
            sync(self._folder(name), written)
            return written

    def vacuum(self, name: str, *, older_than: timedelta, dry_run: bool = True) -> Sequence[TableFile]:
        """The files that no version needs since `older_than`; gone unless it is a dry run.

        Versions before the last compaction cannot be read afterwards. Age is by the
        machine's time, since it is files that age.
        """
        with self._locks[name], self._speaking_of(name):
            if not self._exists(name):
                raise self._absent(name)
            return vacuumed(self._folder(name), older_than, dry_run)

    def names(self) -> Sequence[str]:
        """The tables, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(tables_in(self.root, ""))

    def _known(self, name: str, folder: Path) -> commits.Plain | None:
        """What the next append goes by; null where the library has to write, to a table that is open."""
        known = self._plain.pop(name, None)
        if known is not None and (known := commits.caught_up(folder, known)) is not None:
            return known
        table = self._writer(name)
        if table is not None:
            return commits.plain(table)
        self._check_room(name)
        return commits.fresh(_SETTINGS)

    def _write(
        self,
        name: str,
        folder: Path,
        rows: pl.DataFrame | pl.LazyFrame,
        kept: dict[str, pl.DataType],
        key: str | None,
        *,
        alone: bool,
    ) -> TableVersion:
        """Append by the library, which knows every feature of Delta and needs no hard links."""
        table = self._writer(name)
        columns = rows.collect_schema().names()
        grows = any(column not in kept for column in columns)
        properties = CommitProperties(
            app_transactions=[Transaction(key, 1)] if key else None, max_commit_retries=0 if alone else None
        )
        write_deltalake(
            folder if table is None else table,
            rows if isinstance(rows, pl.DataFrame) else rows.collect_batches(chunk_size=_STREAMED),
            mode="error" if table is None else "append",
            schema_mode=None if table is None or not (grows or len(columns) < len(kept)) else "merge",
            configuration=_SETTINGS if table is None else None,
            commit_properties=properties,
            post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
        )
        if table is None:
            table = DeltaTable(folder)
            self._writers[name] = table, table.version()
        if key is not None:
            return self._version_of(name, table.version(), key)
        return TableVersion(name, table.version(), tuple(added(folder, table.version())))

    def _known_keys(self, name: str, version: int) -> set[str]:
        """The keys of all appends up to `version`; each commit is read once."""
        seen, keys = self._keys.get(name, (-1, set()))
        for later in range(seen + 1, version + 1):
            keys.update(a["txn"]["appId"] for a in actions(self._folder(name), later) if "txn" in a)
        self._keys[name] = max(seen, version), keys
        return keys

    def _version_of(self, name: str, newest: int, key: str) -> TableVersion:
        """The version whose commit carries `key`, looked for from the newest."""
        folder = self._folder(name)
        for version in range(newest, -1, -1):
            for action in actions(folder, version):
                if action.get("txn", {}).get("appId") == key:
                    return TableVersion(name, version, tuple(added(folder, version)))
        return TableVersion(name, newest)

    def _writer(self, name: str) -> DeltaTable | None:
        """A handle brought up to date, or null without such a table.

        Each append makes the next on the same handle dearer, so it is opened
        again after a few.
        """
        table, since = self._writers.get(name, (None, 0))
        if table is not None and table.version() - since < _REOPEN and self._exists(name):
            if self._has(name, table.version() + 1):
                table.update_incremental()
            return table
        if not self._exists(name):
            self._forget(name)
            return None
        table = self._opened(name)
        self._writers[name] = table, table.version()
        return table

    def _reader(self, name: str) -> Handle | None:
        """A handle of the newest version that is never moved on, or null; scans hold on to it."""
        if not self._exists(name):
            self._forget(name)
            return None
        table = self._readers.get(name)
        if table is None or self._has(name, table.version() + 1):
            table = self._readers[name] = self._opened(name)
        return table

    def _opened(self, name: str) -> Handle:
        """A new handle; Delta takes an empty commit for one without rows, we take it for a torn one."""
        table = Handle(self._folder(name))
        newest = commit_path(self._folder(name), table.version())
        if newest.exists() and newest.stat().st_size == 0:
            raise OSError(f"{newest.name} is empty")
        return table

    def _forget(self, name: str) -> None:
        self._writers.pop(name, None)
        self._readers.pop(name, None)
        self._plain.pop(name, None)
        self._keys.pop(name, None)
        self._newest.pop(name, None)

    def _exists(self, name: str) -> bool:
        return self._has(name, 0) or (self._folder(name) / LOG / "_last_checkpoint").exists()

    def _has(self, name: str, version: int) -> bool:
        return commit_path(self._folder(name), version).exists()

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Invalid(
                f"{name!r} cannot name a table",
                why="names are letters, digits, `.`, `_` and `-`, in parts joined by `/`",
                fix="rename it, for example readings_hourly",
            )
        return self.root / name

    def _check_room(self, name: str) -> None:
        """Refuse a table inside another one, where a reader would mix their files."""
        folder = self._folder(name)
        outer = next((up for up in folder.parents if self.root in up.parents and (up / LOG).is_dir()), None)
        inner = next(iter(tables_in(folder, "")), None) if folder.is_dir() else None
        if outer is not None or inner is not None:
            other = outer.relative_to(self.root).as_posix() if outer is not None else f"{name}/{inner}"
            raise Conflict(
                f"there can be no table {name} beside the table {other}",
                why="one would lie inside the folder of the other",
                fix="give it another name",
            )

    def _require_files(self, name: str, table: Handle) -> None:
        """Name the files that are gone while the table is named: whoever reads the rows later meets a bare path."""
        with os.scandir(self._folder(name)) as entries:
            kept, here = table.kept(), {entry.name for entry in entries}
        gone = [file for file in kept if file.name not in here and not file.exists()]
        if gone:
            named = ", ".join(file.name for file in gone[:NAMED]) + (", ..." if len(gone) > NAMED else "")
            raise Unavailable(
                f"the table {name} has lost {len(gone)} of its {len(kept)} data files: {named}",
                why=f"version {table.version()} needs each of them, and they were deleted or moved out of "
                f"{self._folder(name)}",
                fix="put them back from a copy of that folder; `loopline doctor` names every table that lost some. "
                "Without a copy, move the folder away and ingest the table again",
            )

    def _absent(self, name: str) -> NotFound:
        return NotFound(
            f"there is no table {name}",
            why="nothing was appended to it yet",
            fix=f"tables here: {', '.join(self.names()) or 'none'}",
        )

    @contextmanager
    def _speaking_of(self, name: str) -> Iterator[None]:
        """Turn what Delta raises into an error that names the table."""
        try:
            yield
        except (LooplineError, CommitFailedError):
            raise
        except Exception as error:
            if not type(error).__module__.startswith(("_internal", "deltalake", "builtins", "polars")):
                raise
            if isinstance(error, (TypeError, AttributeError, NameError, KeyError, IndexError)):
                raise
            self._forget(name)
            raise _translated(name, self.root / name, error) from error


def _in_order(name: str, after: int | None, newest: int) -> None:
    """Refuse rows that were chosen by an older version than the newest."""
    if after is not None and after != newest:
        raise Conflict(
            f"the table {name} has moved: version {newest}, not {after}",
            why="someone else appended to it since it was read; no row of this append is in it",
            fix="do it again: it begins from what the table holds now",
        )


def _translated(name: str, folder: Path, error: Exception) -> Unavailable:
    said = unquote(str(error)).split("\n")[0][:300]
    text = said.lower()
    if any(word in text for word in _FULL):
        return Unavailable(
            f"the table {name} cannot be written: the disk is full",
            why=f"{said.rpartition('IO error: ')[2]}; no row of this append is in the table",
            fix=f"free some space where {folder} lies, then append again",
        )
    if "read-only" in text or "os error 30" in text or "permission denied" in text or "os error 13" in text:
        return Unavailable(
            f"the table {name} cannot be written: {folder} is read-only",
            why=f"{said}; no row of this append is in the table",
            fix="make the folder writable for this user, then append again",
        )
    return Unavailable(
        f"the table {name} cannot be used: {said}",
        why=f"its log in {folder / LOG} is damaged or half-written, or one of its files is gone",
        fix=f"restore {folder} from a backup, or move a broken last *.json of the log away to go back one version",
    )
