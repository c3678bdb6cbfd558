"""Foreign folders: only plain files inside them, never what a link points at elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from loopline.base.errors import Invalid, NotFound
from loopline.training.exchange.nouns import Offered

CHUNK = 1 << 20
DEEPEST = 64


class Fenced:
    """Folders whose content may be read: the source itself, and those that whoever imports has named."""

    def __init__(self, root: Path, *others: Path) -> None:
        self.roots = [real(root), *(real(one) for one in others)]

    def holds(self, path: Path) -> bool:
        """Whether a path, with all links resolved, lies inside."""
        try:
            found = Path(os.path.realpath(path))
        except (OSError, ValueError):
            return False
        return any(found == root or root in found.parents for root in self.roots)

    def folder(self, address: str, tails: Sequence[str] = ()) -> Path | None:
        """The folder at a local address, or at one of `tails` inside a root where the source was moved; null if none.

        Raises
        ------
        Invalid
            If it exists outside.
        """
        given = local(address)
        outside = False
        if given is not None and given.is_dir():
            if self.holds(given):
                return given
            outside = True
        for root in self.roots:
            for tail in tails:
                moved = root / tail
                if moved.is_dir() and self.holds(moved) and any(moved.iterdir()):
                    return moved
        if outside:
            raise Invalid(
                f"files in {given} are not taken",
                why="the folder lies outside of the source, which may name any folder of this machine",
                fix=f"name it if it is one of yours: --artifacts {given}",
            )
        return None

    def files(self, folder: Path, told: list[str], under: str = "") -> Iterator[Offered]:
        """Every plain file below, with paths from there on; links count where they stay inside."""
        yield from self._walk(folder, told, under, 0)

    def _walk(self, folder: Path, told: list[str], under: str, depth: int) -> Iterator[Offered]:
        if depth > DEEPEST:
            told.append(f"what lies below {folder} is left out: more than {DEEPEST} folders in each other")
            return
        try:
            entries = sorted(os.scandir(folder), key=lambda one: one.name)
        except OSError as error:
            told.append(f"{folder} cannot be read: {error.strerror}")
            return
        for entry in entries:
            path, at = Path(entry.path), f"{under}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(path, told, at + "/", depth + 1)
                continue
            if entry.is_symlink():
                target = Path(os.path.realpath(path))
                if not target.is_file() or not self.holds(target):
                    told.append(f"{path} is left out: a link to {target}, outside of the source (--artifacts FOLDER)")
                    continue
                path = target
            elif not entry.is_file(follow_symlinks=False):
                told.append(f"{path} is left out: it is no plain file")
                continue
            yield Offered(at, path.stat().st_size, lambda path=path: chunks(path))  # type: ignore[misc]


def real(folder: Path) -> Path:
    """A folder, with all links resolved."""
    return Path(os.path.realpath(Path(folder).expanduser()))


def local(address: str) -> Path | None:
    """The path that a local address names, `file:` or plain; null for any other."""
    if "\x00" in address or not address:
        return None
    parts = urlsplit(address) if "://" in address or address.startswith("file:") else None
    if parts is None:
        return None if ":" in address.partition("/")[0] else Path(address)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return None


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a plain file, a piece at a time."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return
        while piece := file.read(CHUNK):
            yield piece


def small(path: Path, most: int) -> bytes:
    """The bytes of a plain file that may not be large.

    Raises
    ------
    Invalid
        If it is larger, a link, or cannot be read.
    """
    found = b""
    try:
        for piece in chunks(path):
            found += piece
            if len(found) > most:
                raise Invalid(f"{path} is larger than {most:,} bytes", why="none of its kind is", fix="look at it")
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", why="it may be a link", fix="look at it") from error
    return found


def require_folder(folder: Path, what: str) -> Path:
    """The folder, if it is one."""
    found = Path(folder).expanduser()
    if not found.exists():
        raise NotFound(f"there is no {folder}", why=f"{what} is a folder", fix="give the path of one")
    return found
