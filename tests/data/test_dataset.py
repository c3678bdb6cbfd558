"""A table's page tells what it is, and the field's own tool reads its Croissant document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from loopline.base.clock import ManualClock
from loopline.base.errors import Conflict, NotFound
from loopline.data.describing.croissant import croissant, export
from loopline.data.describing.dataset import show
from loopline.data.privacy import marks
from loopline.data.spec import TableSpec
from loopline.data.verbs import ingest
from loopline.interfaces.cli.catalogue import _number, _type
from loopline.workspace import Workspace, create_workspace

NOW = datetime(2031, 5, 1, tzinfo=UTC)
TABLES = {
    "people": TableSpec(source="p.csv", contract="people.yaml", event_time="joined", known_at="seen", key=("id",)),
    "empty": TableSpec(source="e.csv"),
}
PAGE = """\
apiVersion: v3.1.0
kind: DataContract
id: people
version: 1.2.0
status: active
team: [{username: ada, name: Ada, role: Owner}]
slaProperties: [{property: retention, value: 30, unit: d}]
schema:
  - name: people
    description: Everybody we know.
    properties:
      - {name: id, logicalType: integer, description: Their number., required: true}
      - {name: mail, logicalType: string, customProperties: [{property: pii, value: email}]}
      - {name: size, logicalType: number, logicalTypeOptions: {maximum: 3}}
"""


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "keys"))
    made = create_workspace(tmp_path / "ws", clock=ManualClock(NOW), actor="user:ada")
    (tmp_path / "people.yaml").write_text(PAGE)
    rows = pl.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "mail": ["ada@x.org", "bob@x.org", None, "dan@x.org"],
            "size": [1.0, 2.0, None, 9.0],
            "first_name": ["Ada", "Bob", "Carl", "Dan"],
            "joined": [NOW - timedelta(days=d) for d in (90, 40, 2, 1)],
            "seen": [NOW - timedelta(days=1)] * 4,
        }
    )
    ingest(made, tmp_path, TABLES, frames={"people": rows})
    yield made
    made.close()


def test_a_page_joins_contract_rows_people_and_history(ws: Workspace, tmp_path: Path) -> None:
    found = show(ws, TABLES, tmp_path, "people")
    assert (found.description, found.owner, found.contract_version) == ("Everybody we know.", "Ada", "1.2.0")
    assert (found.card.rows, found.retention, found.overdue) == (3, timedelta(days=30), 2)
    assert [c.name for c in found.columns][:3] == ["id", "mail", "size"]
    assert {c.column: c.state for c in found.personal} == {"mail": "declared", "first_name": "proposed"}
    assert [i.quarantined for i in found.history] == [1]
    by_name = {c.name: c for c in found.columns}
    assert by_name["id"].description == "Their number." and "size.maximum" in by_name["size"].rules
    assert by_name["size"].profile["max"] == 2.0
    assert "top" not in by_name["mail"].profile and "top" not in by_name["first_name"].profile
    assert "@x.org" not in repr(found.columns), "what is, or may be, personal shows no value"
    marks.mark(ws, TABLES, "people", "first_name", pii=None, reason="ships")
    assert "top" in {c.name: c for c in show(ws, TABLES, tmp_path, "people").columns}["first_name"].profile


def test_a_table_without_rows_has_a_page_and_an_unknown_one_has_none(ws: Workspace, tmp_path: Path) -> None:
    found = show(ws, TABLES, tmp_path, "empty")
    assert (found.card.rows, found.columns, found.contract, found.history) == (0, (), None, ())
    with pytest.raises(NotFound, match="no table 'peple'"):
        show(ws, TABLES, tmp_path, "peple")
    assert croissant(ws, TABLES, tmp_path, "people")["name"] == "people"


def test_an_export_masks_people_and_overwrites_nothing(ws: Workspace, tmp_path: Path) -> None:
    doc = export(ws, TABLES, tmp_path, "people", tmp_path / "out" / "people.json")
    rows = pl.read_parquet(tmp_path / "out" / "people.parquet")
    assert rows["mail"].to_list() == ["***", "***", None] and rows["id"].to_list() == [1, 2, 3]
    assert rows["first_name"].to_list() == ["***"] * 3, "only proposed: masked until a person says otherwise"
    assert json.loads((tmp_path / "out" / "people.json").read_text()) == doc
    with pytest.raises(Conflict, match="already there"):
        export(ws, TABLES, tmp_path, "people", tmp_path / "out" / "people.json")
    with pytest.raises(NotFound, match="holds nothing yet"):
        export(ws, TABLES, tmp_path, "empty", tmp_path / "e.json")


def test_mlcroissant_accepts_the_document_and_reads_the_rows(ws: Workspace, tmp_path: Path) -> None:
    mlc = pytest.importorskip("mlcroissant", reason="pip install mlcroissant brings the validator")
    export(ws, TABLES, tmp_path, "people", tmp_path / "people.json", form="csv")
    export(ws, TABLES, tmp_path, "people", tmp_path / "columns.json")
    assert mlc.Dataset(jsonld=str(tmp_path / "columns.json")).metadata.issues.errors == set()
    dataset = mlc.Dataset(jsonld=str(tmp_path / "people.json"))
    assert dataset.metadata.issues.errors == set()
    assert dataset.metadata.name == "people" and dataset.metadata.version == "1.2.0"
    records = list(dataset.records(record_set="people"))
    assert [r["people/id"] for r in records] == [1, 2, 3]
    bare = croissant(ws, TABLES, tmp_path, "people")
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    assert mlc.Dataset(jsonld=str(tmp_path / "bare.json")).metadata.issues.errors == set()


def test_the_command_line_says_types_and_numbers_as_people_do() -> None:
    stored = ("Datetime(time_unit='us', time_zone='UTC')", "Int32", "Float64", "List(String)")
    assert [_type(one) for one in stored] == [
        "time, UTC", "whole number", "number", "list of text",
    ]  # fmt: skip
    assert [_number(one) for one in (1184620.0, 0, 12.2, 86.58, 0.00012, 1234567.891, -3.5, 3e20, 1e-9)] == [
        "1,184,620", "0", "12.2", "86.58", "0.00012", "1,234,568", "-3.5", "3e+20", "1e-09",
    ]  # fmt: skip
