"""The trace log in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.store.runs import checks
from loopline.store.runs.database import Database, Tx
from loopline.store.runs.file import Durability
from loopline.store.runs.protocol import Found
from loopline.store.runs.traces import upkeep
from loopline.store.runs.traces.examples import Examples
from loopline.store.runs.traces.protocol import NAME, Span, State, Trace
from loopline.store.runs.traces.schema import bring_up_to_date
from loopline.store.runs.traces.search import search

_MS = 1_000_000
_STATES: dict[str, State] = {"UNSET": "OK", "OK": "OK", "ERROR": "ERROR"}
"""Of a trace, by the status of its root when that has ended."""
LONGEST_SPAN = 16_000_000


class SqliteTraces:
    """`TraceLog` in a SQLite file with a write-ahead log.

    Parameters
    ----------
    path : Path
        The file; made if there is none.
    durability : "normal" or "full"
        What a call has returned from survives the death of any process; with `full` a power cut too.
    """

    def __init__(self, path: Path, *, durability: Durability = "normal", busy_s: float = 30.0) -> None:
        self.db = Database(path, durability=durability, busy_s=busy_s, prepare=bring_up_to_date)
        self.examples = Examples(self.db)

    def add_spans(self, experiment: str, spans: Sequence[Span], *, origin: str = "{}") -> None:
        """Keep spans of one or several traces, all or none."""
        if not spans:
            return
        by_trace: dict[str, list[Span]] = {}
        for one in spans:
            checks.identity("trace", one.trace)
            checks.text("a span", one.body, most=LONGEST_SPAN)
            by_trace.setdefault(one.trace, []).append(one)

        def work(tx: Tx) -> None:
            tx.execute("INSERT OR IGNORE INTO origins (json) VALUES (?)", (origin,))
            (of,) = tx.execute("SELECT id FROM origins WHERE json = ?", (origin,)).fetchone()
            for trace, own in by_trace.items():
                number = self._seen(tx, trace, experiment, own)
                tx.executemany(
                    "INSERT OR REPLACE INTO spans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [(number, s.id, s.parent, s.name, s.type, s.status, s.start_ns, s.end_ns, of, s.body) for s in own],
                )

        self.db.write(work)

    @staticmethod
    def _seen(tx: Tx, trace: str, experiment: str, spans: Sequence[Span]) -> int:
        """The number of a trace that these spans are of, made if it is new; what they say of it, unless it is told."""
        start = min(one.start_ns for one in spans) // _MS
        ends = [one.end_ns for one in spans if one.end_ns is not None]
        root = next((one for one in spans if one.parent is None), None)
        state = _STATES[root.status] if root is not None and root.end_ns is not None else "IN_PROGRESS"
        row = tx.execute("SELECT id, told, experiment, start, duration FROM traces WHERE uuid = ?", (trace,)).fetchone()
        if row is None:
            end = max(ends) // _MS - start if ends else None
            (number,) = tx.execute(
                "INSERT INTO traces (uuid, experiment, start, duration, state, given, made, told)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 0) RETURNING id",
                (trace, experiment, start, end, state, root and root.given, root and root.made),
            ).fetchone()
        else:
            number, told, there, was, lasted = row
            if there != experiment:
                raise _elsewhere(trace, there)
            if not told:
                begun = min(was, start)
                over = max([one // _MS for one in ends] + ([was + lasted] if lasted is not None else []), default=None)
                tx.execute(
                    "UPDATE traces SET start = ?, duration = ? WHERE id = ?",
                    (begun, None if over is None else over - begun, number),
                )
                if root is not None:
                    tx.execute(
                        "UPDATE traces SET state = ?, given = coalesce(?, given), made = coalesce(?, made)"
                        " WHERE id = ?",
                        (state, root.given, root.made, number),
                    )
        if root is not None:
            tx.execute("INSERT OR IGNORE INTO trace_tags VALUES (?, ?, ?)", (number, NAME, root.name))
        return int(number)

    def put(self, trace: Trace) -> Trace:
        """Say what a trace was, once it is over."""
        checks.identity("trace", trace.id)
        for what, text in (("what was given", trace.given), ("what was made", trace.made), ("an id", trace.request)):
            if text is not None:
                checks.text(what, text)
        checks.whole("the start", trace.start_ms)
        if trace.duration_ms is not None:
            checks.whole("the duration", trace.duration_ms)

        def work(tx: Tx) -> Trace:
            row = tx.execute("SELECT id, experiment FROM traces WHERE uuid = ?", (trace.id,)).fetchone()
            if row is not None and row[1] != trace.experiment:
                raise _elsewhere(trace.id, row[1])
            said = (trace.start_ms, trace.duration_ms, trace.state, trace.given, trace.made, trace.request)
            if row is None:
                (number,) = tx.execute(
                    "INSERT INTO traces (uuid, experiment, start, duration, state, given, made, request, told)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1) RETURNING id",
                    (trace.id, trace.experiment, *said),
                ).fetchone()
            else:
                number = row[0]
                tx.execute(
                    "UPDATE traces SET start = ?, duration = ?, state = ?, given = coalesce(?, given),"
                    " made = coalesce(?, made), request = ?, told = 1 WHERE id = ?",
                    (*said, number),
                )
            _set(tx, "trace_tags", number, trace.tags)
            _set(tx, "trace_metadata", number, trace.metadata)
            for doc in trace.judgements:
                _judge(tx, number, str(doc.get("assessment_id")), doc)
            return _load(tx.connection, [number])[0]

        return self.db.write(work)

    def trace(self, id: str) -> Trace:
        """A trace by id."""
        with self.db.read() as connection:
            return _load(connection, [_number(connection, id)])[0]

    def traces(self, ids: Sequence[str]) -> list[Trace]:
        """Those that are there, in the order asked for."""
        with self.db.read() as connection:
            rows = dict(
                connection.execute(
                    "SELECT uuid, id FROM traces WHERE uuid IN (SELECT value FROM json_each(?))",
                    (json.dumps(list(ids)),),
                ).fetchall()
            )
            return _load(connection, [rows[id] for id in dict.fromkeys(ids) if id in rows])

    def spans(self, trace: str) -> list[str]:
        """The spans of a trace as OTLP/JSON, by their start."""
        with self.db.read() as connection:
            number = _number(connection, trace)
            rows = connection.execute("SELECT json FROM spans WHERE trace = ? ORDER BY start_ns, span", (number,))
            return [row[0] for row in rows]

    def shared(self, trace: str) -> list[tuple[str, str]]:
        """The spans of a trace by their ids, each with the JSON of what it shares with others."""
        return upkeep.shared(self.db, trace)

    def runs(self, traces: Sequence[str]) -> dict[str, list[str]]:
        """The runs that traces belong to, for those that belong to any."""
        return upkeep.runs(self.db, traces)

    def gone(self) -> list[str]:
        """Ids of traces that were deleted."""
        return upkeep.gone(self.db)

    def search(
        self,
        experiments: Sequence[str],
        *,
        filter: str = "",
        order_by: Sequence[str] = (),
        limit: int = 100,
        token: str | None = None,
    ) -> Found:
        """Traces that fit, the newest first."""
        with self.db.read() as connection:
            ids, following = search(connection, experiments, filter, order_by, limit, token)
            return Found(_load(connection, ids), following)

    def set_tags(self, trace: str, tags: Mapping[str, str | None]) -> None:
        """Set tags; null takes one away, which must be there."""

        def work(tx: Tx) -> None:
            number = _number(tx.connection, trace)
            for name, value in tags.items():
                if value is not None:
                    _set(tx, "trace_tags", number, {name: value})
                elif not tx.execute("DELETE FROM trace_tags WHERE trace = ? AND key = ?", (number, name)).rowcount:
                    raise NotFound(f"the trace has no tag {name!r:.100}", why="it was never set", fix="see its tags")

        self.db.write(work)

    def link(self, traces: Sequence[str], run: str) -> None:
        """Have traces belong to a run too."""
        checks.identity("run", run)

        def work(tx: Tx) -> None:
            for one in traces:
                tx.execute("INSERT OR IGNORE INTO trace_runs VALUES (?, ?)", (run, _number(tx.connection, one)))

        self.db.write(work)

    def judge(self, trace: str, id: str, doc: Mapping[str, Any]) -> None:
        """Keep what was said of a trace, in the place of what `id` said before."""
        self.db.write(lambda tx: _judge(tx, _number(tx.connection, trace), id, doc))

    def judgement(self, trace: str, id: str) -> dict[str, Any]:
        """What was said under an id."""
        with self.db.read() as connection:
            row = connection.execute(
                "SELECT json FROM judgements WHERE trace = ? AND id = ?", (_number(connection, trace), id)
            ).fetchone()
        if row is None:
            raise _unsaid(trace, id)
        found: dict[str, Any] = json.loads(row[0])
        return found

    def withdraw(self, trace: str, id: str) -> None:
        """Take back what was said."""

        def work(tx: Tx) -> None:
            number = _number(tx.connection, trace)
            if not tx.execute("DELETE FROM judgements WHERE trace = ? AND id = ?", (number, id)).rowcount:
                raise _unsaid(trace, id)

        self.db.write(work)

    def delete(
        self,
        experiment: str,
        *,
        ids: Sequence[str] | None = None,
        until_ms: int | None = None,
        most: int | None = None,
    ) -> int:
        """Delete traces, their spans and what was said of them: those named, or the oldest up to a moment; how many."""
        if (ids is None) == (until_ms is None):
            raise Invalid(
                "which traces to delete", why="either their ids or a moment are given", fix="give one of the two"
            )
        if most is not None and (ids is not None or most < 1):
            raise Invalid(f"at most {most} traces", why="it goes with a moment, and is at least 1", fix="leave it out")

        def work(tx: Tx) -> int:
            tx.execute("PRAGMA secure_delete = ON")  # what is deleted is not to be read in a page that stays
            if ids is not None:
                chosen = "uuid IN (SELECT value FROM json_each(?2))"
                given: tuple[Any, ...] = (experiment, json.dumps(list(ids)), -1)
            else:
                chosen, given = "start <= ?2", (experiment, until_ms, -1 if most is None else most)
            rows = tx.execute(
                f"SELECT id FROM traces WHERE experiment = ?1 AND {chosen} ORDER BY start, uuid LIMIT ?3", given
            ).fetchall()
            tx.execute(
                "INSERT OR IGNORE INTO gone SELECT uuid FROM traces WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps([number for (number,) in rows]),),
            )
            for table in ("trace_tags", "trace_metadata", "trace_runs", "spans", "judgements"):
                tx.executemany(f"DELETE FROM {table} WHERE trace = ?", rows)
            tx.executemany("DELETE FROM traces WHERE id = ?", rows)
            return len(rows)

        return self.db.write(work)

    def count(self) -> tuple[int, int]:
        """How many traces there are, and how many sets of examples."""
        return upkeep.count(self.db)

    def shares(self) -> dict[str, upkeep.Share]:
        """What each experiment has, by its id."""
        return upkeep.shares(self.db)

    def contents(self) -> Iterator[upkeep.Content]:
        """Every trace and every example, with all that was said in it."""
        return upkeep.contents(self.db)

    def free(self) -> int:
        """Bytes that deleted traces left in the file."""
        return upkeep.free(self.db)

    def compact(self) -> int:
        """Give those bytes back, where nobody is in the way; how many there were."""
        found = upkeep.free(self.db)
        self.db.checkpoint()
        return found

    def close(self) -> None:
        """Close every connection; the next call opens new ones."""
        self.db.close()


def _number(connection: sqlite3.Connection, id: str) -> int:
    row = connection.execute("SELECT id FROM traces WHERE uuid = ?", (checks.identity("trace", id),)).fetchone()
    if row is None:
        raise NotFound(
            f"Trace with ID '{id}' not found", why="it was never logged here, or deleted", fix="search traces"
        )
    return int(row[0])


def _load(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[Trace]:
    asked = (json.dumps(list(numbers)),)
    listed = "(SELECT value FROM json_each(?))"

    def gathered(sql: str) -> dict[int, list[tuple[Any, ...]]]:
        found: dict[int, list[tuple[Any, ...]]] = {}
        for number, *rest in connection.execute(sql, asked):
            found.setdefault(number, []).append(tuple(rest))
        return found

    tags = gathered(f"SELECT trace, key, value FROM trace_tags WHERE trace IN {listed} ORDER BY trace, key")
    metadata = gathered(f"SELECT trace, key, value FROM trace_metadata WHERE trace IN {listed} ORDER BY trace, key")
    said = gathered(f"SELECT trace, json FROM judgements WHERE trace IN {listed} ORDER BY trace, id")
    spans = gathered(f"SELECT trace, count(*) FROM spans WHERE trace IN {listed} GROUP BY trace")
    rows = connection.execute(
        f"SELECT id, uuid, experiment, start, duration, state, given, made, request FROM traces WHERE id IN {listed}",
        asked,
    )
    found = {}
    for number, *fields in rows:
        parts: dict[str, Any] = {
            "metadata": dict(_pairs(metadata.get(number, ()))),
            "tags": dict(_pairs(tags.get(number, ()))),
            "judgements": tuple(json.loads(text) for (text,) in said.get(number, ())),
            "spans": spans[number][0][0] if number in spans else 0,
        }
        found[number] = Trace(*fields, **parts)
    return [found[number] for number in numbers]


def _pairs(rows: Iterable[tuple[Any, ...]]) -> list[tuple[str, str]]:
    return [(str(key), str(value)) for key, value in rows]


def _set(tx: Tx, table: str, number: int, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        checks.key("tag", name)
        checks.text(f"the tag {name!r:.100}", value)
        tx.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", (number, name, value))


def _judge(tx: Tx, number: int, id: str, doc: Mapping[str, Any]) -> None:
    kind = next((one for one in ("feedback", "expectation") if one in doc), "issue")
    value = (doc.get(kind) or {}).get("value")
    said = value if isinstance(value, str) or value is None else json.dumps(value)
    tx.execute(
        "INSERT OR REPLACE INTO judgements VALUES (?, ?, ?, ?, ?, ?)",
        (number, checks.identity("judgement", id), kind, str(doc.get("assessment_name", "")), said, json.dumps(doc)),
    )


def _elsewhere(trace: str, experiment: str) -> Conflict:
    return Conflict(
        f"the trace {trace} is of experiment {experiment}",
        why="a trace stays in the experiment that it began in",
        fix="log it there",
    )


def _unsaid(trace: str, id: str) -> NotFound:
    return NotFound(f"Assessment with ID '{id}' not found for trace '{trace}'", why="it was never made", fix="see them")
