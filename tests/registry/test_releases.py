"""Where an alias was, against the plain definition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from loopline.registry.nouns import Release
from loopline.registry.releases import path, retained

START = datetime(2026, 1, 1, tzinfo=UTC)
moves = st.lists(st.tuples(st.sampled_from(["promote", "rollback"]), st.sampled_from("abcd")), max_size=12)


def releases(moved):
    return [
        Release(str(n), "m", "production", v, None, "", "user:x", START + timedelta(days=n), n + 1, act)
        for n, (act, v) in enumerate(moved)
    ]


@given(moves)
def test_the_present_version_comes_last_and_only_released_ones_stand_in_the_path(moved):
    way = path(releases(moved))
    assert (way[-1] if way else None) == (moved[-1][1] if moved else None)
    assert set(way) <= {version for _, version in moved}


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6, unique=True), st.data())
def test_rolling_back_step_by_step_walks_the_promotions_in_reverse(promoted, data):
    moved = [("promote", v) for v in promoted]
    seen = []
    while len(way := path(releases(moved))) > 1:
        moved.append(("rollback", way[-2]))
        seen.append(way[-2])
    assert seen == promoted[-2::-1]


@given(moves, st.integers(2, 4), st.integers(0, 20), st.integers(0, 30))
def test_what_must_stay_is_current_or_among_the_newest_or_lately_in_service(moved, versions, days, later):
    made = releases(moved)
    now = START + timedelta(days=len(moved) + later)
    last = {v: n for n, (_, v) in enumerate(moved)}
    newest = sorted(last, key=last.__getitem__, reverse=True)[:versions]
    served_until = {v: n + 1 for n, (_, v) in enumerate(moved) if n + 1 < len(moved)}
    expected = set(newest)
    for v, n in served_until.items():
        if now - (START + timedelta(days=n)) < timedelta(days=days):
            expected.add(v)
    assert retained(made, versions=versions, at_least=timedelta(days=days), now=now) == expected
