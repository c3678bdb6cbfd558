"""One contract, four points: a training frame, files in batch, a request, windows of a log."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.test_contract_agreement import GREAT, HUGE, ODD_FLOATS, TEXTS, moments, properties

from loopline.base.ids import canonical
from loopline.data import Contract, check_log
from loopline.data.contracts.rules import COLUMN_KINDS, LINK_KINDS
from loopline.data.intake.columns import read_declared
from loopline.data.intake.row_cleaning import compile_row_intake

START = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = ("x", "a b", "é'\"", "\\")
zoned = moments.map(lambda m: m.replace(tzinfo=UTC))
small = st.integers(-4, 4)
great = st.sampled_from([*GREAT, 2.5, 2.0**53, -(2.0**63), 1e300])
VALUES = [
    (pl.Int64, st.one_of(small, st.sampled_from(HUGE))),
    (pl.Int128, st.one_of(small, st.sampled_from([2**63, 2**70, *HUGE]))),
    (pl.Float64, st.one_of(st.sampled_from(ODD_FLOATS), small.map(float), st.floats())),
    (pl.String, st.one_of(st.sampled_from(TEXTS), st.text(max_size=3))),
    (pl.Boolean, st.booleans()),
    (pl.Datetime("us", "America/New_York"), zoned),
    (pl.Datetime("us"), moments),
    (pl.Date, moments.map(datetime.date)),
]
TIMES_IN_TEXT = st.one_of(
    st.sampled_from(["", " ", "soon", "2024-13-01", "2026-02-30", "1999-02-03", "2024-05-05", " 2024-05-05"]),
    st.sampled_from(["2025-01-01T00:00:00Z", "2025-01-01T00:00:00", "2026-03-29 02:30:00", "1995-01-01t00:00+02:00"]),
    moments.map(lambda m: m.isoformat() + "Z"),
    moments.map(lambda m: m.date().isoformat()),
)
KIND = {"integer": 0, "number": 2, "string": 3, "boolean": 4, "timestamp": 5, "date": 7}


@st.composite
def relations(draw, props):
    """A relation between declared columns; it may compare a column with itself."""
    by_type: dict[str, list[str]] = {}
    for prop in props:
        kind = prop.get("logicalType")
        family = "number" if kind in ("integer", "number") else kind
        if family in ("number", "string", "boolean", "timestamp", "date"):
            by_type.setdefault(family, []).append(f"column({prop['name']!r})")
    if not by_type:
        return None
    family = draw(st.sampled_from(sorted(by_type)))
    one, two = draw(st.sampled_from(by_type[family])), draw(st.sampled_from(by_type[family]))
    sides = {
        "number": [
            f"{one} - 2 * {two} <= 1.5",
            f"{one} / {two} > 0 or missing({one})",
            f"-2 <= {one} < 3",
            f"abs({one}) != {two}",
            f"{one} < {two}",
            f"{one} == {two}",
            f"{draw(st.sampled_from(['<', '<=', '==', '!=', '>=', '>'])).join([one, str(draw(great))])}",
            f"{draw(great)} >= {one} - {two}",
            f"{one} in ({draw(great)}, {draw(great)})",
        ],
        "string": [f"{one} <= {two}", f"length({one}) < 2", f"{one} in ('a', 'A1', '')", f"not {one} == 'é'"],
        "boolean": [f"{one} or not {two}", f"{one} == {two} and present({one})"],
        "timestamp": [f"{one} - {two} < 3600", f"{one} > time('1995-01-01T00:00Z')", f"{one} != {two}"],
        "date": [f"{one} - {two} < 100", f"{one} <= date('2000-02-29')"],
    }
    return draw(st.sampled_from(sides[family]))


@st.composite
def worlds(draw):
    """A contract, the table it refers to, and rows."""
    props = draw(st.lists(properties(), min_size=1, max_size=4, unique_by=lambda p: p["name"]))
    frame: dict[str, pl.Series] = {}
    height = draw(st.integers(1, 6))
    there: dict[str, pl.Series] = {"any": pl.Series([1, 2])}
    for prop in props:
        kind = prop.get("logicalType")
        fits = KIND.get(kind, 0)
        dtype, values = VALUES[fits] if draw(st.booleans()) else draw(st.sampled_from(VALUES))
        if kind in ("timestamp", "date") and draw(st.booleans()):
            dtype, values = pl.String, TIMES_IN_TEXT
            if kind == "timestamp" and draw(st.booleans()):
                prop["logicalTypeOptions"] = {
                    **prop.get("logicalTypeOptions", {}),
                    "defaultTimezone": "Europe/Paris",
                }
        rows = draw(st.lists(st.one_of(st.none(), values), min_size=height, max_size=height))
        if draw(st.integers(0, 9)):
            frame[prop["name"]] = pl.Series(prop["name"], rows, dtype=dtype)
        if kind in KIND and draw(st.booleans()):
            held = draw(st.lists(VALUES[fits][1], max_size=3))
            there[prop["name"]] = pl.Series(prop["name"], held, dtype=VALUES[fits][0])
            prop["relationships"] = [{"to": f"other.{prop['name']}"}]
    rule = draw(relations(props))
    quality = [{"type": "custom", "engine": "loopline", "name": "r", "implementation": rule}] if rule else []
    doc = {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "schema": [{"name": "t", "properties": props, "quality": quality}],
    }
    width = max(s.len() for s in there.values())
    other = pl.DataFrame([s.extend_constant(None, width - s.len()) for s in there.values()])
    agreed = Contract.from_doc(doc).beside({"other": other})
    rows = pl.DataFrame(frame, height=height) if frame else pl.DataFrame(height=height)
    return agreed, rows.with_columns(pl.Series("at", [START + timedelta(minutes=i) for i in range(height)]))


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_the_same_row_breaks_the_same_rules_at_all_four_points(tmp_path_factory, world):
    agreed, frame = world
    alone = [rule.id for rule in agreed.rules if rule.kind in (*COLUMN_KINDS, *LINK_KINDS)]
    request = [list(agreed.judge_row(row).broken) for row in frame.to_dicts()]
    moments = {c.name: (c.type, c.zone) for c in agreed.columns if c.type in ("timestamp", "date")}
    served = compile_row_intake([], moments, agreed)
    written = canonical(agreed.doc)
    travelled = replace(Contract.from_doc(json.loads(written)), held=agreed.held)  # as a bundle carries it
    assert (travelled.id, canonical(travelled.doc)) == (agreed.id, written)
    assert [list(travelled.judge_row(served(row)).broken) for row in frame.to_dicts()] == request  # over HTTP
    assert all(id in alone for broken in request for id in broken)

    checked = agreed.check(frame)  # training
    assert checked.unjudged == ()
    assert checked.bad["broken_rules"].to_list() == [broken for broken in request if broken]
    assert checked.good["at"].to_list() == [at for at, b in zip(frame["at"], request, strict=True) if not b]
    assert {v.rule: v.count for v in checked.violations} == {
        id: n for id in alone if (n := sum(id in broken for broken in request))
    }

    folder = tmp_path_factory.mktemp("split")  # batch
    frame.write_parquet(folder / "rows.parquet")
    split = agreed.split(pl.scan_parquet(folder / "rows.parquet"), folder / "good.parquet", folder / "bad.parquet")
    assert pl.read_parquet(folder / "good.parquet").equals(checked.good)
    assert pl.read_parquet(folder / "bad.parquet").equals(checked.bad)
    assert {id: n for id, n in split.counts.items() if n} == {v.rule: v.count for v in checked.violations}

    log = check_log(agreed, frame.lazy(), time="at", every=timedelta(minutes=1))  # production log, a row a window
    for at, broken in zip(frame["at"], request, strict=True):
        found = log.filter((pl.col("window") == at) & (pl.col("broken") > 0))
        assert found["rule"].to_list() == broken


def test_a_line_of_json_and_the_same_row_asked_for_have_one_verdict():
    props = [
        {"name": "t", "logicalType": "timestamp", "required": True},
        {"name": "day", "logicalType": "date", "logicalTypeOptions": {"minimum": "2024-01-01"}},
    ]
    doc = {"apiVersion": "v3.1.0", "kind": "DataContract", "schema": [{"name": "t", "properties": props}]}
    agreed = Contract.from_doc(doc)
    told = {
        ("2025-01-01T00:00:00Z", "2024-05-05"): [],
        ("2025-01-01T00:00:00", "2024-05-05"): ["t.logicalType"],
        ("2025-01-01T00:00:00Z", "2024-13-01"): ["day.logicalType"],
        ("2025-01-01T00:00:00Z", "2023-12-31"): ["day.minimum"],
        ("", ""): ["t.required"],
    }
    rows = [{"t": t, "day": day} for t, day in told]
    assert [list(agreed.judge_row(row).broken) for row in rows] == list(told.values())
    checked = agreed.check(pl.DataFrame(rows))
    assert checked.bad["broken_rules"].to_list() == [broken for broken in told.values() if broken]
    assert checked.good["day"].to_list() == ["2024-05-05"]
    counted = agreed.counts(pl.LazyFrame(rows))
    assert {id: n for id, n in counted.items() if n} == {
        "t.required": 1,
        "t.logicalType": 1,
        "day.logicalType": 1,
        "day.minimum": 1,
    }


EDGES = ["0000-01-01", "0000-12-31", "0001-01-01", "9999-12-31", "10000-01-01", "-001-01-01"]
days = st.builds(
    lambda sign, parts, blank: f"{sign}{'-'.join(parts)}{blank}",
    st.sampled_from(["", "", "+", "-", " ", "0", "\x1f"]),
    st.tuples(st.sampled_from(["2000", "26", "0000", "２000"]), *[st.sampled_from(["01", "1", " 1", "13"])] * 2),
    st.sampled_from(["", "", " ", "\xa0", "\x1f", "\n"]),
)
offsets = st.sampled_from(["", "Z", "z", "+00:00", "-0430", "+14:00", "-14:00", "+25:00", " Z", "+01", "UTC"])
clocks = st.builds(
    lambda day, sep, clock, offset: f"{day}{sep}{clock}{offset}",
    st.sampled_from(["2026-03-29", "2026-10-25", "2024-02-29", "2026-02-30", "1583-01-01", "26-01-01", *EDGES]),
    st.sampled_from(["T", " ", "t", "  ", "x"]),
    st.sampled_from(
        [
            "02:30:00",
            "00:00:00",
            "23:59:59",
            "12:00",
            "23:59:59.123456789",
            "24:00:00",
            "00:00:00.5",
            "1:2:3x",
            "02:30:00.",
        ]
    ),
    offsets,
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(clocks, days, st.sampled_from(["", " ", "2026-01-31", "soon", *EDGES])), min_size=1, max_size=6),
    st.booleans(),
)
def test_a_text_is_the_same_moment_in_a_file_and_in_a_request(given_texts, zoned_column):
    options = {"logicalTypeOptions": {"defaultTimezone": "Europe/Paris"}} if zoned_column else {}
    for kind in ("timestamp", "date"):
        prop = {"name": "x", "logicalType": kind, "required": True} | (options if kind == "timestamp" else {})
        doc = {"apiVersion": "v3.1.0", "kind": "DataContract", "schema": [{"name": "t", "properties": [prop]}]}
        agreed = Contract.from_doc(doc)
        read, unreadable = read_declared(pl.DataFrame({"x": given_texts}), agreed)
        in_file = agreed.check(read.with_row_index(), unreadable=unreadable)
        requests = [agreed.read_row({"x": text}) for text in given_texts]
        verdicts = [agreed.judge_row(row) for row in requests]
        assert in_file.bad.select("index", "broken_rules").rows() == [
            (n, list(v.broken)) for n, v in enumerate(verdicts) if v.broken
        ]
        for n, v in enumerate(verdicts):
            if not v.broken:
                assert v.row["x"] == read["x"][n]


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.sampled_from([math.nan, 1.0, 7.0])), min_size=1, max_size=9))
def test_a_default_stands_where_a_rule_says_so_in_batch_and_in_a_request(values):
    extras = [{"property": "default", "value": 2}, {"property": "response", "value": "default"}]
    prop = {"name": "x", "logicalType": "number", "logicalTypeOptions": {"maximum": 5}, "required": True}
    doc = {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "schema": [{"name": "t", "properties": [prop | {"customProperties": extras}]}],
    }
    agreed = Contract.from_doc(doc)
    frame = pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)})
    checked = agreed.check(frame)
    verdicts = [agreed.judge_row(row) for row in frame.to_dicts()]
    assert checked.bad.height == 0
    assert checked.good["x"].to_list() == [v.row["x"] for v in verdicts] == [1.0 if v == 1.0 else 2.0 for v in values]
    assert {v.rule: v.count for v in checked.violations} == {
        id: n for id in ("x.required", "x.maximum") if (n := sum(id in v.broken for v in verdicts))
    }
    assert all(not v.refused for v in verdicts)
