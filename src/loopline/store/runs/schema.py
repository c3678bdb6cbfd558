"""The tables of a run log, and how a file of an older version comes to have them.

Runs, models and keys are integers inside. A metric lives in three places: its points in `tail` as they came (one
packed row a call), later in `chunks` by series with thinned copies in `coarse`, and its latest value in `latest`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from loopline.base.clock import Clock, SystemClock
from loopline.base.errors import Conflict

APPLICATION = 0x4C6F6F70
"""Marks the file as ours ("Loop")."""
DEFAULT_EXPERIMENT = "Default"
HEAD = 64
"""Characters of a text that its index holds."""

_FIRST = f"""
CREATE TABLE experiments (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, artifacts TEXT, stage TEXT NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL, deleted INTEGER);
CREATE TABLE experiment_tags (
    experiment INTEGER NOT NULL, key INTEGER NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (experiment, key)) WITHOUT ROWID;
CREATE TABLE keys (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, experiment INTEGER NOT NULL, name TEXT NOT NULL,
    user TEXT NOT NULL, status TEXT NOT NULL, stage TEXT NOT NULL, start INTEGER NOT NULL, end INTEGER,
    artifacts TEXT NOT NULL, deleted INTEGER);
CREATE INDEX runs_newest ON runs (experiment, stage, start DESC, uuid);
CREATE TABLE documents (run INTEGER PRIMARY KEY, json BLOB NOT NULL);
CREATE TABLE params (
    run INTEGER NOT NULL, key INTEGER NOT NULL, experiment INTEGER NOT NULL, value TEXT NOT NULL, number REAL,
    PRIMARY KEY (run, key)) WITHOUT ROWID;
CREATE INDEX params_text ON params (experiment, key, substr(value, 1, {HEAD}));
CREATE INDEX params_number ON params (experiment, key, number) WHERE number IS NOT NULL;
CREATE TABLE tags (
    run INTEGER NOT NULL, key INTEGER NOT NULL, experiment INTEGER NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (run, key)) WITHOUT ROWID;
CREATE INDEX tags_text ON tags (experiment, key, substr(value, 1, {HEAD}));

CREATE TABLE latest (
    run INTEGER NOT NULL, key INTEGER NOT NULL, experiment INTEGER NOT NULL, value REAL, at INTEGER NOT NULL,
    step INTEGER NOT NULL, PRIMARY KEY (run, key)) WITHOUT ROWID;
CREATE INDEX latest_value ON latest (experiment, key, value, run);
CREATE TABLE tail (id INTEGER PRIMARY KEY, pack BLOB NOT NULL);
CREATE TABLE chunks (
    run INTEGER NOT NULL, key INTEGER NOT NULL, first INTEGER NOT NULL, points INTEGER NOT NULL,
    step_least INTEGER NOT NULL, step_most INTEGER NOT NULL, at_least INTEGER NOT NULL, at_most INTEGER NOT NULL,
    pack BLOB NOT NULL, PRIMARY KEY (run, key, first)) WITHOUT ROWID;
CREATE TABLE coarse (
    run INTEGER NOT NULL, key INTEGER NOT NULL, level INTEGER NOT NULL, first INTEGER NOT NULL, pack BLOB NOT NULL,
    PRIMARY KEY (run, key, level, first)) WITHOUT ROWID;
CREATE TABLE compactions (run INTEGER PRIMARY KEY, n INTEGER NOT NULL);

CREATE TABLE datasets (
    id INTEGER PRIMARY KEY, experiment INTEGER NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
    source_type TEXT NOT NULL, source TEXT NOT NULL, schema TEXT, profile TEXT, UNIQUE (experiment, name, digest));
CREATE TABLE inputs (
    run INTEGER NOT NULL, dataset INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (run, dataset, key)) WITHOUT ROWID;
CREATE INDEX inputs_dataset ON inputs (dataset);
CREATE TABLE uses (
    run INTEGER NOT NULL, made INTEGER NOT NULL, model TEXT NOT NULL, step INTEGER NOT NULL,
    PRIMARY KEY (run, made, model, step)) WITHOUT ROWID;

CREATE TABLE models (
    id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, experiment INTEGER NOT NULL, name TEXT NOT NULL,
    run TEXT, artifacts TEXT NOT NULL, status TEXT NOT NULL, message TEXT NOT NULL, type TEXT NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL, deleted INTEGER);
CREATE INDEX models_newest ON models (experiment, created DESC, uuid);
CREATE INDEX models_run ON models (run);
CREATE TABLE model_params (
    model INTEGER NOT NULL, key INTEGER NOT NULL, value TEXT NOT NULL, number REAL,
    PRIMARY KEY (model, key)) WITHOUT ROWID;
CREATE TABLE model_tags (
    model INTEGER NOT NULL, key INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (model, key)) WITHOUT ROWID;
CREATE TABLE model_metrics (
    model TEXT NOT NULL, key INTEGER NOT NULL, step INTEGER NOT NULL, at INTEGER NOT NULL, run INTEGER NOT NULL,
    name TEXT NOT NULL, digest TEXT NOT NULL, bits INTEGER NOT NULL, value REAL,
    PRIMARY KEY (model, key, step, at, run, name, digest, bits)) WITHOUT ROWID;
CREATE INDEX model_metrics_run ON model_metrics (run);
"""
_GONE = "CREATE TABLE gone (uuid TEXT PRIMARY KEY) WITHOUT ROWID"
MIGRATIONS: tuple[str, ...] = (_FIRST, _GONE)
"""Statements that lead from version n to n + 1. They only ever add."""


def _default_experiment(connection: sqlite3.Connection, now_ms: int) -> None:
    """What a new run log holds."""
    connection.execute(
        "INSERT INTO experiments VALUES (0, ?, NULL, 'active', ?, ?, NULL)", (DEFAULT_EXPERIMENT, now_ms, now_ms)
    )


def bring_up_to_date(
    connection: sqlite3.Connection,
    path: Path,
    *,
    migrations: Sequence[str] = MIGRATIONS,
    fill: Callable[[sqlite3.Connection, int], None] = _default_experiment,
    clock: Clock | None = None,
) -> None:
    """Give the file the tables of this Loopline; who comes second finds them there.

    An older file that holds something is copied beside itself first (`runs.db.v1`). All of
    it happens in one transaction that writes alone, so a crash leaves the file as it was.

    Raises
    ------
    Conflict
        If a newer Loopline wrote the file, or another program; it stays as it is.
    """
    connection.execute("BEGIN")  # as of one moment: another process may be making the tables
    try:
        found = _version(connection, path, len(migrations))
    finally:
        connection.execute("COMMIT")
    if found == len(migrations):
        return
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        found = _version(connection, path, len(migrations))
        if 0 < found < len(migrations):
            _keep_copy(path, path.with_name(f"{path.name}.v{found}"))
        for script in migrations[found:]:
            for statement in script.split(";"):
                connection.execute(statement)
        if found == 0:
            fill(connection, int((clock or SystemClock())().timestamp() * 1000))
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={len(migrations)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection, path: Path, known: int) -> int:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    (program,) = connection.execute("PRAGMA application_id").fetchone()
    if program != APPLICATION and (
        program or found or connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    ):
        raise Conflict(
            f"{path} is a database of another program",
            why="it does not carry the mark of a run log; nothing was changed",
            fix="move it away, or open another workspace",
        )
    if found > known:
        raise Conflict(
            f"the run log {path} has version {found}",
            why=f"this Loopline knows versions up to {known}; nothing was changed",
            fix="pip install --upgrade loopline",
        )
    return int(found)


def _keep_copy(path: Path, copy: Path) -> None:
    """Copy the file as it stands; its own write lock keeps it still."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
