"""The spool: files on this machine where runs lie until they are delivered.

One file per process and run, `<run>.<mark>.frames`, only appended to, and locked by its writer. Beside it `.sent`
holds how far it has been delivered. Both go once the end of the run was.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loopline.base.errors import Unavailable
from loopline.base.ids import file_digest
from loopline.training.tracking.frames import Frame, pack

_NAME = re.compile(r"(?P<run>[A-Za-z0-9][A-Za-z0-9_\-]{0,255})\.[0-9a-f]{8}\.frames")
AT_ONCE = 4 << 20
"""Bytes that are read, and delivered, at a time."""


class Writer:
    """Appends frames to a new file of the spool. What `append` has returned from survives the death of the process.

    Parameters
    ----------
    durable : bool
        Whether it survives a power cut too: each append is written out then.
    """

    def __init__(self, folder: Path, run: str, *, durable: bool = False) -> None:
        self.folder, self.durable = folder, durable
        self.path = folder / f"{run}.{secrets.token_hex(4)}.frames"
        self._number, self._size = 0, 0
        self._file: int | None = None
        self._lock = threading.Lock()

    def append(self, frames: list[Frame]) -> None:
        """Write frames, all of them or none.

        Raises
        ------
        Unavailable
            If the disk is full or cannot be written; the same frames may be given again.
        """
        data = b"".join(pack(self._number + at, frame) for at, frame in enumerate(frames))
        try:
            with self._lock:
                file = self._opened()
                left = memoryview(data)
                while left:
                    left = left[os.write(file, left) :]
                if self.durable:
                    os.fdatasync(file)
        except OSError as error:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._size)
            raise Unavailable(
                f"{self.path.parent} cannot be written: {error.strerror}",
                why="what a run logs is written there first",
                fix="free some space; it is tried again each second",
            ) from error
        self._size += len(data)
        self._number += len(frames)

    def _opened(self) -> int:
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.path.with_suffix(".new")  # nobody finds it before it is locked
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.rename(self.path)
            except OSError:
                os.close(file)
                part.unlink(missing_ok=True)
                raise
            self._file = file
        return self._file

    @property
    def size(self) -> int:
        """Bytes that were appended."""
        return self._size

    def leave(self) -> None:
        """In a process that was forked off: the file and its lock are the parent's, and end with it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def close(self) -> None:
        """Let go of the file and its lock."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file of the spool."""

    path: Path

    @property
    def run(self) -> str:
        """The run that it is of."""
        return self.path.name.rsplit(".", 2)[0]

    @property
    def _mark(self) -> Path:
        return self.path.with_suffix(".sent")

    @property
    def sent(self) -> int:
        """Bytes that have been delivered."""
        try:
            return int(self._mark.read_bytes() or b"0")
        except (OSError, ValueError):
            return 0

    @property
    def left(self) -> int:
        """Bytes that have not."""
        try:
            return max(0, self.path.stat().st_size - self.sent)
        except FileNotFoundError:
            return 0

    def read(self, start: int, most: int = AT_ONCE) -> bytes:
        """Bytes from `start` on; more than `most` where one frame is larger."""
        with self.path.open("rb") as file:
            file.seek(start)
            data = file.read(most)
            if len(data) == most and len(data) >= 12:
                need = int.from_bytes(data[4:8], "little") + 20
                if need > most:
                    data += file.read(need - most)
            return data

    def mark(self, sent: int) -> None:
        """Note how far it was delivered. Without the note the same frames are sent again, which changes nothing."""
        with contextlib.suppress(OSError):
            part = self._mark.with_suffix(".part")
            part.write_text(str(sent))
            part.replace(self._mark)

    def forget(self) -> None:
        """Take the file away."""
        for path in (self.path, self._mark):
            path.unlink(missing_ok=True)

    def is_left(self) -> bool:
        """Whether no process writes it or delivers it now; nothing is changed, and nobody is kept away."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # delivered just now, or not ours to read
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(file)

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Whether its writer is gone; nobody else delivers it meanwhile."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            yield _locked(file) and self.path.exists()
        finally:
            os.close(file)


def waiting(folder: Path) -> list[Waiting]:
    """What lies in a spool, oldest first."""
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [Waiting(path) for path in sorted(found, key=_age)]


def _locked(file: int) -> bool:
    """Whether nobody else holds it; who only looks whether somebody does is waited for."""
    for pause in (0.01, 0.01, 0.0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            threading.Event().wait(pause)
        else:
            return True
    return False


def _age(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, path.name
    except FileNotFoundError:  # delivered just now
        return 0, path.name


def bytes_of(folder: Path, name: str) -> Path:
    """Where the bytes of a large file wait."""
    return folder / "files" / name


def keep_bytes(folder: Path, source: Path) -> tuple[str, int]:
    """Copy a large file beside the spool; its digest and size."""
    target = folder / "files"
    try:
        target.mkdir(parents=True, exist_ok=True)
        part = target / f"{secrets.token_hex(8)}.part"
        try:
            shutil.copyfile(source, part)
            name, size = file_digest(part), part.stat().st_size
            part.replace(target / name)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        if not source.is_file():
            raise
        raise Unavailable(
            f"{source.name} cannot be kept: {error.strerror}",
            why=f"files are copied to {target} when they are logged",
            fix="free some space and log it again",
        ) from error
    return name, size


def drop_bytes(folder: Path, name: str) -> None:
    """Take the bytes of a delivered file away."""
    bytes_of(folder, name).unlink(missing_ok=True)


__all__ = ["Waiting", "Writer", "bytes_of", "drop_bytes", "keep_bytes", "waiting"]
