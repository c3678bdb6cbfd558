"""Reads of many requests at once, by a reader that remembers, say what a new reader says of each alone."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopline.base.errors import Unavailable
from loopline.features import OnlineFeatures, col, count, last_n, latest, maximum, mean, share, together, view
from loopline.features.online import EPOCH
from loopline.features.reader import joined, keys_of
from loopline.features.reads import HOT, read_together
from loopline.features.tiles import unpack
from loopline.store.online.protocol import place
from loopline.store.online.sqlite import SqliteOnline

ZERO = datetime(2026, 3, 29, tzinfo=UTC)
US = timedelta(microseconds=1)
UTC_US = pl.Datetime("us", "UTC")
KEYS = ["a", "a", "b\x1ec\\"]


@view(entity="who", source="log", ttl="25m", refresh="10m")
def newest():
    return {"v": latest("v"), "seen": count("60m")}


@view(entity="who", source="log", refresh="10m")
def windows():
    return {"mean": mean("v", "30m"), "most": maximum("v", "90m"), "late": share(col("v") > 10, "3h")}


@view(entity=("who", "where"), source="log", ttl="3h", refresh="10m")
def pairs():
    return {"n_pair": count("2h"), "v_pair": latest("v")}


@view(source="log", refresh="10m")
def everybody():
    return {"n_all": count("20m")}


@view(entity="where", source="log", ttl="40m", refresh="10m")
def lasts():
    return {"last": last_n("v", 2, "mean")}


def young(how):
    @view(entity="where", source="log", ttl="1h", refresh="10m", freshness="30m", on_stale=how)
    def watched():
        return {"n_watched": count("60m"), "v_watched": latest("v")}

    return watched


def at(minute):
    return ZERO + timedelta(minutes=minute)


key = st.sampled_from([*KEYS, None])
events = st.lists(st.tuples(key, key, st.integers(0, 60), st.integers(-50, 50)), min_size=5, max_size=30)
moments = st.sampled_from([-600, 0, 0, 1, 600, 601, 1200])
asks = st.lists(st.tuples(st.one_of(key, st.just("nobody")), key, moments), min_size=1, max_size=12)
"""Who asks, and how many seconds after the refresh: about edges of tiles, and the same moment again and again."""


def frame(rows):
    return pl.DataFrame(
        [(a, b, at(e), at(e + 1), float(v)) for a, b, e, v in rows],
        schema={"who": pl.String, "where": pl.String, "event_time": UTC_US, "known_at": UTC_US, "v": pl.Float64},
        orient="row",
    )


def micros(second):
    return (ZERO + timedelta(seconds=second) - EPOCH) // US


def alone(store, groups, row, second):
    parts = [OnlineFeatures(store, views, space=space).reads for space, views in groups]
    (found,) = read_together(store, parts, [row], [micros(second)])
    return str(found) if isinstance(found, Unavailable) else found


@settings(max_examples=30, deadline=None)
@given(
    events, st.lists(st.tuples(st.integers(0, 2), asks), min_size=1, max_size=4), st.booleans(),
    st.sampled_from(["serve", "default", "refuse"]),
)  # fmt: skip
def test_a_reader_that_remembers_says_of_many_what_a_new_one_says_of_each(
    tmp_path_factory, rows, turns, watched, on_stale
):
    store = SqliteOnline(tmp_path_factory.mktemp("online") / "online.db")
    groups = [
        ("one", together([newest, windows, pairs, *([young(on_stale)] if watched else [])])),
        ("two", together([everybody, lasts, windows])),
    ]
    writers = [OnlineFeatures(store, views, space=space) for space, views in groups]
    kept = [OnlineFeatures(store, views, space=space).reads for space, views in groups]
    now = 10
    for steps, asked in turns:
        now += 10 * steps
        for n, writer in enumerate(writers):
            if n == 0 or steps != 2:  # the second space falls behind now and then
                writer.apply("log", frame(rows), at(now))
        brought = [{"who": a, "where": b} for a, b, _ in asked]
        seconds = [now * 60 + after for *_, after in asked]
        found = read_together(store, kept, brought, [micros(second) for second in seconds])
        for one, row, second in zip(found, brought, seconds, strict=True):
            mine = str(one) if isinstance(one, Unavailable) else one
            assert mine == alone(store, groups, row, second)
    store.close()


@pytest.mark.parametrize("mine", [newest, windows, everybody, pairs])
def test_an_answer_holds_as_long_as_it_is_said_to(tmp_path, mine):
    store = SqliteOnline(tmp_path / "online.db")
    online = OnlineFeatures(store, together([mine]), space="one")
    online.apply("log", frame([("a", "b", e, e) for e in (3, 17, 18, 40)]), at(50))
    (reader,) = online.reads._readers
    blob = online_blob(store, online)
    second = micros(50 * 60)
    while second < micros(400 * 60):
        low, high = reader.lasting(blob, second)
        assert low <= second < high
        said = reader.leaves(blob, second)
        last = min(high, micros(400 * 60)) - 1
        assert reader.leaves(blob, max(low, micros(0))) == said == reader.leaves(blob, last)
        second = high


def online_blob(store, online):
    (name,) = online._kept
    (key,) = store.keys(name)
    (packed,) = store.read([place(name, key)])
    return unpack(packed)


def test_more_entities_than_are_remembered_are_all_answered(tmp_path):
    store = SqliteOnline(tmp_path / "online.db")
    online = OnlineFeatures(store, together([windows]), space="one")
    many = [str(n) for n in range(HOT * 2 + 10)]
    online.apply("log", frame([(name, None, n % 40, n) for n, name in enumerate(many)]), at(60))
    for moment in (60, 65):
        found = online.read_many([{"who": name} for name in [*many, *many]], at(moment))
        assert [one.leaves[1] for one in found] == [float(n) for n in range(len(many))] * 2


@pytest.mark.parametrize("asked", [60, 65])
def test_a_blob_that_changed_is_looked_at_again_for_the_same_moment(tmp_path, asked):
    store = SqliteOnline(tmp_path / "online.db")
    writer, reader = (OnlineFeatures(store, together([windows]), space="one") for _ in range(2))
    writer.apply("log", frame([("a", None, 40, 7)]), at(50))
    assert reader.read({"who": "a"}, at(asked)).leaves[1] == 7.0
    writer.apply("log", frame([("a", None, 55, 9)]), at(60))
    assert reader.read({"who": "a"}, at(asked)).leaves[1] == 9.0


def test_a_view_that_is_up_to_date_is_stale_where_the_entity_has_been_silent(tmp_path):
    store = SqliteOnline(tmp_path / "online.db")
    online = OnlineFeatures(store, together([young("default")]), space="one")
    online.apply("log", frame([(None, "a", 10, 7), (None, "b", 45, 8)]), at(50))
    silent, heard = online.read_many([{"where": "a"}, {"where": "b"}], at(55))
    assert (silent.stale, silent.leaves) == (("watched",), [None, None])
    assert (heard.stale, heard.leaves) == ((), [1.0, 8.0])


@example([("a\x1eb", "a"), ("a", "b\x1ea")])
@given(st.lists(st.tuples(st.text("ab\x1e\\e"), st.text("ab\x1e\\e")), max_size=8))
def test_different_names_make_different_keys(names):
    keys = keys_of(["one", "other"])([{"one": a, "other": b} for a, b in names])
    assert keys == [joined(one) for one in names]
    assert len(set(keys)) == len(set(names))
    for (a, b), made in zip(names, keys, strict=True):
        plain = not {"\x1e", "\\"} & set(a + b)
        assert made == f"{a}\x1e{b}" or not plain
