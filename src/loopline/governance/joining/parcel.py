"""A parcel: a zip file with a signed list of its contents. It may come from anyone, so all of it is checked first."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import canonical, digest
from loopline.base.keys import fingerprint, verify

FORMAT = 1
LIST = "parcel.json"
_ENTRY = re.compile(
    r"(?:runs/[A-Za-z0-9-]{1,64}\.(?:frames|json)|models/m-[0-9a-f]{32}\.json|registrations/[0-9a-f-]{1,64}\.json"
    r"|traces/[A-Za-z0-9-]{1,64}\.json|blobs/[0-9a-f]{64})"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
MOST_ENTRIES = 2_000_000
LARGEST_LIST, LARGEST_DOCUMENT = 1 << 28, 1 << 26
TRACE = re.compile(r"[A-Za-z0-9-]{1,64}")
"""Ids of traces that have a place in a parcel."""
MOST_BYTES = 64 << 30
"""Of all contents together, unless whoever takes it in says otherwise."""
_CHUNK = 1 << 20
_SIGNED = ("workspace", "seq", "hash", "public")


class Writer:
    """Writes a parcel; the list of contents comes last, so half a parcel is none."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._entries: dict[str, str] = {}

    def document(self, name: str, doc: Any) -> None:
        """Put in a JSON document."""
        self.raw(name, canonical(doc))

    def raw(self, name: str, data: bytes) -> None:
        """Put in bytes."""
        self._entries[name] = digest(data)
        self._zip.writestr(_info(name), data)

    def stream(self, name: str, parts: Iterator[bytes]) -> None:
        """Put in bytes as they come."""
        sha = hashlib.sha256()
        with self._zip.open(_info(name), "w", force_zip64=True) as into:
            for part in parts:
                sha.update(part)
                into.write(part)
        self._entries[name] = sha.hexdigest()

    def blob(self, key: str, path: Path) -> None:
        """Put in a file under its digest, once."""
        if (name := f"blobs/{key}") not in self._entries:
            with path.open("rb") as opened:
                self.stream(name, iter(lambda: opened.read(_CHUNK), b""))
            if self._entries[name] != key:
                raise Invalid(
                    f"the file {key[:12]} is damaged", why="its bytes have another digest", fix="restore it, then again"
                )

    def close(self, about: dict[str, Any], sign: Any) -> str:
        """Write the list, signed; the digest of the list."""
        doc = {"format": FORMAT, **about, "entries": self._entries}
        data = canonical({**doc, "signature": sign(canonical(doc))})
        self._zip.writestr(_info(LIST), data)
        self._zip.close()
        return digest(data)


class Parcel:
    """A parcel, every entry of which has the name, the size and the digest that it should have.

    Parameters
    ----------
    path : Path
    at_most : int
        Bytes of all contents; more is refused before it is read.

    Raises
    ------
    Invalid
        If it is no parcel, or anything in it is not as the list says: then nothing of it was used.
    """

    def __init__(self, path: Path, *, at_most: int = MOST_BYTES) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise NotFound(f"there is no file {path}", why="a parcel was to be read", fix="check the path") from error
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise _wrong(f"it cannot be opened: {error}") from error
        try:
            self._check(at_most)
        except BaseException:
            self._zip.close()
            raise

    def _check(self, at_most: int) -> None:
        infos = self._zip.infolist()
        if len(infos) > MOST_ENTRIES:
            raise _wrong(f"it has {len(infos):,} entries")
        if sum(info.file_size for info in infos) > at_most:
            raise _wrong(f"it holds more than {at_most:,} bytes")
        self._infos: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            kind = info.external_attr >> 28  # of the Unix mode: 8 is a plain file, 10 a link
            causes = {
                "is in it twice": info.filename in self._infos, "is a link": kind == 10,
                "is no plain file": kind not in (0, 8, 10), "is encrypted": info.flag_bits & 1,
                "is compressed, which a parcel never is": info.compress_type,
            }  # fmt: skip
            if said := [cause for cause, holds in causes.items() if holds]:
                raise _wrong(f"its entry {info.filename[:100]!r} {' and '.join(said)}")
            if info.filename != LIST and not _ENTRY.fullmatch(info.filename):
                raise _wrong(f"its entry {info.filename[:100]!r} belongs in no parcel")
            self._infos[info.filename] = info
        data = self.read(LIST, most=LARGEST_LIST)
        self.id = digest(data)
        doc = _object(data, LIST)
        entries = doc.get("entries")
        if doc.get("format") != FORMAT or not _are_digests(entries) or not isinstance(doc.get("workspace"), str):
            raise _wrong(f"its {LIST} is of another format" if doc.get("format") != FORMAT else f"its {LIST} is wrong")
        self.entries: dict[str, str] = dict(entries or {})
        if self.entries.keys() != self._infos.keys() - {LIST}:
            raise _wrong("its entries are not those of its list")
        for name, mark in self.entries.items():
            sha = hashlib.sha256()
            with self.open(name) as opened:
                while part := opened.read(_CHUNK):
                    sha.update(part)
            if sha.hexdigest() != mark or (name.startswith("blobs/") and name != f"blobs/{mark}"):
                raise _wrong(f"its entry {name} has other bytes than the list says")
        self.workspace: str = doc["workspace"][:100]
        head = doc.get("head")
        self.head: dict[str, Any] | None = head if _is_head(head) else None
        self.key: str | None = None
        """Fingerprint of the key that signed the list; null where none did."""
        self.signed = self._is_signed(doc)

    def _is_signed(self, doc: dict[str, Any]) -> bool:
        unsigned = {key: value for key, value in doc.items() if key != "signature"}
        public, signature, head = doc.get("public"), doc.get("signature"), self.head
        if not isinstance(public, str) or not isinstance(signature, str):
            return False
        if not verify(public, signature, canonical(unsigned)):
            return False
        self.key = fingerprint(public)
        if head is None:
            return doc.get("head") is None
        same = (head["workspace"], head["public"]) == (self.workspace, public)
        return same and verify(public, head["signature"], canonical({key: head[key] for key in _SIGNED}))

    def names(self, folder: str) -> list[str]:
        """Entries of a folder, by name."""
        return sorted(name for name in self.entries if name.startswith(f"{folder}/"))

    def read(self, name: str, *, most: int = LARGEST_DOCUMENT) -> bytes:
        """The bytes of an entry."""
        info = self._infos.get(name)
        if info is None or info.file_size > most:
            raise _wrong(f"its entry {name} is missing or too large")
        with self.open(name) as opened:
            return opened.read(most + 1)

    def document(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        return _object(self.read(name), name)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """An entry, to be read bit by bit."""
        try:
            with self._zip.open(self._infos[name]) as opened:
                yield opened
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
            raise _wrong(f"its entry {name} cannot be read: {error}") from error

    def __enter__(self) -> Parcel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._zip.close()


def _info(name: str) -> zipfile.ZipInfo:
    """An entry that says nothing of when and by whom: the same contents are the same bytes."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o100644 << 16
    return info


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        doc = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _wrong(f"its entry {name} is no JSON: {error}") from error
    if not isinstance(doc, dict):
        raise _wrong(f"its entry {name} is no JSON object")
    return doc


def _are_digests(entries: Any) -> bool:
    return isinstance(entries, dict) and all(
        isinstance(mark, str) and _DIGEST.fullmatch(mark) is not None for mark in entries.values()
    )


def _is_head(head: Any) -> bool:
    return (
        isinstance(head, dict)
        and isinstance(head.get("seq"), int)
        and all(isinstance(head.get(key), str) for key in ("workspace", "hash", "public", "signature"))
    )


def _wrong(why: str) -> Invalid:
    return Invalid("this is no parcel to take in", why=why, fix="have it made again by `loopline push FILE`")
