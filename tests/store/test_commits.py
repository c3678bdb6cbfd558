"""Appends by hand are what the library would have written, as far as any reader can tell."""

from __future__ import annotations

import errno
import json
import math
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, QueryBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.store.tables import commits, parts
from loopline.store.tables.delta import DeltaTables
from loopline.store.tables.log import commit_path
from loopline.store.tables.parts import statistics

MOMENT = pl.Datetime("us", "UTC")
SCHEMA = {
    "at": MOMENT,
    "day": pl.Date(),
    "n": pl.Int64(),
    "small": pl.Int16(),
    "x": pl.Float64(),
    "y": pl.Float32(),
    "b": pl.Boolean(),
    "t": pl.String(),
    "rules": pl.List(pl.String()),
    "raw": pl.Binary(),
}
moments = st.integers(-(2**50), 2**52).map(lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us))
values = st.fixed_dictionaries(
    {
        "at": st.none() | moments,
        "day": st.none() | st.dates(date(1950, 1, 1), date(2100, 1, 1)),
        "n": st.none() | st.integers(-(2**53), 2**53),
        "small": st.none() | st.integers(-300, 300),
        "x": st.none() | st.floats(width=64),
        "y": st.none() | st.floats(width=32),
        "b": st.none() | st.booleans(),
        "t": st.none() | st.text(st.characters(blacklist_categories=["Cs"]), max_size=4) | st.just("long" * 40),
        "rules": st.none() | st.lists(st.sampled_from(["a", "b"]), max_size=2),
        "raw": st.none() | st.binary(max_size=3),
    }
)
frames = st.lists(values, min_size=1, max_size=6).map(lambda rows: pl.DataFrame(rows, schema=SCHEMA))


def commit(folder: Path, version: int) -> list[dict[str, dict[str, object]]]:
    return [json.loads(line) for line in commit_path(folder, version).read_bytes().split(b"\n") if line]


def by_hand(folder: Path, version: int) -> bool:
    return any(action.get("commitInfo", {}).get("engineInfo") == "loopline" for action in commit(folder, version))


@settings(max_examples=25, deadline=None)
@given(st.lists(frames, min_size=2, max_size=4), values)
def test_what_was_appended_is_read_back_by_everyone_whatever_is_asked(tmp_path_factory, parts, asked) -> None:
    root = tmp_path_factory.mktemp("t")
    tables = DeltaTables(root)
    for n, part in enumerate(parts):
        tables.append("t", part, key=str(n))
    assert all(by_hand(root / "t", n) for n in range(len(parts)))
    whole = pl.concat(parts)
    order = pl.struct(pl.all()).map_elements(repr, return_dtype=pl.String)
    assert tables.scan("t").collect().sort(order).equals(whole.sort(order))
    others = pl.DataFrame(QueryBuilder().register("t", DeltaTable(root / "t")).execute("select * from t").read_all())
    assert others.select(whole.columns).cast(SCHEMA).sort(order).equals(whole.sort(order))
    for name in ("at", "day", "n", "x", "y", "t"):
        if asked[name] is not None:
            limit = pl.lit(asked[name], SCHEMA[name])
            for wanted in (pl.col(name) > limit, pl.col(name) <= limit, pl.col(name) == limit, pl.col(name).is_null()):
                assert tables.scan("t").filter(wanted).collect().height == whole.filter(wanted).height


@settings(max_examples=60, deadline=None)
@given(frames)
def test_bounds_hold_every_value_and_columns_with_unsure_bounds_have_none(frame) -> None:
    told = statistics(frame)
    assert told["numRecords"] == frame.height
    for name in ("n", "small", "x", "y", "t", "at"):
        known = frame[name].drop_nulls().to_list()
        assert told["nullCount"][name] == frame.height - len(known)
        if name not in told["minValues"]:
            assert not known or any(isinstance(v, float) and not math.isfinite(v) for v in known) or name == "t"
            continue
        low, high = told["minValues"][name], told["maxValues"][name]
        if name == "at":
            low, high = datetime.fromisoformat(low), datetime.fromisoformat(high) + timedelta(milliseconds=1)
        assert all(low <= v <= high for v in known)


def test_columns_left_out_are_null_and_new_columns_come_after_those_there_are(tmp_path) -> None:
    tables = DeltaTables(tmp_path)
    tables.append("t", pl.DataFrame({"a": [1], "b": ["x"]}))
    tables.append("t", pl.DataFrame({"b": ["y"]}))
    tables.append("t", pl.DataFrame({"a": [3], "c": [0.5]}))
    tables.append("t", pl.DataFrame({"c": [1.5]}))
    assert all(by_hand(tmp_path / "t", n) for n in range(4))
    assert tables.added("t", after=2).columns == ["a", "b", "c"]
    back = tables.scan("t").collect().sort("a", "b", nulls_last=True)
    assert back.rows() == [(1, "x", None), (3, None, 0.5), (None, "y", None), (None, None, 1.5)]


def test_a_lazy_frame_comes_in_several_files_of_one_version(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(parts.written.__kwdefaults__, "part_bytes", 1 << 16)
    rows = pl.DataFrame({"n": range(400_000), "t": "x"})
    rows.write_parquet(tmp_path / "rows.parquet")
    tables = DeltaTables(tmp_path / "tables")
    made = tables.append("t", pl.scan_parquet(tmp_path / "rows.parquet"), key="k")
    assert len(made.files) > 1 and made.version == 0
    assert tables.scan("t").collect().sort("n").equals(rows.with_columns(pl.col("n").cast(pl.Int64)))
    assert sum(file.rows or 0 for file in tables.files("t")) == 400_000
    assert tables.append("t", pl.scan_parquet(tmp_path / "rows.parquet"), key="k") == made
    assert tables.append("t", rows.lazy().filter(pl.col("n") < 0), key="none").files == ()
    assert {path.name for path in (tmp_path / "tables" / "t").iterdir()} == {"_delta_log", *made.files}


@settings(max_examples=15, deadline=None)
@given(st.lists(frames, min_size=1, max_size=5), st.sampled_from([1, 4_000, 1 << 30]))
def test_written_together_the_rows_are_the_same_and_none_is_new(tmp_path_factory, given_parts, target) -> None:
    tables = DeltaTables(tmp_path_factory.mktemp("t"))
    for part in given_parts:
        last = tables.append("t", part).version
    before, whole = tables.files("t"), tables.scan("t").collect()
    made = tables.compact("t", target_bytes=target)
    order = pl.struct(pl.all()).map_elements(repr, return_dtype=pl.String)
    assert tables.scan("t").collect().sort(order).equals(whole.sort(order))
    assert DeltaTables(tables.root).scan("t", version=last).collect().sort(order).equals(whole.sort(order))
    assert tables.added("t", after=last).is_empty() and all(file.path.exists() for file in before)
    assert made.version == last + (len(tables.files("t")) < len(before))
    if target == 1 << 30:
        assert len(tables.files("t")) == 1
    assert tables.compact("t", target_bytes=target).version == made.version
    assert tables.append("t", given_parts[0], key="later").version == made.version + 1


def test_rows_that_come_while_files_are_written_together_stay(tmp_path, monkeypatch) -> None:
    tables, other = DeltaTables(tmp_path), DeltaTables(tmp_path)
    for n in range(3):
        tables.append("t", pl.DataFrame({"n": [n]}))
    link, came = os.link, []

    def late(*paths: object) -> None:
        if not came:
            came.append(1)
            other.append("t", pl.DataFrame({"n": [9]}))
        link(*paths)

    monkeypatch.setattr(os, "link", late)
    assert tables.compact("t").version == 4
    assert sorted(tables.scan("t").collect()["n"]) == [0, 1, 2, 9] and len(tables.files("t")) == 2


def test_what_a_killed_append_left_behind_is_in_nobodys_way(tmp_path, monkeypatch) -> None:
    tables = DeltaTables(tmp_path)
    tables.append("t", pl.DataFrame({"n": [1]}))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "link", die)
        tables.append("t", pl.DataFrame({"n": [2]}), key="k")
    (tmp_path / "t" / "part-00000-left.parquet").write_bytes(b"PAR1")
    (tmp_path / "t" / "_delta_log" / "_commit_left.json.tmp").write_text('{"add"')
    for again in (tables, DeltaTables(tmp_path)):
        assert again.version("t") == 0 and again.scan("t").collect()["n"].to_list() == [1]
    assert tables.append("t", pl.DataFrame({"n": [2]}), key="k").version == 1
    assert DeltaTables(tmp_path).append("t", pl.DataFrame({"n": [2]}), key="k").version == 1


def test_on_a_disk_without_hard_links_the_library_writes(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    tables = DeltaTables(tmp_path)
    tables.append("t", pl.DataFrame({"n": [1]}))
    monkeypatch.setattr(os, "link", refuse)
    assert tables.append("t", pl.DataFrame({"n": [2]}), key="k").version == 1
    assert not by_hand(tmp_path / "t", 1) and len(list((tmp_path / "t").glob("*.parquet"))) == 2
    assert sorted(tables.scan("t").collect()["n"]) == [1, 2]


def test_a_table_with_what_a_writer_must_know_is_left_to_the_library(tmp_path) -> None:
    tables = DeltaTables(tmp_path)
    tables.append("t", pl.DataFrame({"n": [1]}))
    DeltaTable(tmp_path / "t").alter.add_constraint({"positive": "n > 0"})
    tables.append("t", pl.DataFrame({"n": [2]}))
    assert not by_hand(tmp_path / "t", 2) and commits.plain(DeltaTable(tmp_path / "t")) is None
