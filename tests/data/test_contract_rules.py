"""Rules about sets of rows and other tables, how they are treated, and contracts that cannot be kept."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from loopline.base.errors import Invalid
from loopline.data import Contract, broken_by_rule, check_log, draft
from loopline.data.contracts.baseline import baseline_of, distance
from loopline.data.describing.drafting import _rounded

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def made(*props, quality=(), **more):
    table = {"name": "t", "properties": list(props), "quality": list(quality)} | more.pop("table", {})
    return Contract.from_doc({"apiVersion": "v3.1.0", "kind": "DataContract", "schema": [table], **more})


def custom(implementation, **more):
    return {"type": "custom", "engine": "loopline", "implementation": implementation, **more}


def test_a_rule_that_cannot_be_judged_is_told_and_never_counted_as_kept():
    prop = {"name": "x", "logicalType": "integer", "relationships": [{"to": "other.id"}]}
    when = {"name": "at", "logicalType": "timestamp", "quality": [custom({"freshness": "3h"})]}
    agreed = made(prop, when)
    frame = pl.DataFrame({"x": [1, 2], "at": [NOW, None]})
    assert agreed.check(frame).unjudged == ("at.freshness", "x.reference")
    assert agreed.counts(frame.lazy()).keys() == {"x.logicalType", "at.logicalType"}
    known = agreed.beside({"other": pl.DataFrame({"id": [1.0, 7.0]})}, at=NOW + timedelta(hours=4))
    assert known.check(frame).unjudged == ()
    assert {v.rule: v.count for v in known.check(frame).violations} == {"x.reference": 1, "at.freshness": 2}
    assert agreed.needs == ("other",)
    with pytest.raises(Invalid, match=r"other\.id, which is not there"):
        agreed.beside({"other": pl.DataFrame({"key": [1]})})


def test_freshness_is_the_age_of_the_newest_time_up_to_its_limit():
    sla = [{"property": "freshness", "value": 3, "unit": "h", "element": "t.at"}]
    agreed = made({"name": "at", "logicalType": "timestamp"}, slaProperties=sla)
    frame = pl.DataFrame({"at": [NOW - timedelta(days=9), NOW]})
    for hours, broken in [(0, 0), (3, 0), (4, 2)]:
        assert agreed.beside(at=NOW + timedelta(hours=hours)).counts(frame.lazy())["at.freshness"] == broken


@pytest.mark.parametrize("kind", ["psi", "total_variation"])
def test_a_distribution_is_kept_by_what_it_was_made_from_and_broken_far_from_it(kind):
    numbers = pl.Series("x", [float(i % 50) for i in range(2000)])
    limit = baseline_of(numbers, distance=kind)
    agreed = made({"name": "x", "logicalType": "number", "quality": [custom(limit)]})
    assert agreed.check(numbers.to_frame()).violations == ()
    assert agreed.check((numbers * 3).to_frame()).violations[0].rule == "x.distribution"
    assert agreed.check((numbers * 3).head(100).to_frame()).unjudged == ("x.distribution",)
    assert distance(kind, [0.5, 0.5], [0.5, 0.5]) == 0


def test_distances_are_what_their_formulas_say():
    assert distance("total_variation", [0.5, 0.5, 0.0], [0.25, 0.5, 0.25]) == 0.25
    assert distance("psi", [0.5, 0.5], [0.25, 0.75]) == pytest.approx(-0.25 * -0.6931472 + 0.25 * 0.4054651, abs=1e-6)


def test_responses_and_severities_say_what_becomes_of_a_row():
    def of(severity, response):
        extras = [{"property": "response", "value": response}, {"property": "severity", "value": severity}]
        extras += [{"property": "default", "value": 1}]
        prop = {"name": "x", "logicalType": "integer", "logicalTypeOptions": {"maximum": 5}, "customProperties": extras}
        return made(prop).check(pl.DataFrame({"x": [1, 9]}))

    for severity in ("error", "warn", "info"):
        for response in ("stop", "quarantine", "default", "log"):
            found = of(severity, response)
            refused = severity == "error" and response in ("stop", "quarantine")
            assert found.bad.height == refused
            assert bool(found.stopped) == (severity == "error" and response == "stop")
            assert found.good["x"].to_list() == ([1] if refused else [1, 1] if response == "default" else [1, 9])
            assert found.violations[0].severity == {"warn": "warning"}.get(severity, severity)


def test_a_stream_larger_than_memory_goes_to_two_files_with_the_same_verdict(tmp_path):
    agreed = made({"name": "x", "logicalType": "integer", "logicalTypeOptions": {"maximum": 90}, "unique": True})
    for part in range(4):
        rows = pl.DataFrame({"x": [(i * 7) % 101 if i % 50 == 0 else i + part * 1000 for i in range(1000)]})
        rows.write_parquet(tmp_path / f"{part}.parquet")
    files = pl.scan_parquet(tmp_path / "?.parquet")
    split = agreed.split(files, tmp_path / "out" / "good.parquet", tmp_path / "out" / "bad.parquet")
    checked = agreed.check(files.collect())
    assert pl.read_parquet(tmp_path / "out" / "good.parquet").equals(checked.good)
    assert pl.read_parquet(tmp_path / "out" / "bad.parquet").equals(checked.bad)
    assert (split.rows, split.quarantined) == (4000, checked.bad.height)


def test_a_log_is_judged_by_window_under_other_column_names_too():
    agreed = made({"name": "x", "logicalType": "number", "logicalTypeOptions": {"maximum": 5}, "required": True})
    log = pl.DataFrame(
        {
            "decision_time": [NOW, NOW + timedelta(hours=1), NOW + timedelta(days=1), None],
            "input_x": [9.0, None, 1.0, 99.0],
            "broken": [["x.maximum"], ["x.required"], [], None],
        },
        schema_overrides={"decision_time": pl.Datetime("us", "UTC")},
    )
    found = check_log(agreed, log, columns={"x": "input_x"}).filter(pl.col("broken") > 0)
    assert found.select("window", "rows", "rule", "broken").rows() == [
        (NOW, 2, "x.required", 1),
        (NOW, 2, "x.maximum", 1),
    ]
    assert broken_by_rule(log) == {"x.maximum": 1, "x.required": 1}
    assert check_log(agreed, log, since=NOW + timedelta(days=1), columns={"x": "input_x"})["broken"].sum() == 0
    with pytest.raises(Invalid, match="no time 'when'"):
        check_log(agreed, log, time="when")


def test_a_draft_says_why_and_leaves_room(tmp_path):
    frame = pl.DataFrame({"n": [1e-7 * (i % 97 - 3) for i in range(500)], "code": [f"A{i:03}" for i in range(500)]})
    drafted = draft(frame.with_columns(code=pl.col("code").str.head(3)), "t")
    told = {p["name"]: p["description"] for p in drafted.doc["schema"][0]["properties"]}
    assert "leave room" in told["n"]
    assert "every text has 3 characters" in told["code"]
    assert drafted.check(pl.DataFrame({"n": [1.5e-5], "code": ["A00"]})).violations == ()
    assert drafted.check(pl.DataFrame({"n": [1e-3], "code": ["A00"]})).violations[0].rule == "n.maximum"
    for value in (1e-300, 9.99e-5, 0.1, 1.0, 99.5, 12345.678, 1e15):
        assert value <= _rounded(value) <= value * 1.11 + 1


BAD = [
    ({"name": "x", "logicalType": "array", "relationships": [{"to": "o.id"}]}, "a reference"),
    ({"name": "x", "logicalType": "integer", "relationships": [{"to": "id"}]}, "table.column"),
    (
        {"name": "x", "customProperties": [{"property": "response", "value": "default"}], "required": True},
        "never guessed",
    ),
    (
        {
            "name": "x",
            "logicalType": "integer",
            "logicalTypeOptions": {"maximum": 5},
            "customProperties": [{"property": "default", "value": 9}],
        },
        "breaks x.maximum",
    ),
    (
        {"name": "x", "logicalType": "integer", "customProperties": [{"property": "default", "value": "a"}]},
        "default 'a'",
    ),
    ({"name": "x", "logicalType": "string", "quality": [custom({"freshness": "3h"})]}, "put it at a timestamp"),
    ({"name": "x", "logicalType": "timestamp", "quality": [custom({"freshness": "soon"})]}, "3h or 1d"),
    ({"name": "x", "logicalType": "number", "quality": [custom({"distribution": "ks"})]}, "known: psi"),
    (
        {
            "name": "x",
            "logicalType": "number",
            "quality": [custom({"distribution": "psi", "atMost": 1, "edges": [1], "shares": [0.5, 0.9]})],
        },
        "sum to 1.4",
    ),
    ({"name": "x", "quality": [{"type": "custom", "engine": "soda", "implementation": "x"}]}, "engine 'soda'"),
    ({"name": "x", "logicalType": "string", "logicalTypeOptions": {"pattern": "(" * 999 + ")" * 999}}, "nested"),
    ({"name": "x", "logicalType": "string", "logicalTypeOptions": {"pattern": "((a?){900}){900}"}}, "too large"),
]


@pytest.mark.parametrize(("prop", "says"), BAD, ids=[says for _, says in BAD])
def test_a_property_that_cannot_be_kept_is_refused(prop, says):
    with pytest.raises(Invalid) as refused:
        made(prop)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("relation", "says"),
    [
        ("gone > 1", "no column 'gone'; declared: n, s, at"),
        ("n > 'a'", "is a text where a number is needed"),
        ("n + s > 1", "takes numbers"),
        ("n", "is a number, not a statement"),
        ("1 < 2", "names no column"),
        ("n is None", "missing(...)"),
        ("n >", "cannot be read"),
        ("__import__('os').system('x')", "not part of the language"),
        ("n.real > 1", "not part of the language"),
        ("[n for n in s]", "not part of the language"),
        ("n > 9**9", "not part of the language"),
        ("(" * 300 + "n" + ")" * 300 + "> 1", "cannot be read"),
        ("n > 1 and " * 200 + "n > 1", "characters long"),
        ("at > time('2026-01-01T00:00')", "no zone"),
    ],
)
def test_a_relation_that_means_nothing_is_refused_with_its_reason(relation, says):
    props = [{"name": n, "logicalType": t} for n, t in (("n", "number"), ("s", "string"), ("at", "timestamp"))]
    with pytest.raises(Invalid) as refused:
        made(*props, quality=[custom(relation, name="r")])
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("relation", "a", "b", "broken"),
    [
        ("a < b", 1.0, None, False),
        ("a < b or b > 0", None, -1.0, False),
        ("a < b and b > 0", None, -1.0, True),
        ("not (a < b and b > 0)", None, -1.0, False),
        ("a / b < 1", 1.0, 0.0, False),
        ("a - b < 1", math.inf, math.inf, False),
        ("a * b > 1", math.inf, 0.0, False),
        ("a < 1", math.nan, 0.0, False),
        ("a * b < 1", 1e300, 1e300, True),
        ("missing(a) or present(b)", 1.0, math.nan, True),
    ],
)
def test_what_is_unknown_breaks_no_relation(relation, a, b, broken):
    props = [{"name": n, "logicalType": "number"} for n in "ab"]
    agreed = made(*props, quality=[custom(relation, name="r")])
    frame = pl.DataFrame({"a": [a], "b": [b]}, schema={"a": pl.Float64, "b": pl.Float64})
    assert agreed.row_rules()({"a": a, "b": b}) == ["check.r"] * broken
    assert agreed.counts(frame.lazy())["check.r"] == broken


def test_a_text_that_cannot_be_read_is_of_the_wrong_type_and_not_missing():
    limit = {"metric": "nullValues", "mustBe": 0}
    props = [{"name": "x", "logicalType": "integer", "required": True, "quality": [limit]}]
    agreed = made(*props, {"name": "y", "logicalType": "integer", "logicalTypeOptions": {"maximum": 5}})
    frame = pl.DataFrame({"x": [1, None, None], "y": [1, 9, 2]}, schema={"x": pl.Int64, "y": pl.Int64})
    checked = agreed.check(frame, unreadable=pl.DataFrame({"x.logicalType": [False, True, False]}))
    assert checked.bad["broken_rules"].to_list() == [["x.logicalType", "y.maximum"], ["x.required"]]
    assert {v.rule: v.count for v in checked.violations} == {
        "x.required": 1,
        "x.logicalType": 1,
        "x.nullValues": 1,
        "y.maximum": 1,
    }
    assert agreed.row_rules()({"x": "abc", "y": 9}) == ["x.logicalType", "y.maximum"]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)),
        "a: &a [*a]",
        "[" * 1200,
        "{" * 1200,
        "a: " + "x" * 3_000_000,
        "kind: DataContract\nschema: 99999999999999999999-99-99",
        "a: 2026-99-99",
        "\x00",
        "- a\nb: c",
        "",
        "? {a: b}\n: c",
        "key: !!binary x",
    ],
    ids=["laughs", "itself", "lists", "maps", "large", "date", "moment", "nul", "mixed", "empty", "key", "tag"],
)
def test_hostile_yaml_is_refused_in_words_and_at_once(tmp_path, text):
    path = tmp_path / "t.yaml"
    path.write_text(text)
    begin = time.process_time()
    with pytest.raises(Invalid, match=r"t\.yaml"):
        Contract.load(path)
    assert time.process_time() - begin < 10


def test_two_checks_of_one_name_are_refused():
    with pytest.raises(Invalid, match=r"two rules called check\.r"):
        made({"name": "n", "logicalType": "number"}, quality=[custom("n > 1", name="r"), custom("n > 2", name="r")])
