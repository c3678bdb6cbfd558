"""What travels between steps: values as documents and open formats. Nothing is pickled."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid
from loopline.base.ids import content_id, file_digest
from loopline.store.blobs.local import LocalBlobs

MARK = "$"
MOST_INLINE = 8192
"""Bytes of JSON that stand in a record; more becomes a blob."""
_SAFE = 2**53
_DEEPEST = 60
_WHY = "what a step answers is kept in open formats and never pickled, so that it can be read by any later version"


def pack(value: Any, blobs: LocalBlobs, what: str) -> Any:
    """A value as a JSON document; frames, arrays, bytes, files and models in it become blobs.

    Parameters
    ----------
    what : str
        What the value is, for messages: `the answer of clean`.

    Raises
    ------
    Invalid
        Naming the part whose type cannot be kept, and what to hand on instead.
    """
    doc = _pack(value, blobs, what, 0)
    return _shortened(doc, blobs)


def pack_params(value: Any, what: str) -> Any:
    """A param as a JSON document: plain values only."""
    return _pack(value, None, what, 0)


def unpack(doc: Any, blobs: LocalBlobs) -> Any:
    """The value that `pack` kept."""
    if type(doc) is list:
        return [unpack(item, blobs) for item in doc]
    if type(doc) is not dict:
        return doc
    if MARK not in doc:
        return {key: unpack(item, blobs) for key, item in doc.items()}
    return _UNPACK[doc[MARK]](doc, blobs)


def part_of(doc: Any, path: tuple[str | int, ...], blobs: LocalBlobs, what: str) -> Any:
    """The part of a packed value that `answer[...]` means, still packed."""
    for part in path:
        if isinstance(doc, dict) and doc.get(MARK) == "json":
            doc = json.loads(blobs.get(doc["digest"]))
        items: Any = doc
        if isinstance(doc, dict) and doc.get(MARK) == "tuple":
            items = doc["items"]
        elif isinstance(doc, dict) and doc.get(MARK) == "dict":
            items = dict(doc["items"])
        elif isinstance(doc, dict) and MARK in doc:
            items = None
        try:
            doc = items[part]
        except (KeyError, IndexError, TypeError) as error:
            there = list(items) if isinstance(items, dict) else f"{len(items)} parts" if items is not None else "none"
            raise Invalid(
                f"{what} has no part [{part!r}]",
                why=f"it has {there}",
                fix="correct the pipeline, or what the step returns",
            ) from error
    return doc


def blobs_of(doc: Any) -> Iterator[str]:
    """Digests of the blobs that a packed value stands on."""
    if type(doc) is list:
        for item in doc:
            yield from blobs_of(item)
    elif type(doc) is dict:
        if MARK in doc and "digest" in doc:
            yield doc["digest"]
            yield from doc.get("inside", ())
        else:
            for item in doc.values():
                yield from blobs_of(item)


def digest_of(doc: Any) -> str:
    """The digest of a packed value: equal content, equal digest."""
    return content_id(doc)


# ---------------------------------------------------------------- packing


def _pack(value: Any, blobs: LocalBlobs | None, what: str, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -_SAFE < value < _SAFE else {MARK: "int", "text": str(value)}
    if kind is float:
        plain = math.isfinite(value) and not value.is_integer()
        return value if plain else {MARK: "float", "text": repr(value)}
    if depth > _DEEPEST:
        raise _refused(what, "nested deeper than 60 levels", "hand on a flatter value")
    if kind is list:
        return [_pack(item, blobs, f"{what}[{at}]", depth + 1) for at, item in enumerate(value)]
    if kind is tuple:
        return tuple_doc([_pack(item, blobs, f"{what}[{at}]", depth + 1) for at, item in enumerate(value)])
    if kind is dict:
        return _pack_dict(value, blobs, what, depth)
    small = _SMALL.get(kind)
    if small is not None:
        return small(value)
    if isinstance(value, Path):
        if blobs is None:
            raise _refused(what, "a path", "hand it to the step itself, not inside another value")
        return _pack_file(value, blobs, what)
    found = _pack_library(value, what)
    if found is not None:
        doc, data = found
        if data is None:
            return doc
        if blobs is None:
            raise _refused(what, f"a {_type(value)}", "let a step make it: params are plain values")
        return {**doc, "digest": keep(blobs, data)}
    raise _refused(what, f"a {_type(value)}", _advice(value))


def _pack_dict(value: dict[Any, Any], blobs: LocalBlobs | None, what: str, depth: int) -> Any:
    for key in value:
        if type(key) is not str:
            raise _refused(what, f"a dict with the key {key!r}", "use text as keys, or a list of pairs")
    return dict_doc({key: _pack(item, blobs, f"{what}[{key!r}]", depth + 1) for key, item in value.items()})


def dict_doc(items: dict[str, Any]) -> dict[str, Any]:
    """A dict of packed values. The order of its keys is kept: a step may go by it, and canonical JSON forgets it."""
    ordered = list(items) == sorted(items)
    return items if MARK not in items and ordered else {MARK: "dict", "items": [[k, v] for k, v in items.items()]}


def tuple_doc(items: list[Any]) -> dict[str, Any]:
    """A tuple of packed values."""
    return {MARK: "tuple", "items": items}


def path_doc(path: Path) -> dict[str, Any]:
    """A file or folder that stays where it is, with the digest of its content."""
    if path.is_dir():
        files = [item for item in sorted(path.rglob("*")) if item.is_file()]
        mark = content_id({item.relative_to(path).as_posix(): file_digest(item) for item in files})
    elif path.is_file():
        mark = file_digest(path)
    else:
        raise Invalid(
            f"{path} is not there",
            why="a step is given that path, and its content decides whether the step must run",
            fix="correct the path; paths are read from the project's folder",
        )
    return {MARK: "path", "path": str(path), "content": mark}


def _pack_file(path: Path, blobs: LocalBlobs, what: str) -> Any:
    if not path.is_file():
        raise _refused(
            what, f"the path {path}, which is no file", "return the path of a file that was written, or a list of such"
        )
    return {MARK: "file", "name": path.name, "digest": blobs.put_file(path)}


def _pack_library(value: Any, what: str) -> tuple[dict[str, Any], bytes | None] | None:
    """What a library's value is kept as; the library is known to be loaded if the value is of it."""
    if type(value) is bytes:
        return {MARK: "bytes"}, value
    home = type(value).__module__.partition(".")[0]
    if home == "polars":
        return _pack_polars(value, what)
    if home == "numpy":
        return _pack_numpy(value, what)
    from loopline.training.pipeline.models import pack_model

    return pack_model(value, what)


def _pack_polars(value: Any, what: str) -> tuple[dict[str, Any], bytes] | None:
    import polars as pl

    if isinstance(value, pl.LazyFrame):
        raise _refused(what, "a LazyFrame", "return .collect() of it")
    if type(value) not in (pl.DataFrame, pl.Series):
        return None
    kind = "frame" if isinstance(value, pl.DataFrame) else "series"
    frame = value if isinstance(value, pl.DataFrame) else value.to_frame()
    if any(dtype == pl.Object for dtype in frame.dtypes):
        raise _refused(what, "a frame with Python objects in it", "give its columns a type of Polars")
    out = io.BytesIO()
    frame.rechunk().write_ipc(out, compression="uncompressed")
    return {MARK: kind}, out.getvalue()


def _pack_numpy(value: Any, what: str) -> tuple[dict[str, Any], bytes | None] | None:
    import numpy as np

    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return {MARK: "scalar", "dtype": value.dtype.str, "hex": value.tobytes().hex()}, None
    if type(value) is not np.ndarray:
        return None
    if value.dtype.hasobject:
        raise _refused(what, "an array of Python objects", "give it a type of NumPy, or return a list")
    out = io.BytesIO()
    np.save(out, value, allow_pickle=False)
    return {MARK: "array"}, out.getvalue()


_SMALL: dict[type, Callable[[Any], dict[str, Any]]] = {
    datetime: lambda v: {MARK: "datetime", "text": _moment(v)},
    date: lambda v: {MARK: "date", "text": v.isoformat()},
    timedelta: lambda v: {MARK: "timedelta", "us": str(v // timedelta(microseconds=1))},
    Decimal: lambda v: {MARK: "decimal", "text": str(v)},
}


def _moment(value: datetime) -> str:
    if value.tzinfo is not None and value.tzinfo is not UTC:
        return value.astimezone(UTC).isoformat()
    return value.isoformat()


def keep(blobs: LocalBlobs, data: bytes) -> str:
    """Keep bytes: whole or not at all when a process dies; a power cut may take the last, which their digest tells."""
    with blobs.incoming(durable=False) as part:
        part.write(data)
        return part.keep()


def _shortened(doc: Any, blobs: LocalBlobs) -> Any:
    if type(doc) not in (list, dict) or (type(doc) is dict and "digest" in doc):
        return doc
    text = json.dumps(doc, separators=(",", ":")).encode()
    if len(text) <= MOST_INLINE:
        return doc
    return {MARK: "json", "digest": keep(blobs, text), "inside": list(dict.fromkeys(blobs_of(doc)))}


# ---------------------------------------------------------------- unpacking


def _unpack_frame(doc: dict[str, Any], blobs: LocalBlobs) -> Any:
    import polars as pl

    return pl.read_ipc(io.BytesIO(blobs.get(doc["digest"])))


def _unpack_series(doc: dict[str, Any], blobs: LocalBlobs) -> Any:
    return _unpack_frame(doc, blobs).to_series()


def _unpack_array(doc: dict[str, Any], blobs: LocalBlobs) -> Any:
    import numpy as np

    return np.load(io.BytesIO(blobs.get(doc["digest"])), allow_pickle=False)


def _unpack_scalar(doc: dict[str, Any], blobs: LocalBlobs) -> Any:
    import numpy as np

    return np.frombuffer(bytes.fromhex(doc["hex"]), dtype=np.dtype(doc["dtype"]))[0]


def _unpack_file(doc: dict[str, Any], blobs: LocalBlobs) -> Path:
    source = blobs.path(doc["digest"])
    named: Path = blobs.root.parent / "files" / doc["digest"] / doc["name"]
    if not named.exists():
        named.parent.mkdir(parents=True, exist_ok=True)
        try:
            named.hardlink_to(source)
        except FileExistsError:
            pass
        except OSError:
            named.write_bytes(source.read_bytes())
    return named


def _unpack_model(doc: dict[str, Any], blobs: LocalBlobs) -> Any:
    from loopline.training.pipeline.models import unpack_model

    return unpack_model(doc, blobs.get(doc["digest"]))


_UNPACK: dict[str, Callable[[dict[str, Any], LocalBlobs], Any]] = {
    "int": lambda doc, _: int(doc["text"]),
    "float": lambda doc, _: float(doc["text"]),
    "tuple": lambda doc, blobs: tuple(unpack(item, blobs) for item in doc["items"]),
    "dict": lambda doc, blobs: {key: unpack(item, blobs) for key, item in doc["items"]},
    "datetime": lambda doc, _: _utc(datetime.fromisoformat(doc["text"])),
    "date": lambda doc, _: date.fromisoformat(doc["text"]),
    "timedelta": lambda doc, _: timedelta(microseconds=int(doc["us"])),
    "decimal": lambda doc, _: Decimal(doc["text"]),
    "bytes": lambda doc, blobs: blobs.get(doc["digest"]),
    "json": lambda doc, blobs: unpack(json.loads(blobs.get(doc["digest"])), blobs),
    "frame": _unpack_frame,
    "series": _unpack_series,
    "array": _unpack_array,
    "scalar": _unpack_scalar,
    "file": _unpack_file,
    "path": lambda doc, _: Path(doc["path"]),
    "model": _unpack_model,
}


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo is not None else value


def _type(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _advice(value: Any) -> str:
    home = type(value).__module__.partition(".")[0]
    if home == "pandas":
        return "hand on polars.from_pandas(...) of it, or .to_dict('list')"
    if home == "pyarrow":
        return "hand on polars.from_arrow(...) of it"
    if home == "scipy":
        return "hand on its arrays (data, indices, indptr) in a dict"
    if home == "torch":
        return "hand on tensor.numpy(), or the state dict as arrays"
    if isinstance(value, (set, frozenset)):
        return "hand on sorted(...) of it: a set has no order"
    if "numpy" in sys.modules and hasattr(value, "__array__"):
        return "hand on numpy.asarray(...) of it"
    return "hand on a frame, an array, bytes, a path, a fitted model, or plain values in lists and dicts"


def _refused(what: str, given: str, fix: str) -> Invalid:
    return Invalid(f"{what} is {given}", why=_WHY, fix=fix)
