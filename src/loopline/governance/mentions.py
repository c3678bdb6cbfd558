"""Whether bytes of any kind hold a subject: frames by their cells, everything else by its words."""

from __future__ import annotations

import io
import re
from collections.abc import Collection
from pathlib import Path

import polars as pl

from loopline.data.privacy.tombstones import means
from loopline.governance.holding import Search
from loopline.store.tables.redact import Holds

SHORTEST = 4
"""Letters of a text that is looked for among words: shorter ones stand everywhere."""
LARGEST = 256 << 20
"""Bytes of a file that is read."""
_PARQUET, _IPC, _ARRAY = b"PAR1", b"ARROW1", b"\x93NUMPY"
_WORD = re.compile(rb"\w+")
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


class Mentions:
    """Looks for a subject and its units in what nobody declared.

    Cells count where they are one of the texts as a whole; in texts a value counts where no letter, digit or `_`
    stands before or behind it.
    """

    def __init__(self, search: Search) -> None:
        self._texts = search.subject | search.units
        self._holds: Holds = search.holds()
        long = {text.encode() for text in self._texts if len(text) >= SHORTEST}
        self._words = frozenset(text for text in long if _WORD.fullmatch(text))
        self._others = [re.compile(rb"(?<!\w)" + re.escape(text) + rb"(?!\w)") for text in sorted(long - self._words)]

    def in_file(self, path: Path) -> int | None:
        """How often a file holds it; null where it is too large, or packed, so that nobody can say."""
        if path.stat().st_size > LARGEST:
            return None
        with path.open("rb") as opened:
            head = opened.read(8)
        if head.startswith((_PARQUET, _IPC)):
            try:
                scan = pl.scan_parquet(path) if head.startswith(_PARQUET) else pl.scan_ipc(path)
                return self.in_frame(scan)
            except (pl.exceptions.PolarsError, OSError):
                pass  # it only begins like one
        if head.startswith(_ARCHIVES):
            return None
        return self.in_bytes(path.read_bytes())

    def in_bytes(self, data: bytes) -> int:
        """How often bytes that are, or hold, text have it as words."""
        if data.startswith(_ARRAY):
            return self._in_array(data)
        words = sum(word in self._words for word in _WORD.findall(data)) if self._words else 0
        return words + sum(len(one.findall(data)) for one in self._others)

    def in_frame(self, rows: pl.LazyFrame) -> int:
        """How many rows have it in a cell: of a column that may name it, or of any column of texts."""
        schema = rows.collect_schema()
        texts = [c for c, dtype in schema.items() if dtype in (pl.String, pl.Categorical, pl.Enum)]
        parts = [
            meant
            for meant in (self._holds(schema), means(dict.fromkeys(texts, self._texts), schema))
            if meant is not None
        ]
        if not parts:
            return 0
        return int(rows.select(pl.any_horizontal(parts).fill_null(False).sum()).collect().item() or 0)

    def in_doc(self, doc: object) -> int:
        """How many values or keys of a document are one of the texts."""
        if isinstance(doc, dict):
            return sum(self.in_doc(key) + self.in_doc(value) for key, value in doc.items())
        if isinstance(doc, (list, tuple)):
            return sum(map(self.in_doc, doc))
        return int(isinstance(doc, str) and doc in self._texts)

    def _in_array(self, data: bytes) -> int:
        import numpy as np

        try:
            found = np.load(io.BytesIO(data), allow_pickle=False)
        except ValueError:
            return 0
        if found.dtype.kind not in "US":
            return 0
        texts: Collection[str | bytes] = self._texts if found.dtype.kind == "U" else [t.encode() for t in self._texts]
        return int(np.isin(found, sorted(texts)).sum())
