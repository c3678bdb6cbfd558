"""What needs a person now: nothing else stands above it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from loopline import monitoring, registry, serving
from loopline.base.ids import moment
from loopline.interfaces.ui import words
from loopline.interfaces.ui.context import Here, number_of
from loopline.interfaces.ui.need import Need
from loopline.interfaces.ui.questions import questions
from loopline.registry.nouns import Version
from loopline.retraining.nouns import Cycle, Transition

WINDOWS_LATE = 2


def needs(here: Here) -> list[Need]:
    """Everything that waits for a person, most pressing first."""
    cycles = here.cycles()
    running = here.cycle()
    found = [
        *_incidents(here, running),
        *_endpoint(here),
        *(_approval(here, running) if running else ()),
        *(_held(here, running) if running else ()),
        *_ended(here, cycles, running),
        *_late(here),
        *questions(here),
        *_first(here, running),
    ]
    return sorted(found, key=lambda need: ("bad", "warn", "busy", "quiet").index(need.tone))


def _incidents(here: Here, running: Cycle | None) -> Iterator[Need]:
    stopped = running is not None and running.state == "DATA_INCIDENT"
    for incident in monitoring.open_incidents(here.ws):
        going_on = ('loopline override --reason "…"',) if stopped and incident.area == "data" else ()
        yield Need(
            "bad",
            f"Incident: {incident.title}",
            incident.playbook or "It has no playbook.",
            incident.opened_at,
            ((f"/monitoring#incident-{incident.id[:12]}", "evidence"),),
            (f'loopline incident resolve {incident.id[:12]} --reason "…"', *going_on),
        )


def _approval(here: Here, cycle: Cycle) -> Iterator[Need]:
    version = here.known(Version, cycle.changes.get("version")) if cycle.state == "AWAIT_APPROVAL" else None
    if version is None:
        return
    spec = here.project.spec.registry.approvals
    standing = registry.standing(here.ws, version, spec)
    others = f", by someone other than {version.author}" if spec.by == "anyone_but_author" else ""
    differs = "".join(f" Note: {one}." for one in here.differs(version))
    yield Need(
        "warn",
        f"Version {version.number} awaits approval",
        f"{standing.given} of {words.plural(standing.needed, 'approval')} given{others}. "
        f"Without it the cycle expires on {words.told(cycle.entered_at + spec.expire)}.{differs}",
        cycle.entered_at,
        ((f"/evaluation/{version.report[:16]}", "report"), (f"/registry/{version.number}", "version and lineage")),
        (f'loopline approve {version.number} --reason "…"', f'loopline reject {version.number} --reason "…"'),
    )


def _held(here: Here, cycle: Cycle) -> Iterator[Need]:
    link = ((f"/retraining/{number_of(cycle.id)}", f"cycle {number_of(cycle.id)}"),)
    if cycle.paused:
        yield Need(
            "warn",
            f"Cycle {number_of(cycle.id)} is paused",
            "An operator stopped it; it goes on when it is resumed.",
            cycle.entered_at,
            link,
            ("loopline resume", "loopline cancel"),
        )
    limit = here.project.spec.serving.release.each_at_most
    if cycle.state == "ROLLOUT" and here.project.spec.framing.risk == "high" and here.now >= cycle.entered_at + limit:
        yield Need(
            "warn",
            "The release is held: its canary is undecided at the limit",
            f"Risk is high, so the step stays after {words.span(limit)} until its guardrails reach a verdict.",
            cycle.entered_at,
            (("/serving", "guardrails"), *link),
            ("loopline plan",),
        )


def _endpoint(here: Here) -> Iterator[Need]:
    ws, name = here.ws, here.name
    wanted = Wanted.read(ws.root, name)
    status = serving.status(ws, name)
    if wanted is None:
        return
    running = here.cycle()
    if status is not None and status.rolled_back and running is not None and running.state == "ROLLOUT":
        yield Need(
            "bad",
            "The data plane took the canary out by itself",
            status.reason or "It gave no reason.",
            None,
            (("/serving", "guardrails"), (f"/retraining/{number_of(running.id)}", f"cycle {number_of(running.id)}")),
            ("loopline tick",),
        )
    if wanted.kill:
        yield Need(
            "bad", "The endpoint is switched off", "It refuses every request.", wanted.at, (("/serving", "serving"),)
        )
    if not serving.supervisor_pid(ws, name):
        yield Need(
            "bad",
            "The data plane does not run here",
            "Nothing on this machine answers requests for this endpoint.",
            None,
            (("/serving", "serving"),),
            ("loopline up",),
        )
    elif status is not None and status.error:
        yield Need(
            "bad", "The data plane could not take the newest release", status.error, None, (("/serving", "serving"),)
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an endpoint was last told to do."""

    generation: int
    kill: bool
    at: datetime

    @classmethod
    def read(cls, root: Path, endpoint: str) -> Wanted | None:
        """From the folder that the data plane follows; null when nothing was ever deployed."""
        try:
            doc = json.loads((root / "serving" / endpoint / "desired.json").read_bytes())["doc"]
        except FileNotFoundError:
            return None
        return cls(int(doc["generation"]), bool(doc["kill"]), moment(doc["issued_at"]))


def _ended(here: Here, cycles: list[Cycle], running: Cycle | None) -> Iterator[Need]:
    """A cycle that failed, expired or only suggested, until a later one has come."""
    if running is not None or not cycles:
        return
    last = cycles[-1]
    number = number_of(last.id)
    moves = here.ws.records.find(Transition, cycle=last.id, limit=1)
    why = moves[0].why if moves else ""
    link = ((f"/retraining/{number}", f"cycle {number}"),)
    if last.state == "FAILED":
        yield Need("bad", f"Cycle {number} failed", why, last.entered_at, link, ("loopline run",))
    elif last.state == "EXPIRED":
        yield Need("warn", f"Cycle {number} expired", why, last.entered_at, link, ("loopline run",))
    elif last.state == "SUPPRESSED" and here.project.spec.retraining.mode == "suggest" and "only suggests" in why:
        yield Need(
            "warn", "The loop suggests a retraining", why, last.entered_at, link, ("loopline plan", "loopline run")
        )


def _first(here: Here, running: Cycle | None) -> Iterator[Need]:
    if here.champion() is None and running is None:
        yield Need(
            "quiet",
            "Nothing is released yet",
            "The first cycle is started by a person; triggers compare with a version in production.",
            None,
            (("/framing", "what would be decided"),),
            ("loopline run",),
        )


def _late(here: Here) -> Iterator[Need]:
    checked = here.ws.records.meta(f"checked/{here.name}")
    if not checked:
        return
    window, at = here.project.spec.monitoring.window, moment(checked)
    if here.now - at > WINDOWS_LATE * window:
        yield Need(
            "warn",
            "Monitoring is behind",
            f"The last window that was checked ended {words.span(here.now - at)} ago.",
            at,
            (("/monitoring", "monitoring"),),
            ("loopline tick",),
        )
