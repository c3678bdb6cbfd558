"""One cleaning, the same for a frame, for one row and for logs; what it changed is counted and kept."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from loopline.base.clock import ManualClock
from loopline.base.errors import Invalid
from loopline.data import CleanSpec, TableSpec, clean, compile_cleaning, ingest
from loopline.workspace import create_workspace

words = st.one_of(st.none(), st.text(alphabet=" \t\nab$1é\u00a0-", max_size=6), st.sampled_from(["NA", "UK", "-"]))
reals = st.one_of(st.none(), st.floats(width=64), st.sampled_from([0.0, -0.0, 999.0, 32.0]))
wholes = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.sampled_from([999, 0]))
flags = st.one_of(st.none(), st.booleans())
patterns = st.sampled_from(["a+", "[^0-9]", "^ +", " +$", r"\d", "a|b", "(?:ab)+?", r"\$", r"\s", "^-$"])


def rule(**keys):
    return CleanSpec.model_validate(keys)


text_rules = st.one_of(
    st.just(rule(column="t", trim=True)),
    st.builds(lambda p, b: rule(column="t", replace=p, by=b), patterns, st.sampled_from(["", "$1", "x", "\\1"])),
    st.just(rule(column="t", map={"UK": "GB", "a": "UK", "": "empty"})),
    st.just(rule(column="t", null=["NA", "-"])),
    st.just(rule(column="t", fill="none")),
)
value_rules = st.one_of(
    st.just(rule(column="x", **{"from": "F", "to": "C"})),
    st.just(rule(column=["x", "n"], **{"from": "mi", "to": "km"})),
    st.builds(lambda f, p: rule(column=["x", "n"], times=f, plus=p), st.sampled_from([0.1, -3.0]), st.floats(-9, 9)),
    st.just(rule(column=["x", "n", "t"], null=[999, -1.5, "NA"])),
    st.just(rule(column="f", null=True)),
    st.just(rule(column="x", fill=1)),
    st.just(rule(column="n", fill=7)),
    st.just(rule(column="f", fill=False)),
)


def plain(value):
    return None if value is None or value != value else value


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(text_rules, value_rules), max_size=5),
    st.lists(st.tuples(words, reals, wholes, flags), min_size=1, max_size=6),
)
def test_a_row_is_cleaned_as_its_frame_is(rules, rows):
    frame = pl.DataFrame(rows, schema={"t": pl.String, "x": pl.Float64, "n": pl.Int64, "f": pl.Boolean}, orient="row")
    cleaned = clean(frame, rules)
    one = compile_cleaning(rules)
    for given_row, found in zip(frame.rows(named=True), cleaned.rows.rows(named=True), strict=True):
        wanted = one(given_row)
        assert {k: plain(v) for k, v in wanted.items()} == {k: plain(v) for k, v in found.items()}


@settings(max_examples=60, deadline=None)
@given(st.lists(text_rules, max_size=4), st.lists(words, min_size=1, max_size=8))
def test_each_rule_counts_the_rows_that_it_changed(rules, texts):
    frame = pl.DataFrame({"t": texts}, schema={"t": pl.String})
    expected: dict[str, set[int]] = {}
    for at, text in enumerate(texts):
        row = {"t": text}
        for one in rules:
            after = compile_cleaning([one])(row)
            if after != row:
                expected.setdefault(f"t.{one.rule}", set()).add(at)
            row = after
    found = clean(frame, rules).changed
    assert {k: set(v.arg_true()) for k, v in found.items()} == expected


def test_what_cleaning_changed_is_counted_and_kept_as_it_came(tmp_path):
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    ws = create_workspace(tmp_path / "ws", clock=clock, actor="user:ada")
    (tmp_path / "t.csv").write_text("id,city,temp\n1, Rome ,50\n2,NYC,-999\n2,NYC,-999\n3,Oslo,14\n")
    spec = TableSpec(
        source="t.csv",
        clean=[
            {"column": "city", "trim": True},
            {"column": "city", "map": {"NYC": "New York"}},
            {"column": "temp", "null": -999},
            {"column": "temp", "from": "F", "to": "C"},
            {"duplicates": ["id"]},
        ],
    )
    (done,) = ingest(ws, tmp_path, {"t": spec})
    assert done.cleaned == {"city.map": 2, "city.trim": 1, "id.duplicates": 1, "temp.null": 2, "temp.unit": 2}
    assert ws.tables.scan("t").sort("id").collect().select("id", "city", "temp").rows() == [
        (1, "Rome", 10.0),
        (2, "New York", None),
        (3, "Oslo", -10.0),
    ]
    raw = ws.tables.scan("raw/t").sort("id", "cleaned_by").collect()
    assert raw.select("id", "city", "temp").rows() == [
        ("1", " Rome ", "50"),
        ("2", "NYC", "-999"),
        ("2", "NYC", "-999"),
        ("3", "Oslo", "14"),
    ]
    (again,) = ingest(ws, tmp_path, {"t": spec})
    assert (again.rows, again.cleaned) == (0, {})


def test_text_that_is_repaired_is_read_as_its_contract_declares(tmp_path):
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    ws = create_workspace(tmp_path / "ws", clock=clock, actor="user:ada")
    (tmp_path / "t.yaml").write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nschema:\n  - name: t\n    properties:\n"
        "      - {name: price, logicalType: number}\n"
    )
    (tmp_path / "t.csv").write_text('price\n"1,250 USD"\n3\nfree\n')
    rules = [{"column": "price", "replace": "[^0-9.a-z]| USD"}, {"column": "price", "times": 0.5}]
    (done,) = ingest(ws, tmp_path, {"t": TableSpec(source="t.csv", contract="t.yaml", clean=rules)})
    assert ws.tables.scan("t").collect()["price"].to_list() == [625.0, 1.5]
    assert (done.quarantined, done.violations[0].rule) == (1, "price.logicalType")


def test_a_unit_of_text_is_refused_with_what_to_declare(tmp_path):
    ws = create_workspace(tmp_path / "ws", actor="user:ada")
    (tmp_path / "t.csv").write_text("temp\n50\nwarm\n")
    spec = TableSpec(source="t.csv", clean=[{"column": "temp", "from": "F", "to": "C"}])
    with pytest.raises(Invalid, match="declare temp as number"):
        ingest(ws, tmp_path, {"t": spec})


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"column": "a"}, "exactly one of"),
        ({"column": "a", "trim": True, "fill": 0}, "exactly one of"),
        ({"trim": True}, "needs `column`"),
        ({"column": "a", "duplicates": True}, "names its own columns"),
        ({"column": "a", "from": "F", "to": "km"}, "cannot be given in"),
        ({"column": "a", "replace": "x*"}, "between any two"),
        ({"column": "a", "replace": "(?=x)"}, "at"),
    ],
)
def test_a_rule_that_is_no_rule_is_refused(keys, says):
    with pytest.raises(ValidationError, match=says):
        rule(**keys)
