"""Sources: files of a project, or functions in it, as Polars frames."""

from __future__ import annotations

import csv
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import polars as pl

from loopline.base.code import calling_user_code, load_function
from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import file_digest
from loopline.data.spec import TableSpec

_KEPT = 8
_frames: OrderedDict[str, pl.DataFrame] = OrderedDict()
_digests: dict[tuple[str, int, int], str] = {}
_lock = threading.Lock()

_MAGIC = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"\x1f\x8b": "a gzip file",
    b"ARROW1": "an Arrow file",
    b"SQLite": "an SQLite database",
    b"%PDF": "a PDF",
}
SUFFIXES = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".parquet": "Parquet",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
}


def load_source(project: Path, spec: TableSpec) -> pl.DataFrame:
    """The rows of a source, as they are.

    A file is read once per content and process. A function is called every time,
    because what it reads may have changed; it takes no argument and returns a
    Polars frame (or a pandas or Arrow one).

    Raises
    ------
    NotFound
        If there is no such file.
    Invalid
        If the file is not what its name says, if a CSV line has more or fewer
        fields than the header, or if the function returns no frame.
    """
    if ".py:" in spec.source:
        return _call(Path(project), spec.source)
    path = Path(project) / spec.source
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise Invalid(
            f"source {spec.source!r} is of no known kind",
            why=f"read here: {', '.join(SUFFIXES)} and file.py:function",
            fix="save it as one of these, or return it from a function",
        )
    if not path.is_file():
        near = sorted(p.name for p in Path(project).glob(f"*{path.suffix}"))[:5]
        raise NotFound(
            f"source {spec.source} is not in the project",
            why="loop.yaml names it under data",
            fix=f"put the file there, or name one of: {', '.join(near)}" if near else "put the file there",
        )
    key = f"{kind}:{_digest(path)}"
    with _lock:
        if key in _frames:
            _frames.move_to_end(key)
            return _frames[key]
    frame = _read(path, spec.source, kind)
    with _lock:
        _frames[key] = frame
        while len(_frames) > _KEPT:
            _frames.popitem(last=False)
    return frame


def _digest(path: Path) -> str:
    stat = path.stat()
    key = (str(path.resolve()), stat.st_mtime_ns, stat.st_size)
    if key not in _digests:
        _digests[key] = file_digest(path)
    return _digests[key]


def _call(project: Path, ref: str) -> pl.DataFrame:
    function = load_function(project, ref)
    with calling_user_code(ref):
        result = function()
    return as_frame(result, ref)


def as_frame(result: Any, ref: str) -> pl.DataFrame:
    """What a function returned, as a Polars frame."""
    if isinstance(result, pl.DataFrame):
        return result
    if isinstance(result, pl.LazyFrame):
        with calling_user_code(ref):
            return result.collect()
    if hasattr(result, "__arrow_c_stream__"):
        found = pl.DataFrame(result)
        return found
    if type(result).__module__.startswith("pandas"):
        converted: pl.DataFrame = pl.from_pandas(result)
        return converted
    raise Invalid(
        f"{ref} returned {type(result).__name__}, not a frame",
        why="a source function returns the rows of its table",
        fix="return a Polars DataFrame",
    )


def _read(path: Path, shown: str, kind: str) -> pl.DataFrame:
    with path.open("rb") as handle:
        head = handle.read(4096)
    if not head:
        raise Invalid(f"{shown} is empty", why="even a table without rows has a header", fix="write the column names")
    found = next((what for magic, what in _MAGIC.items() if head.startswith(magic)), None)
    if (kind == "Parquet") != (found == "a Parquet file") or (kind != "Parquet" and (found or b"\0" in head)):
        raise Invalid(
            f"{shown} is {found or ('binary data' if kind != 'Parquet' else 'not Parquet')}, whatever its name says",
            why=f"the name promises {kind}",
            fix="rename it, or export it again",
        )
    try:
        if kind == "Parquet":
            return pl.read_parquet(path)
        if kind == "JSON lines":
            return pl.read_ndjson(path, infer_schema_length=None)
        return _read_csv(path, shown, "\t" if kind == "TSV" else ",", head)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        if kind != "Parquet":
            _refuse_foreign(path, shown)
        raise Invalid(
            f"{shown} cannot be read as {kind}: {str(error).strip().splitlines()[0]}",
            why="the content does not keep to the format",
            fix="open it, correct the place named, or export it again",
        ) from error


def _read_csv(path: Path, shown: str, separator: str, head: bytes) -> pl.DataFrame:
    first = head.splitlines()[0].decode("utf-8-sig", errors="replace")
    names = next(csv.reader([first], delimiter=separator), [])
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise Invalid(
            f"{shown} has column {twice[0]!r} twice", why="columns are found by name", fix="rename one of them"
        )
    if head.lstrip()[:1] in (b"{", b"[") or (len(names) == 1 and first.count(";") + first.count("\t") > 1):
        raise Invalid(
            f"{shown} is not separated by {separator!r}; its first line is {first[:60]!r}",
            why="the name promises CSV",
            fix="export it with commas, or rename it to .tsv or .jsonl",
        )
    try:
        frame = pl.read_csv(path, separator=separator, try_parse_dates=True, infer_schema_length=None)
    except pl.exceptions.PolarsError:
        _refuse_foreign(path, shown)
        _refuse_ragged(path, shown, separator, len(names))
        raise
    if frame.width and frame.height and frame.to_series(-1).null_count():
        _refuse_ragged(path, shown, separator, len(names))
    return frame


def _refuse_ragged(path: Path, shown: str, separator: str, width: int) -> None:
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as handle:
        rows, line = csv.reader(handle, delimiter=separator), 1
        try:
            for fields in rows:
                if fields and len(fields) != width:
                    raise Invalid(
                        f"{shown}, line {line}: {len(fields)} fields where the header has {width}",
                        why="a ragged line would shift values into wrong columns",
                        fix="quote fields that hold the separator, or complete the line",
                    )
                line = rows.line_num + 1
        except csv.Error as error:
            raise Invalid(
                f"{shown}, line {line}: a field does not end",
                why=f"from a quote on, everything up to the next quote is one field ({error})",
                fix='close the quote, or write a quote inside a field twice: ""',
            ) from error


def _refuse_foreign(path: Path, shown: str) -> None:
    """Name the first line that is not UTF-8, if there is one."""
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise Invalid(
                    f"{shown}, line {number}: byte {line[error.start]:#04x} is not UTF-8",
                    why="text is read as UTF-8",
                    fix=f"export it as UTF-8, or, where it is Latin-1: iconv -f latin1 -t utf-8 {shown}",
                ) from error
