"""Commands of monitoring: what is open, and how a person ends it."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, Reason, session

SHOWN = 12


def incidents(*, project: Folder = HERE, json: Json = False) -> Answer:
    """Show the incidents that are open, newest first, with what to do about each."""
    from loopline import monitoring

    ws, _ = session(project)
    found = monitoring.open_incidents(ws)
    rows = [(i.id[:SHOWN], f"{i.opened_at:%Y-%m-%d}", i.subject, i.title) for i in found]
    text = table(rows, head=("incident", "opened", "subject", "what")) if rows else "no incident is open"
    hints = (f'loopline incident resolve {found[0].id[:SHOWN]} --reason "..."',) if found else ("loopline status",)
    return Answer(text, {"incidents": found}, hints)


def resolve(
    incident: Annotated[str, Parameter(help="Id of the incident; its first 8 characters will do.")],
    *,
    reason: Reason,
    real: Annotated[
        bool, Parameter(negative="", help="The data were right: the window may be trained on and compared with.")
    ] = False,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """End an incident by hand. Its window stays out of training unless the data were right (--real)."""
    from loopline import monitoring

    ws, _ = session(project)
    ended = monitoring.resolve(ws, incident, reason, real=real)
    ws.wake()
    window = "may be trained on" if real else "stays out of training"
    text = f"{ended.by} resolved incident {ended.incident[:SHOWN]}; its window {window}"
    return Answer(text, ended, ("loopline tick", "loopline incident list"))
