"""Pages of an endpoint that reads the online store: how fresh it is, and who is told when it is not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from tests.ui.conftest import Get, asking
from tests.ui.test_pages import Seen, words
from tests.ui.world import NOW

from loopline import data, features
from loopline.base.clock import ManualClock
from loopline.loop.project import Project, load
from loopline.workspace import CLOCK, FOLDER, Workspace, create_workspace

PAGE = """\
name: churn
framing: {label: {table: customers, value: left}, unit: id, decision_time: seen}
data:
  customers: {source: c.csv, known_at: seen, key: id}
  calls: {source: calls.csv, event_time: at, known_at: at, key: call}
features: {spine: customers, views: views.py}
training: {recipe: train.py:fit}
serving: {features: online}
"""
VIEWS = """
from loopline.features import col, count, view

@view()
def person():
    return {"age": col("age")}

@view(entity="id", source="calls", refresh="1h", freshness="2d")
def calling():
    return {"calls": count("7d")}
"""


@pytest.fixture
def churn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Workspace, Project]]:
    monkeypatch.setenv("LOOPLINE_ACTOR", "user:ada")
    for name, text in (("loop.yaml", PAGE), ("views.py", VIEWS), ("train.py", "def fit(X, y):\n    return None\n")):
        (tmp_path / name).write_text(text)
    project = load(tmp_path)
    ws = create_workspace(tmp_path / FOLDER, clock=ManualClock(NOW), actor="service:loop")
    bring(ws, project)
    yield ws, project
    ws.close()


def bring(ws: Workspace, project: Project) -> None:
    """One customer, and a call of three hours before the beginning."""
    people = pl.DataFrame({"id": ["a"], "seen": [NOW - timedelta(days=9)], "age": [40], "left": [0]})
    calls = pl.DataFrame({"call": [1], "id": ["a"], "at": [NOW - timedelta(hours=3)]})
    data.ingest(ws, project.root, project.spec.data, frames={"customers": people, "calls": calls})


@pytest.fixture
def get_churn(churn: tuple[Workspace, Project]) -> Get:
    return asking(*churn)


def publish(churn: tuple[Workspace, Project]) -> None:
    ws, project = churn
    features.publish(ws, project.root, features=project.spec.features, tables=project.spec.data)


def test_what_was_never_published_is_told_first_and_gone_when_it_was(
    churn: tuple[Workspace, Project], get_churn: Get
) -> None:
    said = words(get_churn("/").text)
    assert "1 view cannot be read online" in said and "Nothing was published yet for calling" in said
    assert "never published" in words(get_churn("/features").text)
    publish(churn)
    assert "online" not in words(get_churn("/live/front").text)
    page = get_churn("/features")
    said = words(page.text)
    assert "Every view is as fresh as it says" in said and "calling ✓ fresh calls every 1 h 2031-06-01 00:00" in said
    assert "3 h ago 2 d" in said and "loopline features parity" in said and Seen(page.text).inline == []


def test_a_view_that_missed_refreshes_and_one_whose_source_fell_silent_are_told_apart(
    churn: tuple[Workspace, Project], get_churn: Get
) -> None:
    ws, _ = churn
    publish(churn)
    ws.clock.set(NOW + timedelta(hours=5))  # type: ignore[attr-defined]
    said = words(get_churn("/live/front").text)
    assert "1 view of the online store is behind since 2031-06-01 00:00" in said and "out of date" not in said
    assert "5 h behind" in words(get_churn("/features").text)
    again = get_churn("/live/front").text
    ws.clock.set(NOW + timedelta(hours=5, seconds=7))  # type: ignore[attr-defined]
    assert get_churn("/live/front").text == again, "what is told does not tick"
    ws.clock.set(NOW + timedelta(days=3))  # type: ignore[attr-defined]
    bring(*churn)
    publish(churn)
    said = words(get_churn("/live/front").text)
    assert "View calling is out of date" in said and "2 d are allowed" in said and "is behind" not in said


def test_a_replays_leaping_clock_makes_no_view_late(churn: tuple[Workspace, Project], get_churn: Get) -> None:
    ws, _ = churn
    publish(churn)
    ws.clock.set(NOW + timedelta(days=1))  # type: ignore[attr-defined]
    assert "is behind" in words(get_churn("/live/front").text)
    with ws.records.transaction() as tx:
        tx.set_meta(CLOCK, "2031-06-02T00:00:00.000000Z")
    assert "is behind" not in words(get_churn("/live/front").text)
    assert "As of 2031-06-01 00:00 , where the replay stands" in words(get_churn("/features").text)


def test_the_page_of_a_table_whose_files_are_gone_says_so_and_what_helps(
    churn: tuple[Workspace, Project], get_churn: Get
) -> None:
    ws, _ = churn
    shutil.rmtree(ws.root / "tables" / "calls")
    page = get_churn("/data/calls")
    assert page.status_code == 503
    assert "files of table calls are gone" in words(page.text)
    assert "restore the folder tables/calls from a backup" in words(page.text)
    assert get_churn("/data/nothing").status_code == 404
