"""What data and features ask of a person: contracts, labels, personal columns, views that are late."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from loopline import data, features
from loopline.base.errors import LooplineError, Unavailable
from loopline.data.labelling import guidelines
from loopline.data.privacy.detectors import NOT_HIDDEN, propose
from loopline.data.privacy.marks import READ, settled
from loopline.features.nouns import EMPTIED, Published, ViewFreshness
from loopline.interfaces.ui import words
from loopline.interfaces.ui.context import Here
from loopline.interfaces.ui.need import Need
from loopline.interfaces.ui.people import person
from loopline.workspace import CLOCK

NAMED = 4

_PROPOSED: dict[tuple[str, str], tuple[int, dict[str, str]]] = {}
"""By workspace and table: the version that detectors read, and what they propose by column."""


def questions(here: Here) -> Iterator[Need]:
    """What waits for a word of a person, or for a view to move on."""
    yield from _late_views(here)
    yield from _contracts(here)
    yield from _labels(here)
    yield from _personal(here)


def served_views(here: Here) -> tuple[list[ViewFreshness], datetime | None]:
    """How fresh the views of the online store are, and as of when if not now; none where nothing reads it.

    Where a replay has set the clock, its player brings events refresh by refresh while the clock moves in leaps:
    freshness is then asked for the moment at which the views stand.

    Raises
    ------
    Unavailable
        If the store cannot be read.
    """
    ws, spec = here.ws, here.project.spec
    if not spec.features.views:
        return [], None
    if spec.serving.features != "online" and not ws.records.find(Published, limit=1):
        return [], None
    at: datetime | None = None
    try:
        found: list[ViewFreshness] = features.freshness(ws, here.project.root, features=spec.features)
        stands = [view.stands_at for view in found if view.stands_at is not None]
        if stands and ws.records.meta(CLOCK):
            at = max(stands)
            found = features.freshness(ws, here.project.root, features=spec.features, at=at)
    except Unavailable:
        raise
    except LooplineError:  # views that cannot be loaded are told where they are declared
        return [], None
    return found, at


def is_behind(view: ViewFreshness) -> bool:
    """Whether a view missed a refresh, not only events."""
    return view.behind is not None and view.refresh is not None and view.behind > view.refresh


def is_missing(view: ViewFreshness) -> bool:
    """Whether the store holds nothing of a view."""
    return view.late is not None and view.stands_at is None and view.newest_event is None


def _late_views(here: Here) -> Iterator[Need]:
    link = (("/features#served-title", "freshness"),)
    publish = ("loopline features publish",)
    refill = ("loopline data ingest", *publish)
    try:
        late = [view for view in served_views(here)[0] if view.late]
    except Unavailable as error:
        yield Need("bad", "The online store cannot be read", f"{error.what}: {error.why}.", None, link, (error.fix,))
        return
    missing = [view for view in late if is_missing(view)]
    behind = [view for view in late if is_behind(view)]
    old = [view for view in late if view not in missing and view not in behind]
    if missing:
        lost = [view for view in missing if view.late == EMPTIED]
        why = f"Nothing was published yet for {_named(missing)}."
        if lost:
            why = f"The store was lost: it holds nothing of {_named(missing)}."
            publish = ("loopline features publish --backfill",)
        yield Need("bad", f"{words.plural(len(missing), 'view')} cannot be read online", why, None, link, publish)
    if behind:
        what = f"{words.plural(len(behind), 'view')} of the online store {'is' if len(behind) == 1 else 'are'} behind"
        why = f"Answers are made from what was known at an earlier refresh: {_named(behind)}."
        yield Need("warn", what, why, min(v.stands_at for v in behind if v.stands_at), link, refill)
    for view in old:
        why = f"The newest event of {view.source} is of {words.told(view.newest_event)}, and {words.span(view.allowed)}"
        why += " are allowed: ask who sends it."
        yield Need("warn", f"View {view.view} is out of date", why, view.newest_event, link)


def _named(views: list[ViewFreshness]) -> str:
    names = [view.view for view in views]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _contracts(here: Here) -> Iterator[Need]:
    for one in data.contract_proposals(here.ws):
        yield Need(
            "warn",
            f"A change of the contract of {one.table} waits for a yes or no",
            f"{one.rule}, proposed by {one.by}: {one.reason}. It {_breaks(one.verdict)}.",
            one.at,
            ((f"/data/proposals/{one.id[:16]}", "the change"),),
            (f'loopline data contract accept {one.id[:12]} --reason "…"',),
        )


def _breaks(verdict: str) -> str:
    return verdict if verdict.startswith("breaks") else "breaks nobody"


def _labels(here: Here) -> Iterator[Need]:
    who = person(None)
    for name in guidelines.names(here.ws):
        task = data.next_task(here.ws.acting_as(who), name)
        if task is None:
            continue
        first = " Two people differ on the first; your answer decides." if task.third else ""
        yield Need(
            "quiet",
            f"{words.plural(task.left, 'row')} of {name} {'waits' if task.left == 1 else 'wait'} for your label",
            f"{task.question}{first}",
            None,
            ((f"/labelling/{name}", "label"), ("/labelling", "how far people agree")),
        )


def _personal(here: Here) -> Iterator[Need]:
    """Columns that detectors take for personal and nobody settled; a table is read once for each of its versions."""
    tables = here.project.spec.data
    for name, spec in tables.items():
        version = here.ws.tables.version(name)
        if version is None:
            continue
        place = (str(here.ws.root), name)
        known = _PROPOSED.get(place)
        if known is None or known[0] != version:
            rows = here.ws.tables.scan(name).tail(READ).collect()
            known = _PROPOSED[place] = (
                version,
                {p.column: p.pii for p in propose(rows, name) if p.pii not in NOT_HIDDEN},
            )
        if not known[1]:
            continue
        try:
            done = settled(here.ws, name, spec, here.project.root)
        except LooplineError:  # a contract that cannot be read is told on the table's page
            continue
        open_ = [f"{column} ({pii.replace('_', ' ')})" for column, pii in known[1].items() if column not in done]
        if open_:
            yield Need(
                "quiet",
                f"{words.plural(len(open_), 'column')} of {name} may be personal",
                f"{', '.join(open_)}. Say whether: until then they are masked where rows are shown or leave.",
                None,
                ((f"/data/{name}#personal", "settle"),),
            )
