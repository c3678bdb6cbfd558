"""Bytes by digest, in a local folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from loopline.base.errors import Invalid, NotFound, Unavailable
from loopline.base.ids import digest, file_digest

_NAME = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


class LocalBlobs:
    """`Blobs` in a folder: `<first two digits>/<digest>`, read-only files."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def put(self, data: bytes) -> str:
        """Keep `data` and return its digest; keeping it twice changes nothing.

        The bytes are on disk before their name exists, so a reader sees the
        whole blob or none of it, also after a power cut.
        """
        key = digest(data)
        path = self._path(key)
        if not _is_whole(path, len(data)):
            with self._part() as part:
                part.write(data)
                _publish(part, path)
        return key

    def put_file(self, path: Path) -> str:
        """Keep a file's bytes without holding them in memory; return the digest."""
        sha = hashlib.sha256()
        try:
            source = path.open("rb")
        except OSError as error:
            raise NotFound(
                f"{path} cannot be read: {error.strerror}",
                why="its bytes were to be kept",
                fix="check the path and its permissions",
            ) from error
        with source, self._part() as part:
            while chunk := source.read(_CHUNK):
                sha.update(chunk)
                part.write(chunk)
            key = sha.hexdigest()
            target = self._path(key)
            if not _is_whole(target, part.tell()):
                _publish(part, target)
        return key

    def adopt(self, path: Path) -> str:
        """Keep a file that nobody will write to again, by a hard link: the same bytes under two names.

        It becomes read-only. It outlives the first name; on another file system it is copied.
        """
        try:
            key = file_digest(path)
            target = self._path(key)
            if _is_whole(target, path.stat().st_size):
                return key
            target.parent.mkdir(parents=True, exist_ok=True)
            path.chmod(0o444)
            with contextlib.suppress(FileExistsError):
                os.link(path, target)
            _sync(target.parent)
            return key
        except FileNotFoundError as error:
            raise NotFound(
                f"{path} cannot be read: {error.strerror}",
                why="its bytes were to be kept",
                fix="check the path and its permissions",
            ) from error
        except OSError:
            return self.put_file(path)

    @contextmanager
    def incoming(self, *, durable: bool = True) -> Iterator[Incoming]:
        """A place for bytes that are still arriving; gone afterwards unless it was kept.

        Without `durable` the system writes them out in its own time: a power cut may take the last ones, which
        their digest tells.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            made = Incoming(self, self._nameless(), durable)
            try:
                yield made
            finally:
                made.close()
        except OSError as error:
            raise self._refused(error) from error

    def get(self, digest: str) -> bytes:
        """The bytes of `digest`, checked."""
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise self._absent(digest) from None
        except OSError as error:
            raise self._refused(error) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise self._damaged(digest)
        return data

    def path(self, digest: str) -> Path:
        """A read-only file that holds the bytes of `digest`, checked."""
        path = self._path(digest)
        try:
            found = file_digest(path)
        except FileNotFoundError:
            raise self._absent(digest) from None
        except OSError as error:
            raise self._refused(error) from error
        if found != digest:
            raise self._damaged(digest)
        return path

    def where(self, digest: str) -> Path:
        """Where the bytes of `digest` lie or would lie; not looked at."""
        return self._path(digest)

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, str) and _NAME.fullmatch(digest) is not None and self._path(digest).is_file()

    def __iter__(self) -> Iterator[str]:
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            for path in folder.iterdir():
                if _NAME.fullmatch(path.name):
                    yield path.name

    def delete(self, digest: str) -> None:
        """Forget `digest`; forgetting twice changes nothing."""
        path = self._path(digest)
        try:
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                _sync(path.parent)
        except OSError as error:
            raise self._refused(error) from error

    def _nameless(self) -> int:
        """A file that ends with its handle, however this process ends; with a name where there are none such."""
        try:
            return os.open(self.root, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o444)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                raise
        handle, name = tempfile.mkstemp(dir=self.root, prefix="part-")
        Path(name).unlink()
        return handle

    def _path(self, key: str) -> Path:
        if not _NAME.fullmatch(key):
            raise Invalid(
                f"{key!r} is not a digest",
                why="blobs are named by 64 hex digits of SHA-256",
                fix="give the digest that put returned",
            )
        return self.root / key[:2] / key

    @contextmanager
    def _part(self) -> Iterator[IO[bytes]]:
        """A file beside the blobs that is gone afterwards unless it was published."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            part = tempfile.NamedTemporaryFile(dir=self.root, prefix="part-", delete=False)  # noqa: SIM115
            try:
                with part:
                    yield part
            finally:
                Path(part.name).unlink(missing_ok=True)
        except OSError as error:
            raise self._refused(error) from error

    def _absent(self, key: str) -> NotFound:
        return NotFound(
            f"there is no blob {key}",
            why=f"{self.root} does not hold it",
            fix="restore the blobs folder from a backup, or run the step that makes it again",
        )

    def _damaged(self, key: str) -> Invalid:
        return Invalid(
            f"the blob {key} is damaged",
            why="its bytes no longer have the digest that names them, so it was changed after it was written",
            fix=f"restore {self._path(key)} from a backup, or delete it and run the step that makes it again",
        )

    def _refused(self, error: OSError) -> Unavailable:
        return Unavailable(
            f"the blobs in {self.root} cannot be used: {error.strerror or error}",
            why="the folder is full, read-only or out of reach; nothing half-written stays behind",
            fix="free some space or make the folder writable, then do the same again",
        )


class Incoming:
    """Bytes on their way into a store: hashed as they come, named when they are kept."""

    def __init__(self, blobs: LocalBlobs, handle: int, durable: bool) -> None:
        self._blobs, self._handle, self._durable = blobs, handle, durable
        self._sha = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Take some more bytes."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._handle, rest) :]
        self._sha.update(data)
        self.size += len(data)

    def keep(self) -> str:
        """Give the bytes their name, which is their digest."""
        key = self._sha.hexdigest()
        path = self._blobs._path(key)
        if _is_whole(path, self.size):
            return key
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._durable:
            os.fsync(self._handle)
        try:
            self._name(path)
        except FileExistsError:  # another was quicker, or what stands there is damaged
            if not _is_whole(path, self.size):
                path.unlink(missing_ok=True)
                self._name(path)
        if self._durable:
            _sync(path.parent)
        return key

    def close(self) -> None:
        """Let go of the file; what was not kept is gone."""
        os.close(self._handle)

    def _name(self, path: Path) -> None:
        try:
            os.link(f"/proc/self/fd/{self._handle}", path, src_dir_fd=self._handle)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EXDEV, errno.EPERM):
                raise
            part = path.parent / f"part-{os.getpid()}-{self._handle}"  # where a nameless file cannot get a name
            os.lseek(self._handle, 0, os.SEEK_SET)
            with open(self._handle, "rb", closefd=False) as source, part.open("wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
            part.chmod(0o444)
            os.replace(part, path)


def _is_whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _publish(part: IO[bytes], path: Path) -> None:
    """Give a finished file its name, bytes first."""
    part.flush()
    os.fchmod(part.fileno(), 0o444)
    os.fsync(part.fileno())
    fresh = not path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    os.replace(part.name, path)
    _sync(path.parent)
    if fresh:
        _sync(path.parent.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
