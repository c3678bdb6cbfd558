"""Views as projects declare them."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from loopline.base.errors import Invalid
from loopline.data.spec import TableSpec
from loopline.features import (
    col,
    compute,
    count,
    history,
    latest,
    load_views,
    lookup,
    mean,
    minutes_between,
    together,
    view,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPINE = pl.DataFrame({"unit": ["1", "2", "3"], "decision_time": [NOW] * 3, "who": ["a", "b", None], "x": [1, 2, 3]})


def test_a_file_of_views_is_read_in_its_order_and_named_by_what_it_computes(tmp_path):
    text = "from loopline.features import view, col, count\n{}"
    body = "@view()\ndef first():\n    return {'a': col('x'), 'b': col('who').category()}\n"
    body += "@view(entity='who', source='log')\ndef second():\n    return {'n': count('28d')}\n"
    (tmp_path / "one.py").write_text(text.format(body))
    (tmp_path / "two.py").write_text(text.format("# other words\n" + body.replace("first", "erste")))
    one, two = load_views(tmp_path, ["one.py"]), load_views(tmp_path, ["two.py"])
    assert one.names == ("a", "b", "n") and one.categorical == ("b",) and one.tables == ("log",)
    assert timedelta(days=28) <= one.lookback < timedelta(days=29) and one.spine_columns == ("who", "x")
    assert one.id == two.id


def test_the_id_changes_with_what_is_computed():
    def made(window):
        return together([view(entity="who", source="log")(lambda: {"n": count(window)})])

    assert made("1d").id == made("24h").id != made("2d").id


@pytest.mark.parametrize(
    ("options", "features", "said"),
    [
        ({}, {"n": count("1h")}, "without a source"),
        ({"source": "log", "entity": "who"}, {"v": latest("v")}, "without a ttl"),
        ({"source": "log"}, {"v": lookup("v")}, "entity"),
        ({}, {"label": col("x")}, "label"),
        ({}, {"x": 3}, "is an expression"),
        ({}, {"x": col("who").category() == "a"}, "last word"),
    ],
)
def test_a_view_whose_parts_do_not_fit_is_refused(options, features, said):
    with pytest.raises(Invalid, match=said):
        view(**options)(lambda: features)


def test_a_feature_has_one_definition():
    one, two = view()(lambda: {"x": col("x")}), view()(lambda: {"x": col("x") + 1})
    with pytest.raises(Invalid, match="'x'"):
        together([one, two])


def test_lookup_reads_a_table_without_times_and_keeps_every_row():
    made = view(entity="who", source="people")(lambda: {"age": lookup("age"), "name": lookup("name").category()})
    people = pl.DataFrame({"who": ["a", "c", "a"], "age": [30, 40, 31], "name": ["A", "C", "A2"]})
    found = compute(together([made]), SPINE, {"people": history(people, TableSpec(source="p.csv", key=("who",)))})
    assert found.select("unit", "age", "name").rows() == [("1", 31.0, "A2"), ("2", None, None), ("3", None, None)]


def test_lookups_mix_with_the_spine_in_one_expression():
    made = view(entity="who", source="log", ttl="2d")(
        lambda: {"since": minutes_between(latest("t"), col("decision_time")), "ratio": col("x") / mean("v", "1d")}
    )
    log = pl.DataFrame({"who": ["a", "a"], "t": [NOW - timedelta(hours=3), NOW - timedelta(hours=1)], "v": [2.0, 6.0]})
    found = compute(together([made]), SPINE, {"log": history(log, TableSpec(source="l.csv", event_time="t"))})
    assert found["since"].to_list() == [60.0, None, None]
    assert found["ratio"].to_list() == [0.25, None, None]


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"x": col("who")}, "category"),
        ({"x": col("decision_time")}, "category"),
        ({"x": col("nowhere")}, "nowhere"),
        ({"fine": col("x"), "bad": minutes_between(col("who"), col("x"))}, "'bad'"),
    ],
)
def test_what_cannot_be_a_feature_is_named(features, said):
    with pytest.raises(Invalid, match=said):
        compute(together([view()(lambda: features)]), SPINE, {})


def test_a_missing_table_is_named():
    with pytest.raises(Invalid, match="'log'"):
        compute(together([view(source="log")(lambda: {"n": count("1h")})]), SPINE, {})


def test_values_too_large_for_exact_sums_are_refused():
    made = view(source="log")(lambda: {"m": mean("v", "1d")})
    log = pl.DataFrame({"t": [NOW], "v": [1e13]})
    with pytest.raises(Invalid, match="summed exactly"):
        compute(together([made]), SPINE, {"log": history(log, TableSpec(source="l.csv", event_time="t"))})


def test_a_constant_counts_once_per_row():
    made = view(entity="who", source="log", ttl="1d")(lambda: {"one": latest(col("v") * 0 + 1), "n": count("1d")})
    log = pl.DataFrame({"who": ["a", "a", "b"], "t": [NOW, NOW, NOW], "v": [2.0, 6.0, 1.0]})
    found = compute(together([made]), SPINE, {"log": history(log, TableSpec(source="l.csv", event_time="t"))})
    assert found["n"].to_list() == [2.0, 1.0, None] and found["one"].to_list() == [1.0, 1.0, None]
