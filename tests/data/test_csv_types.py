"""The types of CSV columns are those that all values allow, though only the first lines are asked."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from loopline.base.errors import Invalid
from loopline.data.sources import csv_types
from loopline.data.sources.files import batches, read

TEXTS = ["", "1", "-2", "007", "1.5", "+2.5", "1e3", "2.", "true", "false", "abc", "2026-01-01", "2026-13-01"]
TEXTS += ["2026-01-01T00:00:00Z", "2026-01-01 00:00:00", "31/01/2026", "99999999999999999999", "NaN", "inf", " 1", "+3"]
columns = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).flatmap(
    lambda few: st.lists(st.sampled_from(few), min_size=1, max_size=8)
)


def outcome(reader, path):
    try:
        return reader(path, "rows.csv", "CSV")
    except (Invalid, pl.exceptions.PolarsError) as error:
        return type(error)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(columns)
@example(["2026-01-01 00:00:00", "2026-01-01 00:00:00", "2026-01-01"])
@example(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-13-01T00:00:00Z"])
@example(["1", "1", "99999999999999999999"])
@example(["1", "1", "+3"])
def test_a_column_has_the_type_that_all_its_values_allow_wherever_they_stand(tmp_path, monkeypatch, values):
    path = tmp_path / "rows.csv"
    path.write_text("r,c,z\n" + "".join(f"z,{value},z\n" for value in values))
    whole = outcome(read, path)
    with monkeypatch.context() as few:
        few.setattr(csv_types, "SAMPLE", 2)
        for found in (outcome(read, path), outcome(lambda *given: pl.concat(batches(*given, 3)), path)):
            if isinstance(whole, type) or isinstance(found, type):
                assert whole is found
            else:
                assert found.schema == whole.schema
                assert found.equals(whole)


def test_a_column_that_is_empty_at_first_has_the_type_of_its_later_values(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_types, "SAMPLE", 3)
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c,d\n" + "1,,,\n" * 5 + '2,7,0.5,"x, y"\n')
    assert read(path, "rows.csv", "CSV").dtypes == [pl.Int64, pl.Int64, pl.Float64, pl.String]


@pytest.mark.parametrize("later", ["1.5", "x", "007", "+3", ""])
def test_a_value_beyond_the_first_lines_is_kept_as_it_was_written(tmp_path, later):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "1,2\n" * csv_types.SAMPLE + f"{later},2\n")
    last = read(path, "rows.csv", "CSV")["a"][-1]
    assert last == {"1.5": 1.5, "": None}.get(later, later)


DAYS = ["2026-01-05", "2026-01-06"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["1", "2", "3", "", "n/a", "x"], ("numbers", 3, 2, 6, ("n/a", "x"))),
        (["?", "0.5", "2"], ("numbers", 2, 1, 2, ("?",))),
        (["7"] * 10 + ["a"] * 30, ("numbers", 10, 30, 12, ("a",))),
        ([*DAYS, "06/01/2026"], ("dates", 2, 1, 4, ("06/01/2026",))),
        ([*DAYS, "2026-02-30"], ("dates", 2, 1, 4, ("2026-02-30",))),
        (["true", "false", "yes"], ("true or false", 2, 1, 4, ("yes",))),
        (["1", "2", "007"], ("numbers", 2, 1, 4, ("007",))),
        (["a", "b", "1"], None),
        (["007", "008"], None),
        (["1", "2.5"], None),
    ],
)
@pytest.mark.parametrize("sample", [2, 10_000])
def test_a_column_that_is_text_for_some_of_its_values_says_which_and_from_which_line(
    tmp_path, monkeypatch, values, said, sample
):
    monkeypatch.setattr(csv_types, "SAMPLE", sample)
    path = tmp_path / "rows.csv"
    path.write_text("r,c\n" + "".join(f"z,{value}\n" for value in values))
    for reader in (read, lambda *given: list(batches(*given[:3], 3, *given[3:]))):
        notes = []
        reader(path, "rows.csv", "CSV", (), notes)
        told = [(m.kind, m.values, m.others, m.line, m.examples) for m in notes if m.column == "c"]
        assert told == ([said] if said else [])
        notes.clear()
        reader(path, "rows.csv", "CSV", ("c",), notes)
        assert not notes, "a column that is to be text says nothing"


def test_the_line_that_is_told_is_the_one_in_the_file(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('r,c\n"a\nb\nc",1\nz,2\nz,x\n')
    notes = []
    read(path, "rows.csv", "CSV", (), notes)
    assert [m.line for m in notes] == [6]
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"c": 1}\n\n{"c": 2.5}\n{"c": "x"}\n{"c": null}\n')
    for reader in (read, lambda *given: list(batches(*given[:3], 1, *given[3:]))):
        notes.clear()
        reader(lines, "rows.jsonl", "JSON lines", (), notes)
        assert [(m.kind, m.values, m.others, m.line, m.examples) for m in notes] == [("numbers", 2, 1, 4, ("x",))]
