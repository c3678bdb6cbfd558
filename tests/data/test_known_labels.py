"""Labels as they were known at a moment: late, revised and void ones count from when they were known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from loopline import data
from loopline.base.clock import ManualClock
from loopline.base.errors import NotFound
from loopline.data.spec import TableSpec
from loopline.framing.spec import FramingSpec
from loopline.interfaces.cli import main
from loopline.workspace import FOLDER, create_workspace

DAY = timedelta(days=1)
START = datetime(2026, 3, 1, tzinfo=UTC)
FRAMING = FramingSpec.model_validate({"label": {"table": "outcomes", "value": "late > 5"}, "unit": "job"})
TABLES = {
    "outcomes": TableSpec.model_validate(
        {"source": "outcomes.parquet", "event_time": "ended", "known_at": "heard", "key": ["job"]}
    )
}
ROWS = [  # job, late, known on day: c is revised, d becomes void
    ("a", 9, 1), ("b", 0, 1), ("c", 0, 1), ("c", 8, 3), ("d", 7, 2), ("d", None, 4), ("e", 1, 5),
]  # fmt: skip
TRUTH = {
    0.5: {},
    1: {"a": True, "b": False, "c": False},
    2: {"a": True, "b": False, "c": False, "d": True},
    3: {"a": True, "b": False, "c": True, "d": True},
    4: {"a": True, "b": False, "c": True, "d": None},
    9: {"a": True, "b": False, "c": True, "d": None, "e": False},
}


@pytest.fixture
def ws(tmp_path: Path):
    made = create_workspace(tmp_path / FOLDER, clock=ManualClock(START + 10 * DAY), actor="user:test")
    yield made
    made.close()


def outcomes() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "job": [job for job, _, _ in ROWS],
            "late": [late for _, late, _ in ROWS],
            "ended": [START] * len(ROWS),
            "heard": [START + day * DAY for _, _, day in ROWS],
        }
    )


@pytest.mark.parametrize("day", sorted(TRUTH))
def test_labels_are_those_that_were_known_at_the_moment(ws, day):
    ws.tables.append("outcomes", outcomes())
    seen = data.known_labels(ws, framing=FRAMING, tables=TABLES, at=START + day * DAY)
    truth = TRUTH[day]
    assert {row["job"]: row["label"] for row in seen.newest} == truth
    values = list(truth.values())
    assert (seen.units, seen.true, seen.false, seen.void) == (
        len(truth), values.count(True), values.count(False), values.count(None),
    )  # fmt: skip
    assert all(row["known_at"] <= seen.at for row in seen.newest)


def test_the_newest_come_first_and_a_unit_can_be_asked_about(ws):
    with pytest.raises(NotFound, match="outcomes"):
        data.known_labels(ws, framing=FRAMING, tables=TABLES)
    ws.tables.append("outcomes", outcomes())
    seen = data.known_labels(ws, framing=FRAMING, tables=TABLES, rows=2)
    assert (seen.at, seen.units, [row["job"] for row in seen.newest]) == (ws.clock(), 5, ["e", "d"])
    (one,) = data.known_labels(ws, framing=FRAMING, tables=TABLES, unit="c", at=START + 2 * DAY).newest
    assert (one["job"], one["label"], one["known_at"]) == ("c", False, START + DAY)


def test_the_command_tells_them_in_a_table_as_json_and_in_a_file(tmp_path, ws, capsys):
    ws.tables.append("outcomes", outcomes())
    ws.close()
    outcomes().write_parquet(tmp_path / "outcomes.parquet")
    (tmp_path / "loop.yaml").write_text(
        "name: jobs\nframing: {label: {table: outcomes, value: late > 5}, unit: job}\n"
        "data: {outcomes: {source: outcomes.parquet, event_time: ended, known_at: heard, key: job}}\n"
        "training: train.py:fit\n"
    )

    def here(*words: str) -> str:
        assert main.run(("data", "labels", "--project", str(tmp_path), *words)) == 0
        return capsys.readouterr().out

    out = here("--as-of", "2026-03-05")
    assert "4: 2 true, 1 false, 1 void" in out and "void   2026-03-01 00:00:00Z  2026-03-05 00:00:00Z" in out
    assert "nothing was known of e yet" in here("--as-of", "2026-03-05T23:00Z", "--unit", "e")
    doc = json.loads(here("--as-of", "2026-03-04", "--json"))
    assert (doc["units"], doc["void"], doc["newest"][0]["job"]) == (4, 0, "c")
    here("--as-of", "2026-03-04", "--rows", "1", "--out", str(tmp_path / "known.parquet"))
    assert pl.read_parquet(tmp_path / "known.parquet").height == 4
    assert main.run(("data", "labels", "--project", str(tmp_path), "--out", "known.xls")) != 0
