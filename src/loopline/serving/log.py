"""The log of predictions: an open schema, and the way from journals to the table.

Table `predictions/<endpoint>`, one row per answer (shadows too, with the same
`prediction_id`), append-only, no duplicates:

| column | type | meaning |
| --- | --- | --- |
| prediction_id | text | given with the request, or made; joins outcomes |
| endpoint, version, role | text | who answered; role champion, canary, previous or shadow |
| generation | int64 | of the desired state that was served |
| entity | text | what is decided on, by `entities` or the row's own unit; the prediction id where none was given |
| decision_time | UTC us | when the prediction was due; else when it came |
| recorded_at | UTC us | when it was answered |
| sticky | bool | an entity was given, so it stays with its version |
| chance | float64 | of being sent to `routed`, as the split stood |
| holdout | bool | in the random hold-out of the endpoint |
| routed | text | the version the entity belongs to; differs from `version` after a fallback |
| score, decision | float64, bool | the answer |
| broken | list of text | contract rules the row breaks for the routed version |
| missing | int64 | inputs of the answering version without a value |
| fallback | text | why another answered: `contract`, `error`; `baseline`: a constant of `version`; else null |
| latency_us | int64 | from the whole request to its answer |
| the inputs | float32 or text | what the model read: null for null, unseen and wrong |
| request_<column> | text | where the online store is read: the columns that the request brought, repaired; else null |

An input whose name is one of the above, or begins with `request_`, stands as `input_<name>`.

Table `refusals/<endpoint>` has the same columns, one row for each request that nobody answered because
of a rule it broke: `broken` names every one, `role` is `refused`, `version` the one it was routed to, and `score`
is null. Of a request with several rows it is the first that broke one.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import content_id
from loopline.base.log import logger
from loopline.serving import journal
from loopline.serving.state import Place, write_atomic

if TYPE_CHECKING:
    from loopline.store.tables.protocol import Tables

MOMENT = pl.Datetime("us", "UTC")

COLUMNS: dict[str, pl.DataType] = {
    "prediction_id": pl.String(),
    "endpoint": pl.String(),
    "version": pl.String(),
    "role": pl.String(),
    "generation": pl.Int64(),
    "entity": pl.String(),
    "decision_time": MOMENT,
    "recorded_at": MOMENT,
    "sticky": pl.Boolean(),
    "chance": pl.Float64(),
    "holdout": pl.Boolean(),
    "routed": pl.String(),
    "score": pl.Float64(),
    "decision": pl.Boolean(),
    "broken": pl.List(pl.String()),
    "missing": pl.Int64(),
    "fallback": pl.String(),
    "latency_us": pl.Int64(),
}

REMEMBERED = timedelta(days=1)
"""The same id again within this time is the same prediction and is logged once."""

REQUEST = "request_"
"""Begins the columns of what a request brought."""

INPUT = "input_"
"""Begins the columns of inputs whose own name means something else in the log."""

REFUSED = "refused"
"""Role of rows that nobody answered."""

_log = logger(__name__)
_texts = msgspec.json.Decoder(list[Any])
_raw = msgspec.json.Encoder().encode


def table(endpoint: str) -> str:
    """The name of an endpoint's table."""
    return f"predictions/{endpoint}"


def refused_table(endpoint: str) -> str:
    """The name of the table of an endpoint's refused requests."""
    return f"refusals/{endpoint}"


def input_column(name: str) -> str:
    """The column that holds the input `name`."""
    return f"{INPUT}{name}" if name in COLUMNS or name.startswith(REQUEST) else name


def input_columns(columns: Iterable[str]) -> list[str]:
    """Those of a log's columns that are inputs."""
    return [c for c in columns if c not in COLUMNS and not c.startswith(REQUEST)]


def schema(inputs: Mapping[str, pl.DataType] | None = None) -> dict[str, pl.DataType]:
    """The schema of a log whose models read `inputs` (name to type)."""
    return {**COLUMNS, **{input_column(name): kind for name, kind in (inputs or {}).items()}}


def frame(shared: Mapping[str, Any], rows: journal.Rows) -> pl.DataFrame:
    """Rows of a journal in the schema of the log."""
    fixed, flags = rows.fixed, rows.fixed["flags"]
    ids, entities, routed, broken, fallback = zip(*rows.texts, strict=True) if rows.texts else ((),) * 5
    data: dict[str, Any] = {
        "prediction_id": ids,
        "entity": entities,
        "decision_time": fixed["decision_time"],
        "recorded_at": fixed["recorded_at"],
        "sticky": (flags & journal.STICKY) > 0,
        "chance": fixed["chance"].astype("f8"),
        "holdout": (flags & journal.HOLDOUT) > 0,
        "routed": routed,
        "score": fixed["score"],
        "decision": (flags & journal.DECISION) > 0,
        "broken": _rules(broken),
        "missing": fixed["missing"].astype("i8"),
        "fallback": [text or None for text in fallback],
        "latency_us": fixed["latency_us"].astype("i8"),
    }
    same = {name: shared[name] for name in ("endpoint", "version", "role", "generation")}
    columns = []
    for name, kind in COLUMNS.items():
        if name in same:
            columns.append(_all(name, same[name], kind, len(fixed)))
        elif kind == MOMENT:
            columns.append(pl.Series(name, data[name].astype("i8"), dtype=pl.Int64).cast(MOMENT))
        else:
            columns.append(pl.Series(name, data[name], dtype=kind))
    read = pl.DataFrame([pl.Series(f"{j}", values) for j, values in enumerate(np.ascontiguousarray(rows.inputs.T))])
    gaps = [f"{j}" for j in np.flatnonzero(np.isnan(rows.inputs).any(axis=0))]
    known = read.with_columns(pl.col(gaps).fill_nan(None)) if gaps else read
    for values, spec in zip(known.get_columns(), shared["inputs"], strict=True):
        if spec["kind"] == "category":
            values = pl.Series(spec["categories"], dtype=pl.String).gather(values.cast(pl.UInt32))
        columns.append(values.alias(input_column(spec["name"])))
    return pl.DataFrame([*columns, *_brought(shared.get("brought", ()), rows.brought)])


def _brought(names: Sequence[str], kept: Sequence[bytes]) -> list[pl.Series]:
    """What requests brought, a column each; as text, so that a column may change its type between versions."""
    if not names:
        return []
    nothing = [None] * len(names)
    values = zip(*(_texts.decode(one) if one else nothing for one in kept), strict=True)
    made = [[v if v is None or type(v) is str else _raw(v).decode() for v in column] for column in values]
    return [
        pl.Series(f"{REQUEST}{name}", column, dtype=pl.String)
        for name, column in zip(names, made or [[]] * len(names), strict=True)
    ]


def _all(name: str, value: Any, kind: pl.DataType, rows: int) -> pl.Series:
    """One value for all rows."""
    return pl.Series(name, [value], dtype=kind).new_from_index(0, rows)


def _rules(texts: Sequence[str]) -> pl.Series:
    """Lists of rule ids; nothing broken is the empty list."""
    if not any(texts):
        return _all("broken", [], COLUMNS["broken"], len(texts))
    column = pl.Series("broken", texts, dtype=pl.String)
    none = pl.lit([], dtype=pl.List(pl.String))
    return pl.select(pl.when(column == "").then(none).otherwise(column.str.split("\n"))).to_series()


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit added."""

    rows: int
    version: int | None
    """Of the table; null while there is none."""


class Committer:
    """Moves answers from the journals of an endpoint into its table, each once.

    How far each journal is committed stands in `commit.json`, written after the
    append. A commit that was killed between the two is repeated by the next, which
    finds the ids in the table and adds none of them again. One process at a time:
    the others wait for the lock.
    """

    def __init__(self, tables: Tables, place: Place) -> None:
        self._tables, self._place = tables, place
        self._note = place.folder / "commit.json"
        self._answers = _Rows(tables, table(place.endpoint))
        self._refused = _Rows(tables, refused_table(place.endpoint))

    def commit(self) -> Committed:
        """Append every answer given before this call; returns when the table holds them."""
        with self._alone():
            done = self._read_note()
            ranges = self._ranges(done)
            rows = self._append(ranges) if ranges else 0
            if ranges:
                done.update({name: stop for name, (_, stop) in ranges.items()})
                self._write_note(done)
            self._clean(done)
            return Committed(rows, self._tables.version(table(self._place.endpoint)))

    def _ranges(self, done: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        ranges = {}
        for path in self._journals():
            try:
                with journal.reading(path) as reader:
                    start, stop = done.get(path.name, 0), reader.count
            except Invalid as error:
                _log.error("%s", error)
                continue
            if stop > start:
                ranges[path.name] = (start, stop)
        return ranges

    def _append(self, ranges: Mapping[str, tuple[int, int]]) -> int:
        answers: list[pl.DataFrame] = []
        refused: list[pl.DataFrame] = []
        for name, (start, stop) in ranges.items():
            with journal.reading(self._place.segments / name) as reader:
                rows = frame(reader.shared, reader.rows(start, stop))
                (refused if reader.shared["role"] == REFUSED else answers).append(rows)
        key = f"answers:{content_id({name: list(ends) for name, ends in ranges.items()})}"
        if refused:
            self._refused.append([rows.with_columns(pl.col("score").fill_nan(None)) for rows in refused], key)
        return self._answers.append(answers, key) if answers else 0

    def _clean(self, done: dict[str, int]) -> None:
        """Remove journals that are closed and wholly in the table."""
        removed = False
        for path in self._journals():
            try:
                with journal.reading(path) as reader:
                    over = reader.closed and reader.count == done.get(path.name, 0)
            except Invalid:
                continue
            if over:
                path.unlink(missing_ok=True)
        here = {p.name for p in self._journals()}
        for name in [n for n in done if n not in here]:
            del done[name]
            removed = True
        if removed:
            self._write_note(done)

    def _journals(self) -> list[Path]:
        return sorted(self._place.segments.glob(f"*{journal.SUFFIX}"))

    def _read_note(self) -> dict[str, int]:
        try:
            done: dict[str, int] = json.loads(self._note.read_bytes())["done"]
            return done
        except FileNotFoundError:
            return {}

    def _write_note(self, done: Mapping[str, int]) -> None:
        write_atomic(self._note, json.dumps({"done": done}).encode())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._place.segments.mkdir(parents=True, exist_ok=True)
        with (self._place.folder / "commit.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class _Rows:
    """A table that rows are appended to, each once."""

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables, self._name = tables, name
        self._seen: set[int] = set()
        self._seen_at: int | None = -1

    def append(self, frames: Sequence[pl.DataFrame], key: str) -> int:
        """Append what the table does not hold yet; returns how many rows that were."""
        rows = self._unseen(pl.concat(frames, how="diagonal").sort("recorded_at", maintain_order=True))
        if rows.height:
            made = self._tables.append(self._name, rows, key=key)
            self._remember(rows, made.version)
        return rows.height

    def _unseen(self, rows: pl.DataFrame) -> pl.DataFrame:
        version = self._tables.version(self._name)
        if version != self._seen_at:
            self._seen = set()
            if version is not None:
                first = rows.get_column("recorded_at").min() - REMEMBERED  # type: ignore[operator]
                old = self._tables.scan(self._name).filter(pl.col("recorded_at") >= first)
                self._seen.update(_keys(old.select("prediction_id", "version", "role").collect()))
            self._seen_at = version
        keep, taken = [], set()
        for key in _keys(rows):
            keep.append(key not in self._seen and key not in taken)
            taken.add(key)
        return rows if all(keep) else rows.filter(pl.Series(keep, dtype=pl.Boolean))

    def _remember(self, rows: pl.DataFrame, version: int) -> None:
        following = version == (0 if self._seen_at is None else (self._seen_at or 0) + 1)
        self._seen.update(_keys(rows))
        self._seen_at = version if following else -1


def _keys(rows: pl.DataFrame) -> list[int]:
    """What makes an answer the same answer: its id, and for shadows the version."""
    parts = zip(rows["prediction_id"], rows["version"], rows["role"], strict=True)
    return [hash((i, v)) if role == "shadow" else hash(i) for i, v, role in parts]


def predictions(tables: Tables, endpoint: str) -> pl.LazyFrame:
    """The log of an endpoint; empty, with the common columns, while it has answered nothing."""
    try:
        return tables.scan(table(endpoint))
    except NotFound:
        return pl.LazyFrame(schema=COLUMNS)
