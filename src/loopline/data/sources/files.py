"""Files as frames: what a name promises is what is read, or the reader is told."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from loopline.base.errors import Invalid
from loopline.data.nouns import Mixed
from loopline.data.sources.csv_types import csv_types
from loopline.data.sources.json_types import kind_of, mixed_columns, named_once, rows_frame
from loopline.data.sources.mixed import MixedTypes

_HEAD = 1 << 16
_MAGIC = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"\x1f\x8b": "a gzip file",
    b"ARROW1": "an Arrow file",
    b"SQLite": "an SQLite database",
    b"%PDF": "a PDF",
}
_PAGE = re.compile(rb"<(?:!doctype|html|\?xml|head|body)\b", re.IGNORECASE)
_OBJECT = re.compile(rb'\{\s*(?:"|\})|\[\s*\{')
SUFFIXES = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".parquet": "Parquet",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
}


def read(
    path: Path, shown: str, kind: str, texts: Collection[str] = (), notes: list[Mixed] | None = None
) -> pl.DataFrame:
    """The rows of a file; columns of CSV that `texts` names are text, whatever they look like.

    A column of CSV is whole numbers only if every value writes back as it was: 01234 is text.
    `notes` is told of columns whose values are of several kinds, and which are text for that.

    Raises
    ------
    Invalid
        If it is not what its name says, or a CSV line has more or fewer fields than the header.
    """
    head = _head(path, shown, kind)
    with _speaking_of(path, shown, kind):
        if kind == "Parquet":
            return pl.read_parquet(path)
        if kind == "JSON lines":
            return _read_json(path, shown, notes)
        return _read_csv(path, shown, "\t" if kind == "TSV" else ",", head, texts, notes)


def batches(
    path: Path, shown: str, kind: str, rows: int, texts: Collection[str] = (), notes: list[Mixed] | None = None
) -> Iterator[pl.DataFrame]:
    """The rows of a large file, `rows` at a time; types are those of the whole column. For `notes` see `read`."""
    head = _head(path, shown, kind)
    with _speaking_of(path, shown, kind):
        if kind == "Parquet":
            scan = pl.scan_parquet(path, glob=False)
        elif kind == "JSON lines":
            scan = pl.scan_ndjson(path, infer_schema_length=None)
            if _several_types(path, _json_schema(path)):
                mixed = mixed_columns(_json_rows(path, shown))
                lines = _json_rows(path, shown)
                seen = MixedTypes()
                for part in iter(lambda: list(islice(lines, rows)), []):
                    frame = rows_frame(part, mixed)
                    seen.add(frame)
                    yield frame
                _note(notes, seen.told(path), shown)
                return
        else:
            separator = "\t" if kind == "TSV" else ","
            names = _header(head, shown, separator)
            types = csv_types(path, separator, texts)
            if not types.complete:
                _refuse_ragged(path, shown, separator, len(names))
            _note(notes, types.mixed, shown)
            scan = types.scan(path, separator)
        for batch in scan.collect_batches(chunk_size=rows, maintain_order=True, lazy=True):
            yield batch if kind in ("Parquet", "JSON lines") else _without_blank(batch)


def _head(path: Path, shown: str, kind: str) -> bytes:
    with path.open("rb") as handle:
        head = handle.read(_HEAD)
    if not head:
        raise Invalid(f"{shown} is empty", why="even a table without rows has a header", fix="write the column names")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Invalid(
            f"{shown} is text in UTF-16",
            why="text is read as UTF-8",
            fix=f"iconv -f utf-16 -t utf-8 {shown} > utf8-{Path(shown).name}, and name that file",
        )
    found = next((what for magic, what in _MAGIC.items() if head.startswith(magic)), None)
    bare = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if kind in ("CSV", "TSV") and _OBJECT.match(bare):
        raise Invalid(
            f"{shown} is JSON lines, whatever its name says",
            why=f"the name promises {kind}",
            fix=f"rename it to {Path(shown).stem}.jsonl, or export it again",
        )
    found = "an HTML page" if kind != "Parquet" and _PAGE.match(bare) else found
    if (kind == "Parquet") != (found == "a Parquet file") or (kind != "Parquet" and (found or b"\0" in head)):
        raise Invalid(
            f"{shown} is {found or ('binary data' if kind != 'Parquet' else 'not Parquet')}, whatever its name says",
            why=f"the name promises {kind}",
            fix="rename it, or export it again",
        )
    return head


@contextmanager
def _speaking_of(path: Path, shown: str, kind: str) -> Iterator[None]:
    """Turn what a reader raises into an error that names file and line."""
    try:
        yield
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        if kind != "Parquet":
            _refuse_foreign(path, shown)
        if kind == "JSON lines":
            deque(_json_rows(path, shown), maxlen=0)
        raise Invalid(
            f"{shown} cannot be read as {kind}: {str(error).strip().splitlines()[0]}",
            why="the content does not keep to the format",
            fix="open it, correct the place named, or export it again",
        ) from error


def _note(notes: list[Mixed] | None, found: Iterable[Mixed], shown: str) -> None:
    if notes is not None:
        notes.extend(replace(one, source=shown) for one in found)


def _read_json(path: Path, shown: str, notes: list[Mixed] | None) -> pl.DataFrame:
    try:
        frame = pl.read_ndjson(path, infer_schema_length=None)
        if not _several_types(path, dict(frame.schema)):
            return frame
    except pl.exceptions.PolarsError:  # a column of several types, or a line that is none
        pass
    frame = rows_frame(list(_json_rows(path, shown)))
    seen = MixedTypes()
    seen.add(frame)
    _note(notes, seen.told(path), shown)
    return frame


def _json_schema(path: Path) -> dict[str, pl.DataType] | None:
    try:
        return dict(pl.scan_ndjson(path, infer_schema_length=None).collect_schema())
    except pl.exceptions.PolarsError:
        return None


def _several_types(path: Path, schema: dict[str, pl.DataType] | None) -> bool:
    """Whether a column may hold values of several types of JSON, that its one type hides; at worst yes without need."""
    if schema is None:
        return True
    asked = [r'\\.[^"]*"\s*:']  # a name written with an escape
    for name, dtype in schema.items():
        if dtype == pl.Int128:
            return True
        if dtype.is_float():
            asked.append(f'"{re.escape(name)}"\\s*:\\s*-?[0-9]{{19,}}\\s*[,}}]')
        begin = _BEGINS.get(kind_of(dtype) or "")
        if begin is not None:
            asked.append(f'"{re.escape(name)}"\\s*:\\s*[^{begin}n\\s]')
    for name in schema:  # a name that stands twice in a line; within an object of its own it may
        asked.append(f'"{re.escape(name)}"\\s*:.*"{re.escape(name)}"\\s*:')
    lines = pl.scan_lines(path)
    forms = ["|".join(f"(?:{one})" for one in asked[n : n + 32]) for n in range(0, len(asked), 32)]
    found = lines.select(pl.any_horizontal(pl.all().str.contains(form) for form in forms).any())
    return bool(found.collect(engine="streaming").item())


_BEGINS = {"string": '"', "integer": "0-9-", "number": "0-9-", "boolean": "tf", "object": "{", "array": r"\["}
"""What values of a type of JSON begin with, as a set of characters of a pattern."""


def _json_rows(path: Path, shown: str) -> Iterator[dict[str, Any]]:
    """The rows of JSON lines, one at a time; blank lines are none."""
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                row = _parsed(line)
                if isinstance(row, dict) and (b"\\" in line or any(line.count(_quoted(name)) > 1 for name in row)):
                    json.loads(line, object_pairs_hook=named_once)
            except ValueError as error:
                _refuse_foreign(path, shown)
                if number == 1 and line.lstrip()[:1] not in (b"{", b"["):
                    raise Invalid(
                        f"{shown} does not begin as JSON does, but with {line[:40].decode(errors='replace').strip()!r}",
                        why="the name promises JSON lines",
                        fix="rename it to what it is, for example .csv, or export it again",
                    ) from error
                raise Invalid(
                    f"{shown}, line {number}, cannot be read as JSON lines: {error}",
                    why="each line is one row, in JSON",
                    fix="correct that line"
                    if number > 1 or line.lstrip()[:1] in b"{["
                    else "rename it, or export it again",
                ) from error
            if not isinstance(row, dict):
                raise Invalid(
                    f"{shown}, line {number} is {type(row).__name__}, not names with values",
                    why="each row names its columns",
                    fix='give for example {"id": 1, "value": 2.5}',
                )
            yield row


_READER = msgspec.json.Decoder()


def _parsed(line: bytes) -> Any:
    """A line of JSON; what the fast reader refuses (another encoding, a huge number) the library reads, or tells."""
    try:
        return _READER.decode(line)
    except msgspec.DecodeError:
        return json.loads(line, parse_constant=_no_number)


@lru_cache(maxsize=4096)
def _quoted(name: str) -> bytes:
    return f'"{name}"'.encode()


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON; write null, or a number")


def _header(head: bytes, shown: str, separator: str) -> list[str]:
    """The column names of a CSV file."""
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
    return names


def _read_csv(
    path: Path, shown: str, separator: str, head: bytes, texts: Collection[str], notes: list[Mixed] | None
) -> pl.DataFrame:
    names = _header(head, shown, separator)
    try:
        types = csv_types(path, separator, texts)
        frame = types.scan(path, separator).collect()
    except pl.exceptions.PolarsError:
        _refuse_foreign(path, shown)
        _refuse_ragged(path, shown, separator, len(names))
        raise
    if frame.height and not types.complete:
        _refuse_ragged(path, shown, separator, len(names))
    _note(notes, types.mixed, shown)
    return _without_blank(frame)


def _without_blank(frame: pl.DataFrame) -> pl.DataFrame:
    """Without the rows that blank lines make: a row that says nothing in any column is none."""
    if frame.width < 2 or not all(column.null_count() for column in frame.get_columns()):
        return frame
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def _refuse_ragged(path: Path, shown: str, separator: str, width: int) -> None:
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as handle:
        rows, line = csv.reader(handle, delimiter=separator), 1
        try:
            for fields in rows:
                if fields and len(fields) != width:
                    if rows.line_num > line:
                        raise _unclosed(shown, line, f"it goes on to line {rows.line_num}")
                    raise Invalid(
                        f"{shown}, line {line}: {len(fields)} fields where the header has {width}",
                        why="a ragged line would shift values into wrong columns",
                        fix="quote fields that hold the separator, or complete the line",
                    )
                line = rows.line_num + 1
        except csv.Error as error:
            raise _unclosed(shown, line, str(error)) from error


def _unclosed(shown: str, line: int, said: str) -> Invalid:
    return Invalid(
        f"{shown}, line {line}: a field does not end",
        why=f"from a quote on, everything up to the next quote is one field ({said})",
        fix='close the quote, or write a quote inside a field twice: ""',
    )


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
