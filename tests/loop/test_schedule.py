"""A table that says `every` is looked at when its time has come, without a window that closes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.loop.world import HOUR, World

from loopline.data.nouns import Ingestion
from loopline.loop import engine


def test_a_tick_takes_in_what_is_due_and_the_loop_wakes_for_it(today: World):
    rows = today.project.spec.data["rows"].model_copy(update={"every": timedelta(hours=2)})
    today.project = replace(today.project, spec=today.project.spec.model_copy(update={"data": {"rows": rows}}))
    today.tick()
    taken = [(i.table, i.rows) for i in today.ws.records.find(Ingestion)]
    assert taken == [("rows", 2)], "never taken is due"
    assert engine.next_due(today.ws, today.project) == today.ws.clock() + 2 * HOUR
    with (today.folder / "rows.csv").open("a") as more:
        more.write("3,2031-01-01T00:30:00Z,true\n")
    today.ws.clock.advance(HOUR)
    today.tick()
    assert len(today.ws.records.find(Ingestion)) == 1
    today.ws.clock.advance(HOUR)
    today.tick()
    today.tick()
    assert [i.rows for i in today.ws.records.find(Ingestion)] == [1, 2]
