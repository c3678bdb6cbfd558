"""What is written down is accepted by the standard's own models and schema."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import polars as pl
import pytest

from loopline.data import Contract, draft, propose_acceptance
from loopline.data.contracts.odcs import plain, read_yaml

standard = pytest.importorskip("open_data_contract_standard.model", reason="the standard's models are not there")
jsonschema = pytest.importorskip("jsonschema", reason="its schema cannot be checked without")

FULL = """apiVersion: v3.1.0
kind: DataContract
id: orders-contract
name: Orders
version: 1.2.0
status: active
slaProperties:
  - {property: freshness, value: 6, unit: h, element: orders.placed_at}
schema:
  - name: orders
    relationships:
      - from: [orders.shop, orders.product]
        to: [offers.shop, offers.product]
        customProperties: [{property: response, value: log}]
    properties:
      - {name: id, logicalType: string, primaryKey: true, logicalTypeOptions: {pattern: '[A-Z]\\d+', maxLength: 9}}
      - name: customer
        logicalType: integer
        required: true
        relationships: [{to: customers.id}]
      - {name: shop, logicalType: string}
      - {name: product, logicalType: string}
      - name: amount
        logicalType: number
        logicalTypeOptions: {minimum: 0, maximum: 1000}
        customProperties:
          - {property: response, value: default}
          - {property: default, value: 10}
        quality:
          - {metric: nullValues, mustBeLessOrEqualTo: 5, unit: percent, severity: warning}
          - type: custom
            engine: loopline
            severity: warning
            implementation: {distribution: psi, atMost: 0.25, edges: [10, 50], shares: [0.5, 0.3, 0.2], rows: 100}
      - name: state
        logicalType: string
        quality:
          - metric: invalidValues
            arguments: {validValues: [open, paid, lost]}
            mustBe: 0
            severity: info
            customProperties: [{property: response, value: stop}]
      - {name: placed_at, logicalType: timestamp, required: true, logicalTypeOptions: {minimum: "2020-01-01T00:00:00Z"}}
      - name: paid_at
        logicalType: timestamp
        quality:
          - {type: custom, engine: loopline, implementation: {freshness: 2d}}
      - {name: tags, logicalType: array, logicalTypeOptions: {maxItems: 9}}
    quality:
      - {metric: rowCount, mustBeGreaterThan: 0}
      - {type: custom, engine: loopline, name: paid-after, implementation: paid_at >= placed_at}
"""


def accepted(text: str) -> None:
    """By the models, and by the JSON Schema that linters of the field use."""
    read = standard.OpenDataContractStandard.from_string(text)
    assert read.to_yaml()
    schema = json.loads(files("open_data_contract_standard").joinpath("schema.json").read_text())
    jsonschema.validate(plain(read_yaml(text, "contract")), schema)


def full(tmp_path: Path) -> Contract:
    path = tmp_path / "orders.yaml"
    path.write_text(FULL)
    return Contract.load(path, table="orders")


def test_the_linter_of_the_field_accepts_every_kind_of_rule(tmp_path):
    contract = full(tmp_path)
    kinds = {rule.kind for rule in contract.rules}
    assert kinds >= {"reference", "check", "freshness", "distribution", "rowCount", "pattern"}
    accepted(FULL)
    accepted(contract.to_yaml())


def test_the_linter_accepts_drafts_and_accepted_changes():
    frame = pl.DataFrame({"n": [float(i % 97) for i in range(1000)], "c": ["a", "b"] * 500, "t": ["x1", "y2"] * 500})
    drafted = draft(frame, "t", baselines=True)
    assert {"n.maximum", "n.distribution", "c.validValues", "c.distribution"} <= {r.id for r in drafted.rules}
    accepted(drafted.to_yaml())
    accepted(propose_acceptance(drafted, "c.validValues", ["z"]).to_yaml())


@pytest.mark.parametrize("path", sorted(Path("examples").glob("*/contracts/*.yaml")), ids=lambda p: p.stem)
def test_the_linter_accepts_the_contracts_of_the_examples(path):
    accepted(path.read_text())
