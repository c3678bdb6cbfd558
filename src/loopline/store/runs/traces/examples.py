"""Sets of examples that programs are judged on: what goes in, what should come out. One row of inputs stands once."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import digest
from loopline.store.runs import checks
from loopline.store.runs.database import Database, Tx

MERGED = ("expectations", "tags")
"""Fields of an example whose entries are added to those that are there; the others take their place."""
FIELDS = ("inputs", "outputs", "expectations", "tags", "source")
LONGEST = 1_000_000


@dataclass(frozen=True, slots=True)
class ExampleSet:
    """A set of examples, without them."""

    id: str
    """`d-` and 32 hexadecimal digits."""
    name: str
    created_ms: int
    updated_ms: int
    author: str
    last: str
    """Who changed it last."""
    digest: str
    """Of its examples, whatever their order."""
    examples: int
    tags: dict[str, str] = field(default_factory=dict)
    experiments: tuple[str, ...] = ()


class Examples:
    """The sets of examples in a trace log. What a call has returned from is committed."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def create(
        self, name: str, *, at_ms: int, by: str, tags: Mapping[str, str] | None = None, experiments: Sequence[str] = ()
    ) -> ExampleSet:
        """A new set. Names are for people: several sets may have one, as on the protocol's own server."""
        checks.text("the name of a set", name, most=500, least=1)

        def work(tx: Tx) -> ExampleSet:
            id = f"d-{uuid.uuid4().hex}"
            tx.execute(
                "INSERT INTO example_sets VALUES (?, ?, ?, ?, ?, ?, ?)",
                (id, name, at_ms, at_ms, by, by, json.dumps(tags or {})),
            )
            self._joined(tx, id, experiments)
            return _load(tx.connection, [id])[0]

        return self.db.write(work)

    def get(self, id: str) -> ExampleSet:
        """A set by id."""
        with self.db.read() as connection:
            return _load(connection, [_there(connection, id)])[0]

    def every(self, experiments: Sequence[str] = ()) -> list[ExampleSet]:
        """All sets, or those of these experiments; by name."""
        with self.db.read() as connection:
            ids = [row[0] for row in connection.execute("SELECT id FROM example_sets ORDER BY name, id")]
            found = _load(connection, ids)
        return [one for one in found if not experiments or set(experiments) & set(one.experiments)]

    def change(
        self,
        id: str,
        *,
        at_ms: int,
        by: str,
        tags: Mapping[str, str | None] | None = None,
        join: Sequence[str] = (),
        leave: Sequence[str] = (),
    ) -> ExampleSet:
        """Set tags (null takes one away), have it belong to experiments, or no longer."""

        def work(tx: Tx) -> ExampleSet:
            before = _load(tx.connection, [_there(tx.connection, id)])[0]
            said = {key: value for key, value in {**before.tags, **(tags or {})}.items() if value is not None}
            tx.execute(
                "UPDATE example_sets SET tags = ?, updated = ?, last = ? WHERE id = ?",
                (json.dumps(said), at_ms, by, id),
            )
            self._joined(tx, id, join)
            tx.executemany("DELETE FROM example_experiments WHERE of = ? AND experiment = ?", [(id, e) for e in leave])
            return _load(tx.connection, [id])[0]

        return self.db.write(work)

    def delete(self, id: str) -> None:
        """Delete a set with its examples; one that is not there is no error."""

        def work(tx: Tx) -> None:
            for table, column in (("examples", "of"), ("example_experiments", "of"), ("example_sets", "id")):
                tx.execute(f"DELETE FROM {table} WHERE {column} = ?", (id,))

        self.db.write(work)

    def put(self, id: str, rows: Sequence[Mapping[str, Any]], *, at_ms: int, by: str) -> tuple[int, int]:
        """Add examples, or change those with the same inputs; how many were new, and how many there already.

        Parameters
        ----------
        rows : sequence of mapping
            `inputs` (a mapping), and `outputs`, `expectations`, `tags`, `source` where there are some.
        """
        given = [_checked(row) for row in rows]

        def work(tx: Tx) -> tuple[int, int]:
            _there(tx.connection, id)
            new = 0
            for key, doc in given:
                row = tx.execute("SELECT json FROM examples WHERE of = ? AND inputs = ?", (id, key)).fetchone()
                if row is None:
                    new += 1
                    about = {"dataset_record_id": f"dr-{uuid.uuid4().hex}", "created_time": at_ms, "created_by": by}
                    whole = {**about, **doc}
                else:
                    before = json.loads(row[0])
                    merged = {name: {**(before.get(name) or {}), **doc[name]} for name in MERGED if name in doc}
                    whole = {**before, **doc, **merged}
                whole.update(dataset_id=id, last_update_time=at_ms, last_updated_by=by)
                tx.execute(
                    "INSERT OR REPLACE INTO examples VALUES (?, ?, ?, ?)",
                    (id, key, whole["dataset_record_id"], json.dumps(whole)),
                )
            tx.execute("UPDATE example_sets SET updated = ?, last = ? WHERE id = ?", (at_ms, by, id))
            return new, len(given) - new

        return self.db.write(work)

    def rows(self, id: str, *, limit: int = 1000, after: str = "") -> tuple[list[dict[str, Any]], str | None]:
        """Examples of a set, and the place that the next page comes after; null on the last."""
        with self.db.read() as connection:
            found = connection.execute(
                "SELECT inputs, json FROM examples WHERE of = ? AND inputs > ? ORDER BY inputs LIMIT ?",
                (_there(connection, id), after, limit + 1),
            ).fetchall()
        following = found[limit - 1][0] if len(found) > limit else None
        return [json.loads(text) for _, text in found[:limit]], following

    def remove(self, id: str, records: Sequence[str], *, at_ms: int, by: str) -> int:
        """Take examples out; how many were there."""

        def work(tx: Tx) -> int:
            tx.execute("PRAGMA secure_delete = ON")
            gone = tx.execute(
                "DELETE FROM examples WHERE of = ? AND id IN (SELECT value FROM json_each(?))",
                (_there(tx.connection, id), json.dumps(list(records))),
            ).rowcount
            tx.execute("UPDATE example_sets SET updated = ?, last = ? WHERE id = ?", (at_ms, by, id))
            return gone

        return self.db.write(work)

    @staticmethod
    def _joined(tx: Tx, id: str, experiments: Sequence[str]) -> None:
        tx.executemany("INSERT OR IGNORE INTO example_experiments VALUES (?, ?)", [(id, one) for one in experiments])


def _checked(row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The digest of the inputs, and what is kept of an example."""
    for name in ("inputs", *MERGED):
        if not isinstance(row.get(name), Mapping) and (name == "inputs" or row.get(name) is not None):
            raise Invalid(
                f"the {name} of an example are no object", why="each has a name", fix='send {"inputs": {"question": 1}}'
            )
    doc = {name: row[name] for name in FIELDS if row.get(name) is not None}
    written = json.dumps(doc, sort_keys=True)
    checks.text("an example", written, most=LONGEST)
    return digest(json.dumps(doc["inputs"], sort_keys=True).encode()), doc


def _there(connection: sqlite3.Connection, id: str) -> str:
    if connection.execute("SELECT 1 FROM example_sets WHERE id = ?", (id,)).fetchone() is None:
        raise NotFound(f"Evaluation dataset with ID '{id:.100}' not found", why="it was never made", fix="search them")
    return id


def _load(connection: sqlite3.Connection, ids: Sequence[str]) -> list[ExampleSet]:
    found = []
    for id in ids:
        name, created, updated, author, last, tags = connection.execute(
            "SELECT name, created, updated, author, last, tags FROM example_sets WHERE id = ?", (id,)
        ).fetchone()
        rows = connection.execute("SELECT inputs, json FROM examples WHERE of = ? ORDER BY inputs", (id,)).fetchall()
        mark = digest(json.dumps([[key, _kept(text)] for key, text in rows], sort_keys=True).encode())
        of = connection.execute("SELECT experiment FROM example_experiments WHERE of = ? ORDER BY experiment", (id,))
        found.append(
            ExampleSet(
                id,
                name,
                created,
                updated,
                author,
                last,
                mark[:32],
                len(rows),
                json.loads(tags),
                tuple(row[0] for row in of),
            )
        )
    return found


def _kept(text: str) -> dict[str, Any]:
    doc = json.loads(text)
    return {name: doc.get(name) for name in FIELDS}
