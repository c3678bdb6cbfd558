"""What manifests say of rows tells of no one person, and nothing of one who was erased."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from loopline import data
from loopline.base.clock import ManualClock
from loopline.data.describing.drafting import draft
from loopline.data.history.manifest import manifest
from loopline.data.nouns import Snapshot
from loopline.data.spec import TableSpec
from loopline.features.spec import FeaturesSpec
from loopline.framing.spec import FramingSpec
from loopline.governance import erasure
from loopline.workspace import Workspace, create_workspace

NOW = datetime(2031, 5, 1, tzinfo=UTC)
FRAMING = FramingSpec(label="answer", unit="person", decision_time="at")  # type: ignore[arg-type]
TABLES = {"people": TableSpec(source="people.parquet", key=("person",))}
SAID = ("loves Zanzibar parrots", "98765.25", "p-007@example.org", "1931-02-03")


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "keys"))
    made = create_workspace(tmp_path / "ws", clock=ManualClock(NOW), actor="user:bob")
    yield made
    made.close()


def people() -> pl.DataFrame:
    n = pl.int_range(40, eager=True)
    frame = pl.DataFrame({"person": "p-" + n.cast(pl.String).str.zfill(3)})
    frame = frame.with_columns(
        mail=pl.col("person") + "@example.org",
        city=pl.when(n % 2 == 0).then(pl.lit("Ulm")).otherwise(pl.lit("Bonn")),
        note=pl.lit("nothing special"),
        spend=n * 1.5,
        since=pl.date(2020, 1, 1) + pl.duration(days=n),
        answer=n % 3 == 0,
    )
    mine = pl.col("person") == "p-007"
    return frame.with_columns(
        note=pl.when(mine).then(pl.lit(SAID[0])).otherwise("note"),
        spend=pl.when(mine).then(98765.25).otherwise("spend"),
        since=pl.when(mine).then(pl.date(1931, 2, 3)).otherwise("since"),
    )


def blobs(ws: Workspace) -> bytes:
    found = [p.read_bytes() for p in (ws.root / "blobs").rglob("*") if p.is_file()]
    return b"\n".join(one for one in found if not one.startswith(b"PAR1"))


def test_an_erased_person_leaves_nothing_of_its_row_in_a_manifest(ws: Workspace, tmp_path: Path) -> None:
    people().write_parquet(tmp_path / "people.parquet")
    data.ingest(ws, tmp_path, TABLES)
    taken = data.snapshot(ws, TABLES, project=tmp_path)
    assert b"98765.25" in blobs(ws)
    proof = erasure.erase(ws, tmp_path, FRAMING, FeaturesSpec(spine="people"), TABLES, subject="p-007", reason="asked")[
        0
    ]
    assert proof.left == ()
    for said in SAID:
        assert said.encode() not in blobs(ws), said
    columns = manifest(ws, ws.records.get(Snapshot, taken.id))["people"]["profile"]["columns"]
    assert columns["spend"]["max"] == 39 * 1.5
    assert columns["since"]["min"] == "2020-01-01"
    assert columns["note"] == {"type": "String", "nulls": 0, "distinct": 1, "top": [["nothing special", 39]]}


def test_no_manifest_and_no_draft_holds_a_value_of_a_column_that_looks_personal(ws: Workspace, tmp_path: Path) -> None:
    frame = pl.concat([people()] * 8).with_columns(
        person=pl.int_range(320).cast(pl.String), mail=pl.lit("ada@example.org"), birth_date="since"
    )
    frame.write_parquet(tmp_path / "people.parquet")
    data.ingest(ws, tmp_path, TABLES)
    data.snapshot(ws, TABLES, project=tmp_path)
    assert b"ada@example.org" not in blobs(ws)
    assert b"Ulm" in blobs(ws)
    columns = manifest(ws, ws.records.find(Snapshot)[0])["people"]["profile"]["columns"]
    assert columns["birth_date"] == {"type": "Date", "nulls": 0, "distinct": 40}
    drafted = draft(frame, "people").to_yaml()
    assert "ada@example.org" not in drafted
    assert "Ulm" in drafted


def test_a_rare_text_stands_in_no_profile(ws: Workspace, tmp_path: Path) -> None:
    people().write_parquet(tmp_path / "people.parquet")
    data.ingest(ws, tmp_path, TABLES)
    taken = data.snapshot(ws, TABLES, project=tmp_path)
    note = manifest(ws, taken)["people"]["profile"]["columns"]["note"]
    assert note["top"] == [["nothing special", 39]]
    assert json.dumps(note).count("Zanzibar") == 0


def test_a_column_that_a_person_called_personal_keeps_only_its_counts_after_an_erasure(
    ws: Workspace, tmp_path: Path
) -> None:
    people().write_parquet(tmp_path / "people.parquet")
    data.ingest(ws, tmp_path, TABLES)
    data.mark(ws, TABLES, "people", "city", pii="address")
    taken = data.snapshot(ws, TABLES, project=tmp_path)
    counted = {"type": "String", "nulls": 0, "distinct": 2}
    assert manifest(ws, taken)["people"]["profile"]["columns"]["city"] == counted
    data.mark(ws, TABLES, "people", "city", pii=None)
    erasure.erase(ws, tmp_path, FRAMING, FeaturesSpec(spine="people"), TABLES, subject="p-007", reason="asked")
    assert manifest(ws, taken)["people"]["profile"]["columns"]["city"] == counted
