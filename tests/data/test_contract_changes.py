"""What changed between two contracts, whom it breaks, and who said yes."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.test_contract_agreement import FITTING, column, properties

from loopline import data
from loopline.base.errors import Conflict, Denied, Invalid, NotFound
from loopline.data import Contract, compare_contracts, propose_acceptance
from loopline.data.contracts.rules import COLUMN_KINDS, LINK_KINDS
from loopline.data.contracts.verbs import ContractVersion
from loopline.workspace import create_workspace

TEXT = """apiVersion: v3.1.0
kind: DataContract
version: 1.4.2
schema:
  - name: t
    properties:
      - name: plan   # what they pay for
        logicalType: string
        required: true
        quality:
          - {metric: invalidValues, arguments: {validValues: [basic, plus]}, mustBe: 0}
      - {name: spend, logicalType: number, logicalTypeOptions: {exclusiveMaximum: 100}}
      - {name: code, logicalType: string, logicalTypeOptions: {pattern: '[A-Z]+', maxLength: 3}}
      - {name: since, logicalType: timestamp, logicalTypeOptions: {minimum: "2020-01-01T00:00:00Z"}}
      - {name: id, logicalType: integer, unique: true}
    quality:
      - {type: custom, engine: loopline, name: cheap, implementation: spend < 50 or plan != 'basic'}
"""


def read(tmp_path, text=TEXT):
    path = tmp_path / "t.yaml"
    path.write_text(text)
    return Contract.load(path)


def one(prop):
    doc = {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "schema": [{"name": "t", "properties": [prop | {"name": "x"}]}],
    }
    return Contract.from_doc(doc)


@settings(max_examples=150, deadline=None)
@given(properties(), properties(), st.data())
def test_a_change_that_narrows_nothing_refuses_no_good_row_and_one_that_widens_nothing_lets_no_bad_row_in(
    old, new, more
):
    if "logicalType" in old and not {"logicalTypeOptions", "quality"} & new.keys() and more.draw(st.booleans()):
        new = new | {"logicalType": old["logicalType"]}
    before, after = one(old), one(new)
    change = compare_contracts(before, after)
    kind = old.get("logicalType") or new.get("logicalType") or "number"
    values = more.draw(column(*FITTING.get(kind, FITTING["number"])))
    for row in pl.DataFrame({"x": values}).to_dicts():
        was, now = bool(before.row_rules()(row)), bool(after.row_rules()(row))
        if change.verdict in ("same", "compatible", "breaks readers"):
            assert was or not now
        if change.verdict in ("same", "compatible", "breaks writers"):
            assert now or not was


@pytest.mark.parametrize(
    ("old", "new", "verdict", "version"),
    [
        ("basic, plus", "basic, plus, gold", "breaks readers", "2.0.0"),
        ("basic, plus", "basic", "breaks writers", "2.0.0"),
        ("basic, plus", "basic, gold", "breaks both", "2.0.0"),
        ("exclusiveMaximum: 100", "exclusiveMaximum: 90", "breaks writers", "2.0.0"),
        ("maxLength: 3", "maxLength: 5", "breaks readers", "2.0.0"),
        ("maxLength: 3", "maxLength: 3, minLength: 1", "breaks writers", "2.0.0"),
        ("2020-01-01T00", "2021-01-01T00", "breaks writers", "2.0.0"),
        ("2020-01-01T00", "2019-01-01T00", "breaks readers", "2.0.0"),
        ("spend < 50", "spend < 60", "breaks both", "2.0.0"),
        ("mustBe: 0}", "mustBe: 0, severity: warning}", "breaks readers", "2.0.0"),
        ("logicalType: integer, unique", "logicalType: number, unique", "breaks readers", "2.0.0"),
        ("        required: true\n", "", "breaks readers", "2.0.0"),
        ("version: 1.4.2", "version: 1.4.2\nstatus: active", "compatible", "1.4.3"),
        ("what they pay for", "the tariff", "same", "1.4.2"),
    ],
)
def test_every_kind_of_change_has_its_verdict_and_version(tmp_path, old, new, verdict, version):
    assert old in TEXT
    change = compare_contracts(read(tmp_path), read(tmp_path, TEXT.replace(old, new, 1)))
    assert (change.verdict, change.next_version) == (verdict, version)


@pytest.mark.parametrize(
    ("rule", "values", "row"),
    [
        ("plan.validValues", ["gold"], {"plan": "gold"}),
        ("plan.required", [], {"plan": None}),
        ("spend.exclusiveMaximum", ["100.0", "120"], {"spend": 120.0}),
        ("code.maxLength", ["ABCDE"], {"code": "ABCDE"}),
        ("since.minimum", ["2019-05-01T00:00:00Z"], {"since": datetime(2019, 5, 1, tzinfo=UTC)}),
        ("code.pattern", ["x1"], {"code": "x1"}),
        ("check.cheap", [], {"spend": 70.0, "plan": "basic"}),
    ],
)
def test_what_was_accepted_is_refused_no_more_and_nothing_else_changes(tmp_path, rule, values, row):
    contract = read(tmp_path)
    full = {"plan": "plus", "spend": 1.0, "code": "AB", "since": datetime(2021, 1, 1, tzinfo=UTC), "id": 1} | row
    assert contract.judge_row(full).refused == (rule,)
    changed = propose_acceptance(contract, rule, values)
    assert changed.judge_row(full).refused == ()
    assert changed.version == "2.0.0"
    assert compare_contracts(contract, changed).verdict in ("breaks readers", "breaks both")
    kept = {r.id for r in contract.rules if r.kind in (*COLUMN_KINDS, *LINK_KINDS)} - {rule}
    assert kept <= {r.id for r in changed.rules}


@pytest.mark.parametrize(
    ("rule", "values", "family", "says"),
    [
        ("plan.nothing", [], NotFound, "plan.validValues"),
        ("spend.exclusiveMaximum", ["many"], Invalid, "'many'"),
        ("spend.exclusiveMaximum", [], Invalid, "no values"),
        ("spend.exclusiveMaximum", ["3"], Invalid, "as it is"),
        ("spend.logicalType", ["x"], Invalid, "one click"),
    ],
)
def test_what_cannot_be_accepted_is_said(tmp_path, rule, values, family, says):
    with pytest.raises(family, match=says):
        propose_acceptance(read(tmp_path), rule, values)


@pytest.fixture
def world(tmp_path):
    ws = create_workspace(tmp_path / ".loopline", actor="user:ada")
    read(tmp_path)
    yield ws, tmp_path, {"t": data.TableSpec(source="t.csv", contract="t.yaml")}
    ws.close()


def test_versions_are_kept_once_with_their_change_and_audited(world):
    ws, root, tables = world
    first = data.record_contract(ws, root, tables, table="t")
    assert data.record_contract(ws, root, tables, table="t") == first
    read(root, TEXT.replace("basic, plus", "basic"))
    assert data.contract_change(ws, root, tables, table="t").verdict == "breaks writers"
    second = data.record_contract(ws, root, tables, table="t")
    read(root)
    third = data.record_contract(ws, root, tables, table="t")
    assert [v.verdict for v in data.contract_versions(ws, table="t")] == ["breaks readers", "breaks writers", "first"]
    assert (second.previous, third.previous, third.contract) == (first.id, second.id, first.contract)
    assert data.contract_text(ws, version=first.id) == TEXT
    assert "data.record_contract" in [e["action"] for e in ws.records.entries()]


def test_a_proposal_changes_nothing_until_a_person_says_yes_and_keeps_the_comments(world):
    ws, root, tables = world
    ask = {"table": "t", "rule": "plan.validValues", "values": ("gold",)}
    made = data.propose_contract(ws, root, tables, **ask, reason="a new plan")
    assert data.propose_contract(ws, root, tables, **ask, reason="again") == made
    assert (root / "t.yaml").read_text() == TEXT
    assert "+          - {metric: invalidValues, arguments: {validValues: [basic, plus, gold]}, mustBe: 0}" in made.diff
    assert data.contract_proposals(ws) == [made]
    with pytest.raises(Denied, match="person"):
        data.settle_contract(ws.acting_as("service:loop"), root, tables, proposal=made.id, answer="accept", reason="so")
    data.settle_contract(ws, root, tables, proposal=made.id, answer="accept", reason="asked them")
    assert data.contract_proposals(ws) == []
    assert "# what they pay for" in (root / "t.yaml").read_text()
    changed = Contract.load(root / "t.yaml")
    assert changed.judge_row({"plan": "gold"}).broken == ()
    assert [v.version for v in ws.records.find(ContractVersion)] == ["2.0.0"]
    data.settle_contract(ws, root, tables, proposal=made.id, answer="accept", reason="twice is once")
    with pytest.raises(Conflict, match="answered"):
        data.settle_contract(ws, root, tables, proposal=made.id, answer="reject", reason="no")


def test_a_proposal_for_a_text_that_changed_meanwhile_is_refused_and_a_rejected_one_may_come_again(world):
    ws, root, tables = world
    ask = {"table": "t", "rule": "code.maxLength", "values": ("ABCDE",), "reason": "longer codes"}
    made = data.propose_contract(ws, root, tables, **ask)
    read(root, TEXT + "# more\n")
    with pytest.raises(Conflict, match="changed since"):
        data.settle_contract(ws, root, tables, proposal=made.id, answer="accept", reason="so")
    data.settle_contract(ws, root, tables, proposal=made.id, answer="reject", reason="no")
    read(root)
    again = data.propose_contract(ws, root, tables, **ask)
    assert again.id != made.id
    assert data.contract_proposals(ws, table="t") == [again]


def test_an_ingestion_keeps_the_contract_that_judged_it(world):
    ws, root, tables = world
    rows = pl.DataFrame({"plan": ["basic"], "spend": [1.0], "code": ["AB"], "id": [1]})
    data.ingest(ws, root, tables, frames={"t": rows.with_columns(since=datetime(2021, 1, 1, tzinfo=UTC))})
    data.ingest(ws, root, tables, frames={"t": rows.with_columns(since=datetime(2021, 1, 1, tzinfo=UTC))})
    assert [v.verdict for v in data.contract_versions(ws, table="t")] == ["first"]
    read(root, TEXT.replace("basic, plus", "basic"))
    data.ingest(ws, root, tables, frames={"t": rows.with_columns(since=datetime(2021, 1, 1, tzinfo=UTC), id=2)})
    assert [v.verdict for v in data.contract_versions(ws, table="t")] == ["breaks writers", "first"]
