"""Points come back as they were logged, once each, from the tail and from chunks; charts say what they show."""

import math
import struct
import tempfile
from array import array
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.runs.slow import SlowRun, bits

from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.store.runs import charts, packing, series
from loopline.store.runs.packing import Columns
from loopline.store.runs.protocol import Point
from loopline.store.runs.sqlite import SqliteRuns

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=64)
SMALL = st.tuples(
    st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 2.5, math.inf, math.nan]), st.integers(0, 3), st.integers(-2, 3)
)


def columns(points):
    return Columns(
        array("d", [point[0] for point in points]),
        array("q", [point[1] for point in points]),
        array("q", [point[2] for point in points]),
    )


def rows(found):
    return list(zip(found.bits(), found.times, found.steps, strict=True))


@given(st.lists(st.tuples(FLOATS, INT64, INT64), min_size=1, max_size=50))
def test_a_chunk_holds_its_points_bit_for_bit(points):
    given_points = columns(points)
    assert rows(packing.unpack_chunk(packing.pack_chunk(given_points), len(points))) == rows(given_points)


POINTS = st.lists(st.tuples(FLOATS, INT64, INT64), min_size=1, max_size=5)


@given(st.dictionaries(st.integers(0, 2**32 - 1), POINTS, min_size=1, max_size=4))
def test_a_row_of_the_tail_holds_its_call(calls):
    pack = packing.pack_call({key: columns(points) for key, points in calls.items()})
    assert {key: rows(found) for key, found in packing.unpack_call(pack)} == {
        key: rows(columns(points)) for key, points in calls.items()
    }
    for key, points in calls.items():
        assert [(k, rows(found)) for k, found in packing.unpack_call(pack, key)] == [(key, rows(columns(points)))]
    assert packing.points_in(pack) == sum(map(len, calls.values()))


@given(st.lists(st.dictionaries(st.integers(0, 5), POINTS, min_size=1, max_size=3), min_size=1, max_size=6))
def test_rows_of_the_tail_become_one_that_holds_the_same(calls):
    apart, together = {}, {}
    packs = [packing.pack_call({key: columns(points) for key, points in call.items()}) for call in calls]
    for into, rows_of_it in ((apart, packs), (together, [packing.joined(packs)])):
        for pack in rows_of_it:
            for key, found in packing.unpack_call(pack):
                into.setdefault(key, []).extend(rows(found))
    assert together == apart


def history(log, run, key, limit):
    points, token = [], None
    while True:
        page = log.history(run, key, limit=limit, token=token)
        assert len(page.items) == limit or page.token is None
        points += [(bits(point.value), point.at_ms, point.step) for point in page.items]
        token = page.token
        if token is None:
            return points


def small_chunks(size):
    """Chunks and groups of few points, so that short series have many."""
    return (
        patch.object(packing, "CHUNK", size), patch.object(series, "CHUNK", size),
        patch.object(packing, "GROUP", size // 16), patch.object(series, "GROUP", size // 16),
        patch.object(packing.thinned, "__defaults__", (size // 16,)), patch.object(charts, "EXACT", 10),
    )  # fmt: skip


CALLS = st.lists(st.lists(SMALL, min_size=1, max_size=40) | st.sampled_from(["compact", "gather", "page"]), max_size=10)


@settings(max_examples=80, deadline=None)
@given(CALLS, st.integers(1, 30))
def test_history_and_latest_are_those_of_all_points_once(calls, limit):
    with tempfile.TemporaryDirectory() as folder:
        for one in (patches := small_chunks(16)):
            one.start()
        try:
            log, slow = SqliteRuns(Path(folder) / "runs.db"), SlowRun("run", "0", 1)
            run = log.create_run("0", start_ms=1).id
            for call in calls:
                if call == "compact":
                    log.compact(run)
                elif call == "gather":
                    with log.db.read() as connection:
                        prepared = series.prepare(connection, 1)
                    log.db.write(lambda tx: series.gather(tx, 1))
                    if prepared is not None:  # what was prepared before holds, or is not taken
                        log.db.write(lambda tx, found=prepared: series.settle(tx, found, series.packed(found)))
                elif call == "page":
                    check(log, run, slow, limit)
                else:
                    log.log(run, metrics=[Point("m", *point) for point in call])
                    for point in call:
                        slow.log("m", *point)
            check(log, run, slow, limit)
            log.close()
        finally:
            for one in patches:
                one.stop()


def check(log, run, slow, limit):
    known = slow.points.get("m", [])
    assert history(log, run, "m", limit) == [(bits(value), at, step) for value, at, step in known]
    assert log.chart(run, "m", buckets=3).points == len(known)
    latest = [point for point in log.run(run).metrics if point.key == "m"]
    assert len(latest) == bool(known)
    for point in latest:
        best = slow.latest("m")
        assert point.value == best or (math.isnan(point.value) and math.isnan(best))
        assert any((bits(v), t, s) == (bits(point.value), point.at_ms, point.step) or (v == point.value
                   and (t, s) == (point.at_ms, point.step)) for v, t, s in known)  # fmt: skip


def brute(points, buckets, by):
    """A chart by definition: each point into the bucket of its x, in the order of x."""
    x = (lambda point: point[2]) if by == "step" else (lambda point: point[1])
    points = sorted(points, key=x)
    if len(points) <= buckets:
        parts = [[point] for point in points]
    else:
        low, span = x(points[0]), x(points[-1]) - x(points[0]) + 1
        parts = [[point for point in points if (x(point) - low) * buckets // span == b] for b in range(buckets)]
    found = []
    for part in filter(None, parts):
        finite = [value for value, *_ in part if math.isfinite(value)]
        found.append((x(part[0]), *((min(finite), max(finite), finite[-1]) if finite else (None,) * 3)))
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(FLOATS, st.integers(-5, 200), st.integers(-50, 50)), max_size=60, unique_by=lambda p: p[1:]),
    st.integers(1, 20),
    st.sampled_from(["step", "time"]),
    st.booleans(),
    st.tuples(st.integers(-60, 60), st.integers(0, 100)),
)
def test_a_chart_of_a_short_series_is_exact(points, buckets, by, compact, window):
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteRuns(Path(folder) / "runs.db")
        run = log.create_run("0", start_ms=1).id
        log.log(run, metrics=[Point("m", *point) for point in points])
        if compact:
            log.compact(run)
        chart = log.chart(run, "m", buckets=buckets, by=by)
        assert list(zip(chart.steps, chart.least, chart.most, chart.last, strict=True)) == brute(points, buckets, by)
        assert chart.points == len(points)
        assert log.lengths(run) == ({"m": len(points)} if points else {})
        low, high = window[0], window[0] + window[1]
        part = log.chart(run, "m", buckets=buckets, by=by, within=(low, high))
        inside = [point for point in points if low <= point[2 if by == "step" else 1] <= high]
        assert list(zip(part.steps, part.least, part.most, part.last, strict=True)) == brute(inside, buckets, by)
        log.close()


def pack(points):
    found = columns(points)
    return found.values.tobytes(), found.times.tobytes(), found.steps.tobytes()


@pytest.fixture
def log(tmp_path):
    log = SqliteRuns(tmp_path / "runs.db")
    yield log
    log.close()


@pytest.mark.parametrize("n", [20_000, 350_000])
def test_a_chart_of_a_long_series_is_off_by_neighbours_at_most(log, n):
    run = log.create_run("0", start_ms=1).id
    points = [(math.sin(step / 9_000) + (step * 7919 % 101) / 500, 10**12 + step, step) for step in range(n)]
    for start in range(0, n, 7_000):
        log.log_columns(run, {"m": pack(points[start : start + 7_000])})
    log.compact(run)
    log.log(run, metrics=[Point("m", 9.0, 10**12 + n, n)])
    points.append((9.0, 10**12 + n, n))
    chart = log.chart(run, "m", buckets=320)
    assert chart.points == n + 1
    assert len(chart.steps) == 320
    assert chart.steps == sorted(chart.steps)
    assert (min(chart.least), max(chart.most), chart.last[-1]) == (min(points)[0], 9.0, 9.0)
    off = 16 if n < 4 * 320 * 256 else 256
    span = n + 1
    for place, (first, low, high) in enumerate(zip(chart.steps, chart.least, chart.most, strict=True)):
        inner = [value for value, *_ in points[-(-place * span // 320) : -(-(place + 1) * span // 320)]]
        near = [value for value, _, step in points[max(0, first - off) : first + span // 320 + 2 * off]]
        assert min(near) <= low and high <= max(near)
        assert abs(first - place * span / 320) <= off
        assert low <= min(inner[off:], default=math.inf) and high >= max(inner[off:], default=-math.inf)


def test_a_part_of_a_long_series_is_drawn_as_fine_as_it_allows(log):
    run = log.create_run("0", start_ms=1).id
    n = 350_000
    points = [(float(step * 7919 % 1009), 10**12 + step, step) for step in range(n)]
    log.log_columns(run, {"m": pack(points)})
    log.compact(run)
    log.log(run, metrics=[Point("m", 5.0, 10**12 + n, n)])
    exact = log.chart(run, "m", within=(200_000, 205_000))
    assert list(zip(exact.steps, exact.least, exact.most, exact.last, strict=True)) == brute(
        points[200_000:205_001], 320, "step"
    )
    for low, high in ((100_000, 300_000), (5_000, 340_000), (n - 40_000, n)):
        part = log.chart(run, "m", within=(low, high), by="step")
        assert low <= part.steps[0] <= low + 256 and high - 3_000 <= part.steps[-1] <= high
        assert 300 <= len(part.steps) <= 320
        for start, least, most in zip(part.steps, part.least, part.most, strict=True):
            near = [value for value, *_ in points[start : start + (high - low) // 320 + 512]]
            assert min([*near, 5.0]) <= least and most <= max([*near, 5.0])
    nothing = log.chart(run, "m", within=(n + 1, n + 9))
    assert nothing.steps == [] and nothing.points == n + 1


def test_all_levels_of_a_series_say_the_same(log):
    """Sixteen groups make one of the next level; a level that is not whole goes on in finer ones."""
    for one in (patches := small_chunks(16)):
        one.start()
    try:
        run = log.create_run("0", start_ms=1).id
        points = [(float(step * 37 % 1009), step, step) for step in range(16 * 16 * 16 * 2 + 16 * 5 + 3)]
        for start in range(0, len(points), 1_000):
            log.log_columns(run, {"m": pack(points[start : start + 1_000])})
            log.compact(run)
        with log.db.read() as connection:
            levels = dict(connection.execute("SELECT level, count(*) FROM coarse GROUP BY level").fetchall())
        assert levels == {0: 2 * 256 + 6, 1: 32, 2: 2}
        chart = log.chart(run, "m", buckets=2)
        assert (min(chart.least), max(chart.most), chart.last[-1]) == (0.0, 1008.0, points[-1][0])
        assert chart.points == len(points)
        fine = log.chart(run, "m", buckets=50)
        assert min(fine.least) == 0.0 and max(fine.most) == 1008.0
    finally:
        for one in patches:
            one.stop()


def test_columns_and_points_are_the_same_thing(log):
    one, two = (log.create_run("0", start_ms=1).id for _ in range(2))
    points = [(step / 3, step * 10, step) for step in range(10_000)]
    log.log(one, metrics=[Point("m", *point) for point in points])
    log.log_columns(two, {"m": pack(points), "none": (b"", b"", b"")})
    assert history(log, one, "m", 999) == history(log, two, "m", 3_000)
    assert log.run(one).metrics == log.run(two).metrics


def test_a_call_of_very_many_points_is_kept_whole(log):
    run = log.create_run("0", start_ms=1).id
    points = [(float(step), step, step) for step in range(150_000)]
    log.log_columns(run, {"a": pack(points), "b": pack(points[:3])})
    log.compact(run)
    assert history(log, run, "a", 40_000) == [(bits(value), at, step) for value, at, step in points]
    assert history(log, run, "b", 2) == [(bits(value), at, step) for value, at, step in points[:3]]


def test_a_page_of_a_history_holds_while_the_tail_becomes_chunks(log):
    run = log.create_run("0", start_ms=1).id
    points = [(float(step), step, step) for step in range(9_000)]
    log.log_columns(run, {"m": pack(points)})
    page = log.history(run, "m", limit=5_000)
    log.compact(run)
    log.log(run, metrics=[Point("m", *points[17]), Point("m", 1.0, 1, 9_000)])
    rest = log.history(run, "m", limit=5_000, token=page.token)
    assert [point.step for point in (*page.items, *rest.items)] == list(range(9_001))
    assert rest.token is None


def test_a_series_that_nobody_logged_is_empty(log):
    run = log.create_run("0", start_ms=1).id
    assert log.history(run, "m").items == []
    assert log.chart(run, "m").points == 0
    with pytest.raises(NotFound):
        log.history("none", "m")


def test_compacting_long_random_series_takes_less_than_thirty_bytes_a_point(log, tmp_path):
    import random

    draw = random.Random(1)
    run = log.create_run("0", start_ms=1).id
    n = 200_000
    for start in range(0, n, 10_000):
        log.log_columns(
            run, {"m": pack([(draw.random(), step * 1_000, step) for step in range(start, start + 10_000)])}
        )
        log.compact(run)
    log.db.checkpoint()
    assert (tmp_path / "runs.db").stat().st_size / n < 14


@pytest.mark.parametrize(
    "bad",
    [
        Point("", 1.0, 1, 1), Point("m", "1", 1, 1), Point("m", 1.0, 2**63, 1), Point("m", 1.0, 1, 1.5),
        Point("m", None, 1, 1), Point("\ud800", 1.0, 1, 1), Point(7, 1.0, 1, 1), Point("x" * 2_000, 1.0, 1, 1),
        Point("m", 1.0, 1, 1, model="no model"),
    ],
)  # fmt: skip
def test_a_point_that_cannot_be_keeps_its_whole_call_out(log, bad):
    run = log.create_run("0", start_ms=1).id
    with pytest.raises(Invalid):
        log.log(run, metrics=[Point("m", 1.0, 1, 1), bad], params={"p": "x"})
    assert log.run(run).metrics == () and log.run(run).params == {}


@pytest.mark.parametrize("bad", [(b"x", b"x", b"x"), (bytes(8), bytes(8), bytes(16)), (bytes(16), b"", bytes(16))])
def test_columns_that_do_not_match_are_refused(log, bad):
    run = log.create_run("0", start_ms=1).id
    with pytest.raises(Invalid):
        log.log_columns(run, {"m": bad})


def test_a_deleted_run_takes_no_points(log):
    run = log.create_run("0", start_ms=1).id
    log.change_run(run, stage="deleted", at_ms=1)
    with pytest.raises(Conflict):
        log.log(run, metrics=[Point("m", 1.0, 1, 1)])


def test_a_background_compaction_comes_by_itself(log):
    run = log.create_run("0", start_ms=1).id
    for start in range(0, 60_000, 1_000):
        log.log_columns(run, {"m": pack([(1.0, step, step) for step in range(start, start + 1_000)])})
    log.change_run(run, status="FINISHED", end_ms=1)
    log.close()
    with log.db.read() as connection:
        assert connection.execute("SELECT count(*) FROM chunks").fetchone()[0] > 3
    assert len(log.history(run, "m", limit=100_000).items) == 60_000


def test_bits_are_those_of_the_machine():
    assert packing.columns_of(struct.pack("<d", 1.5), struct.pack("<q", -3), struct.pack("<q", 7)) == columns(
        [(1.5, -3, 7)]
    )


def test_what_was_prepared_before_rows_were_gathered_is_not_taken(log):
    run = log.create_run("0", start_ms=1).id
    for n in range(3):
        log.log(run, metrics=[Point("m", n, n, n)])
    with log.db.read() as connection:
        prepared = series.prepare(connection, 1)
    log.log(run, metrics=[Point("m", 3, 3, 3)])
    log.db.write(lambda tx: series.gather(tx, 1))
    assert not log.db.write(lambda tx: series.settle(tx, prepared, series.packed(prepared)))
    assert [point.step for point in log.history(run, "m").items] == [0, 1, 2, 3]
    log.compact(run)
    assert [point.step for point in log.history(run, "m").items] == [0, 1, 2, 3]


def test_what_was_prepared_of_a_run_that_is_forgotten_is_not_taken(log):
    run = log.create_run("0", start_ms=1).id
    log.log(run, metrics=[Point("m", 1.0, 1, 1)])
    with log.db.read() as connection:
        prepared = series.prepare(connection, 1)
    log.change_run(run, stage="deleted", at_ms=1)
    log.forget([run])
    assert not log.db.write(lambda tx: series.settle(tx, prepared, series.packed(prepared)))
    with log.db.read() as connection:
        for table in ("tail", "chunks", "coarse", "compactions", "latest"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_many_small_calls_are_gathered_by_themselves(log):
    run = log.create_run("0", start_ms=1).id
    for n in range(1_100):
        log.log(run, metrics=[Point("ab"[n % 2], n, n, n)])
    log.close()
    with log.db.read() as connection:
        assert connection.execute("SELECT count(*) FROM tail").fetchone()[0] < 600
    assert [point.step for point in log.history(run, "a").items] == list(range(0, 1_100, 2))
