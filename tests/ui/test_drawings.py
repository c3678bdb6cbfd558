"""Drawings made on the server, against the plain definition of each."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.governance.nouns import Edge, Graph, Node
from loopline.interfaces.ui import words
from loopline.interfaces.ui.layout import BOX, layout
from loopline.interfaces.ui.pages.evaluation import wilson


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    levels = draw(st.lists(st.integers(0, 8), min_size=1, max_size=14))
    nodes = tuple(Node(f"table:{i}", "table", str(i), {}, level) for i, level in enumerate(levels))
    pairs = draw(st.lists(st.tuples(st.integers(0, len(nodes) - 1), st.integers(0, len(nodes) - 1)), max_size=20))
    column = [7 if level == 8 else level for level in levels]
    edges = {(a, b) for a, b in pairs if column[a] < column[b]}
    return Graph(nodes, tuple(Edge(nodes[a].id, nodes[b].id, "") for a, b in sorted(edges)))


@settings(deadline=None, max_examples=60)
@given(graphs())
def test_every_node_is_drawn_inside_no_two_overlap_and_edges_run_from_box_to_box(graph: Graph) -> None:
    drawing = layout(graph, {})
    corner = {b.node.id: (b.x, b.y) for b in drawing.boxes}
    assert set(corner) == {n.id for n in graph.nodes}
    for x, y in corner.values():
        assert 0 <= x <= drawing.width - BOX[0] and -0.01 <= y <= drawing.height - BOX[1] + 0.01
    places = sorted(corner.values())
    for i, (x, y) in enumerate(places):
        assert not any(abs(x - u) < BOX[0] and abs(y - v) < BOX[1] for u, v in places[i + 1 :])
    assert len(drawing.lines) == len(graph.edges)
    for line, edge in zip(drawing.lines, graph.edges, strict=True):
        ends = [float(n) for n in re.findall(r"-?\d+", line.path)]
        (x0, y0), (x1, y1) = corner[edge.source], corner[edge.target]
        assert abs(ends[0] - x0 - BOX[0]) <= 1 and abs(ends[1] - y0 - BOX[1] / 2) <= 1
        assert abs(ends[-2] - x1) <= 1 and abs(ends[-1] - y1 - BOX[1] / 2) <= 1


@given(st.integers(1, 5000), st.floats(0, 1))
def test_an_interval_of_a_share_holds_the_share_and_stays_within_zero_and_one(rows: int, part: float) -> None:
    share = round(part * rows) / rows
    low, high = wilson(share, rows)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1


@given(st.integers(0, 4_000_000_000), st.integers(-14, 14))
def test_times_are_written_in_utc_whatever_zone_they_carry(seconds: int, hours: int) -> None:
    there = datetime.fromtimestamp(seconds, tz=timezone(timedelta(hours=hours)))
    here = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert f">{here:%Y-%m-%d %H:%M}<" in str(words.when(there))


def test_numbers_carry_a_true_minus_and_nothing_is_a_dash() -> None:
    assert words.number(-1234.5, 1) == "−1,234.5"
    assert words.signed(0.0312) == "+0.031"
    assert words.number(None) == words.number(float("nan")) == "–"
    assert words.span(timedelta(days=2, hours=3, minutes=5)) == "2 d 3 h"
    assert words.told(["a", None, 0.5, {"b": True}]) == "a, –, 0.5, b yes"
    assert str(words.ticks("see `x<y` & go")) == "see <code>x&lt;y</code> &amp; go"
