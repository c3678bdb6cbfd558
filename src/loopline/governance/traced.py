"""A subject in traces and in the examples that programs are judged on: each goes whole."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from loopline.governance.holding import Search
from loopline.governance.mentions import Mentions
from loopline.governance.nouns import Place
from loopline.store.runs.traces.upkeep import Content
from loopline.workspace import Workspace

FILE = "traces.db"
TRACE = "whole: its spans, tags and judgements; its files go with `loopline gc --yes`"
EXAMPLE = "the row of the evaluation dataset"


def has_traces(ws: Workspace) -> bool:
    """Whether a trace was ever logged here: a look makes no file."""
    return (ws.root / FILE).is_file()


def places(ws: Workspace, search: Search) -> list[Place]:
    """Traces by their experiment, and examples by their set, that hold the subject."""
    counted = Counter((one.kind, one.of) for one in _holding(ws, search))
    notes = {"trace": ("traces", "experiment", TRACE), "example": ("examples", "set", EXAMPLE)}
    found = []
    for (kind, of), rows in sorted(counted.items()):
        word, whose, note = notes[kind]
        found.append(Place(word, f"{whose} {of}", rows, "delete", note))
    return found


def take_out(ws: Workspace, search: Search) -> None:
    """Delete them, and give back the pages that they stood on."""
    chosen: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in _holding(ws, search):
        chosen[one.kind, one.of].append(one.id)
    for (kind, of), ids in chosen.items():
        if kind == "trace":
            ws.traces.delete(of, ids=ids)
        else:
            ws.traces.examples.remove(of, ids, at_ms=int(ws.clock().timestamp() * 1000), by=ws.actor)
    if chosen:
        ws.traces.compact()


def _holding(ws: Workspace, search: Search) -> Iterator[Content]:
    if has_traces(ws):
        mentions = Mentions(search)
        for one in ws.traces.contents():
            if mentions.in_bytes("\n".join(one.texts).encode(errors="replace")):
                yield one
