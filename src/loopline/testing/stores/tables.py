"""Laws of rows by version."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.store.tables.protocol import Tables
from loopline.testing.stores.together import NOON, at_once


def _rows(values: Iterable[int], **more: Any) -> pl.DataFrame:
    frame = pl.DataFrame({"n": list(values)}, schema={"n": pl.Int64})
    return frame.with_columns(pl.lit(NOON).alias("at"), **more)


class TablesConformance:
    """Laws of `Tables`. Give a fixture `tables`: an empty store."""

    def test_rows_come_back_with_their_types(self, tables: Tables) -> None:
        frame = pl.DataFrame(
            {
                "whole": [1, None],
                "small": pl.Series([1, 2], dtype=pl.Int16),
                "real": [0.1, float("nan")],
                "single": pl.Series([0.1, None], dtype=pl.Float32),
                "text": ["ä", None],
                "flag": [True, None],
                "bytes": [b"\x00", None],
                "day": [NOON.date(), None],
                "time": [NOON, None],
                "list": [[1, 2], []],
                "struct": [{"a": 1}, {"a": None}],
            }
        )
        tables.append("types", frame)
        back = tables.scan("types").collect()
        assert back.schema == frame.with_columns(pl.col("time").dt.replace_time_zone("UTC")).schema or (
            back.schema == frame.schema
        )
        assert back.select(pl.exclude("time")).equals(frame.select(pl.exclude("time")))

    def test_times_come_back_as_utc_microseconds(self, tables: Tables) -> None:
        local = pl.Series([NOON], dtype=pl.Datetime("ms", "America/New_York"))
        tables.append("times", pl.DataFrame({"at": local}))
        back = tables.scan("times").collect()["at"]
        assert back.dtype == pl.Datetime("us", "UTC")
        assert back.to_list() == [NOON]

    def test_categories_come_back_as_text_and_unsigned_numbers_as_signed(self, tables: Tables) -> None:
        frame = pl.DataFrame(
            {
                "c": pl.Series(["x", None], dtype=pl.Categorical),
                "e": pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"])),
                "u": pl.Series([1, 2**32 - 1], dtype=pl.UInt32),
            }
        )
        tables.append("kinds", frame)
        back = tables.scan("kinds").collect()
        assert back.to_dict(as_series=False) == {"c": ["x", None], "e": ["x", "y"], "u": [1, 2**32 - 1]}

    def test_versions_count_appends_and_stay_readable(self, tables: Tables) -> None:
        assert tables.version("t") is None
        for n in range(4):
            assert tables.append("t", _rows([n])).version == n
        assert tables.version("t") == 3
        for version in range(4):
            assert sorted(tables.scan("t", version=version).collect()["n"]) == list(range(version + 1))
        with pytest.raises(NotFound):
            tables.scan("t", version=4)

    @pytest.mark.parametrize("after", [-1, 0, 1, 3])
    def test_what_was_added_after_a_version_is_what_that_version_lacks(self, tables: Tables, after: int) -> None:
        for n in range(4):
            tables.append("t", _rows([n, n], more=pl.lit("m")) if n == 2 else _rows([n]))
        added = tables.added("t", after=after)
        whole = tables.scan("t").collect()
        before = tables.scan("t", version=after).collect().height if after >= 0 else 0
        assert added.height == whole.height - before
        assert sorted(added["n"]) == sorted(whole["n"])[before:]

    def test_compaction_and_vacuum_leave_the_rows_and_add_none(self, tables: Tables) -> None:
        for n in range(4):
            tables.append("t", _rows([n, n + 10]))
        many = tables.files("t")
        assert sum(file.bytes for file in many) == sum(file.path.stat().st_size for file in many)
        written = tables.compact("t")
        assert (len(many), len(tables.files("t")), written.version) == (4, 1, 4)
        assert len(tables.files("t", version=3)) == 4
        assert sorted(tables.scan("t").collect()["n"]) == [0, 1, 2, 3, 10, 11, 12, 13]
        assert tables.added("t", after=3).height == 0
        assert {f.path for f in tables.vacuum("t", older_than=timedelta(0))} == {f.path for f in many}
        assert tables.vacuum("t", older_than=timedelta(hours=1), dry_run=False) == []
        assert all(file.path.exists() for file in many)
        tables.vacuum("t", older_than=timedelta(0), dry_run=False)
        assert not any(file.path.exists() for file in many)
        tables.append("t", _rows([99]))
        assert tables.added("t", after=3)["n"].to_list() == [99]
        assert tables.scan("t").collect().height == 9

    def test_a_lazy_frame_is_appended_whole_and_once(self, tables: Tables) -> None:
        tables.append("t", _rows([1]))
        for _ in range(2):
            tables.append("t", _rows([2, 3], more=pl.lit("m")).lazy(), key="k")
        assert tables.scan("t").sort("n").collect().select("n", "more").rows() == [(1, None), (2, "m"), (3, "m")]
        with pytest.raises(Conflict):
            tables.append("t", pl.LazyFrame({"n": ["text"]}))

    def test_a_scan_sees_the_version_it_was_made_at(self, tables: Tables) -> None:
        tables.append("t", _rows([1]))
        scan = tables.scan("t")
        tables.append("t", _rows([2]))
        assert scan.collect()["n"].to_list() == [1]

    def test_an_append_with_a_known_key_changes_nothing_and_answers_as_the_first(self, tables: Tables) -> None:
        first = tables.append("t", _rows([1]), key="day-1")
        tables.append("t", _rows([2]), key="day-2")
        assert tables.append("t", _rows([1]), key="day-1") == first
        assert sorted(tables.scan("t").collect()["n"]) == [1, 2]

    def test_rows_that_go_by_a_version_come_after_it_or_not_at_all(self, tables: Tables) -> None:
        assert tables.append("t", _rows([1]), after=-1).version == 0
        for rows in (_rows([2]), _rows([2]).lazy(), _rows([2], more=pl.lit("m"))):
            for wrong in (-1, 1):
                with pytest.raises(Conflict, match="has moved"):
                    tables.append("t", rows, after=wrong)
        assert tables.append("t", _rows([2]), key="k", after=0).version == 1
        assert tables.append("t", _rows([2]), key="k", after=0).version == 1, "the same append again"
        assert sorted(tables.scan("t").collect()["n"]) == [1, 2]

    def test_new_columns_are_null_in_older_rows_and_missing_ones_in_newer(self, tables: Tables) -> None:
        tables.append("t", _rows([1], old=pl.lit("o")))
        tables.append("t", _rows([2], new=pl.lit(7)))
        back = tables.scan("t").sort("n").collect()
        assert back["old"].to_list() == ["o", None]
        assert back["new"].to_list() == [None, 7]

    @pytest.mark.parametrize("value", [pl.lit("1"), pl.lit(1.5), pl.lit(True), pl.lit(NOON), pl.lit([1])])
    def test_a_column_never_changes_its_type(self, tables: Tables, value: pl.Expr) -> None:
        tables.append("t", _rows([1], v=pl.lit(1, dtype=pl.Int64)))
        with pytest.raises(Conflict, match=r"column v of the table t is Int64"):
            tables.append("t", _rows([2], v=value))
        assert tables.scan("t").collect().height == 1

    def test_narrow_numbers_and_columns_of_nulls_fit_the_type_there_is(self, tables: Tables) -> None:
        tables.append("t", _rows([1], v=pl.lit(1, dtype=pl.Int64), w=pl.lit("a")))
        tables.append("t", _rows([2], v=pl.lit(2, dtype=pl.Int8), w=pl.lit(None)))
        assert tables.scan("t").sort("n").collect()["v"].to_list() == [1, 2]

    def test_times_without_zone_are_refused(self, tables: Tables) -> None:
        with pytest.raises(Invalid, match="without a zone"):
            tables.append("t", pl.DataFrame({"at": [datetime(2026, 1, 1)]}))  # noqa: DTZ001
        assert tables.version("t") is None

    def test_no_rows_make_a_table_too(self, tables: Tables) -> None:
        tables.append("t", _rows([]))
        assert tables.scan("t").collect().schema["n"] == pl.Int64
        tables.append("t", _rows([]), key="again")
        assert tables.scan("t").collect().height == 0

    def test_names_have_parts(self, tables: Tables) -> None:
        assert list(tables.names()) == []
        for name in ("b", "a/x", "a/y/z"):
            tables.append(name, _rows([1]))
        assert list(tables.names()) == ["a/x", "a/y/z", "b"]
        assert tables.scan("a/y/z").collect().height == 1

    def test_no_table_lies_inside_another(self, tables: Tables) -> None:
        tables.append("a/b", _rows([1]))
        with pytest.raises(Conflict):
            tables.append("a", _rows([1]))
        with pytest.raises(Conflict):
            tables.append("a/b/c", _rows([1]))
        assert list(tables.names()) == ["a/b"]

    @pytest.mark.parametrize("name", ["", "/", "../x", "a//b", "a/../b", ".x", "_x", "a b", "a\n"])
    def test_names_that_could_leave_the_store_are_refused(self, tables: Tables, name: str) -> None:
        with pytest.raises(Invalid):
            tables.append(name, _rows([1]))
        with pytest.raises(Invalid):
            tables.scan(name)

    def test_a_table_never_written_is_not_found(self, tables: Tables) -> None:
        with pytest.raises(NotFound):
            tables.scan("t")

    def test_writers_at_once_all_succeed(self, tables: Tables) -> None:
        at_once(6, lambda n: tables.append("t", _rows([n])))
        assert sorted(tables.scan("t").collect()["n"]) == list(range(6))

    def test_writers_at_once_with_one_key_write_once(self, tables: Tables) -> None:
        seen = at_once(4, lambda _: tables.append("t", _rows([1]), key="k"))
        assert tables.scan("t").collect()["n"].to_list() == [1]
        assert {found.version for found in seen} == {0}
