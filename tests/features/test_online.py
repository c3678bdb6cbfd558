"""The online store, the batch path and the slow, obvious definition say the same."""

from datetime import UTC, datetime, timedelta
from math import ceil

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopline.base.errors import Conflict, Invalid, Unavailable
from loopline.data.spec import TableSpec
from loopline.features import (
    OnlineFeatures,
    col,
    compute,
    count,
    distinct,
    history,
    last_n,
    latest,
    lookup,
    maximum,
    mean,
    minimum,
    share,
    together,
    total,
    view,
)
from loopline.features.hops import hop
from loopline.store.online.sqlite import SqliteOnline

ZERO = datetime(2026, 3, 29, tzinfo=UTC)
UTC_US = pl.Datetime("us", "UTC")
SPEC = TableSpec.model_validate(
    {"source": "x.parquet", "event_time": "happened", "known_at": "heard", "key": ["id"], "deleted": "deleted"}
)
REFRESH, WINDOW, TTL = 10, 60, 25
SUMMARIES = ("mean", "total", "minimum", "maximum")


@view(entity="who", source="log", ttl=f"{TTL}m", refresh=f"{REFRESH}m")
def everything():
    return {
        "newest": latest("v"),
        "word": latest("w").category(),
        "n": count(f"{WINDOW}m"),
        "n_big": count(f"{WINDOW}m", col("v") > 10),
        "sum": total("v", f"{WINDOW}m"),
        "mean": mean("v", f"{WINDOW}m"),
        "share": share(col("v") > 10, f"{WINDOW}m"),
        "least": minimum("v", f"{WINDOW}m"),
        "most": maximum("v", f"{WINDOW}m", col("v") < 30),
        "values": distinct("v", f"{WINDOW}m"),
        "words": distinct("w", f"{WINDOW}m"),
        **{f"last_{how}": last_n("v", 3, how) for how in SUMMARIES},
    }


@view(entity="who", source="log", refresh="7m")
def at_another_rhythm():
    return {"n_7": count("30m"), "sum_7": total("v", "90m")}


VIEWS = together([everything, at_another_rhythm])


def at(minute):
    return ZERO + timedelta(minutes=minute)


minutes = st.integers(0, 110)
values = st.one_of(st.none(), st.integers(-50, 50).map(float), st.just(0.1))
versions = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.sampled_from(["a", "b", None]),
        minutes,
        st.integers(0, 40),
        values,
        st.sampled_from(["x", "y", None]),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=16,
)
"""(id, entity, event, lag, value, word, gone): a later version of an id may move it in time and to another entity."""
asks = st.lists(st.tuples(st.sampled_from(["a", "b", None]), minutes), min_size=1, max_size=6)


def frame(rows):
    return pl.DataFrame(
        [(i, k, at(e), at(max(0, e + lag - 10)), v, w, gone) for i, k, e, lag, v, w, gone in rows],
        schema={
            "id": pl.Int64, "who": pl.String, "happened": UTC_US, "heard": UTC_US, "v": pl.Float64, "w": pl.String,
            "deleted": pl.Boolean,
        },
        orient="row",
    )  # fmt: skip


def spine(asked):
    return pl.DataFrame(
        [(str(n), k, at(t)) for n, (k, t) in enumerate(asked)],
        schema={"unit": pl.String, "who": pl.String, "decision_time": UTC_US},
        orient="row",
    )


def offline(rows, asked, views=VIEWS):
    made = compute(views, spine(asked), {"log": history(frame(rows), SPEC)})
    return [row[2:] for row in made.iter_rows()]


def seen_at(minute, refresh):
    since_1970 = int(ZERO.timestamp()) // 60
    return ceil((since_1970 + minute) / refresh) * refresh - since_1970


def brute(rows, key, now, refresh, window, ttl):
    """The rows inside the window, and those within the ttl, by looking at every row."""
    current = {}
    for place, (id_, who, event, lag, v, w, gone) in enumerate(rows):
        known = max(0, event + lag - 10)
        if seen_at(known, refresh) <= now:
            current[id_] = max(current.get(id_, (-1,)), (known, place, who, event, v, w, gone))
    mine = sorted(
        (event, known, place, v, w)
        for known, place, who, event, v, w, gone in current.values()
        if not gone and who == key and seen_at(max(event, known), refresh) <= now
    )
    step = hop(window * 60_000_000, 1) // 60_000_000
    edge = (now - window) // step * step
    return [row for row in mine if row[0] > edge], [row for row in mine if now - row[0] <= ttl]


def by_hand(rows, key, now):
    if key is None:
        return dict.fromkeys(VIEWS.names)
    inside, fresh = brute(rows, key, now, REFRESH, WINDOW, TTL)
    numbers = [row[3] for row in inside if row[3] is not None]
    last = [row[3] for row in fresh if row[3] is not None][-3:]
    return {
        "newest": fresh[-1][3] if fresh else None,
        "word": fresh[-1][4] if fresh else None,
        "n": len(inside),
        "n_big": sum(v > 10 for v in numbers),
        "sum": sum(numbers),
        "mean": sum(numbers) / len(numbers) if numbers else None,
        "share": sum(v > 10 for v in numbers) / len(numbers) if numbers else None,
        "least": min(numbers, default=None),
        "most": max((v for v in numbers if v < 30), default=None),
        "values": len(set(numbers)),
        "words": len({row[4] for row in inside if row[4] is not None}),
        "last_mean": sum(last) / len(last) if last else None,
        "last_total": sum(last) if last else None,
        "last_minimum": min(last, default=None),
        "last_maximum": max(last, default=None),
        "n_7": len(brute(rows, key, now, 7, 30, TTL)[0]),
        "sum_7": sum(row[3] or 0 for row in brute(rows, key, now, 7, 90, TTL)[0]),
    }


def leaves_of(online, key, now):
    """What the store answers, as the features (each here is a bare leaf, or a category of one)."""
    return [float(v) if isinstance(v, (int, float)) else v for v in online.read({"who": key}, at(now)).leaves]


@pytest.fixture
def fresh(tmp_path):
    made = []

    def make(views=VIEWS):
        store = SqliteOnline(tmp_path / f"{len(made)}.db")
        made.append(store)
        return OnlineFeatures(store, views, tables={"log": SPEC})

    yield make
    for store in made:
        store.close()


@settings(max_examples=150, deadline=None)
@given(versions, asks)
@example([(1, "a", 50, 10, 1.0, None, False), (1, "a", 20, 45, 2.0, None, False)], [("a", 70)])
def test_batch_answers_what_was_seen_by_brute_force(rows, asked):
    for (key, now), found in zip(asked, offline(rows, asked), strict=True):
        expected = by_hand(rows, key, now)
        for name, value in zip(VIEWS.names, found, strict=True):
            assert value == expected[name] or value == pytest.approx(expected[name], abs=1e-5), (name, key, now)


@settings(max_examples=60, deadline=None)
@given(versions, asks, st.sampled_from([1, 7, 10, 35]))
def test_online_answers_what_batch_answers_however_rows_come(rows, asked, every):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        store = SqliteOnline(Path(folder) / "o.db")
        online = OnlineFeatures(store, VIEWS, tables={"log": SPEC})
        asked = sorted(asked, key=lambda one: one[1])
        expected = iter(offline(rows, asked))
        table = frame(rows)
        upto = -1
        for key, now in asked:
            stops = [*range(upto + 1, now + 1, every), now]
            for stop in stops:
                if stop > upto:
                    online.apply("log", table.filter(pl.col("heard") <= at(stop)), at(stop))
                    upto = stop
            found = leaves_of(online, key, now)
            for name, ours, theirs in zip(VIEWS.names, found, next(expected), strict=True):
                exact = ours if ours is None or isinstance(ours, str) else pl.Series([ours]).cast(pl.Float32)[0]
                assert exact == theirs, (name, key, now)
        store.close()


LOG = [(n, "ab"[n % 2], 3 * n, 12, float(n), "xy"[n % 3 == 0], False) for n in range(30)]


def test_repeating_a_batch_changes_nothing(fresh):
    online = fresh()
    online.apply("log", frame(LOG), at(60))
    before = online.read({"who": "a"}, at(60))
    assert online.apply("log", frame(LOG), at(60)) == 0
    assert online.read({"who": "a"}, at(60)) == before


def test_a_writer_that_starts_again_goes_on_where_the_last_stopped(fresh):
    online = fresh()
    table = frame(LOG)
    online.apply("log", table.filter(pl.col("heard") <= at(40)), at(40))
    again = OnlineFeatures(online._store, VIEWS, tables={"log": SPEC})
    with pytest.raises(Conflict, match="does not know what the online store holds"):
        again.apply("log", table, at(50))
    again.restore({"log": table.filter(pl.col("heard") <= at(40))})
    again.apply("log", table, at(70))
    whole = fresh()
    whole.apply("log", table, at(70))
    for key in "ab":
        assert again.read({"who": key}, at(70)) == whole.read({"who": key}, at(70))


def test_what_is_staged_ahead_and_written_later_is_what_is_applied_at_once(fresh):
    ahead, at_once = fresh(), fresh()
    table, stops = frame(LOG), [20, 40, 41, 70]
    staged = [ahead.stage({"log": table.filter(pl.col("heard") <= at(stop))}, at(stop)) for stop in stops]
    assert ahead.progress() == {}
    for stop, one in zip(stops, staged, strict=True):
        changed = at_once.apply("log", table.filter(pl.col("heard") <= at(stop)), at(stop))
        assert ahead.write(one) == changed
        assert ahead.progress() == at_once.progress()
        for key in "ab":
            assert ahead.read({"who": key}, at(stop)) == at_once.read({"who": key}, at(stop))


def test_what_was_staged_before_another_writer_went_on_is_refused(fresh):
    online = fresh()
    table = frame(LOG)
    online.apply("log", table.filter(pl.col("heard") <= at(20)), at(20))
    other = OnlineFeatures(online._store, VIEWS, tables={"log": SPEC})
    other.restore({"log": table.filter(pl.col("heard") <= at(20))})
    staged = online.stage({"log": table.filter(pl.col("heard") <= at(40))}, at(40))
    other.apply("log", table.filter(pl.col("heard") <= at(30)), at(30))
    with pytest.raises(Conflict, match="another writer"):
        online.write(staged)
    assert online.progress()["everything"][0] == at(30)


def test_of_two_writers_one_is_refused(fresh):
    online = fresh()
    table = frame(LOG)
    online.apply("log", table, at(30))
    other = OnlineFeatures(online._store, VIEWS, tables={"log": SPEC})
    other.restore({"log": table.filter(pl.col("heard") <= at(30))})
    online.apply("log", table, at(40))
    with pytest.raises(Conflict, match="another writer"):
        other.apply("log", table, at(50))
    assert online.progress()["everything"][0] == at(40)


def test_rows_of_a_version_that_is_in_are_not_counted_twice_and_late_ones_are_counted(fresh):
    online = fresh()
    first, late = frame(LOG[:20]), frame([(99, "a", 31, 12, 1.0, None, False)])
    online.apply("log", first, at(70), version=0)
    assert online.apply("log", first, at(70), version=0) == 0
    before = leaves_of(online, "a", 70)[2]
    online.apply("log", late, at(70), version=1)
    assert leaves_of(online, "a", 70)[2] == before + 1


def test_rebuilding_writes_what_going_along_wrote(fresh):
    along, built = fresh(), fresh()
    table = frame(LOG)
    for stop in range(0, 101, 10):
        along.apply("log", table.filter(pl.col("heard") <= at(stop)), at(stop))
    built.rebuild({"log": table}, at(100), {"log": 3})
    assert built.versions == {"log": 3}
    for key in "ab":
        assert along.read({"who": key}, at(105)) == built.read({"who": key}, at(105))


def served(on_stale, freshness="20m"):
    @view(entity="who", source="log", refresh="10m", ttl="1d", freshness=freshness, on_stale=on_stale)
    def one():
        return {"newest": latest("v"), "n": count("60m")}

    return together([one])


@pytest.mark.parametrize("minute", [20, 39, 40, 41, 60])
def test_what_is_stale_is_null_online_as_offline(fresh, minute):
    views = served("default")
    online = fresh(views)
    rows = [(1, "a", 15, 10, 1.0, None, False)]
    online.apply("log", frame(rows), at(minute))
    assert tuple(online.read({"who": "a"}, at(minute)).leaves) == offline(rows, [("a", minute)], views)[0]
    assert online.read({"who": "nobody"}, at(minute)).leaves == [None, None]


def test_what_is_stale_is_refused_or_served_with_its_age(fresh):
    rows = frame([(1, "a", 15, 10, 1.0, None, False)])
    online = fresh(served("refuse"))
    online.apply("log", rows, at(60))
    with pytest.raises(Unavailable, match="view one is too old"):
        online.read({"who": "a"}, at(60))
    online = fresh(served("serve"))
    online.apply("log", rows, at(60))
    assert online.read({"who": "a"}, at(60)) == ([1.0, 1.0], (45 * 60.0,), ("one",), (), ())
    assert online.read({"who": "a"}, at(75)).stale == ("one",)


@pytest.mark.parametrize("on_stale", ["serve", "default", "refuse"])
def test_a_store_that_knows_more_than_was_known_then_does_not_answer_for_then(fresh, on_stale):
    online = fresh(served(on_stale, "1d"))
    rows = [(1, "a", 15, 10, 1.0, None, False), (2, "a", 45, 10, 9.0, None, False)]
    online.apply("log", frame(rows), at(60))
    if on_stale == "refuse":
        with pytest.raises(Unavailable, match="stands ahead of"):
            online.read({"who": "a"}, at(59))
    else:
        for moment in (0, 30, 59):
            assert online.read({"who": "a"}, at(moment)) == ([None, None], (None,), (), ("one",), ())
    assert online.read({"who": "a"}, at(69)).leaves == [9.0, 2.0]


def test_views_that_were_never_written_are_named(fresh):
    with pytest.raises(Unavailable, match="holds nothing of view everything"):
        fresh().read({"who": "a"}, at(5))


def test_a_view_without_refresh_is_refused(fresh):
    @view(entity="who", source="log")
    def exact():
        return {"n": count("60m")}

    with pytest.raises(Invalid, match="cannot be served online"):
        fresh(together([exact]))


def test_tables_without_times_are_read_by_key_and_keys_are_told_apart(tmp_path):
    @view(entity=("a", "b"), source="things")
    def things():
        return {"name": lookup("name").category()}

    spec = TableSpec.model_validate({"source": "x.parquet", "key": ["a", "b"]})
    rows = pl.DataFrame({"a": ["x\x1ey", "x", "x", None], "b": [1, 2, 2, 3], "name": ["one", "old", "new", "none"]})
    online = OnlineFeatures(SqliteOnline(tmp_path / "o.db"), together([things]), tables={"things": spec})
    online.apply("things", rows, at(0))
    asked = [{"a": "x\x1ey", "b": 1}, {"a": "x", "b": 2}, {"a": "x", "b": 2.0}, {"a": None, "b": 3}, {"a": "x"}]
    assert [one.leaves for one in online.read_many(asked, at(5))] == [["one"], ["new"], ["new"], [None], [None]]


def test_what_no_window_holds_any_more_leaves_the_store(fresh):
    online = fresh(together([at_another_rhythm]))
    online.apply("log", frame(LOG), at(110))
    assert online.entities("at_another_rhythm") == ["a", "b"]
    moved = [(*row[:1], "b", *row[2:]) for row in LOG]
    later = frame(moved).with_columns(heard=pl.lit(at(111)).cast(UTC_US))
    online.apply("log", later, at(120))
    assert online.entities("at_another_rhythm") == ["b"]
