"""What producers send is written to the online store refresh by refresh, worked out ahead or on the day."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loopline.interfaces.demo.deliveries import Deliveries
from loopline.interfaces.demo.scenario import StarveSpec
from loopline.interfaces.demo.stream import Stream
from loopline.loop.project import load
from loopline.workspace import FOLDER, create_workspace

WORLD = Path(__file__).parents[1] / "worlds" / "parcels"
DAY = timedelta(days=1)


def opened(folder: Path) -> tuple[Stream, datetime]:
    """A stream of the small world in a folder of its own, and a day of it."""
    shutil.copytree(WORLD, folder, ignore=shutil.ignore_patterns("__pycache__"))
    project = load(folder)
    ws = create_workspace(folder / FOLDER, actor="service:world")
    deliveries = Deliveries(ws, project, 1)
    stream = deliveries.stream(1)
    deliveries.prepare([])
    spine = deliveries._frames[project.spec.features.spine]
    first = spine["due"].min()
    since = datetime(first.year, first.month, first.day, tzinfo=UTC) + 20 * DAY
    stream.carry(project.spec.features.views, since)
    return stream, since


def contents(stream: Stream) -> dict[str, bytes | None]:
    store = stream._ws.online
    found = {}
    for _, online in stream._groups:
        for name, prefix in zip(online._kept, online._prefixes, strict=True):
            places = [prefix + key for key in store.keys(name)]
            found.update(zip(places, store.read(places), strict=True))
    return found


@pytest.mark.parametrize("starved", [False, True])
def test_work_done_ahead_writes_what_work_on_the_day_writes(tmp_path: Path, starved: bool) -> None:
    (one, since), (other, _) = opened(tmp_path / "one"), opened(tmp_path / "other")
    for stream in (one, other):
        if starved:
            stream.starve(StarveSpec(views=("features.py",), share=0.5))
    for day in range(3):
        begin = since + day * DAY
        one.ahead(begin, begin + DAY)
        turns = list(one.turns(begin, begin + DAY))
        assert turns == list(other.turns(begin, begin + DAY)) and turns
        for at, _, _ in turns:
            one.go(at)
            other.go(at)
            assert contents(one) == contents(other)
    assert len(contents(one)) > 3
    one.close()
    other.close()


def test_turns_cut_the_requests_of_a_day_without_a_rest(tmp_path: Path) -> None:
    stream, since = opened(tmp_path / "one")
    rows = stream.requests((), since, since + DAY)
    cuts = list(stream.turns(since, since + DAY))
    assert [low for _, low, _ in cuts][1:] == [high for _, _, high in cuts][:-1]
    assert cuts[0][1] == 0 and cuts[-1][2] == rows.height
    for at, low, high in cuts:
        times = rows["decision_time"][low:high]
        assert at <= times.min() and times.max() < at + stream.step
    stream.close()


def test_what_producers_do_cannot_change_under_work_that_was_begun(tmp_path: Path) -> None:
    stream, since = opened(tmp_path / "one")
    stream.ahead(since, since + DAY)
    with pytest.raises(RuntimeError, match="they go first"):
        stream.starve(StarveSpec(views=("features.py",), share=0.5))
    with pytest.raises(RuntimeError, match="they go first"):
        stream.carry(("extra.py",), since)
    stream.close()
