"""Lookups and windows against their slow, obvious definitions."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopline.data.spec import TableSpec
from loopline.features import col, compute, count, history, latest, mean, share, together, total, view
from loopline.features.pit import Asked

ZERO = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = TableSpec(source="x.csv", event_time="happened", known_at="heard", key=("id",))
WINDOW, TTL = 5, 4
UTC_US = pl.Datetime("us", "UTC")

keys = st.sampled_from(["a", "b", None])
hours = st.integers(0, 12)
events = st.lists(
    st.tuples(st.integers(0, 9), keys, hours, st.integers(0, 9), st.one_of(st.none(), st.integers(-50, 50))),
    max_size=14,
)
asks = st.lists(st.tuples(keys, hours), min_size=1, max_size=8)


def at(hour):
    return ZERO + timedelta(hours=hour)


@view(entity="who", source="log", ttl=f"{TTL}h")
def everything():
    return {
        "newest": latest("v"),
        "n": count(f"{WINDOW}h"),
        "n_big": count(f"{WINDOW}h", col("v") > 10),
        "sum": total("v", f"{WINDOW}h"),
        "mean": mean("v", f"{WINDOW}h"),
        "share": share(col("v") > 10, f"{WINDOW}h"),
    }


def table(rows):
    """Events with one time per id: a correction tells another value of the same event, later."""
    first = {}
    for id_, key, hour, lag, value in rows:
        key, hour = first.setdefault(id_, (key, hour))
        yield id_, key, hour, hour + lag, value


def frame(rows):
    return pl.DataFrame(
        [(i, k, at(e), at(h), v) for i, k, e, h, v in rows],
        schema={"id": pl.Int64, "who": pl.String, "happened": UTC_US, "heard": UTC_US, "v": pl.Int64},
        orient="row",
    )


def spine(asked):
    return pl.DataFrame(
        [(str(n), k, at(t)) for n, (k, t) in enumerate(asked)],
        schema={"unit": pl.String, "who": pl.String, "decision_time": UTC_US},
        orient="row",
    )


def brute(rows, key, now):
    """What the features are, by looking at every row."""
    if key is None:
        return dict.fromkeys(("newest", "n", "n_big", "sum", "mean", "share"))
    versions = {}
    for place, (id_, who, event, heard, v) in enumerate(rows):
        if who == key and heard <= now and event <= now:
            versions.setdefault(id_, []).append((heard, place, event, v))
    current = [max(found) for found in versions.values()]
    fresh = [(event, heard, place, v) for heard, place, event, v in current if event <= now]
    inside = [v for _, _, event, v in current if now - WINDOW < event]
    numbers = [v for v in inside if v is not None]
    newest = max(fresh) if fresh else None
    return {
        "newest": newest[-1] if newest and now - newest[0] <= TTL else None,
        "n": len(inside),
        "n_big": sum(v > 10 for v in numbers),
        "sum": sum(numbers),
        "mean": sum(numbers) / len(numbers) if numbers else None,
        "share": sum(v > 10 for v in numbers) / len(numbers) if numbers else None,
    }


def same(found, expected):
    return found is None if expected is None else found is not None and abs(found - expected) < 1e-5


@settings(max_examples=150, deadline=None)
@given(events, asks)
@example([(1, "a", 0, 9, 1)], [("a", 7)])
def test_lookups_and_windows_are_what_was_known_then_by_brute_force(rows, asked):
    rows = list(table(rows))
    made = compute(together([everything]), spine(asked), {"log": history(frame(rows), SPEC)})
    assert made["unit"].to_list() == [str(n) for n in range(len(asked))]
    for (key, now), row in zip(asked, made.iter_rows(named=True), strict=True):
        for name, expected in brute(rows, key, now).items():
            assert same(row[name], expected), (name, row, expected)


@settings(max_examples=60, deadline=None)
@given(events, asks)
def test_what_comes_after_the_decision_time_changes_nothing(rows, asked):
    rows = list(table(rows))
    whole = compute(together([everything]), spine(asked), {"log": history(frame(rows), SPEC)})
    for n, (_, now) in enumerate(asked):
        cut = frame([row for row in rows if row[3] <= now])
        alone = compute(together([everything]), spine(asked)[n], {"log": history(cut, SPEC)})
        assert alone.equals(whole[n])


@settings(max_examples=60, deadline=None)
@given(events, asks)
def test_history_older_than_the_lookback_may_be_left_out(rows, asked):
    rows = list(table(rows))
    views = together([everything])
    first = at(min(now for _, now in asked))
    whole = compute(views, spine(asked), {"log": history(frame(rows), SPEC)})
    recent = frame(rows).filter(pl.col("happened") >= first - views.lookback)
    assert compute(views, spine(asked), {"log": history(recent, SPEC)}).equals(whole)


@settings(max_examples=60, deadline=None)
@given(events, asks)
def test_entities_too_many_for_one_integer_are_ranked_instead(rows, asked):
    rows = list(table(rows))
    plain = compute(together([everything]), spine(asked), {"log": history(frame(rows), SPEC)})
    places = Asked._places

    def crowded(self, codes, times, when):
        return places(Asked(self.events, self.codes, 2**61, self.code, self.at, self.row), codes, times, when)

    Asked._places = crowded
    try:
        assert compute(together([everything]), spine(asked), {"log": history(frame(rows), SPEC)}).equals(plain)
    finally:
        Asked._places = places


def test_a_source_without_rows_gives_null_and_nought():
    made = compute(together([everything]), spine([("a", 3)]), {"log": history(frame([]), SPEC)})
    assert made.select("newest", "n", "sum", "mean").row(0) == (None, 0.0, 0.0, None)


def test_without_an_entity_all_rows_of_the_source_count():
    @view(source="log")
    def whole():
        return {"n": count("5h")}

    rows = [(1, "a", 1, 1, 0), (2, "b", 2, 2, 0), (3, None, 2, 2, 0)]
    made = compute(together([whole]), spine([(None, 3)]), {"log": history(frame(rows), SPEC)})
    assert made["n"].to_list() == [3.0]


def test_an_entity_may_have_another_name_and_several_columns():
    @view(entity={"who": "target", "day": "day"}, source="log")
    def pairs():
        return {"n": count("5h")}

    log = frame([(1, "a", 1, 1, 0), (2, "a", 2, 2, 0), (3, "b", 2, 2, 0)]).rename({"who": "target"})
    log = log.with_columns(day=pl.Series([1, 2, 1]))
    asked = spine([("a", 3), ("b", 3), ("b", 3)]).with_columns(day=pl.Series([1, 1, 2]))
    assert compute(together([pairs]), asked, {"log": history(log, SPEC)})["n"].to_list() == [1.0, 1.0, 0.0]
