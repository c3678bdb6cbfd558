"""Sources: files here or in object storage, Delta tables, databases, functions and streams, as batches of rows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import polars as pl

from loopline.base.code import calling_user_code, load_function
from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import content_id, file_digest
from loopline.data.nouns import Mixed
from loopline.data.sources import files
from loopline.data.sources.frames import as_batches, as_frame
from loopline.data.sources.json_types import apart
from loopline.data.spec import SourceSpec, TableSpec

BATCH_ROWS = 200_000
"""Rows of a large source that are in memory at a time."""
LARGE_BYTES = 32 << 20
"""Files from this size on are read in batches."""
_KEPT = 8
_frames: OrderedDict[str, tuple[pl.DataFrame, list[Mixed]]] = OrderedDict()
_digests: dict[tuple[str, int, int], str] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a source that is read as one: a file of many, or all there is.

    `name` tells the pieces of one source apart and is empty where there is one; `mark`
    changes with the content and is null where only reading tells.
    """

    name: str
    mark: str | None
    read: Callable[[], Iterable[pl.DataFrame]]
    whole: bool = True
    """Whether it belongs to the declared source; rows that a caller gives may be news alone."""
    text: bool = False
    """Whether all values are written as text, as in CSV; elsewhere they have types of their own."""
    notes: list[Mixed] = field(default_factory=list, compare=False)
    """Columns that are text because their values are of several kinds; known once it was read."""


def parts_of(
    project: Path, spec: TableSpec, *, since: datetime | None = None, texts: Collection[str] = ()
) -> Iterator[Part]:
    """The pieces of a source, none of them read yet.

    Parameters
    ----------
    since : datetime, optional
        Time up to which its rows were taken: for `:since` in a query. A source
        without it gives all its rows.
    texts : collection
        Columns of CSV that are text, whatever they look like.

    Raises
    ------
    NotFound
        If there is no such file.
    Invalid
        If the source is of no known kind.
    Unavailable
        If what reads it is not installed, or its host does not answer.
    """
    source = spec.source
    if isinstance(source, SourceSpec):
        from loopline.data.sources.databases import read

        yield Part("", None, lambda: read(source, since, BATCH_ROWS))
    elif ".py:" in source:
        yield Part("", None, lambda: _call(Path(project), source))
    elif "://" in source:
        from loopline.data.sources.remote import remote_parts

        notes: list[Mixed] = []
        for one in remote_parts(source, partial(_batches, texts=frozenset(texts), notes=notes)):
            yield Part(*one, text=_is_text(one[0] or source), notes=notes)
    else:
        yield from _local(Path(project), source, frozenset(texts))


def load_source(project: Path, spec: TableSpec, *, texts: Collection[str] = ()) -> pl.DataFrame:
    """All rows of a source in one frame, as they are.

    A small file is read once per content and process. A function is called every
    time, because what it reads may have changed; it takes no argument and returns
    a frame or batches of them.

    Raises
    ------
    NotFound
        If there is no such file.
    Invalid
        If the file is not what its name says, if a CSV line has more or fewer
        fields than the header, or if the function returns no frame.
    """
    return apart(whole_source(project, spec, texts=texts)[0])[0]


def whole_source(project: Path, spec: TableSpec, *, texts: Collection[str] = ()) -> tuple[pl.DataFrame, bool]:
    """All rows of a source in one frame, types of JSON beside them, and whether all its values are written as text."""
    parts = list(parts_of(project, spec, texts=texts))
    batches = [batch for part in parts for batch in part.read()]
    text = any(part.text for part in parts)
    if len(batches) == 1:
        return batches[0], text
    return pl.concat(batches, how="diagonal_relaxed") if batches else pl.DataFrame(), text


def _is_text(name: str) -> bool:
    return files.SUFFIXES.get(Path(name).suffix.lower()) in ("CSV", "TSV")


def _local(project: Path, source: str, texts: frozenset[str]) -> Iterator[Part]:
    path = project / source
    if any(letter in source for letter in "*?[") and not path.exists():
        found = sorted(p for p in project.glob(source) if p.is_file())
        if not found:
            raise NotFound(
                f"no file matches {source}", why="loop.yaml names it under data", fix="put files there, or correct it"
            )
        for one in found:
            name = one.relative_to(project).as_posix()
            yield _file(one, name, name, texts)
    elif (path / "_delta_log").is_dir():
        from loopline.data.sources.remote import delta_part

        yield Part(*delta_part(str(path), BATCH_ROWS))
    elif path.is_dir():
        raise Invalid(
            f"source {source} is a folder",
            why="a folder is read as a Delta table, and this one has no _delta_log",
            fix=f"name its files with a pattern, for example {source.rstrip('/')}/*.parquet",
        )
    else:
        kind_of(source)
        if not path.is_file():
            near = sorted(p.name for p in project.glob(f"*{path.suffix}"))[:5]
            raise NotFound(
                f"source {source} is not in the project",
                why="loop.yaml names it under data",
                fix=f"put the file there, or name one of: {', '.join(near)}" if near else "put the file there",
            )
        yield _file(path, source, "", texts)


def _file(path: Path, shown: str, name: str, texts: frozenset[str]) -> Part:
    mark = content_id([kind_of(shown), _digest(path)])
    notes: list[Mixed] = []
    return Part(
        name, mark, lambda: _batches(path, shown, mark, texts=texts, notes=notes), text=_is_text(shown), notes=notes
    )


def kind_of(source: str) -> str:
    """Which kind of file a name promises."""
    kind = files.SUFFIXES.get(Path(source).suffix.lower())
    if kind is None:
        raise Invalid(
            f"source {source!r} is of no known kind",
            why=f"read here: {', '.join(files.SUFFIXES)}, Delta folders, databases and file.py:function",
            fix="save it as one of these, or return it from a function",
        )
    return kind


def _batches(
    path: Path,
    shown: str,
    mark: str | None = None,
    *,
    texts: frozenset[str] = frozenset(),
    notes: list[Mixed] | None = None,
) -> Iterable[pl.DataFrame]:
    """The rows of a file: one frame where it is small, batches of a scan where it is not."""
    kind = kind_of(shown)
    if path.stat().st_size >= LARGE_BYTES:
        return files.batches(path, shown, kind, BATCH_ROWS, texts, notes)
    if mark is None:
        return [files.read(path, shown, kind, texts, notes)]
    mark = content_id([mark, sorted(texts)]) if texts else mark
    with _lock:
        kept = _frames.get(mark)
        if kept is not None:
            _frames.move_to_end(mark)
    if kept is None:
        told: list[Mixed] = []
        kept = files.read(path, shown, kind, texts, told), told
        with _lock:
            _frames[mark] = kept
            while len(_frames) > _KEPT:
                _frames.popitem(last=False)
    if notes is not None:
        notes.extend(replace(one, source=shown) for one in kept[1])
    return [kept[0]]


def _digest(path: Path) -> str:
    stat = path.stat()
    key = (str(path.resolve()), stat.st_mtime_ns, stat.st_size)
    if key not in _digests:
        _digests[key] = file_digest(path)
    return _digests[key]


def _call(project: Path, ref: str) -> Iterable[pl.DataFrame]:
    function = load_function(project, ref)
    with calling_user_code(ref):
        result = function()
    return as_batches(result, ref, BATCH_ROWS)


__all__ = ["Part", "as_frame", "load_source", "parts_of", "whole_source"]
