"""Bytes by digest, in a local folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
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
