"""What a trace log holds, of whom, and what its deleted traces left behind."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from loopline.store.runs.database import Database

_AT_ONCE = 200
_WORDS = "SELECT key, value FROM {} WHERE trace = ? ORDER BY key"


class Content(NamedTuple):
    """A trace or an example with everything that anybody said in it."""

    kind: Literal["trace", "example"]
    id: str
    of: str
    """The experiment of a trace, the set of an example."""
    texts: list[str]
    """Each as it was said: what stands within JSON is taken out of it."""


class Share(NamedTuple):
    """What an experiment has of a trace log."""

    traces: int
    bytes: int
    """That their spans take, about."""
    newest_ms: int


def count(db: Database) -> tuple[int, int]:
    """How many traces there are, and how many sets of examples."""
    with db.read() as connection:
        (traces,) = connection.execute("SELECT count(*) FROM traces").fetchone()
        (sets,) = connection.execute("SELECT count(*) FROM example_sets").fetchone()
    return int(traces), int(sets)


def shares(db: Database) -> dict[str, Share]:
    """What each experiment has, by its id."""
    with db.read() as connection:
        rows = connection.execute(
            "SELECT experiment, count(*), max(start), sum((SELECT coalesce(sum(length(json)), 0) FROM spans"
            " WHERE trace = traces.id)) FROM traces GROUP BY experiment ORDER BY experiment"
        ).fetchall()
    return {experiment: Share(traces, size, newest) for experiment, traces, newest, size in rows}


def free(db: Database) -> int:
    """Bytes of the file that deleted traces left."""
    with db.read() as connection:
        (pages,) = connection.execute("PRAGMA freelist_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(size)


def shared(db: Database, trace: str) -> list[tuple[str, str]]:
    """What each span of a trace shares with others, and the span, as JSON; by the ids of spans."""
    with db.read() as connection:
        rows = connection.execute(
            "SELECT o.json, s.json FROM spans s JOIN origins o ON o.id = s.origin"
            " WHERE s.trace = (SELECT id FROM traces WHERE uuid = ?) ORDER BY s.span",
            (trace,),
        )
        return [(of, body) for of, body in rows]


def runs(db: Database, traces: Sequence[str]) -> dict[str, list[str]]:
    """The runs that traces belong to, by trace."""
    found: dict[str, list[str]] = {}
    with db.read() as connection:
        for uuid, run in connection.execute(
            "SELECT t.uuid, r.run FROM traces t JOIN trace_runs r ON r.trace = t.id"
            " WHERE t.uuid IN (SELECT value FROM json_each(?)) ORDER BY r.run",
            (json.dumps(list(traces)),),
        ):
            found.setdefault(uuid, []).append(run)
    return found


def gone(db: Database) -> list[str]:
    """Ids of traces that were deleted: they do not come back from another workspace."""
    with db.read() as connection:
        return [row[0] for row in connection.execute("SELECT uuid FROM gone ORDER BY uuid")]


def contents(db: Database) -> Iterator[Content]:
    """Every trace, then every example; a few at a time, so that a large log is read in little memory."""
    after = 0
    while True:
        with db.read() as connection:
            rows = connection.execute(
                "SELECT id, uuid, experiment, given, made, request FROM traces WHERE id > ? ORDER BY id LIMIT ?",
                (after, _AT_ONCE),
            ).fetchall()
            found = [
                Content("trace", uuid, experiment, list(_spoken((*said, *_of_trace(connection, number)))))
                for number, uuid, experiment, *said in rows
            ]
        if not rows:
            break
        yield from found
        after = rows[-1][0]
    with db.read() as connection:
        examples = connection.execute("SELECT id, of, json FROM examples ORDER BY of, inputs").fetchall()
    for id, of, text in examples:
        yield Content("example", id, of, list(_spoken([text])))


def _of_trace(connection: sqlite3.Connection, number: int) -> Iterator[str]:
    for table in ("trace_tags", "trace_metadata"):
        for key, value in connection.execute(_WORDS.format(table), (number,)):
            yield key
            yield value
    for sql in (
        "SELECT json FROM spans WHERE trace = ?",
        "SELECT json FROM judgements WHERE trace = ?",
        "SELECT DISTINCT o.json FROM origins o JOIN spans s ON s.origin = o.id WHERE s.trace = ?",
    ):
        for (text,) in connection.execute(sql, (number,)):
            yield text


def _spoken(texts: Iterable[object]) -> Iterator[str]:
    """Texts, and those within them where they are JSON: a client puts JSON into the texts of its JSON."""
    for one in texts:
        if isinstance(one, dict):
            yield from _spoken([*one, *one.values()])
        elif isinstance(one, list):
            yield from _spoken(one)
        elif isinstance(one, str):
            if one[:1] in '{["':
                try:
                    inner = json.loads(one)
                except (ValueError, RecursionError):
                    yield one
                else:
                    yield from _spoken([inner])
            else:
                yield one
        elif isinstance(one, (int, float)) and not isinstance(one, bool):
            yield str(one)
