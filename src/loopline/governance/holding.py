"""Where a subject is held: every table, file, blob, online value and record that names it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import polars as pl

from loopline.base.errors import NotFound
from loopline.base.nouns import KINDS, to_doc
from loopline.data.contracts.judging import quarantine_of
from loopline.data.nouns import LabelRound, Snapshot, Tombstone
from loopline.data.privacy import marks
from loopline.data.privacy.detectors import IDENTIFYING
from loopline.data.privacy.pseudonyms import secret
from loopline.data.privacy.tombstones import current, means
from loopline.data.privacy.treatments import token
from loopline.data.spec import TableSpec
from loopline.features.nouns import TrainingSet
from loopline.features.online import spaces
from loopline.features.requests import space_of
from loopline.features.tiles import Layout
from loopline.features.views import Views
from loopline.governance.nouns import Place
from loopline.serving import log
from loopline.store.tables.delta import DeltaTables
from loopline.store.tables.redact import Holds, count, held
from loopline.training.nouns import Model
from loopline.workspace import Workspace

FEATURES = "features/"
OF_LOGS = ("entity", "prediction_id")
"""Columns of a prediction log that carry units."""
LOGS = (log.table(""), log.refused_table(""))
KINDS_OF_TABLES = ((quarantine_of(""), "quarantine"), (FEATURES, "features"), *((one, "predictions") for one in LOGS))
OWN = frozenset({"erasure_proof", "model_flag", "tombstone"})
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
_PARQUET = b"PAR1"
PARTS = "\x1e"
"""Between the parts of a key of several columns, as `features.tiles` writes them."""


@dataclass(frozen=True)
class Search:
    """What is looked for.

    `subject` are the texts that name it: the value as given and its pseudonyms.
    `units` are the units of the rows that name it; `columns` are the columns that
    may, of any table.
    """

    subject: frozenset[str]
    columns: tuple[str, ...]
    unit: str
    units: frozenset[str] = field(default_factory=frozenset)

    def by_subject(self, table: str = "") -> dict[str, Collection[str]]:
        """Values by column of a table that name the subject itself."""
        return _logged(dict.fromkeys(self.columns, self.subject), table)

    def everything(self) -> dict[str, Collection[str]]:
        """Values by column, units among them."""
        both = self.subject | self.units if self.unit in self.columns else self.units
        return {**self.by_subject(), **dict.fromkeys((self.unit, "unit", *OF_LOGS), both)}

    def holds(self, table: str = "") -> Holds:
        """Rows of a table that are the subject's."""
        wanted = self.everything()
        if not table.startswith(LOGS):
            wanted = {c: v for c, v in wanted.items() if c not in OF_LOGS or c in self.columns}
        by_column = _logged(wanted, table)
        return lambda schema: means(by_column, schema)

    def only_units(self, table: str = "") -> Holds:
        """Rows of a table that are the subject's by their unit, and do not name it."""

        def meant(schema: Mapping[str, pl.DataType]) -> pl.Expr | None:
            by_unit = means(dict.fromkeys((self.unit, "unit", *OF_LOGS), self.units), schema)
            by_name = means(self.by_subject(table), schema)
            return by_unit if by_unit is None or by_name is None else by_unit & ~by_name

        return meant


def _logged(values: dict[str, Collection[str]], table: str) -> dict[str, Collection[str]]:
    """Values by column; a log holds what requests brought, and inputs named like its own columns, under other names."""
    if not table.startswith(LOGS):
        return values
    others = {f"{start}{column}": wanted for column, wanted in values.items() for start in (log.REQUEST, log.INPUT)}
    return {**values, **others}


def search_for(
    ws: Workspace,
    tables: Mapping[str, TableSpec],
    project: Path,
    unit: str,
    subject: str,
    *,
    table: str | None,
    column: str | None,
) -> Search:
    """What names the subject, and which units are its own.

    Columns are `column`, else the unit and every column that a contract or a person
    calls one that identifies people, or a detector takes for one until a person says
    otherwise.

    Raises
    ------
    NotFound
        If no table has such a column.
    """
    found = [unit]
    texts = {subject}
    key: bytes | None = None
    for name, spec in tables.items():
        for treatment in marks.visible(ws, name, spec, project).values():
            if treatment.how == "pseudonym":
                key = key or secret(ws)
                texts.add(token(key, treatment.domain, subject))
            if treatment.pii in IDENTIFYING:
                found.append(treatment.column)
    columns = (column,) if column else tuple(dict.fromkeys(found))
    known = [name for name in ws.tables.names() if name in tables]
    if table is not None and table not in known:
        raise NotFound(f"there is no table {table}", why=f"here are {', '.join(known)}", fix="name one of them")
    start = Search(frozenset(texts), columns, unit)
    units: set[str] = {subject} if unit in columns else set()
    there = False
    for name in known if table is None else [table]:
        for part in (name, quarantine_of(name)):
            if ws.tables.version(part) is None:
                continue
            scan = ws.tables.scan(part)
            schema = scan.collect_schema()
            there = there or bool(set(columns) & set(schema))
            meant = means(start.by_subject(), schema)
            if meant is not None and unit in schema:
                rows = scan.filter(meant).select(pl.col(unit).cast(pl.String)).unique().collect()
                units.update(value for value in rows[unit].drop_nulls().to_list() if value != "")
    for name in ws.tables.names() if table is None else ():
        if name.startswith(LOGS):  # somebody may have asked who is in no table
            scan = ws.tables.scan(name)
            meant = means(start.by_subject(name), scan.collect_schema())
            if meant is not None:
                units.update(scan.filter(meant).select("entity").unique().collect()["entity"].drop_nulls().to_list())
    if not there:
        raise NotFound(
            f"no table has a column {' or '.join(columns)}",
            why="a subject is looked for in a column",
            fix="name one with --column; `loopline data pii` shows which are personal",
        )
    return Search(frozenset(texts), columns, unit, frozenset(units))


def not_searched(ws: Workspace, tables: Mapping[str, TableSpec], project: Path, search: Search) -> list[str]:
    """Columns that are, or may be, personal and that a search does not look in, as `table.column (class)`."""
    return [
        f"{name}.{treatment.column} ({(treatment.pii or '').replace('_', ' ')})"
        for name, spec in sorted(tables.items())
        for treatment in marks.visible(ws, name, spec, project).values()
        if treatment.column not in search.columns
    ]


def in_tables(ws: Workspace, search: Search) -> list[Place]:
    """Tables of any kind that hold the subject in a file of any version."""
    store = cast(DeltaTables, ws.tables)
    found = []
    for name in ws.tables.names():
        result = held(store, name, search.holds(name))
        if result.rows:
            kind = next((word for start, word in KINDS_OF_TABLES if name.startswith(start)), "table")
            files = f"{result.files} file{'s' if result.files > 1 else ''}, those of older versions too"
            found.append(Place(kind, name, result.rows, "rewrite", files))
    return found


def training_sets(ws: Workspace, search: Search) -> list[tuple[TrainingSet, str, int]]:
    """Training sets with the digest of their frame now, and the rows of the subject in it."""
    found = []
    for made in ws.records.find(TrainingSet):
        digest = there(ws, made.frame)
        if digest is None:
            continue
        frame = pl.scan_ipc(ws.blobs.path(digest))
        meant = search.holds(log.table(""))(frame.collect_schema())
        rows = 0 if meant is None else int(frame.select(meant.sum()).collect().item() or 0)
        if rows:
            found.append((made, digest, rows))
    return found


def rounds(ws: Workspace, search: Search) -> list[tuple[LabelRound, str, int]]:
    """Rounds of labelling with the digest of their rows now, and how many of them are the subject's."""
    found = []
    for made in ws.records.find(LabelRound):
        digest = there(ws, made.rows)
        if digest is None:
            continue
        frame = pl.scan_ipc(ws.blobs.path(digest))
        meant = means({**search.everything(), made.unit: search.units | search.subject}, frame.collect_schema())
        rows = 0 if meant is None else int(frame.select(meant.sum()).collect().item() or 0)
        if rows:
            found.append((made, digest, rows))
    return found


def models_of(ws: Workspace, sets: Collection[str]) -> list[Model]:
    """The models that were trained on these sets."""
    return [model for model in ws.records.find(Model) if model.training_set in sets]


def pinned(ws: Workspace, search: Search) -> Iterator[tuple[Snapshot, str, int]]:
    """Files that snapshots have pinned, with the rows of the subject in them."""
    for snapshot in ws.records.find(Snapshot):
        manifest = there(ws, snapshot.manifest)
        if manifest is None:
            continue
        for digest in sorted(set(_DIGEST.findall(ws.blobs.get(manifest).decode()))):
            own = there(ws, digest)
            if own is None:
                continue
            path = ws.blobs.path(own)
            with path.open("rb") as handle:
                if handle.read(4) != _PARQUET:
                    continue
            if rows := count(path, search.holds()):
                yield snapshot, own, rows


def rows_taken_out(ws: Workspace, snapshot: Snapshot) -> int | None:
    """Rows that erasures took out of the files of a snapshot; null where it is as it was pinned."""
    gone = {tombstone.id: tombstone for tombstone in ws.records.find(Tombstone)}
    if not gone:
        return None
    manifest = there(ws, snapshot.manifest)
    files = set(_DIGEST.findall(ws.blobs.get(manifest).decode())) if manifest else set()
    rows, touched = 0, snapshot.manifest in gone
    for digest in files:
        left = gone.get(digest)
        while left is not None:
            rows, touched = rows + left.rows, True
            left = gone.get(left.replaced_by) if left.replaced_by else None
    return rows if touched else None


def named_in_manifests(ws: Workspace, search: Search) -> Iterator[tuple[Snapshot, str]]:
    """Snapshots whose manifest shows the subject among the values of a profile."""
    for snapshot in ws.records.find(Snapshot):
        digest = there(ws, snapshot.manifest)
        if digest is not None and says(json.loads(ws.blobs.get(digest)), search.subject):
            yield snapshot, digest


def redacted(doc: Any, texts: Collection[str]) -> Any:
    """A document without the texts: entries of lists that hold one are left out, other values become null."""
    if isinstance(doc, dict):
        return {key: redacted(value, texts) for key, value in doc.items() if key not in texts}
    if isinstance(doc, list):
        return [redacted(item, texts) for item in doc if not _holds(item, texts)]
    return None if isinstance(doc, str) and doc in texts else doc


def _holds(item: Any, texts: Collection[str]) -> bool:
    return item in texts if isinstance(item, str) else isinstance(item, list) and bool(item) and item[0] in texts


def online_keys(ws: Workspace, search: Search, groups: Sequence[Views]) -> list[tuple[str, str, str]]:
    """(view, where the store keeps it, key) of values kept online for entities that are the subject's.

    Of views that nobody defines any more it counts as a key of the subject what is one in any part.
    """
    found = []
    wanted = search.units | search.subject
    known = set()
    for group in groups:
        for view in group.views:
            if not view.leaves():
                continue
            kept = f"{space_of(group)}/{Layout(view).id}"
            known.add(kept)
            parts = [at for at, pair in enumerate(view.on) if {*pair} & {search.unit, *search.columns}]
            for key in ws.online.keys(kept) if parts else ():
                named = key.split(PARTS) if len(view.on) > 1 else [key]
                if any(at < len(named) and named[at] in wanted for at in parts):
                    found.append((view.name, kept, key))
    for names in spaces(ws.online).values():
        for kept in names:
            if kept not in known:
                own = [key for key in ws.online.keys(kept) if wanted & {key, *key.split(PARTS)}]
                found += [(f"{kept[:12]} (no longer defined)", kept, key) for key in own]
    return found


def in_records(ws: Workspace, search: Search) -> list[Place]:
    """Facts of the records that say one of the subject's texts, such as the example of a broken rule."""
    found: dict[str, int] = {}
    texts = search.subject | search.units
    for kind, cls in sorted(KINDS.items()):
        if kind not in OWN:
            mentions = sum(says(to_doc(item), texts) for item in ws.records.find(cls))
            if mentions:
                found[kind] = mentions
    note = "the records are append-only; restrict who reads them, or leave them behind with a new workspace"
    return [Place("record", kind, mentions, "flag", note) for kind, mentions in found.items()]


def says(doc: Any, texts: Collection[str]) -> bool:
    """Whether a document holds one of the texts as a whole value."""
    if isinstance(doc, dict):
        return any(says(value, texts) for value in doc.values())
    if isinstance(doc, (list, tuple)):
        return any(says(value, texts) for value in doc)
    return isinstance(doc, str) and doc in texts


def there(ws: Workspace, digest: str) -> str | None:
    """The digest of the blob now; null when this workspace does not hold it."""
    try:
        now = current(ws, digest)
    except NotFound:
        return None
    return now if now in ws.blobs else None
