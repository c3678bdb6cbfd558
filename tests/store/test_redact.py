"""Rows taken out of a table are in none of its versions, files or log entries, whenever it is stopped."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.errors import Unavailable
from loopline.store.tables import redact as redacting
from loopline.store.tables.delta import DeltaTables
from loopline.store.tables.redact import held, redact


def subject(schema: object) -> pl.Expr | None:
    return pl.col("who") == "q9q" if "who" in schema else None  # type: ignore[operator]


def frame(*who: str) -> pl.DataFrame:
    return pl.DataFrame({"who": list(who), "n": list(range(len(who)))})


def bytes_of(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())


@given(parts=st.lists(st.lists(st.sampled_from(["ada", "bob", "q9q"]), min_size=1, max_size=6), min_size=1, max_size=5))
@settings(max_examples=8, deadline=None)
def test_every_version_is_what_it_was_without_the_subject(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[str]]
) -> None:
    tables = DeltaTables(tmp_path_factory.mktemp("tables"))
    for n, part in enumerate(parts):
        tables.append("t", frame(*part), key=str(n))
    before = [tables.scan("t", version=v).collect() for v in range(len(parts))]
    told = held(tables, "t", subject)
    assert told.rows == sum(part.count("q9q") for part in parts)
    assert redact(tables, "t", subject) == told
    for v, old in enumerate(before):
        now = tables.scan("t", version=v).collect()
        assert now.sort("who", "n").equals(old.filter(pl.col("who") != "q9q").sort("who", "n"))
    assert b"q9q" not in bytes_of(tables.root / "t")
    assert tables.append("t", frame("q9q"), key="0").version == 0, "an old key is still known"
    assert redact(tables, "t", subject).rows == 0


def test_a_checkpoint_a_copy_by_compaction_and_a_writer_that_is_open_hold_nothing_afterwards(tmp_path: Path) -> None:
    tables, other = DeltaTables(tmp_path), DeltaTables(tmp_path)
    for n in range(23):
        tables.append("t", frame("ada", "q9q"), key=str(n))
    other.append("t", frame("bob"), key="other")
    DeltaTable(tmp_path / "t").optimize.compact()
    assert held(tables, "t", subject).rows == 46
    redact(tables, "t", subject)
    for n in range(25):
        other.append("t", frame("carl"), key=f"later {n}")
    assert b"q9q" not in bytes_of(tmp_path / "t")
    for reader in (tables.scan("t"), other.scan("t"), pl.scan_delta(str(tmp_path / "t"))):
        assert dict(reader.collect()["who"].value_counts().iter_rows()) == {"ada": 23, "bob": 1, "carl": 25}
    assert tables.scan("t", version=3).collect()["who"].to_list() == ["ada"] * 4


@pytest.mark.parametrize("at", range(12))
def test_stopped_anywhere_the_table_can_be_read_and_the_same_again_ends_it(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = DeltaTables(tmp_path)
    for n in range(3):
        tables.append("t", frame("ada", "q9q"), key=str(n))
    real, steps = redacting._sync, 0

    def failing(folder: Path) -> None:
        nonlocal steps
        steps += 1
        if steps > at:
            raise KeyboardInterrupt
        real(folder)

    monkeypatch.setattr(redacting, "_sync", failing)
    try:
        redact(tables, "t", subject)
    except KeyboardInterrupt:
        assert DeltaTables(tmp_path).scan("t").collect().filter(pl.col("who") == "ada").height == 3
    monkeypatch.setattr(redacting, "_sync", real)
    redact(DeltaTables(tmp_path), "t", subject)
    assert b"q9q" not in bytes_of(tmp_path / "t")
    assert DeltaTables(tmp_path).scan("t").collect()["who"].to_list() == ["ada"] * 3


def test_a_log_without_its_first_commits_is_left_as_it_is(tmp_path: Path) -> None:
    tables = DeltaTables(tmp_path)
    for n in range(2):
        tables.append("t", frame("ada", "q9q"), key=str(n))
    DeltaTable(tmp_path / "t").create_checkpoint()
    (tmp_path / "t" / "_delta_log" / f"{0:020d}.json").unlink()
    with pytest.raises(Unavailable, match="is not whole"):
        redact(tables, "t", subject)
    assert "add" in json.loads((tmp_path / "t" / "_delta_log" / f"{1:020d}.json").read_text().splitlines()[1])
    assert DeltaTables(tmp_path).scan("t").collect().height == 4
