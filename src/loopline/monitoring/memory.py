"""What monitoring remembers between two windows, so that it never reads rows twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

from loopline.base.ids import digest, iso, moment
from loopline.monitoring.continuity import Ends
from loopline.monitoring.drift import Summary, summarise
from loopline.monitoring.packing import pack, unpack
from loopline.monitoring.profile import Profile
from loopline.monitoring.quality import DayCounts
from loopline.monitoring.requests import Requests
from loopline.store.blobs.protocol import Blobs
from loopline.store.records.protocol import Pointer

T = TypeVar("T")
POINTER = "monitoring"
SPARE = 60
"""Windows and days kept beyond those that are compared, for corrections that come late."""

WRITERS = 2
"""Threads that write blobs: they wait for the disk, while the window is looked at."""

MARKS = 40
"""Versions remembered for each table: enough for the longest data incident that is still read whole."""


_moment, _iso = lru_cache(maxsize=4096)(moment), lru_cache(maxsize=4096)(iso)
"""Windows of all subjects begin and end together: each bound is read and written once."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One profiled window of a subject."""

    start: datetime
    end: datetime
    blob: str
    incident: str | None = None
    """The data incident that keeps it out of the reference."""


@dataclass(frozen=True, slots=True)
class Read:
    """How far the log of predictions has been read."""

    version: int
    latest: datetime | None
    """Of the decision times in it, at least of those after the windows checked; null where there is none."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The state of an endpoint's monitoring after a window."""

    until: datetime | None = None
    pending: str | None = None
    """Blob of answers whose label is not known yet."""
    days: dict[str, dict[str, str]] = field(default_factory=dict)
    """Day (UTC, ISO) to version to the blob of its counts."""
    windows: dict[str, tuple[Kept, ...]] = field(default_factory=dict)
    """Subject to its windows, oldest first."""
    generation: int = 0
    marks: dict[str, tuple[tuple[datetime, int], ...]] = field(default_factory=dict)
    """Table to (moment of a check, its version then): rows of that version were known by that moment."""
    read: Read | None = None
    """Null before the first answers."""
    left: str | None = None
    """Blob of the answers that waited before the last window; the next check deletes it."""

    @classmethod
    def of(cls, pointer: Pointer | None) -> Memory:
        """What the records say; nothing yet without a pointer."""
        if pointer is None:
            return cls()
        doc = pointer.doc
        return cls(
            moment(doc["until"]),
            doc["pending"],
            doc["days"],
            {
                subject: tuple(Kept(_moment(a), _moment(b), blob, incident) for a, b, blob, incident in rows)
                for subject, rows in doc["windows"].items()
            },
            pointer.generation,
            {
                name: tuple((_moment(at), version) for at, version in rows)
                for name, rows in doc.get("marks", {}).items()
            },
            Read(read[0], moment(read[1]) if read[1] else None) if (read := doc.get("read")) else None,
            doc.get("left"),
        )

    def doc(self) -> dict[str, Any]:
        """What the pointer keeps."""
        return {
            "until": iso(self.until) if self.until else None,
            "pending": self.pending,
            "days": self.days,
            "windows": {
                subject: [[_iso(w.start), _iso(w.end), w.blob, w.incident] for w in rows]
                for subject, rows in self.windows.items()
            },
            "marks": {name: [[_iso(at), version] for at, version in rows] for name, rows in self.marks.items()},
            "read": [self.read.version, iso(self.read.latest) if self.read.latest else None] if self.read else None,
            "left": self.left,
        }

    def version_known_by(self, table: str, at: datetime) -> int | None:
        """The newest version of a table whose rows were all known by `at`; null when none is remembered."""
        return next((version for known, version in reversed(self.marks.get(table, ())) if known <= at), None)

    def marking(self, at: datetime, versions: Mapping[str, int]) -> Memory:
        """With the tables' versions as of now."""
        marks = {name: (*self.marks.get(name, ()), (at, version))[-MARKS:] for name, version in versions.items()}
        return replace(self, marks={**self.marks, **marks})

    def adding(self, subject: str, windows: Sequence[Kept], *, keep: int) -> Memory:
        """With these windows; one with the same bounds is replaced, all but the newest `keep` are forgotten."""
        merged = {(w.start, w.end): w for w in (*self.windows.get(subject, ()), *windows)}
        rows = tuple(merged[bounds] for bounds in sorted(merged))[-keep:]
        return replace(self, windows={**self.windows, subject: rows})

    def reference(self, subject: str, before: datetime, length: timedelta) -> list[Kept]:
        """The sound windows that end in (before - length, before], oldest first."""
        rows = self.windows.get(subject, ())
        return [w for w in rows if before - length < w.end <= before and w.incident is None]


class Behind:
    """Blobs that are written in the background: their names are known at once, `wait` for their bytes.

    Leaving the block waits too, and ends the writers.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs, self._pool = blobs, ThreadPoolExecutor(WRITERS)
        self._writing: dict[str, tuple[bytes, Future[str]]] = {}

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def put(self, data: bytes) -> str:
        """Have `data` kept; returns its digest."""
        name = digest(data)
        if name not in self._writing:
            self._writing[name] = data, self._pool.submit(self._blobs.put, data)
        return name

    def get(self, name: str) -> bytes:
        """The bytes of a blob, also of one still being written."""
        return self._writing[name][0] if name in self._writing else self._blobs.get(name)

    def wait(self) -> None:
        """Return once every blob is on disk."""
        for _, writing in self._writing.values():
            writing.result()


class Sink(Protocol):
    """What profiles and counts are read from and put into."""

    def put(self, data: bytes) -> str: ...

    def get(self, digest: str, /) -> bytes: ...


def keep_profile(
    blobs: Sink, parts: Sequence[Profile], ends: Ends | None = None, requests: Requests | None = None
) -> tuple[str, Summary]:
    """Store the parts of a window with their summary in front; returns the digest and the summary."""
    summary = summarise(parts, ends, requests)
    front = summary.to_bytes()
    blob = blobs.put(len(front).to_bytes(4, "little") + front + pack(parts))
    return blob, _SUMMARIES.put(blob, summary)


def summary_of(blobs: Sink, blob: str) -> Summary:
    """The summary of a stored window."""

    def read() -> Summary:
        data = blobs.get(blob)
        return Summary.from_bytes(data[4 : 4 + int.from_bytes(data[:4], "little")])

    return _SUMMARIES.get(blob, read)


def counts_of(blobs: Sink, blob: str) -> DayCounts:
    """The counts of a stored day."""
    return _COUNTS.get(blob, lambda: DayCounts.from_bytes(blobs.get(blob)))


class Shelf(Generic[T]):
    """What blobs say once they are read, by digest: the same digest is the same content, wherever it lies.

    The least recently used beyond `most` are forgotten.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str, read: Callable[[], T]) -> T:
        """What stands under `name`, else what `read` says."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        return self.put(name, read())

    def put(self, name: str, item: T) -> T:
        """Remember an item."""
        with self._lock:
            self._kept[name] = item
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return item


_SUMMARIES: Shelf[Summary] = Shelf(1024)
_COUNTS: Shelf[DayCounts] = Shelf(128)


def parts_of(blobs: Sink, blob: str) -> list[Profile]:
    """The profiles of a stored window, part by part."""
    data = blobs.get(blob)
    return unpack(data[4 + int.from_bytes(data[:4], "little") :])


def trimmed(days: Mapping[str, dict[str, str]], keep: int) -> dict[str, dict[str, str]]:
    """The newest `keep` days."""
    return {day: dict(days[day]) for day in sorted(days)[-keep:]}
