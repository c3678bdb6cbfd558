"""The tables of a trace log; docs/reference/traces.md shows them to whoever reads the file without Loopline."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from loopline.store.runs import schema

_FIRST = """
CREATE TABLE keys (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE traces (
    id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, experiment TEXT NOT NULL, start INTEGER NOT NULL,
    duration INTEGER, state TEXT NOT NULL, given TEXT, made TEXT, request TEXT, told INTEGER NOT NULL);
CREATE INDEX traces_newest ON traces (experiment, start DESC, uuid);
CREATE TABLE trace_tags (
    trace INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (trace, key)) WITHOUT ROWID;
CREATE TABLE trace_metadata (
    trace INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (trace, key)) WITHOUT ROWID;
CREATE TABLE trace_runs (run TEXT NOT NULL, trace INTEGER NOT NULL, PRIMARY KEY (run, trace)) WITHOUT ROWID;
CREATE INDEX trace_runs_trace ON trace_runs (trace);
CREATE TABLE origins (id INTEGER PRIMARY KEY, json TEXT NOT NULL UNIQUE);
CREATE TABLE spans (
    trace INTEGER NOT NULL, span TEXT NOT NULL, parent TEXT, name TEXT NOT NULL, type TEXT, status TEXT NOT NULL,
    start_ns INTEGER NOT NULL, end_ns INTEGER, origin INTEGER NOT NULL, json TEXT NOT NULL,
    PRIMARY KEY (trace, span)) WITHOUT ROWID;
CREATE TABLE judgements (
    trace INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT, json TEXT NOT NULL,
    PRIMARY KEY (trace, id)) WITHOUT ROWID;
CREATE TABLE example_sets (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
    author TEXT NOT NULL, last TEXT NOT NULL, tags TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE example_experiments (
    of TEXT NOT NULL, experiment TEXT NOT NULL, PRIMARY KEY (of, experiment)) WITHOUT ROWID;
CREATE TABLE examples (
    of TEXT NOT NULL, inputs TEXT NOT NULL, id TEXT NOT NULL, json TEXT NOT NULL,
    PRIMARY KEY (of, inputs)) WITHOUT ROWID
"""
_GONE = "CREATE TABLE gone (uuid TEXT PRIMARY KEY) WITHOUT ROWID"
MIGRATIONS: tuple[str, ...] = (_FIRST, _GONE)
"""Statements that lead from version n to n + 1. They only ever add."""


def bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """Give the file the tables of this Loopline (see `runs.schema.bring_up_to_date`)."""
    schema.bring_up_to_date(connection, path, migrations=MIGRATIONS, fill=lambda connection, now_ms: None)
