"""An erased subject is in no table, blob or online value, and stays out; what cannot forget is named."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopline import data
from loopline.base.clock import ManualClock
from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.data import labelling
from loopline.data.history.manifest import rows_of
from loopline.data.nouns import Ingestion, Snapshot, Tombstone, Violation
from loopline.data.privacy.tombstones import current, stay_out
from loopline.data.spec import TableSpec
from loopline.features.nouns import TrainingSet
from loopline.features.online import OnlineFeatures
from loopline.features.requests import space_of
from loopline.features.spec import FeaturesSpec
from loopline.features.views import load_views
from loopline.framing.spec import FramingSpec
from loopline.governance import erasure, expiry, holding
from loopline.governance.nouns import ErasureProof, ModelFlag
from loopline.monitoring import answers
from loopline.monitoring.memory import POINTER, Memory
from loopline.serving import journal, log, state
from loopline.serving.verbs import flush
from loopline.store.tables import redact as redacting
from loopline.training.nouns import Model
from loopline.training.rows import split
from loopline.workspace import Workspace, create_workspace

NOW = datetime(2031, 5, 1, tzinfo=UTC)
WHO = "ada@example.org"
UNITS = ("parcel-q17", "parcel-q18")
FRAMING = FramingSpec(label={"table": "outcomes", "value": "late"}, unit="parcel_id")  # type: ignore[arg-type]
TABLES = {"orders": TableSpec(source="orders.csv", contract="orders.yaml"), "outcomes": TableSpec(source="out.csv")}
PAGE = """\
apiVersion: v3.1.0
kind: DataContract
id: orders
version: 1.0.0
status: active
schema:
  - name: orders
    properties:
      - {name: parcel_id, logicalType: string}
      - {name: mail, logicalType: string, customProperties: [{property: pii, value: email}]}
"""
VIEWS = """\
from loopline.features import view, latest


@view(entity="parcel_id", source="orders", ttl="6h", refresh="1h")
def own():
    return {"size": latest("size")}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "orders.yaml").write_text(PAGE)
    (root / "views.py").write_text(VIEWS)
    return root


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "keys"))
    made = create_workspace(tmp_path / "ws", clock=ManualClock(NOW), actor="user:bob")
    yield made
    made.close()


def kept_as(ws: Workspace) -> str:
    """Where the online store keeps the view."""
    group = load_views(ws.root.parent / "project", ("views.py",))
    return OnlineFeatures(ws.online, group, space=space_of(group))._kept[0]


def live(ws: Workspace) -> None:
    """A small life in which the subject has two units, seen by every kind of thing."""
    orders = pl.DataFrame(
        {"parcel_id": [*UNITS, "p-3", "p-4"], "mail": [WHO, WHO, "x@y.org", None], "size": [1, 2, 3, 4]}
    )
    ws.tables.append("orders", orders[:1])
    ws.tables.append("orders", orders[1:])
    ws.tables.append("outcomes", pl.DataFrame({"parcel_id": [*UNITS, "p-3"], "late": [True, False, True]}))
    ws.tables.append("quarantine/orders", orders[:2].cast(pl.String).with_columns(broken_rules=pl.lit("size.maximum")))
    ws.tables.append("features/abc", orders.select("parcel_id", "size", decision_time=pl.lit(NOW)))
    log = pl.DataFrame({"prediction_id": [UNITS[0], "p-3"], "entity": [UNITS[0], "p-3"], "score": [0.1, 0.2]})
    ws.tables.append("predictions/parcels", log)
    frame = orders.select("parcel_id", "size", label=pl.lit(True), split=pl.lit("train"), decision_time=pl.lit(NOW))
    blob, file = io.BytesIO(), io.BytesIO()
    frame.write_ipc(blob, compression="zstd")
    orders.write_parquet(file)
    manifest = {
        "tables": {
            "orders": {
                "files": [{"path": "a.parquet", "sha256": ws.blobs.put(file.getvalue())}],
                "profile": {"columns": {"mail": {"top": [[WHO, 2], ["x@y.org", 1]]}}},
            }
        }
    }
    kept = ws.blobs.put(json.dumps(manifest).encode())
    ws.online.put_many(kept_as(ws), {UNITS[0]: (NOW, b"1"), "p-3": (NOW, b"3")})
    with ws.records.transaction() as tx:
        tx.put(Snapshot("snapshot-1", {"orders": "c"}, {"orders": 4}, NOW, kept))
        tx.put(
            TrainingSet("set-1", "snapshot-1", ws.blobs.put(blob.getvalue()), ("size",), (), "v", 4, 0, NOW, NOW, {})
        )
        tx.put(Model("model-1", "run", "set-1", "p", ws.blobs.put(b"b"), ("size",), "none", "user:ada", 0.5, {}, NOW))
        tx.put(Ingestion("i-1", "orders", 0, 1, 1, None, NOW, (Violation("mail.pattern", "mail", "error", 1, (WHO,)),)))


def asked(ws: Workspace, project: Path, verb: Any = erasure.erase, **more: Any) -> Any:
    features = FeaturesSpec(spine="orders", views=("views.py",))
    return verb(ws, project, FRAMING, features, TABLES, **{"subject": WHO, "column": "mail", **more})


def everywhere(ws: Workspace) -> bytes:
    """All bytes of tables and blobs, texts inside compressed files too."""
    parts = [
        p.read_bytes() for p in ws.root.rglob("*") if p.is_file() and "audit" not in p.parts and ".db" not in p.name
    ]
    for path in [*ws.root.rglob("*.parquet"), *(ws.root / "blobs").rglob("*")]:
        if path.is_file() and path.read_bytes()[:4] == b"PAR1":
            parts.append(pl.read_parquet(path).write_json().encode())
        elif path.is_file() and path.read_bytes()[:6] == b"ARROW1":
            parts.append(pl.read_ipc(path).write_json().encode())
    return b"".join(parts)


def test_looking_changes_nothing_and_names_every_place(ws: Workspace, project: Path) -> None:
    live(ws)
    before = everywhere(ws)
    found = {(p.kind, p.name): (p.rows, p.act) for p in asked(ws, project, erasure.where)}
    assert everywhere(ws) == before
    assert found == {
        ("table", "orders"): (2, "rewrite"),
        ("table", "outcomes"): (2, "rewrite"),
        ("quarantine", "quarantine/orders"): (2, "rewrite"),
        ("features", "features/abc"): (2, "rewrite"),
        ("predictions", "predictions/parcels"): (1, "rewrite"),
        ("online", "own"): (1, "delete"),
        ("training set", "set-1"): (2, "rewrite"),
        ("model", "model-1"): (2, "flag"),
        ("snapshot", "snapshot-1"): (3, "rewrite"),
        ("record", "ingestion"): (1, "flag"),
        ("source", "orders.csv"): (1, "flag"),
        ("source", "out.csv"): (1, "flag"),
    }


def test_afterwards_no_file_holds_the_subject_and_the_others_are_whole(ws: Workspace, project: Path) -> None:
    live(ws)
    proof, *rest = asked(ws, project, reason="asked by letter")
    assert proof.left == () and proof.units == 2 and len(proof.places) == 12
    after = everywhere(ws)
    for text in (WHO, *UNITS):
        assert text.encode() not in after, text
    assert ws.tables.scan("orders").collect()["parcel_id"].to_list() == ["p-3", "p-4"]
    assert ws.tables.scan("orders", version=0).collect().height == 0, "older versions lost it too, and can be read"
    assert ws.tables.scan("outcomes").collect()["parcel_id"].to_list() == ["p-3"]
    assert ws.tables.scan("predictions/parcels").collect().height == 1
    assert ws.online.keys(kept_as(ws)) == ["p-3"]
    flags = [n for n in rest if isinstance(n, ModelFlag)]
    assert [(f.model, f.rows) for f in flags] == [("model-1", 2)]
    held = ws.records.get(TrainingSet, "set-1")
    assert held.frame not in ws.blobs and current(ws, held.frame) in ws.blobs
    assert split(ws, held)[0].height == 2, "whoever trains on the set again gets it without the subject"
    manifest = json.loads(ws.blobs.get(current(ws, ws.records.get(Snapshot, "snapshot-1").manifest)))
    assert manifest["tables"]["orders"]["profile"]["columns"]["mail"]["top"] == [["x@y.org", 1]]
    assert len(ws.records.find(Tombstone)) == 3


def test_a_look_after_an_erasure_finds_what_its_proof_says_remains(ws: Workspace, project: Path) -> None:
    live(ws)
    proof = asked(ws, project)[0]
    assert sorted((p.kind, p.name) for p in proof.flagged) == [
        ("model", "model-1"),
        ("record", "ingestion"),
        ("source", "orders.csv"),
        ("source", "out.csv"),
    ]
    assert sorted(map(str, asked(ws, project, erasure.where))) == sorted(map(str, proof.remains))
    again = asked(ws, project)[0]
    assert sorted(map(str, again.flagged)) == sorted(map(str, proof.flagged)), "the next one does not forget it"


def test_a_column_that_only_may_be_personal_is_searched_and_others_are_named(ws: Workspace, project: Path) -> None:
    tables = {"letters": TableSpec(source="letters.csv")}
    rows = pl.DataFrame(
        {"parcel_id": ["p-1", "p-2"], "contact": [WHO, "x@y.org"], "story": ["one two three four five"] * 2}
    )
    ws.tables.append("letters", rows)
    found = erasure.where(ws, project, FRAMING, FeaturesSpec(spine="letters"), tables, subject=WHO)
    assert next((p.kind, p.name, p.rows) for p in found) == ("table", "letters", 1)
    search = holding.search_for(ws, tables, project, "parcel_id", WHO, table=None, column=None)
    assert search.columns == ("parcel_id", "contact")
    assert holding.not_searched(ws, tables, project, search) == ["letters.story (free text)"]


def test_proof_and_audit_do_not_say_who_it_was(ws: Workspace, project: Path) -> None:
    live(ws)
    asked(ws, project)
    said = json.dumps([*ws.records.entries()], default=str) + str(ws.records.find(ErasureProof))
    said += str(ws.records.pointers("erased")) + str(ws.records.pointers("erasure"))
    assert not any(text in said for text in (WHO, *UNITS))
    assert [e["action"] for e in ws.records.entries()] == ["governance.erase.begin", "governance.erase"]


def test_its_rows_stay_out_when_a_source_brings_them_again(ws: Workspace, project: Path) -> None:
    live(ws)
    rows = pl.DataFrame({"parcel_id": [UNITS[1], "p-3", "p-9"], "mail": ["new@x.org", "x@y.org", WHO]})
    assert stay_out(ws, rows)[1] == 0
    asked(ws, project)
    kept, dropped = stay_out(ws, rows)
    assert kept["parcel_id"].to_list() == ["p-3"] and dropped == 2
    assert stay_out(ws, pl.DataFrame({"n": [1]}))[1] == 0


@pytest.mark.parametrize("at", [0, 1, 4, 9, 21])
def test_stopped_anywhere_the_same_call_ends_it_and_its_proof_covers_both(
    ws: Workspace, project: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(ws)
    steps = 0

    def counted(real: Any) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps > at:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(redacting, "_sync", counted(redacting._sync))
        patch.setattr(erasure, "_keep", counted(erasure._keep))
        patch.setattr(type(ws.blobs), "delete", counted(type(ws.blobs).delete))
        try:
            asked(ws, project)
        except KeyboardInterrupt:
            assert not ws.records.find(ErasureProof)
    if steps > at and ws.records.pointers(erasure.INTENT):
        looked = {(p.kind, p.name) for p in asked(ws, project, erasure.where)}
        assert len(looked) == 12, "a look tells all that the proof will"
    proof = asked(ws, project)[0]
    assert proof.left == ()
    assert len(proof.places) == 12 or steps <= at, "it had not been stopped, and there is nothing left to find"
    after = everywhere(ws)
    assert not any(text.encode() in after for text in (WHO, *UNITS))
    assert ws.records.find(ModelFlag)[0].model == "model-1"


def test_rows_that_tell_the_units_go_last(ws: Workspace, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws.tables.append("orders", pl.DataFrame({"parcel_id": [UNITS[0], "p-3"], "mail": [WHO, "x@y.org"]}))
    ws.tables.append("outcomes", pl.DataFrame({"parcel_id": [UNITS[0], "p-3"], "late": [True, False]}))
    real = erasure.redact

    def stopping(store: Any, name: str, holds: Any) -> Any:
        if name == "outcomes":
            raise KeyboardInterrupt
        return real(store, name, holds)

    with monkeypatch.context() as patch:
        patch.setattr(erasure, "redact", stopping)
        with pytest.raises(KeyboardInterrupt):
            asked(ws, project)
    assert asked(ws, project)[0].left == ()
    assert ws.tables.scan("outcomes").collect()["parcel_id"].to_list() == ["p-3"]


def test_a_unit_can_be_the_subject_and_a_pseudonym_is_found_by_the_plain_value(ws: Workspace, project: Path) -> None:
    live(ws)
    assert asked(ws, project, subject=UNITS[0], column=None)[0].left == ()
    assert ws.tables.scan("orders").collect()["parcel_id"].to_list() == [UNITS[1], "p-3", "p-4"]
    (project / "orders.yaml").write_text(
        PAGE.replace("value: email}", "value: email}, {property: privacy, value: pseudonym}")
    )
    search = holding.search_for(ws, TABLES, project, "parcel_id", WHO, table=None, column=None)
    made = next(text for text in search.subject if text != WHO)
    ws.tables.append("orders", pl.DataFrame({"parcel_id": ["p-5"], "mail": [made], "size": [5]}))
    proof = asked(ws, project, column=None)[0]
    assert proof.left == () and ws.tables.scan("orders").collect()["parcel_id"].to_list() == ["p-3", "p-4"]


def test_an_unknown_column_or_table_is_refused(ws: Workspace, project: Path) -> None:
    live(ws)
    with pytest.raises(NotFound, match="no table has a column"):
        asked(ws, project, column="maill")
    with pytest.raises(NotFound, match="there is no table"):
        asked(ws, project, table="ordres")
    assert asked(ws, project, erasure.where, subject="nobody@example.org") == []
    assert replace(asked(ws, project, subject="nobody@example.org")[0]).places == ()


def test_ingestion_and_snapshots_go_on_after_an_erasure(ws: Workspace, tmp_path: Path) -> None:
    features = FeaturesSpec(spine="orders")
    tables = {"orders": TableSpec(source="orders.csv")}
    framing = FramingSpec(label="late", unit="parcel_id")  # type: ignore[arg-type]
    rows = pl.DataFrame({"parcel_id": [*UNITS, "p-3"], "mail": [WHO, WHO, "x@y.org"], "late": [True, False, True]})
    rows.write_csv(tmp_path / "orders.csv")
    data.ingest(ws, tmp_path, tables)
    before = data.snapshot(ws, tables, project=tmp_path)
    proof = erasure.erase(ws, tmp_path, framing, features, tables, subject=WHO, column="mail")[0]
    assert proof.left == () and ("snapshot", 2) in [(p.kind, p.rows) for p in proof.places]
    rows = pl.concat([rows, pl.DataFrame({"parcel_id": ["p-4"], "mail": [WHO], "late": [False]})])
    rows = pl.concat([rows, pl.DataFrame({"parcel_id": ["p-5"], "mail": ["z@y.org"], "late": [False]})])
    rows.write_csv(tmp_path / "orders.csv")
    (taken,) = data.ingest(ws, tmp_path, tables)
    assert taken.rows == 1
    assert sorted(ws.tables.scan("orders").collect()["parcel_id"]) == ["p-3", "p-5"]
    assert rows_of(ws, before, "orders").collect()["parcel_id"].to_list() == ["p-3"], "the old one can be read still"
    after = data.snapshot(ws, tables, project=tmp_path)
    assert (before.rows, after.rows) == ({"orders": 3}, {"orders": 2})


SHARED = {"endpoint": "parcels", "version": "1", "role": "champion", "generation": 1, "brought": ["mail", "size"],
          "inputs": [{"name": "size", "kind": "number", "categories": []}]}  # fmt: skip


def journal_of(ws: Workspace, rows: list[tuple[str, str]], role: str = "champion") -> journal.Journal:
    """A journal that a server still writes, with one answer for each (entity, mail)."""
    place = state.Place(ws.root, "parcels")
    place.segments.mkdir(parents=True, exist_ok=True)
    made = journal.Journal(place.segments / f"{role}.journal", {**SHARED, "role": role}, 1, rows=16)
    for entity, mail in rows:
        write(made, entity, mail)
    return made


def write(made: journal.Journal, entity: str, mail: str) -> None:
    texts = (f"id-{entity}".encode(), entity.encode(), b"1", b"", b"")
    brought = json.dumps([mail, 1.0]).encode()
    assert made.append(1, 1, 0.5, 1.0, 10, texts, 0, 0, np.float32([1.0]).tobytes(), brought)


@pytest.mark.parametrize("column", ["mail", None])
def test_what_requests_brought_goes_from_logs_and_from_journals_that_are_still_written(
    ws: Workspace, project: Path, column: str | None
) -> None:
    ws.tables.append("orders", pl.DataFrame({"parcel_id": [UNITS[0], "p-3"], "mail": [WHO, "x@y.org"], "size": [1, 3]}))
    answered = journal_of(ws, [(UNITS[0], "other@x.org"), ("walk-in-1", WHO), ("p-3", "x@y.org")])
    refused = journal_of(ws, [("walk-in-2", WHO), ("p-3", "x@y.org")], log.REFUSED)
    flush(ws, "parcels")
    found = {(p.kind, p.name): p.rows for p in asked(ws, project, erasure.where, column=column)}
    assert found["predictions", "predictions/parcels"] == 2 and found["predictions", "refusals/parcels"] == 1
    assert found["journal", "parcels"] == 3
    proof = asked(ws, project, column=column)[0]
    assert proof.left == ()
    after = everywhere(ws)
    for text in (WHO, UNITS[0], "walk-in-1", "walk-in-2"):
        assert text.encode() not in after, text
    write(answered, "p-9", "z@y.org")
    flush(ws, "parcels")
    answered.close()
    refused.close()
    kept = ws.tables.scan("predictions/parcels").sort("entity").collect()
    assert kept["request_mail"].to_list() == ["x@y.org", "z@y.org"] and kept["entity"].to_list() == ["p-3", "p-9"]
    assert ws.tables.scan("refusals/parcels").collect()["entity"].to_list() == ["p-3"]


def test_monitoring_waits_no_longer_for_the_labels_of_the_subject(ws: Workspace, project: Path) -> None:
    live(ws)
    rows = {"entity": [UNITS[0], "p-3"], "day": [NOW.date()] * 2, "version": ["1"] * 2, "score": [0.1, 0.2]}
    frame = pl.DataFrame({**rows, "decision": [True, False]}, schema=answers.SCHEMA)
    before = pl.DataFrame(frame.to_dict() | {"entity": [UNITS[1], "p-4"]}, schema=answers.SCHEMA)
    waits = Memory(NOW, ws.blobs.put(answers.to_bytes(frame)), left=ws.blobs.put(answers.to_bytes(before)))
    with ws.records.transaction() as tx:
        tx.move(POINTER, "parcels", "window", expect=0, at=NOW, doc=waits.doc())
    assert ("waiting answers", 1) in [(p.kind, p.rows) for p in asked(ws, project, erasure.where)]
    assert asked(ws, project)[0].left == ()
    pending = Memory.of(ws.records.pointer(POINTER, "parcels")).pending
    assert answers.from_bytes(ws.blobs.get(pending or ""))["entity"].to_list() == ["p-3"]
    assert not any(unit.encode() in everywhere(ws) for unit in UNITS)


@pytest.mark.parametrize("space", ["published", "of a stream"])
def test_a_writer_that_remembers_the_subject_writes_nothing_until_it_restores(
    ws: Workspace, project: Path, space: str
) -> None:
    live(ws)
    group = load_views(project, ("views.py",))
    space = space_of(group) if space == "published" else space
    writer = OnlineFeatures(ws.online, group, space=space)
    times = {"event_time": [NOW] * 2, "known_at": [NOW] * 2}
    rows = pl.DataFrame({"parcel_id": [UNITS[0], "p-3"], "mail": [WHO, "x@y.org"], "size": [1, 3], **times})
    writer.apply("orders", rows, NOW)
    assert writer.entities("own") == ["p-3", UNITS[0]]
    assert asked(ws, project)[0].left == ()
    assert OnlineFeatures(ws.online, group, space=space).entities("own") == ["p-3"]
    later = rows.with_columns(known_at=pl.lit(NOW + timedelta(hours=2)))[1:]
    with pytest.raises(Conflict, match="another writer went on"):
        writer.apply("orders", later, NOW + timedelta(hours=2))
    writer.restore({"orders": rows[1:]})
    writer.apply("orders", later, NOW + timedelta(hours=2))
    assert writer.entities("own") == ["p-3"]


def test_labels_of_people_about_the_subject_go_from_rounds_and_published_files(ws: Workspace, project: Path) -> None:
    orders = {"parcel_id": [*UNITS, "p-3"], "mail": [WHO, WHO, "x@y.org"], "known_at": [NOW] * 3}
    ws.tables.append("orders", pl.DataFrame(orders))
    labelling.write_guideline(ws, "late", question="Was it late?")
    made = labelling.ask_rows(ws, project, TABLES, "late", table="orders", unit="parcel_id", n=4, twice=0.0)
    for unit in (*UNITS, "p-3"):
        labelling.answer(ws, made.id, unit, value="yes", note="seen" if unit == "p-3" else f"the mail is {WHO}")
    path = labelling.publish(ws, project, "late")
    assert pl.read_parquet(path)["parcel_id"].sort().to_list() == ["p-3", *UNITS]
    found = {(p.kind, p.name): (p.rows, p.act) for p in asked(ws, project, erasure.where)}
    assert found["label file", "labels/late.parquet"] == (2, "rewrite")
    assert found["label round", made.id] == (2, "rewrite") and found["record", "label_answer"] == (2, "flag")
    proof = asked(ws, project)[0]
    assert proof.left == () and ("record", "label_answer") in [(p.kind, p.name) for p in proof.remains]
    assert pl.read_parquet(path)["parcel_id"].to_list() == ["p-3"]
    assert labelling.label_standing(ws, "late").settled == 1


def test_old_rows_of_logs_and_rows_set_aside_go_and_a_dry_run_says_whose(ws: Workspace) -> None:
    times = [NOW - timedelta(days=n) for n in (800, 700, 31, 30, 1)]
    answered = {"prediction_id": list("abcde"), "entity": ["u", "u", "v", "w", "w"]}
    for kind, age in (("predictions", "recorded_at"), ("refusals", "recorded_at")):
        ws.tables.append(f"{kind}/parcels", pl.DataFrame({**answered, age: times}).cast({age: log.MOMENT}))
    aside = pl.DataFrame({"parcel_id": list("abcde"), "refused_at": times}).cast({"refused_at": log.MOMENT})
    ws.tables.append("quarantine/orders", aside)
    ws.tables.append("orders", aside)
    before = everywhere(ws)
    asked_for = {"older_than": timedelta(days=30), "unit": "parcel_id"}
    planned = expiry.expire(ws, **asked_for)  # type: ignore[arg-type]
    assert everywhere(ws) == before
    assert [(e.table, e.rows, e.units, e.oldest) for e in planned] == [
        ("predictions/parcels", 3, 2, times[0]),
        ("quarantine/orders", 3, 3, times[0]),
        ("refusals/parcels", 3, 2, times[0]),
    ]
    done = expiry.expire(ws, **asked_for, dry_run=False)  # type: ignore[arg-type]
    assert [(e.table, e.rows, e.done) for e in done] == [(e.table, 3, True) for e in planned]
    for name, rows in (("predictions/parcels", 2), ("refusals/parcels", 2), ("quarantine/orders", 2), ("orders", 5)):
        assert ws.tables.scan(name).collect().height == rows
    assert ws.tables.scan("refusals/parcels", version=0).collect().height == 2, "older versions lost them too"
    assert expiry.expire(ws, **asked_for) == []  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="would bring them again"):
        expiry.expire(ws, older_than=timedelta(days=1), names=["orders"], tables=TABLES)
    with pytest.raises(NotFound, match="there is no table"):
        expiry.expire(ws, older_than=timedelta(days=1), names=["predictions/parcel"])
    with pytest.raises(Invalid, match="older_than"):
        expiry.expire(ws, older_than=timedelta(0))
