"""What a step answered, in words: its kind and size, and plain values themselves; never rows of a frame."""

from __future__ import annotations

import json
from typing import Any

from loopline.base.errors import LooplineError
from loopline.store.blobs.local import LocalBlobs
from loopline.training.pipeline.values import MARK

LONGEST = 120
"""Characters of a text that are shown."""
MOST = 20
"""Parts of a tuple or dict that are told one by one."""


def described(doc: Any, blobs: LocalBlobs) -> dict[str, Any]:
    """A packed answer for people to look at.

    Returns
    -------
    dict
        `kind` in words; and, where they are known, `text` (a number, a truth, a short text, the name of a file),
        `bytes` (of its blob; null where that is gone), `parts` (name and description of each) and `more` (parts that
        are not told).
    """
    if isinstance(doc, list):
        return {"kind": f"list of {len(doc):,}"}
    if not isinstance(doc, dict):
        return {"kind": _PLAIN.get(type(doc), "nothing"), "text": _cut(doc)}
    mark = doc.get(MARK, "dict")
    if mark == "tuple":
        return _parts("tuple", [(str(at), item) for at, item in enumerate(doc["items"])], blobs)
    if mark == "dict":
        return _parts("dict", doc["items"] if MARK in doc else list(doc.items()), blobs)
    if mark == "json":
        return {"kind": "plain values", "bytes": _size(doc["digest"], blobs)}
    if "digest" in doc:
        return {"kind": _kind(doc, blobs), "text": doc.get("name"), "bytes": _size(doc["digest"], blobs)}
    return {"kind": _SAID.get(mark, mark), "text": _cut(doc.get("text", doc.get("path")))}


_PLAIN = {bool: "true or false", int: "number", float: "number", str: "text"}
_SAID = {"int": "number", "float": "number", "datetime": "time", "scalar": "number of NumPy", "bytes": "bytes"}


def _parts(kind: str, items: list[Any], blobs: LocalBlobs) -> dict[str, Any]:
    told = [[str(name), described(item, blobs)] for name, item in items[:MOST]]
    return {"kind": f"{kind} of {len(items):,}", "parts": told, "more": max(0, len(items) - MOST)}


def _kind(doc: dict[str, Any], blobs: LocalBlobs) -> str:
    mark: str = doc[MARK]
    if mark == "frame":
        import polars as pl

        try:
            held = pl.scan_ipc(blobs.where(doc["digest"]))
            rows, columns = held.select(pl.len()).collect().item(), len(held.collect_schema())
            return f"frame, {rows:,} × {columns:,}"
        except (LooplineError, pl.exceptions.PolarsError, OSError):
            return "frame"
    if mark == "model":
        return f"model, {doc['format']}"
    return _SAID.get(mark, mark)


def _size(digest: str, blobs: LocalBlobs) -> int | None:
    try:
        return blobs.where(digest).stat().st_size
    except (LooplineError, OSError):
        return None


def _cut(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
