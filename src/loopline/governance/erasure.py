"""Erasing a subject: find it everywhere, take it out where that can be done, flag the rest, keep a proof.

The order makes it safe to be stopped: rows that tell which units are the subject's go last, so whoever does it again
finds all that is left.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import polars as pl

from loopline.base.errors import NotFound
from loopline.base.ids import content_id, iso
from loopline.base.nouns import to_doc
from loopline.data.history.reprofiling import reprofiled
from loopline.data.nouns import Snapshot, Tombstone
from loopline.data.privacy.pseudonyms import secret
from loopline.data.privacy.tombstones import ERASED, means
from loopline.data.privacy.treatments import token
from loopline.data.spec import TableSpec
from loopline.features.nouns import TrainingSet
from loopline.features.online import spaces
from loopline.features.publishing import build_anew, forget_writers
from loopline.features.requests import groups_of, space_of
from loopline.features.spec import FeaturesSpec
from loopline.features.views import Views, load_views
from loopline.framing.spec import FramingSpec
from loopline.governance import holding, logged, traced, underway
from loopline.governance.holding import Search
from loopline.governance.nouns import ErasureProof, ModelFlag, Place
from loopline.governance.recounting import progress_of, recounted
from loopline.serving.nouns import DesiredState
from loopline.serving.verbs import flush
from loopline.store.records.protocol import Tx
from loopline.store.tables.delta import DeltaTables
from loopline.store.tables.redact import redact, remaining
from loopline.workspace import Workspace, query, verb

INTENT = "erasure"
STOPPED = "found by an erasure that was stopped; the next one ends it"
OUTSIDE = "the file or function outside this workspace still has it; rows of it are not taken in again"


@query("governance.where")
def where(
    ws: Workspace,
    project: Path,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    *,
    subject: str,
    table: str | None = None,
    column: str | None = None,
) -> list[Place]:
    """Everything that holds a subject, and what erasing would do with it; nothing is changed.

    Parameters
    ----------
    subject : str
        A value that names it: a unit, a mail address, a customer's number.
    table : str, optional
        Where to look for its units first; every table by default.
    column : str, optional
        The column whose value it is; by default the unit and all columns that
        identify people by their contract, a person's word or a detector's proposal.

    Returns
    -------
    list of Place
        What holds it now; what a run found that was stopped; what an erasure of before
        had to leave, flagged.

    Raises
    ------
    NotFound
        If no table has such a column.
    """
    search = holding.search_for(ws, tables, project, framing.unit, subject, table=table, column=column)
    now = _places(ws, project, search, _views(ws, project, features), tables)
    if not ws.records.pointers(INTENT):
        return now
    who = token(secret(ws), ERASED, subject)
    there = {(place.kind, place.name) for place in now}
    stopped = [
        place if (place.kind, place.name) in there or place.act == "flag" else replace(place, note=STOPPED)
        for place in _begun(ws, who)
    ]
    return _merged(stopped, _merged(_flagged(ws, who), now))


@verb("governance.erase")
def erase(
    ws: Workspace,
    project: Path,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    *,
    subject: str,
    table: str | None = None,
    column: str | None = None,
    reason: str = "",
) -> list[ErasureProof | ModelFlag | Tombstone]:
    """Take a subject out of everything that `where` finds, flag what cannot forget, and keep a proof.

    Rows leave every version of every table, online values are deleted, blobs are
    written again without its rows, models that learned from them are flagged. The
    proof and the audit name it by a keyed token only. Sources do not bring it back.
    Stopped half-way, the same call goes on, and its proof covers both.

    Returns
    -------
    list
        The proof first; then flags of models and tombstones of blobs.
    """
    for endpoint in _endpoints(ws):
        flush(ws, endpoint)
    search = holding.search_for(ws, tables, project, framing.unit, subject, table=table, column=column)
    views = _views(ws, project, features)
    key = secret(ws)
    who = token(key, ERASED, subject)
    found = _merged(_begun(ws, who), _places(ws, project, search, views, tables))
    at = ws.clock()
    begun = ws.records.pointer(INTENT, who)
    id = content_id({"subject": who, "at": iso(at), "after": begun.generation if begun else 0})
    _begin(ws, who, id, found, search, key)
    trained = [(made.id, rows) for made, _, rows in holding.training_sets(ws, search)]
    flags = [
        ModelFlag(
            id=content_id({"model": model.id, "proof": id}),
            model=model.id,
            training_set=model.training_set,
            proof=id,
            rows=dict(trained)[model.training_set],
            at=at,
            why="it learned from rows of an erased subject; its bundle may show some among its probe rows",
        )
        for model in holding.models_of(ws, {set_id for set_id, _ in trained})
    ]
    _keep(ws, flags)
    made = [*_frames(ws, search, id), *_files(ws, search, id), *_manifests(ws, search, id)]
    for _, kept, name in holding.online_keys(ws, search, views):
        ws.online.delete(kept, name)
    started = {name: progress_of(ws, name, spec) for name, spec in tables.items()}
    underway.take_out(ws, project, search)
    logged.take_out(ws, search)
    traced.take_out(ws, search)
    _rows(ws, search)
    recounted(ws, tables, started)
    _online_anew(ws, views, tables)
    for _, kept, name in holding.online_keys(ws, search, views):  # written meanwhile
        ws.online.delete(kept, name)
    after = _places(ws, project, search, views, tables)
    left = tuple(p for p in after if p.act != "flag")
    flagged = tuple(p for p in _merged(_flagged(ws, who), _merged(found, after)) if p.act == "flag")
    units = len(search.units - search.subject)
    proof = ErasureProof(id, who, tuple(found), left, search.columns, units, reason, ws.actor, at, flagged)

    def commit(tx: Tx) -> None:
        tx.move(INTENT, who, proof.id, expect=None, at=at, doc={"done": not left, "places": []})

    ws.on_commit(commit)
    return [proof, *flags, *made]


def _places(
    ws: Workspace, project: Path, search: Search, views: Sequence[Views], tables: Mapping[str, TableSpec]
) -> list[Place]:
    found = holding.in_tables(ws, search)
    sources = [p.name for p in found if p.kind == "table" and p.name in tables]
    found += [Place("online", view, 1, "delete") for view, _, _ in holding.online_keys(ws, search, views)]
    sets = holding.training_sets(ws, search)
    found += [Place("training set", made.id, rows, "rewrite") for made, _, rows in sets]
    found += [Place("label round", made.id, rows, "rewrite") for made, _, rows in holding.rounds(ws, search)]
    rows_of = {made.id: rows for made, _, rows in sets}
    for model in holding.models_of(ws, set(rows_of)):
        note = "it learned from these rows; retrain, then retire it"
        found.append(Place("model", model.id, rows_of[model.training_set], "flag", note))
    snapshots: dict[str, int] = {}
    for snapshot, _, rows in holding.pinned(ws, search):
        snapshots[snapshot.id] = snapshots.get(snapshot.id, 0) + rows
    for snapshot, _ in holding.named_in_manifests(ws, search):
        snapshots[snapshot.id] = snapshots.get(snapshot.id, 0) + 1
    found += [
        Place("snapshot", id, rows, "rewrite", "its id no longer fits its rows") for id, rows in snapshots.items()
    ]
    found += underway.places(ws, project, search)
    found += logged.places(ws, search)
    found += traced.places(ws, search)
    found += holding.in_records(ws, search)
    for name in dict.fromkeys(sources):
        source = tables[name].source
        found.append(Place("source", source if isinstance(source, str) else f"of {name}", 1, "flag", OUTSIDE))
    return found


def _merged(before: Iterable[Place], now: Iterable[Place]) -> list[Place]:
    """What an interrupted run had found, and what is found now; the greater count of each."""
    merged: dict[tuple[str, str], Place] = {}
    for place in (*before, *now):
        old = merged.get((place.kind, place.name))
        if old is None or place.rows > old.rows:
            merged[place.kind, place.name] = place
    return list(merged.values())


def _begun(ws: Workspace, who: str) -> list[Place]:
    """What an earlier run had found that did not come to its end."""
    pointer = ws.records.pointer(INTENT, who)
    if pointer is None or pointer.doc.get("done"):
        return []
    return [Place(**place) for place in pointer.doc.get("places", [])]


def _flagged(ws: Workspace, who: str) -> list[Place]:
    """What erasures of the subject had to leave: they took out what leads to it, so no search finds it again."""
    return [
        place for proof in ws.records.find(ErasureProof, subject=who) for place in proof.remains if place.act == "flag"
    ]


def _begin(ws: Workspace, who: str, id: str, found: list[Place], search: Search, key: bytes) -> None:
    """Write down what is about to happen, and from now on keep the subject's rows out; before anything is changed."""
    at = ws.clock()
    names = {unit: [search.unit] for unit in search.units} | {text: list(search.columns) for text in search.subject}
    with ws.records.transaction() as tx:
        tx.move(INTENT, who, id, expect=None, at=at, doc={"done": False, "places": to_doc(found)})
        for text, columns in names.items():
            tx.move(ERASED, token(key, ERASED, text), id, expect=None, at=at, doc={"columns": columns})
        tx.audit("governance.erase.begin", ws.actor, id, {"subject": who, "places": len(found)}, at=at)
    ws.audit.seal()


def _keep(ws: Workspace, nouns: Iterable[ModelFlag | Tombstone]) -> None:
    """Commit nouns now: they must be known before, or together with, what they speak of."""
    kept = list(nouns)
    if kept:
        with ws.records.transaction() as tx:
            for noun in kept:
                tx.put(noun)


def _frames(ws: Workspace, search: Search, proof: str) -> list[Tombstone]:
    """Write training sets and label rounds again without the subject."""
    made = []
    everything = search.everything()
    found = [(digest, rows, everything) for _, digest, rows in holding.training_sets(ws, search)]
    for round, digest, rows in holding.rounds(ws, search):
        found.append((digest, rows, {**everything, round.unit: search.units | search.subject}))
    for digest, rows, values in found:
        if digest not in ws.blobs:
            continue
        frame = pl.read_ipc(ws.blobs.path(digest))
        meant = means(values, frame.schema)
        blob = io.BytesIO()
        (frame if meant is None else frame.filter(~meant)).rechunk().write_ipc(blob, compression="zstd")
        made.append(_replace(ws, digest, blob.getvalue(), rows, proof))
    return made


def _files(ws: Workspace, search: Search, proof: str) -> list[Tombstone]:
    made = []
    for _, digest, rows in list(holding.pinned(ws, search)):
        if digest in ws.blobs:
            blob = io.BytesIO()
            remaining(ws.blobs.path(digest), search.holds()).write_parquet(blob, compression="snappy")
            made.append(_replace(ws, digest, blob.getvalue(), rows, proof))
    return made


def _manifests(ws: Workspace, search: Search, proof: str) -> list[Tombstone]:
    """Write what manifests say of rows again: profiles of the rows that remain, nothing that names the subject."""
    made = []
    for snapshot in ws.records.find(Snapshot):
        digest = holding.there(ws, snapshot.manifest)
        if digest is None:
            continue
        before = json.loads(ws.blobs.get(digest))
        doc = reprofiled(ws, snapshot, before) if holding.rows_taken_out(ws, snapshot) is not None else before
        doc = holding.redacted(doc, search.subject)
        if doc != before:
            data = json.dumps(doc, sort_keys=True, ensure_ascii=False).encode()
            made.append(_replace(ws, digest, data, 1, proof))
    return made


def _replace(ws: Workspace, digest: str, data: bytes, rows: int, proof: str) -> Tombstone:
    """Put other bytes in the place of a blob: first they, then the tombstone, then the old ones go."""
    tombstone = Tombstone(digest, ws.blobs.put(data), rows, proof, ws.clock())
    try:
        tombstone = ws.records.get(Tombstone, digest)
    except NotFound:
        _keep(ws, [tombstone])
    ws.blobs.delete(digest)
    return tombstone


def _rows(ws: Workspace, search: Search) -> None:
    """Take the rows out of the tables; those that name the subject, and so tell its units, last."""
    store = cast(DeltaTables, ws.tables)
    for name in ws.tables.names():
        schema = ws.tables.scan(name).collect_schema()
        names_it = means(search.by_subject(name), schema) is not None
        redact(store, name, search.only_units(name) if names_it else search.holds(name))
    for name in ws.tables.names():
        redact(store, name, search.holds(name))


def _online_anew(ws: Workspace, groups: Sequence[Views], tables: Mapping[str, TableSpec]) -> None:
    """Have the online store hold what the tables hold now: sums that the subject was in, and what writers remember.

    Where it was filled by a stream, or by views that nobody defines any more, writers have to restore.
    """
    anew = {
        space_of(group)
        for group in groups
        if any(one.leaves() for one in group.views)
        and set(group.tables) <= set(tables)
        and build_anew(ws, group, tables)
    }
    forget_writers(ws, set(spaces(ws.online)) - anew)


def _endpoints(ws: Workspace) -> list[str]:
    """Every endpoint that has a log, or may have answers on their way to one."""
    logged = {name.partition("/")[2] for name in ws.tables.names() if name.startswith(holding.LOGS)}
    return sorted(logged | {state.endpoint for state in ws.records.find(DesiredState)})


def _views(ws: Workspace, project: Path, features: FeaturesSpec) -> list[Views]:
    """The views of each file, as the online store keeps them apart, and those that models were trained on."""
    groups = [load_views(project, (file,)) for file in features.views]
    groups += [group for made in ws.records.find(TrainingSet) for group in groups_of(ws, made.id) or ()]
    return list({group.id: group for group in groups}.values())
