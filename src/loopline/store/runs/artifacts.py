"""Files that runs and logged models keep: bytes by digest, and an index of who has which path."""

from __future__ import annotations

import errno
import re
import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from urllib.parse import unquote

from loopline.base.errors import Conflict, Invalid, LooplineError, NotFound, Unavailable

if TYPE_CHECKING:
    from loopline.store.blobs.local import Incoming, LocalBlobs

LONGEST_PATH, LONGEST_NAME = 2_000, 255
PATIENCE_S = 30.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS artifact (
    owner TEXT NOT NULL, path TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (owner, path)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS artifact_digest ON artifact (digest);
"""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffd\ufffe\uffff\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")


class Kept(NamedTuple):
    """A file of an owner."""

    path: str
    digest: str
    size: int
    at_ms: int


class Entry(NamedTuple):
    """One line of a listing: a file, or a folder (whose size is null)."""

    name: str
    size: int | None


def clean(path: str) -> str:
    """A path inside an owner's files, checked: parts with `/` between, none of which leads elsewhere.

    Raises
    ------
    Invalid
        For an absolute path, `.` or `..` as a part (plain or percent-encoded, however often), empty parts,
        backslashes, control characters, or more than fits a file system.
    """
    bare = path
    for _ in range(8):
        if (again := unquote(bare)) == bare:
            break
        bare = again
    else:
        raise _wrong(path, "it is encoded many times over")
    for text in {path, bare}:
        if text.startswith("/") or _DRIVE.match(text):
            raise _wrong(path, "it is absolute")
        if "\\" in text:
            raise _wrong(path, "it holds a backslash")
        if _CONTROL.search(text):
            raise _wrong(path, "it holds a control character, or bytes that are no UTF-8")
        parts = text.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise _wrong(path, "each part between slashes must be a name, not empty, `.` or `..`")
    if len(path) > LONGEST_PATH or any(len(part.encode()) > LONGEST_NAME for part in path.split("/")):
        raise _wrong(path, f"paths have {LONGEST_PATH} characters at most, names {LONGEST_NAME} bytes")
    return path


def _wrong(path: str, why: str) -> Invalid:
    shown = path if len(path) <= 120 else path[:120] + "..."
    return Invalid(f"{shown!r} is no path of an artifact", why=why, fix="give a relative path such as plots/roc.png")


class Artifacts:
    """Files by owner (the id of a run, a logged model or a trace) and path.

    A file is there as a whole or not at all. Two processes may hold one folder. A path names a file or a
    folder, never both. `durable` writes each file and the index out before `put` returns; without it a power cut
    may take the last moments.
    """

    def __init__(self, folder: Path, blobs: LocalBlobs, *, durable: bool = False) -> None:
        self.blobs, self._file, self.durable = blobs, Path(folder) / "index.db", durable
        self._local = threading.local()
        self._every: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def put(self, owner: str, path: str, data: bytes, *, at_ms: int) -> Kept:
        """Keep `data` as a file of `owner`, in the place of one with this path."""
        clean(path)
        with self.blobs.incoming(durable=self.durable) as file:
            file.write(data)
            return self.keep(file, owner, path, at_ms=at_ms)

    def put_file(self, owner: str, path: str, source: Path, *, at_ms: int) -> Kept:
        """Keep the bytes of a local file."""
        clean(path)
        with source.open("rb") as opened, self.blobs.incoming(durable=self.durable) as file:
            while chunk := opened.read(1 << 20):
                file.write(chunk)
            return self.keep(file, owner, path, at_ms=at_ms)

    def keep(self, file: Incoming, owner: str, path: str, *, at_ms: int) -> Kept:
        """Name what came in through `blobs.incoming` as a file of `owner`.

        Raises
        ------
        Conflict
            If the path is a folder, or leads through a file.
        """
        clean(path)
        with self._writing() as db:
            self._require_free(db, owner, path)
            made = Kept(path, file.keep(), file.size, at_ms)
            db.execute("INSERT OR REPLACE INTO artifact VALUES (?, ?, ?, ?, ?)", (owner, *made))
        return made

    def name(self, owner: str, path: str, digest: str, *, at_ms: int) -> Kept:
        """Give `owner` bytes that are kept already; `NotFound` where they are not."""
        clean(path)
        with self._writing() as db:
            self._require_free(db, owner, path)
            if digest not in self.blobs:
                raise NotFound(f"there is no file {digest[:12]}", why="nobody keeps its bytes here", fix="send it too")
            made = Kept(path, digest, self.blobs.where(digest).stat().st_size, at_ms)
            db.execute("INSERT OR REPLACE INTO artifact VALUES (?, ?, ?, ?, ?)", (owner, *made))
        return made

    def share(self, owner: str, under: str, into: str, *, at_ms: int) -> list[Kept]:
        """Give `into` the files of `owner` below `under` (all when empty), as they are now; no byte is copied.

        What `owner` does with its own afterwards changes nothing.
        """
        start = clean(under) + "/" if under else ""
        with self._writing() as db:
            rows = db.execute(
                "SELECT path, digest, size FROM artifact WHERE owner = ? AND path >= ? AND path < ? ORDER BY path",
                (owner, start, start[:-1] + "0" if start else "\U0010ffff"),
            ).fetchall()
            made = [Kept(path[len(start) :], digest, size, at_ms) for path, digest, size in rows]
            db.executemany("INSERT OR REPLACE INTO artifact VALUES (?, ?, ?, ?, ?)", [(into, *one) for one in made])
        return made

    def find(self, owner: str, path: str) -> Kept:
        """The file at `path`."""
        clean(path)
        with self._reading() as db:
            row = db.execute(
                "SELECT path, digest, size, at_ms FROM artifact WHERE owner = ? AND path = ?", (owner, path)
            ).fetchone()
        if row is None:
            raise NotFound(
                f"{owner} has no file {path!r}",
                why="nothing was logged at this path",
                fix=f"see what it has, for example with `loopline runs artifacts {owner}`",
            )
        return Kept(*row)

    def open(self, owner: str, path: str) -> tuple[Kept, BinaryIO]:
        """The file at `path`, opened for reading; whoever reads it to the end should check the digest."""
        found = self.find(owner, path)
        try:
            file = self.blobs.where(found.digest).open("rb")
        except OSError as error:
            raise self._refused(error) from error
        return found, file

    def read(self, owner: str, path: str) -> bytes:
        """The bytes of the file at `path`, checked."""
        return self.blobs.get(self.find(owner, path).digest)

    def entries(self, owner: str, under: str = "") -> list[Entry]:
        """Files and folders directly below `under` (the top when empty), by name; none below a file."""
        start = clean(under) + "/" if under else ""
        found: list[Entry] = []
        with self._reading() as db:
            after = start
            while True:  # a folder is one step, however much it holds
                row = db.execute(
                    "SELECT path, size FROM artifact WHERE owner = ? AND path >= ? AND path < ? ORDER BY path LIMIT 1",
                    (owner, after, start[:-1] + "0" if start else "\U0010ffff"),
                ).fetchone()
                if row is None:
                    return sorted(found)
                name, below, _ = row[0][len(start) :].partition("/")
                found.append(Entry(name, None if below else row[1]))
                after = start + name + ("0" if below else "\x00")

    def files(self, owner: str) -> list[Kept]:
        """Every file of `owner`, by path."""
        with self._reading() as db:
            rows = db.execute("SELECT path, digest, size, at_ms FROM artifact WHERE owner = ? ORDER BY path", (owner,))
            return [Kept(*row) for row in rows]

    def owners(self) -> list[str]:
        """Who has files."""
        with self._reading() as db:
            return [row[0] for row in db.execute("SELECT DISTINCT owner FROM artifact ORDER BY owner")]

    def delete(self, owner: str, path: str = "") -> int:
        """Forget a file, a folder with all below it, or all of `owner`; how many files it were.

        The bytes go with `sweep`.
        """
        if not path:
            statement, given = "DELETE FROM artifact WHERE owner = ?", (owner,)
        else:
            clean(path)
            statement = "DELETE FROM artifact WHERE owner = ? AND (path = ? OR (path > ? AND path < ?))"
            given = (owner, path, path + "/", path + "0")  # type: ignore[assignment]
        with self._writing() as db:
            return db.execute(statement, given).rowcount

    def index(self) -> dict[str, list[Kept]]:
        """Every file of every owner."""
        found: dict[str, list[Kept]] = {}
        with self._reading() as db:
            for owner, *kept in db.execute(
                "SELECT owner, path, digest, size, at_ms FROM artifact ORDER BY owner, path"
            ):
                found.setdefault(owner, []).append(Kept(*kept))
        return found

    def unused(self) -> list[tuple[str, int]]:
        """Digests that no owner has any more, with their bytes."""
        with self._reading() as db:
            used = {row[0] for row in db.execute("SELECT DISTINCT digest FROM artifact")}
        found = []
        for digest in self.blobs:
            if digest not in used:
                with suppress(FileNotFoundError):  # another has let go of it just now
                    found.append((digest, self.blobs.where(digest).stat().st_size))
        return found

    def sweep(self, *, spare: Collection[str] = ()) -> int:
        """Let go of bytes that no owner has any more; how many were freed. What is in `spare` stays."""
        freed = 0
        for digest, size in self.unused():
            if digest in spare:
                continue
            with self._writing() as db:  # whoever keeps the same bytes just now waits, and writes them again
                unnamed = db.execute("SELECT 1 FROM artifact WHERE digest = ? LIMIT 1", (digest,)).fetchone() is None
                if unnamed and digest in self.blobs:
                    self.blobs.delete(digest)
                    freed += size
        return freed

    def close(self) -> None:
        """Close the index."""
        with self._lock:
            every, self._every = self._every, []
            self._local = threading.local()
        for db in every:
            db.close()

    @staticmethod
    def _require_free(db: sqlite3.Connection, owner: str, path: str) -> None:
        below = db.execute(
            "SELECT path FROM artifact WHERE owner = ? AND path > ? AND path < ? LIMIT 1",
            (owner, path + "/", path + "0"),
        ).fetchone()
        if below is not None:
            raise Conflict(f"{path!r} is a folder", why=f"it holds {below[0]!r}", fix="choose another name")
        at = path.rfind("/")
        while at > 0:
            above = path[:at]
            if db.execute("SELECT 1 FROM artifact WHERE owner = ? AND path = ?", (owner, above)).fetchone():
                raise Conflict(f"{above!r} is a file", why=f"{path!r} would lie below it", fix="choose another name")
            at = path.rfind("/", 0, at)

    def _connection(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._file, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'NORMAL'}")
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'artifact_digest'").fetchone() is None:
                db.executescript(_SCHEMA)
            self._local.db = db
            with self._lock:
                self._every.append(db)
        return db

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection()
        except (OSError, sqlite3.Error) as error:
            raise self._refused(error) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; readers see all of it or nothing."""
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            try:
                db.execute("COMMIT")
            except sqlite3.Error:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _refused(self, error: Exception) -> LooplineError:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "is full" in str(error)
        return Unavailable(
            f"artifacts in {self._file.parent} cannot be used: {error}",
            why="the disk is full" if full else "the folder is read-only, damaged or out of reach",
            fix="free some space, then do the same again" if full else "make the folder usable, then do the same again",
        )
