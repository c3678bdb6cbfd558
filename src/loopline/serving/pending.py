"""How much waits to be committed: readable without opening a table."""

from __future__ import annotations

import json

from loopline.base.errors import Invalid
from loopline.serving import journal
from loopline.serving.state import Place


def pending(place: Place) -> int:
    """Answers in the journals that the table does not hold yet."""
    note = place.folder / "commit.json"
    done = json.loads(note.read_bytes())["done"] if note.exists() else {}
    rows = 0
    for path in place.segments.glob(f"*{journal.SUFFIX}"):
        try:
            with journal.reading(path) as reader:
                rows += reader.count - done.get(path.name, 0)
        except Invalid:
            continue
    return rows
