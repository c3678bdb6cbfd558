"""Columns computed elsewhere, and the latest values without a spine."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.errors import Invalid
from loopline.data.spec import TableSpec
from loopline.features import (
    col,
    compute,
    count,
    external_view,
    frame_view,
    history,
    latest,
    latest_of,
    lookup,
    together,
    view,
)

NOW = datetime(2026, 1, 10, tzinfo=UTC)
DAY = timedelta(days=1)
SCORES = pl.DataFrame(
    {
        "who": ["a", "a", "b"],
        "day": [NOW - 3 * DAY, NOW - 2 * DAY, NOW - 30 * DAY],
        "known_at": [NOW - 2 * DAY, NOW + DAY, NOW - 29 * DAY],
        "score": [0.25, 0.5, 0.75],
        "segment": ["x", "y", "z"],
    }
)
SPEC = TableSpec(source="scores.parquet", event_time="day", known_at="known_at")
SPINE = pl.DataFrame({"unit": ["1", "2", "3"], "decision_time": [NOW, NOW + 2 * DAY, NOW], "who": ["a", "a", "b"]})


def test_a_table_of_others_joins_by_when_its_rows_became_known():
    risk = external_view("risk", source="scores", entity="who", columns=["score"], categories=["segment"], ttl="7d")
    found = compute(together([risk]), SPINE, {"scores": history(SCORES, SPEC)})
    assert found.select("score", "segment").rows() == [(0.25, "x"), (0.5, "y"), (None, None)]
    assert risk.external and risk.name == "risk"


@frame_view(inputs=["payments"], entity="who", columns=["rank"], ttl="30d")
def ranks(payments):
    daily = payments.group_by("who", pl.col("known_at").dt.truncate("1d").alias("event_time")).agg(pl.col("paid").sum())
    known = (pl.col("event_time") + DAY).alias("known_at")
    return daily.with_columns(pl.col("paid").rank("dense").over("event_time").alias("rank"), known)


PAYMENTS = pl.DataFrame(
    {"who": ["a", "b", "b"], "t": [NOW - 2 * DAY, NOW - 2 * DAY, NOW + timedelta(hours=1)], "paid": [3.0, 5.0, 1.0]}
)


def test_a_function_of_whole_frames_joins_like_a_table():
    tables = {"payments": history(PAYMENTS, TableSpec(source="p.csv", event_time="t"))}
    views = together([ranks])
    assert views.tables == ("payments",)
    assert compute(views, SPINE, tables)["rank"].to_list() == [1.0, 1.0, 2.0]
    early = SPINE.with_columns(decision_time=pl.lit(NOW - 1.5 * DAY))
    assert compute(views, early, tables)["rank"].to_list() == [None, None, None]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda frame: frame.drop("who"), "lacks who"),
        (lambda frame: frame.with_columns(pl.col("known_at").dt.replace_time_zone(None)), "zone"),
        (lambda frame: None, "NoneType"),
        (lambda frame: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_frame_that_cannot_be_joined_is_refused(result, said):
    @frame_view(inputs=["payments"], entity="who", columns=["paid"], ttl="1d")
    def broken(payments):
        return result(payments)

    with pytest.raises(Invalid, match=said):
        compute(together([broken]), SPINE, {"payments": history(PAYMENTS, TableSpec(source="p.csv", event_time="t"))})


def test_an_outside_view_has_an_id_of_its_own():
    outside = external_view("risk", source="scores", entity="who", columns=["score"], ttl="7d")
    inside = view(entity="who", source="scores", ttl="7d")(lambda: {"score": latest("score")})
    assert together([outside]).id != together([inside]).id
    with pytest.raises(Invalid, match="names no columns"):
        external_view("risk", source="scores", entity="who", ttl="7d")


moments = st.integers(-20, 20).map(lambda h: NOW + timedelta(hours=h))
facts = st.lists(st.tuples(st.sampled_from("abc"), moments, moments, st.integers(0, 9)), max_size=15)


@settings(max_examples=60, deadline=None)
@given(facts=facts, at=moments)
def test_without_a_spine_every_entity_has_its_newest_value_known_then(facts, at):
    schema = {"who": pl.String, "t": pl.Datetime("us", "UTC"), "known_at": pl.Datetime("us", "UTC"), "v": pl.Int64}
    table = history(
        pl.DataFrame(facts, schema, orient="row"), TableSpec(source="f.csv", event_time="t", known_at="known_at")
    )
    views = together(
        [
            view(entity="who", source="log", ttl="6h")(lambda: {"v": latest("v"), "n": count("1d")}),
            view()(lambda: {"x": col("x")}),
        ]
    )
    found = latest_of(views, {"log": table}, entity=["who"], at=at)
    known = [(t, k, i, who, v) for i, (who, t, k, v) in enumerate(facts) if max(t, k) <= at]
    assert found["who"].to_list() == sorted({who for *_, who, _ in known}) and found.columns[1:] == [
        "decision_time",
        "v",
        "n",
    ]
    for who, v, n in found.select("who", "v", "n").rows():
        newest = max(one for one in known if one[3] == who)
        assert v == (newest[4] if at - newest[0] <= timedelta(hours=6) else None)
        assert n <= len([1 for one in known if one[3] == who])


def test_a_table_without_times_gives_all_its_entities():
    people = view(entity={"customer": "id"}, source="people")(lambda: {"age": lookup("age")})
    table = history(pl.DataFrame({"id": [2, 1, 2], "age": [3, 4, 5]}), TableSpec(source="p.csv", key=("id",)))
    found = latest_of(together([people]), {"people": table}, entity=["customer"], at=NOW)
    assert found.select("customer", "age").rows() == [(1, 4.0), (2, 5.0)]
    with pytest.raises(Invalid, match="customer"):
        latest_of(together([people]), {"people": table}, entity=["shop"], at=NOW)
