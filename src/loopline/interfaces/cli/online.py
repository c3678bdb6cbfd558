"""Commands about features in the online store."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter

from loopline.base.spec import length_text
from loopline.features.nouns import EMPTIED
from loopline.interfaces.cli.answer import FAILED, OK, Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, moment_of, session

Upto = Annotated[str | None, Parameter(help="As known at this moment; the workspace's now by default.")]
Backfill = Annotated[bool, Parameter(negative="", help="Build everything from the tables again.")]


def publish(*, upto: Upto = None, backfill: Backfill = False, project: Folder = HERE, json: Json = False) -> Answer:
    """Bring the online store up to what is known."""
    from loopline.features import publish as go

    ws, found = session(project)
    spec = found.check().spec
    moment = None if upto is None else moment_of(upto)
    made = go(ws, found.root, features=spec.features, tables=spec.data, upto=moment, backfill=backfill)
    if not made:
        return Answer("no view reads a table: there is nothing to publish", made, ("loopline features list",))
    rows = [(", ".join(one.names), f"{one.upto:%Y-%m-%d %H:%M}Z", f"{one.entities:,}") for one in made]
    return Answer(table(rows, head=("views", "up to", "entities written")), made, ("loopline features freshness",))


def freshness(*, project: Folder = HERE, json: Json = False) -> Answer:
    """Show how fresh each view of the online store is; exit code 1 where a service level is broken."""
    from loopline.features import freshness as ask

    ws, found = session(project)
    spec = found.check().spec
    views = ask(ws, found.root, features=spec.features, count=True)
    rows = [
        (
            one.view,
            one.source,
            _length(one.refresh),
            "" if one.stands_at is None else f"{one.stands_at:%Y-%m-%d %H:%M}Z",
            _length(one.age),
            _length(one.allowed),
            "late: " + one.late if one.late else "",
        )
        for one in views
    ]
    head = ("view", "source", "refresh", "stands at", "age", "allowed", "")
    late = [one.late for one in views if one.late]
    text = table(rows, head=head) if rows else "no view reads a table"
    stands = any("behind" in why or "published" in why for why in late)
    events = any("event" in why for why in late)  # new ones have to come in first
    if any("lost entities" in why or why == EMPTIED for why in late):
        return Answer(text, views, ("loopline features publish --backfill",), FAILED)
    follow = (*(("loopline data ingest",) if events else ()), *(("loopline features publish",) if late else ()))
    return Answer(text, views, follow if events or stands else (), FAILED if late else OK)


def parity(
    *,
    rows: Annotated[int, Parameter(help="How many of the newest requests.")] = 1000,
    since: Annotated[str | None, Parameter(help="Only decisions due from this moment on.")] = None,
    until: Annotated[str | None, Parameter(help="Only decisions due before this moment.")] = None,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Recompute logged requests by the batch path; exit code 1 where a value differs, or a feature was not compared."""
    from loopline.features import parity as prove
    from loopline.features import parity_gate
    from loopline.loop.parity import of_endpoint
    from loopline.serving import flush

    ws, found = session(project)
    spec = found.check().spec
    flush(ws, found.name)
    report = prove(
        ws,
        found.root,
        framing=spec.framing,
        features=spec.features,
        tables=spec.data,
        endpoint=found.name,
        rows=rows,
        since=None if since is None else moment_of(since),
        until=None if until is None else moment_of(until),
        training_sets=of_endpoint(ws, found.name),
    )
    passed, why = parity_gate(report, needed=min(rows, report.rows))
    lines = [("requests", f"{report.rows:,}"), ("values", f"{report.values:,}"), ("verdict", why)]
    lines += [(f"not checked: {name}", reason) for name, reason in report.unchecked.items()]
    lines += [
        (
            f"differs: {one.feature}",
            f"{one.entity} at {one.decision_time:%Y-%m-%d %H:%M}Z: {one.served} / {one.computed}",
        )
        for one in report.examples
    ]
    follow = () if passed else ("loopline features freshness", "loopline features publish")
    return Answer(table(lines), report, follow, OK if passed else FAILED)


def _length(length: timedelta | None) -> str:
    return "" if length is None else length_text(length)
