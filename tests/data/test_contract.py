"""Contracts are read strictly, and say where they are wrong."""

from __future__ import annotations

import json

import polars as pl
import pytest

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import canonical
from loopline.data import Contract

TEXT = """apiVersion: v3.1.0
kind: DataContract
id: 5c0d
name: orders
version: 1.0.0
status: active
description: {purpose: tests}
schema:
  - name: orders
    properties:
      - name: id
        logicalType: string
        primaryKey: true
        logicalTypeOptions: {pattern: '[A-Z]\\d+', maxLength: 4}
      - name: amount
        logicalType: number
        logicalTypeOptions: {minimum: 0, maximum: 100}
        quality:
          - {metric: nullValues, mustBeLessOrEqualTo: 50, unit: percent}
      - name: state
        logicalType: string
        quality:
          - {metric: invalidValues, arguments: {validValues: [open, off, NO]}, mustBe: 0, severity: warning}
    quality:
      - {metric: rowCount, mustBeGreaterThan: 1}
"""


def read(tmp_path, text):
    path = tmp_path / "orders.yaml"
    path.write_text(text)
    return Contract.load(path)


def test_rule_ids_are_named_after_column_and_rule(tmp_path):
    assert [rule.id for rule in read(tmp_path, TEXT).rules] == [
        "id.required",
        "id.logicalType",
        "id.maxLength",
        "id.pattern",
        "amount.logicalType",
        "amount.minimum",
        "amount.maximum",
        "amount.nullValues",
        "state.logicalType",
        "state.validValues",
        "id.primaryKey",
        "rowCount",
    ]


def test_bad_rows_are_taken_out_with_the_rules_they_broke_and_warnings_are_only_reported(tmp_path):
    frame = pl.DataFrame(
        {"id": ["A1", "A1", "b", None], "amount": [1.0, None, 101.0, None], "state": ["NO", "off", "open", "shut"]}
    )
    checked = read(tmp_path, TEXT).check(frame)
    assert checked.good["id"].to_list() == ["A1"]
    assert checked.bad["broken_rules"].to_list() == [
        ["id.primaryKey"],
        ["id.pattern", "amount.maximum"],
        ["id.required", "state.validValues"],
    ]
    told = {v.rule: (v.column, v.severity, v.count, v.examples) for v in checked.violations}
    assert told["amount.maximum"] == ("amount", "error", 1, (101.0,))
    assert told["state.validValues"] == ("state", "warning", 1, ("shut",))
    assert told["id.primaryKey"] == ("id", "error", 1, ("A1",))
    assert "amount.nullValues" not in told


def test_limits_on_a_whole_set_are_reported_and_refuse_no_row(tmp_path):
    frame = pl.DataFrame({"id": ["A1"], "amount": [None], "state": ["open"]}, schema_overrides={"amount": pl.Float64})
    checked = read(tmp_path, TEXT).check(frame)
    assert {v.rule: v.count for v in checked.violations} == {"amount.nullValues": 1, "rowCount": 1}
    assert checked.good.height == 1


def test_yaml_read_back_gives_the_same_contract(tmp_path):
    first = read(tmp_path, TEXT)
    again = read(tmp_path, first.to_yaml())
    assert (again.id, again.rules) == (first.id, first.rules)


def test_numbers_beyond_any_float_keep_each_digit_wherever_a_contract_is_carried(tmp_path):
    listed = "validValues: [9007199254740993, 1, -9007199254740992]"
    whole = """
      - name: n
        logicalType: integer
        logicalTypeOptions: {minimum: -9007199254740993, maximum: 9223372036854775806}
        customProperties: [{property: default, value: 9007199254740993}, {property: response, value: default}]
        quality:
          - {metric: nullValues, mustBeLessOrEqualTo: 9007199254740993}
          - {metric: invalidValues, arguments: {LISTED}, mustBe: 0}
      - {name: b, logicalType: number, logicalTypeOptions: {maximum: 1e17, exclusiveMinimum: -1.5e300}}
      - {name: s, logicalType: string, quality: [{metric: invalidValues, arguments: {validValues: ["9007199254740993"]},
         mustBe: 0}], customProperties: [{property: note, value: .inf}]}
""".replace("LISTED", listed)
    one = read(
        tmp_path, TEXT.replace("    quality:\n      - {metric: row", whole[1:] + "    quality:\n      - {metric: row")
    )
    carried = json.loads(canonical(one.doc))
    two = Contract.from_doc(carried, table="orders")
    assert (two.rules, two.columns) == (one.rules, one.columns) and two.id == one.id
    assert json.loads(canonical(two.doc)) == carried
    assert read(tmp_path, one.to_yaml()).rules == one.rules
    limits = {rule.id: rule.value for rule in two.rules}
    assert limits["n.maximum"] == 9223372036854775806 and limits["n.validValues"] == (2**53 + 1, 1, -(2**53))
    with pytest.raises(Invalid, match="not a finite number"):
        read(tmp_path, TEXT.replace("minimum: 0", "minimum: '7'"))


def test_the_id_follows_the_rules_and_not_the_words(tmp_path):
    first = read(tmp_path, TEXT)
    assert read(tmp_path, TEXT.replace("purpose: tests", "purpose: else")).id == first.id
    assert read(tmp_path, TEXT.replace("maximum: 100", "maximum: 101")).id != first.id


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("maximum: 100", "maxmum: 100", ["orders.yaml:17", "'maxmum'", "write 'maximum'"]),
        ("logicalType: number", "logicalType: nmber", ["orders.yaml:16", "number"]),
        ("[A-Z]\\d+", "\\bA", ["orders.yaml:14", "\\b"]),
        ("maximum: 100", "maximum: .inf", ["orders.yaml:17", "finite"]),
        ("validValues: [open, off, NO]", "validValues: [open, 1]", ["orders.yaml:23", "valid value 1"]),
        ("metric: rowCount", "metric: rowCuont", ["orders.yaml:25", "rowCuont"]),
        ("primaryKey: true", "primaryKey: yes please", ["orders.yaml:13", "primaryKey"]),
        ("version: 1.0.0", "version: 1.0.0\nversion: 2", ["orders.yaml:6", "twice"]),
        ("kind: DataContract", "kind: DataContract\nsql: x", ["orders.yaml:3", "'sql'"]),
        ("apiVersion: v3.1.0", "apiVersion: v9", ["orders.yaml:1", "v3.1.0"]),
        ("description: {purpose: tests}", "description: !!python/object:os.system {}", ["tag"]),
        ("schema:", "schema: [", ["orders.yaml", "not YAML"]),
        ("severity: warning", "severity: fatal", ["fatal", "warning"]),
        ("name: amount", "name: id", ["twice"]),
        ("unit: percent}", "unit: percent, type: sql}", ["orders.yaml:19", "sql"]),
        ("unit: percent}", "unit: percent, type: sql, query: SELECT 1}", ["orders.yaml:19", "quality of type 'sql'"]),
    ],
)
def test_a_wrong_contract_is_refused_with_file_line_and_fix(tmp_path, old, new, says):
    assert old in TEXT
    with pytest.raises(Invalid) as refused:
        read(tmp_path, TEXT.replace(old, new, 1))
    for part in says:
        assert part in str(refused.value)


def test_an_absent_contract_is_not_found(tmp_path):
    with pytest.raises(NotFound, match=r"nowhere\.yaml"):
        Contract.load(tmp_path / "nowhere.yaml")


def test_a_pattern_too_large_for_the_batch_engine_is_refused(tmp_path):
    with pytest.raises(Invalid, match="too large"):
        read(tmp_path, TEXT.replace("[A-Z]\\d+", "(([A-Z]{1000}){1000}){1000}"))


def test_versions_of_a_row_are_no_duplicates_of_each_other(tmp_path):
    agreed = read(tmp_path, TEXT)
    frame = pl.DataFrame({"id": ["A1", "A1"], "amount": [1.0, 2.0], "state": ["open", "open"], "seen": [1, 2]})
    assert agreed.check(frame).bad.height == 1
    assert agreed.check(frame, per=["seen"]).bad.height == 0
