"""One stored zip with the same bytes everywhere, read as if an enemy had sent it."""

from __future__ import annotations

import io
import re
import stat
import zipfile
from collections.abc import Mapping

from loopline.base.errors import Invalid

MAX_BYTES = 1 << 30
MAX_ENTRIES = 64
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(files: Mapping[str, bytes]) -> bytes:
    """A stored zip of `files`, in the order of their names; equal files give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, files[name])
    return out.getvalue()


def unpack(data: bytes, *, max_bytes: int = MAX_BYTES) -> dict[str, bytes]:
    """The files of an archive that `pack` could have made.

    Raises
    ------
    Invalid
        If it is no zip, is damaged, or holds a link, a folder, a compressed or
        encrypted entry, a name twice, a name that leaves its folder, files that
        overlap, or more `max_bytes` bytes or 64 entries.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _refuse_hostile(entries, max_bytes, len(data))
            return {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise _refused(f"it cannot be read as a zip: {error}") from error


def _refuse_hostile(entries: list[zipfile.ZipInfo], max_bytes: int, held: int) -> None:
    if len(entries) > MAX_ENTRIES:
        raise _refused(f"it has {len(entries)} entries, more than {MAX_ENTRIES}")
    size = sum(entry.file_size for entry in entries)
    if size > max_bytes:
        raise _refused(f"its files are larger than {max_bytes:,} bytes")
    if size > held:
        raise _refused("its files overlap: they are stored as they are, and are larger together than the archive")
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not _NAME.fullmatch(name):
            raise _refused(f"the name {name!r} could leave its folder")
        if name in seen:
            raise _refused(f"{name} is in it twice")
        if kind not in (0, stat.S_IFREG):
            raise _refused(f"{name} is not a plain file")
        if entry.flag_bits & 0x1:
            raise _refused(f"{name} is encrypted")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise _refused(f"{name} is compressed")
        seen.add(name)


def _refused(why: str) -> Invalid:
    return Invalid(
        f"this is not a model bundle: {why}",
        why="a bundle is one stored zip of a few plain files, as Loopline writes it",
        fix="train the model again, or fetch the bundle from the registry",
    )
