"""Files in object storage, and Delta tables anywhere, as pieces of a source.

Credentials come from where the host's own tools look for them: the environment
(`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`,
...) or the machine's role; an own endpoint from `AWS_ENDPOINT_URL`. None is kept.
"""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from loopline.base.errors import Invalid, LooplineError, NotFound, Unavailable, missing_extra
from loopline.base.ids import content_id
from loopline.data.sources.files import SUFFIXES
from loopline.store.tables.foreign import foreign_table

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "azure")
Reader = Callable[[Path, str], Iterable[pl.DataFrame]]
Found = tuple[str, str | None, Callable[[], Iterable[pl.DataFrame]]]


def remote_parts(source: str, reader: Reader) -> Iterator[Found]:
    """Name, mark and reader of each object that `source` names; `*` and `?` match within and across folders.

    An object is fetched to a temporary file when it is read, so that it is checked
    as a local one is, and may be larger than memory.
    """
    place = urlsplit(source)
    if place.scheme not in SCHEMES:
        raise Invalid(
            f"source {source!r} is on a kind of host that is not read",
            why="files are read here and from s3://, gs:// and az://",
            fix="give {url, table} for a database, or fetch it in file.py:function",
        )
    path = place.path.lstrip("/")
    store = _store(f"{place.scheme}://{place.netloc}", source)
    wild = any(letter in path for letter in "*?[")
    fixed = path.split("*")[0].split("?")[0].split("[")[0]
    folder = fixed.rsplit("/", 1)[0] if "/" in fixed else ""
    with speaking_of(source):
        objects = [one for chunk in store.list(prefix=folder or None) for one in chunk]
    if not wild and any(one["path"].startswith(f"{path.rstrip('/')}/_delta_log/") for one in objects):
        yield delta_part(source, 200_000)
        return
    found = [one for one in objects if (fnmatch.fnmatchcase(one["path"], path) if wild else one["path"] == path)]
    if not found:
        near = sorted(one["path"] for one in objects)[:5]
        raise NotFound(
            f"there is nothing at {source}",
            why="loop.yaml names it under data",
            fix=f"name one of: {', '.join(near)}" if near else "check bucket and path",
        )
    for one in sorted(found, key=lambda one: str(one["path"])):
        if Path(one["path"]).suffix.lower() not in SUFFIXES:
            raise Invalid(
                f"{one['path']} at {source} is of no known kind",
                why=f"read: {', '.join(SUFFIXES)}",
                fix="narrow the pattern",
            )
        mark = content_id([one["path"], str(one["e_tag"]), str(one["version"]), one["size"], str(one["last_modified"])])
        yield one["path"] if wild else "", mark, _fetched(store, one["path"], source, reader)


def _fetched(store: Any, path: str, source: str, reader: Reader) -> Callable[[], Iterable[pl.DataFrame]]:
    def read() -> Iterator[pl.DataFrame]:
        with tempfile.TemporaryDirectory(prefix="loopline-") as folder:
            local = Path(folder) / Path(path).name
            with speaking_of(source), local.open("wb") as out:
                for chunk in store.get(path):
                    out.write(chunk)
            yield from reader(local, path)

    return read


def _store(root: str, source: str) -> Any:
    try:
        import obstore
    except ImportError as error:
        raise missing_extra("obstore", "cloud") from error
    with speaking_of(source):
        return obstore.store.from_url(root, client_options={"allow_http": True})


class speaking_of:
    """Turn what a host's client raises into an error that names the source."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, LooplineError) or not isinstance(error, Exception):
            return
        said = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        if isinstance(error, FileNotFoundError):
            raise NotFound(f"there is nothing at {self.source}", why=said, fix="check bucket and path") from error
        raise Unavailable(
            f"{self.source} cannot be read: {said}",
            why="its host did not answer, or did not let us in; nothing was taken in",
            fix="check network and credentials (they come from the environment), then ingest again",
        ) from error


def delta_part(place: str, rows: int) -> Found:
    """Name, mark and reader of a Delta table; its version is its mark."""
    with speaking_of(place):
        mark, scan = foreign_table(place)

    def read() -> Iterator[pl.DataFrame]:
        seen = False
        with speaking_of(place):
            for batch in scan.collect_batches(chunk_size=rows, maintain_order=True, lazy=True):
                seen = True
                yield batch
            if not seen:
                yield pl.DataFrame(schema=scan.collect_schema())

    return "", mark, read
