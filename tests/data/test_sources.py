"""Sources are what their names say, or the reader is told."""

from __future__ import annotations

from datetime import datetime

import polars as pl
import pytest

from loopline.base.code import UserCodeError
from loopline.base.errors import Invalid, NotFound
from loopline.data import TableSpec, ingest, load_source
from loopline.data.sources import parts as sources_module
from loopline.data.sources.times import to_utc
from loopline.workspace import create_workspace

FRAME = pl.DataFrame({"a": [1, 2], "b": ["x", None]})


def load(folder, name):
    return load_source(folder, TableSpec(source=name))


def test_each_kind_of_file_gives_the_same_rows(tmp_path):
    FRAME.write_csv(tmp_path / "t.csv")
    FRAME.write_csv(tmp_path / "t.tsv", separator="\t")
    FRAME.write_parquet(tmp_path / "t.parquet")
    FRAME.write_ndjson(tmp_path / "t.jsonl")
    for name in ("t.csv", "t.tsv", "t.parquet", "t.jsonl"):
        assert load(tmp_path, name).equals(FRAME), name


def test_a_function_may_be_a_source(tmp_path):
    (tmp_path / "prepare.py").write_text("import polars as pl\ndef rows():\n    return pl.LazyFrame({'a': [1, 2]})\n")
    assert load(tmp_path, "prepare.py:rows")["a"].to_list() == [1, 2]


def test_a_file_is_read_again_only_when_its_content_changed(tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n")
    first = load(tmp_path, "t.csv")
    assert load(tmp_path, "t.csv") is first
    (tmp_path / "t.csv").write_text("a\n1\n2\n")
    assert load(tmp_path, "t.csv").height == 2


@pytest.mark.parametrize("large", [False, True])
def test_digits_with_leading_zeros_stay_text_and_a_contract_makes_any_digits_text(tmp_path, monkeypatch, large):
    if large:
        monkeypatch.setattr(sources_module, "LARGE_BYTES", 1)
    (tmp_path / "t.csv").write_text("zip,id,n,day\n01234,7,-1,2026-01-01\n54321,8,0,2026-01-02\n,9,,\n")
    found = load(tmp_path, "t.csv")
    assert found["zip"].to_list() == ["01234", "54321", None]
    assert found["id"].to_list() == [7, 8, 9] and found["n"].to_list() == [-1, 0, None]
    as_text = load_source(tmp_path, TableSpec(source="t.csv"), texts=("id", "day"))
    assert as_text["id"].to_list() == ["7", "8", "9"] and as_text["day"][0] == "2026-01-01"
    assert load(tmp_path, "t.csv").equals(found), "what is kept in memory goes by how it was read"


def test_text_of_digits_keeps_its_contract_and_a_later_file_keeps_the_type(tmp_path):
    contract = """apiVersion: v3.1.0
kind: DataContract
schema:
  - name: t
    properties:
      - {name: id, logicalType: string, required: true}
      - {name: n, logicalType: integer}
"""
    (tmp_path / "t.yaml").write_text(contract)
    ws = create_workspace(tmp_path / "ws", actor="user:ada")
    tables = {
        "t": TableSpec(source="t.csv", contract="t.yaml", key="id"),
        "free": TableSpec(source="t.csv", key="id"),
    }
    for text in ("id,n\n001,007\n02,5\n", "id,n\n1234,5\n"):
        (tmp_path / "t.csv").write_text(text.replace("007", "7") if "007" not in text else text)
        done = ingest(ws, tmp_path, tables, names=["t"])
        assert done[0].quarantined == 0
        (tmp_path / "t.csv").write_text(text.replace("007", "7"))
        ingest(ws, tmp_path, tables, names=["free"])
    for name in tables:
        assert sorted(ws.tables.scan(name).collect().select("id", "n").rows()) == [("001", 7), ("02", 5), ("1234", 5)]


def test_text_in_utf_16_is_named_with_the_line_that_converts_it(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n", encoding="utf-16")
    with pytest.raises(Invalid, match="is text in UTF-16") as told:
        load(tmp_path, "t.csv")
    assert "iconv -f utf-16 -t utf-8 t.csv" in str(told.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"a,b\n1,2\n3\n", "line 3: 1 fields where the header has 2"),
        ("t.csv", b"a,b\n1,2\n3,4,5\n", "line 3: 3 fields where the header has 2"),
        ("t.csv", b'a,b\n1,2\n"3,4\n5,6\n', "line 3: a field does not end"),
        ("t.jsonl", b"a,b\n1,2\n", "does not begin as JSON does"),
        ("t.csv", b'a,b\n1,2\n3,"4\n' + 20_000 * b"5,6789,\n", "line 3: a field does not end"),
        ("t.csv", "a,b\n1,2\n3,n\u00f6rd\n".encode("latin-1"), "line 3: byte 0xf6 is not UTF-8"),
        ("t.jsonl", '{"a": 1}\n{"a": "n\u00f6rd"}\n'.encode("latin-1"), "line 2: byte 0xf6 is not UTF-8"),
        ("t.csv", b"a,a\n1,2\n", "'a' twice"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b"PAR1....", "is a Parquet file"),
        ("t.csv", b"PK\x03\x04rest", "spreadsheet"),
        ("t.csv", b"a;b;c\n1;2;3\n", "not separated by"),
        ("t.csv", b'{"a": 1}\n', "is JSON lines, whatever its name says"),
        ("t.csv", b"\xef\xbb\xbf<!DOCTYPE html>\n<p>a,b</p>\n", "is an HTML page"),
        ("t.csv", b"a,b\x00\x01\n", "binary data"),
        ("t.parquet", b"a,b\n1,2\n", "not Parquet"),
        ("t.parquet", b"PAR1 but cut off", "cannot be read as Parquet"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', "cannot be read as JSON lines"),
        ("t.xlsx", b"PK", "no known kind"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Invalid) as refused:
        load(tmp_path, name)
    assert says in refused.value.what


def test_an_absent_file_names_its_neighbours(tmp_path):
    (tmp_path / "customers.csv").write_text("a\n1\n")
    with pytest.raises(NotFound, match=r"customers\.csv"):
        load(tmp_path, "customer.csv")


def test_a_function_that_raises_or_returns_no_frame_is_named(tmp_path):
    (tmp_path / "p.py").write_text("def bad():\n    return 1 / 0\ndef odd():\n    return 3\n")
    with pytest.raises(UserCodeError, match="ZeroDivisionError"):
        load(tmp_path, "p.py:bad")
    with pytest.raises(Invalid, match="returned int"):
        load(tmp_path, "p.py:odd")


def test_a_time_without_zone_is_shown_as_it_is_written():
    frame = pl.DataFrame({"t": [None, datetime(2026, 1, 1, 6)]})  # noqa: DTZ001
    with pytest.raises(Invalid) as said:
        to_utc(frame, "rows", TableSpec(source="rows.csv", known_at="t"), None)
    assert said.value.what.endswith("for example 2026-01-01 06:00:00")
