"""Functions and columns that a page names are looked for before anything is written."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from loopline.base.errors import LooplineError, NotFound
from loopline.interfaces.cli import main
from loopline.loop.project import load
from loopline.workspace import FOLDER

PAGE = """\
name: parcels
framing:
  label: {table: outcomes, value: delay > 15 and not lost}
  unit: parcel_id
  decision_time: due - 2h
  baseline: baselines.py:rate
data:
  schedule: {source: schedule.csv, event_time: due, known_at: published, key: [parcel_id]}
  outcomes: {source: outcomes.parquet, known_at: reported}
  weather: {source: prepare.py:weather, known_at: anything}
features: {spine: schedule, views: views.py}
training: train.py:fit
evaluation: {slices: [depot, rainy]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "loop.yaml").write_text(PAGE)
    (tmp_path / "schedule.csv").write_text("parcel_id,due,published,depot\n1,2026-01-01T00:00:00Z,,x\n")
    pl.DataFrame({"parcel_id": [1], "delay": [3], "lost": [False], "reported": [None]}).write_parquet(
        tmp_path / "outcomes.parquet"
    )
    (tmp_path / "prepare.py").write_text("weather = print\n")
    (tmp_path / "baselines.py").write_text("from math import sqrt as rate\n")
    (tmp_path / "views.py").write_text("raise SystemExit('a check runs nothing')\nrainy = 1\n")
    (tmp_path / "train.py").write_text("import nowhere\n\ndef fit(X, y): ...\ndef prune(model): ...\n")
    return tmp_path


def test_a_page_whose_names_are_all_there_passes_and_nothing_is_run(project: Path):
    assert load(project).check().name == "parcels"


@pytest.mark.parametrize(
    ("old", "new", "line", "said", "fix"),
    [
        ("train.py:fit", "train.py:fitt", 12, "training.recipe: train.py defines no 'fitt'", "write fit?"),
        ("baselines.py:rate", "baselines.py:rat", 6, "framing.baseline: baselines.py defines no 'rat'", "write rate?"),
        ("prepare.py:weather", "prepare.py:wether", 10, "data.weather.source", "write weather?"),
        ("unit: parcel_id", "unit: parcel", 4, "framing.unit: schedule.csv has no column 'parcel'", "write parcel_id?"),
        ("decision_time: due", "decision_time: Due", 5, "framing.decision_time", "write due?"),
        (
            "value: delay",
            "value: dely",
            3,
            "outcomes.parquet has no column 'dely'",
            "write delay?",
        ),
        ("not lost", "not lots", 3, "has no column 'lots'", "write lost?"),
        ("event_time: due", "event_time: duet", 8, "data.schedule.event_time", "write due?"),
        ("known_at: reported", "known_at: report", 9, "data.outcomes.known_at", "write reported?"),
        ("key: [parcel_id]", "key: [parcel_ids]", 8, "data.schedule.key", "write parcel_id?"),
        (
            "slices: [depot",
            "slices: [depo",
            13,
            "evaluation.slices[0]: schedule.csv",
            "write depot?",
        ),
    ],
)
def test_a_wrong_name_is_told_with_key_line_and_the_nearest(project: Path, old, new, line, said, fix):
    assert old in PAGE
    (project / "loop.yaml").write_text(PAGE.replace(old, new, 1))
    with pytest.raises(NotFound) as caught:
        load(project).check()
    assert f"line {line}," in caught.value.what
    assert said in caught.value.what
    assert caught.value.fix == fix


def test_a_key_that_names_more_than_the_unit_is_refused_with_both_ways_out(project: Path):
    (project / "loop.yaml").write_text(PAGE.replace("key: [parcel_id]", "key: [parcel_id, due]"))
    with pytest.raises(LooplineError) as caught:
        load(project).check()
    said = caught.value.what
    assert "line 8," in said and "data.schedule.key: rows are named by parcel_id and due, decisions by" in said
    assert "write `key: [parcel_id]`" in said and "make a column that names each framing.unit" in said


def test_a_unit_that_only_the_outcomes_lack_is_told(project: Path):
    pl.DataFrame({"parcel": [1], "delay": [3], "lost": [False], "reported": [None]}).write_parquet(
        project / "outcomes.parquet"
    )
    with pytest.raises(NotFound, match=r"framing.unit: outcomes.parquet has no column 'parcel_id'"):
        load(project).check()


def test_a_module_that_is_not_python_is_told_with_its_line(project: Path):
    (project / "train.py").write_text("def fit(X, y):\n    return (\n")
    with pytest.raises(NotFound, match=r"training.recipe: train.py is not Python: line 2"):
        load(project).check()


@pytest.mark.parametrize(
    "text", ["from elsewhere import *", "if True:\n    def fit(X, y): ...", "try:\n    fit = 1\nfinally: ..."]
)
def test_what_only_running_tells_is_not_judged(project: Path, text: str):
    (project / "train.py").write_text(text + "\n")
    load(project).check()


def test_a_run_with_a_wrong_name_writes_nothing(project: Path, capsys: pytest.CaptureFixture[str]):
    (project / "loop.yaml").write_text(PAGE.replace("unit: parcel_id", "unit: parcel", 1))
    before = sorted(p.name for p in project.iterdir())
    for command in ("run", "tick"):
        assert main.run((command, "--project", str(project))) == 2
        assert "line 4, column 9" in capsys.readouterr().err
    assert sorted(p.name for p in project.iterdir()) == before
    assert not (project / FOLDER).exists()


VIEWS = """
from loopline.features import col, count, latest, mean, view

@view()
def own():
    return {"depot": col("depot").category(), "at": col("decision_time").hour("UTC")}

@view(entity="parcel_id", source="outcomes", refresh="1h", ttl="1d")
def past():
    late = col("delay") > 5
    return {"late": mean(late, "1d"), "last": latest("delay"), "n": count("1d", col("lost")), "d": col("depot") == "x"}
"""


def test_views_whose_tables_and_columns_are_there_pass(project: Path):
    (project / "views.py").write_text(VIEWS + "rainy = 1\n")
    assert load(project).check().name == "parcels"


@pytest.mark.parametrize(
    ("old", "new", "said", "fix"),
    [
        (
            'col("depot").category',
            'col("depott").category',
            "view own: schedule has no column 'depott'",
            "write depot?",
        ),
        ('source="outcomes"', 'source="outcome"', "no table is called 'outcome'", "write outcomes?"),
        ('latest("delay")', 'latest("dely")', "view past: outcomes has no column 'dely'", "write delay?"),
        ('col("lost")', 'col("depot")', "view past: outcomes has no column 'depot'", ""),
        (
            'late = col("delay")',
            'late = col("dela")',
            "neither schedule nor outcomes has column 'dela'",
            "write delay?",
        ),
        ('refresh="1h", ', "", "the online store needs refresh=", ""),
    ],
)
def test_names_in_views_that_are_nowhere_are_told_before_anything_is_written(project: Path, old, new, said, fix):
    (project / "views.py").write_text(VIEWS.replace(old, new) + "rainy = 1\n")
    if "refresh" in old:
        assert load(project).check().name == "parcels", "only the online store needs it"
        (project / "loop.yaml").write_text(PAGE + "serving: {features: online}\n")
    with pytest.raises(NotFound) as caught:
        load(project).check()
    assert said in caught.value.what and fix in caught.value.fix, caught.value
