"""The commands of data and features in bad hands: one clear error, no traceback, and the workspace opens again."""

from __future__ import annotations

import io
import shutil

import polars as pl
import pytest

from loopline.interfaces.cli.main import run

PAGE = """\
name: shop
framing: {task: binary, label: {table: ends, value: late > 5}, unit: order, decision_time: due - 2h, baseline: constant}
data:
  orders: {source: orders.csv, event_time: due, known_at: placed, key: [order]}
  ends: {source: ends.csv, event_time: ended, known_at: heard, key: [order]}
features: {spine: orders, views: features.py}
training: {recipe: train.py:fit, split: {by: time, test: 2d}}
"""
VIEWS = """\
from loopline.features import col, count, view


@view(entity="order")
def own():
    return {"size": col("size")}


@view(entity="shop", source="ends", refresh="1h")
def recent():
    return {"n": count("6h")}
"""
HOURS = [f"2026-03-01T{hour:02}:00:00Z" for hour in range(24)]
ORDERS = "order,shop,size,due,placed\n" + "".join(
    f"o{i},a,{i},{at},2026-02-28T00:00:00Z\n" for i, at in enumerate(HOURS)
)
ENDS = "order,shop,late,ended,heard\n" + "".join(f"o{i},a,{i % 9},{at},{at}\n" for i, at in enumerate(HOURS))


@pytest.fixture
def project(tmp_path, monkeypatch):
    files = {"loop.yaml": PAGE, "features.py": VIEWS, "orders.csv": ORDERS, "ends.csv": ENDS}
    files["train.py"] = "def fit(X, y, seed=0):\n    raise NotImplementedError\n"
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parquet():
    file = io.BytesIO()
    pl.DataFrame({"a": [1], "b": [2]}).write_parquet(file)
    return file.getvalue()


FILES = {
    "a Parquet file": (parquet(), "is a Parquet file, whatever its name says"),
    "UTF-16": (ORDERS.encode("utf-16"), "UTF-16"),
    "another encoding": (ORDERS.encode() + "o9,é,1,,\n".encode("latin1"), "line 26: byte 0xe9 is not UTF-8"),
    "ragged": (ORDERS.encode() + b"o99,a\n", "line 26: 2 fields where the header has 5"),
    "empty": (b"", "is empty"),
    "naive times": (ORDERS.replace("Z", "").encode(), "carries no time zone"),
    "no such day": (ORDERS.replace("03-01T07", "13-41T07").encode(), "is not a time with zone"),
    "beyond 64 bits": (ORDERS.replace(",7,", f",{10**30},").encode(), "beyond 64 bits"),
}


def told(capsys, *tokens):
    """Exit code, and what was said as an error: what, why and fix."""
    code = run(tokens)
    found = capsys.readouterr()
    said = found.err
    assert "Traceback" not in said and "fault of Loopline" not in said, said
    assert not said or ("why:" in said and "fix:" in said), said
    assert all(line.isprintable() for line in said.splitlines()), said
    return code, said


@pytest.mark.parametrize("how", FILES)
def test_a_file_that_is_not_what_it_says_is_named_with_its_place(project, capsys, how):
    content, said = FILES[how]
    (project / "orders.csv").write_bytes(content)
    code, text = told(capsys, "data", "ingest")
    assert code == 2 and said in text and "orders" in text
    (project / "orders.csv").write_text(ORDERS)
    assert told(capsys, "data", "ingest") == (0, "")
    assert told(capsys, "data", "list") == (0, "")


def test_a_table_deleted_underneath_is_said_to_be_gone_by_every_command_that_needs_it(project, capsys):
    assert told(capsys, "data", "ingest")[0] == 0
    assert told(capsys, "features", "publish")[0] == 0
    shutil.rmtree(project / ".loopline" / "tables" / "ends")
    commands = (("features", "publish"), ("features", "publish", "--backfill"), ("data", "snapshot"))
    for command in (*commands, ("data", "ingest"), ("features", "leaks")):
        code, text = told(capsys, *command)
        assert code == 2 and "table ends is gone" in text and "backup" in text, command


def test_an_online_store_that_is_damaged_is_named_with_the_command_that_mends_it(project, capsys):
    told(capsys, "data", "ingest")
    (project / ".loopline" / "online.db").write_bytes(b"no database " * 2000)
    for command in ("publish", "freshness"):
        code, text = told(capsys, "features", command)
        assert code == 1 and "loopline features publish --backfill" in text
    assert told(capsys, "features", "publish", "--backfill") == (0, "")
    assert told(capsys, "features", "freshness") == (0, "")


@pytest.mark.parametrize(
    "tokens",
    [
        "features show nothing",
        "features publish --upto yesterday",
        "features publish --upto 2199-01-01",
        "features publish --upto 2026-03-01T00:00:00",
        "features parity --rows 0",
        "data show nothing",
        "data readmit nothing",
        "data readmit orders",
        "data diff a b",
        "data tag a b",
        "data compact nothing",
        "data retain --older-than never",
        "data contract check orders",
        "data ingest nothing",
    ],
)
def test_what_is_asked_wrongly_is_told_what_to_write(project, capsys, tokens):
    told(capsys, "data", "ingest")
    code, text = told(capsys, *tokens.split())
    assert code == 2 and text
