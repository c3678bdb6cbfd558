"""One table's window: profiled, compared, and its open incidents looked at again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl

from loopline.base.ids import content_id, iso
from loopline.data.history.known import known_column
from loopline.data.spec import TableSpec
from loopline.monitoring.drift import Summary
from loopline.monitoring.finding import Budget, Finding
from loopline.monitoring.incidents import alert, open_incident
from loopline.monitoring.memory import Kept, Memory, Sink, keep_profile, summary_of
from loopline.monitoring.nouns import Alert, Incident, Resolution, WindowProfile
from loopline.monitoring.requests import Requests
from loopline.monitoring.triage import findings
from loopline.monitoring.windows import between, corrected, corrections, profile_parts, series_ends, watched

CORRECTED = 0.9
"""Share of the bad rows that must have come again before an incident is judged anew."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is looked at: a window, the budget of the look, and where profiles are kept."""

    blobs: Sink
    since: datetime
    until: datetime
    reference: timedelta
    budget: Budget
    at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at one subject found."""

    subject: str
    profiles: tuple[WindowProfile, ...] = ()
    alerts: tuple[Alert, ...] = ()
    opened: tuple[Incident, ...] = ()
    resolved: tuple[Resolution, ...] = ()
    kept: tuple[Kept, ...] = ()
    bugs: tuple[Finding, ...] = field(default=())


class Compared(NamedTuple):
    """A window's stored profile and what speaks against it."""

    profile: WindowProfile
    findings: list[Finding]


def table_subject(name: str) -> str:
    """How a table is called in profiles, alerts and incidents."""
    return f"table:{name}"


def read_from(look: Look, memory: Memory, name: str) -> datetime:
    """The time after which a table's rows are needed: earlier than the window for a first look or an open incident."""
    windows = memory.windows.get(table_subject(name), ())
    if not windows:
        return look.since - look.reference
    return min([look.since, *(w.start for w in windows if w.incident is not None)])


def look_at_table(
    look: Look, memory: Memory, name: str, spec: TableSpec, rows: pl.DataFrame, open_now: Sequence[Incident]
) -> Seen:
    """Check the rows of one table that became known in the window.

    Parameters
    ----------
    rows : DataFrame
        Rows known in (`read_from`, until].
    open_now : sequence of Incident
        Data incidents of this table that are open.
    """
    subject = table_subject(name)
    time = known_column(spec)
    rows = rows.with_row_index("_row")
    columns = [c for c in watched(rows, spec) if c != "_row"]
    kept: list[Kept] = []
    if subject not in memory.windows:
        kept += _earlier(look, rows, spec, columns)
        memory = memory.adding(subject, kept, keep=len(kept) + 1)
    current = between(rows, look.since, look.until, time)
    profiles: list[WindowProfile] = []
    resolved: list[Resolution] = []
    for incident in open_now:
        bad = [w for w in memory.windows.get(subject, ()) if w.incident == incident.id]
        sound = []
        for window in bad:
            news = corrections(
                between(rows, window.start, window.end, time), rows.filter(pl.col(time) > window.end), spec
            )
            current = current.join(news.select("_row"), on="_row", how="anti")
            again = _look_again(look, memory, subject, spec, rows, news, columns, window, incident)
            if again is not None:
                sound.append(again)
        kept += [Kept(p.window_from, p.window_to, p.blob) for p in sound]
        profiles += sound
        if bad and len(sound) == len(bad):
            resolved.append(_resolution(incident, look))
    reference = memory.reference(subject, look.since, look.reference)
    summaries = [summary_of(look.blobs, w.blob) for w in reference]
    seen = compare(look, subject, current, time, columns, summaries, spec)
    still = [i for i in open_now if i.id not in {r.incident for r in resolved}]
    alerts, opened, incident_id = judge(look, subject, "data", seen.findings, still)
    kept.append(Kept(look.since, look.until, seen.profile.blob, incident_id))
    bugs = tuple(f for f in seen.findings if f.verdict == "bug")
    return Seen(subject, (*profiles, seen.profile), alerts, opened, tuple(resolved), tuple(kept), bugs)


def compare(
    look: Look,
    subject: str,
    rows: pl.DataFrame,
    time: str,
    columns: Sequence[str],
    reference: Sequence[Summary],
    spec: TableSpec | None = None,
    requests: Requests | None = None,
) -> Compared:
    """Profile the rows of the window, keep the profile, and compare it; with `spec` also the ends of its series."""
    made, summary = _stored(look, subject, rows, time, columns, look.since, look.until, spec, requests)
    return Compared(made, findings(summary, reference, look.budget))


def judge(
    look: Look, subject: str, layer: str, found: Sequence[Finding], still: Sequence[Incident]
) -> tuple[tuple[Alert, ...], tuple[Incident, ...], str | None]:
    """Alerts for what was found; bugs join the open incident, or open one for all of them."""
    alerts = [alert(subject, layer, f, look.since, look.until, look.at) for f in found]
    bugs = [f for f in found if f.verdict == "bug"]
    if not bugs:
        return tuple(alerts), (), None
    opened: tuple[Incident, ...] = ()
    if still:
        incident = still[0]
    else:
        spoken = [a for a in alerts if a.verdict == "bug"]
        incident = open_incident(subject, bugs, spoken, look.since, look.until, look.at)
        opened = (incident,)
    joined = tuple(
        replace(a, evidence={**a.evidence, "incident": incident.id}) if a.verdict == "bug" else a for a in alerts
    )
    return joined, opened, incident.id


def _stored(
    look: Look,
    subject: str,
    rows: pl.DataFrame,
    time: str,
    columns: Sequence[str],
    start: datetime,
    end: datetime,
    spec: TableSpec | None,
    requests: Requests | None = None,
) -> tuple[WindowProfile, Summary]:
    ends = series_ends(rows, spec, start, end, columns) if spec else None
    blob, summary = keep_profile(look.blobs, profile_parts(rows, time, start, end, columns), ends, requests)
    key = {"subject": subject, "from": iso(start), "to": iso(end), "blob": blob}
    return WindowProfile(content_id(key), subject, start, end, rows.height, blob), summary


def _earlier(look: Look, rows: pl.DataFrame, spec: TableSpec, columns: Sequence[str]) -> list[Kept]:
    """Profiles of the windows before the first one that is checked, from the first row on."""
    time = known_column(spec)
    length = look.until - look.since
    first = rows[time].min()
    start = look.since - (look.reference // length) * length
    found = []
    while start < look.since:
        if isinstance(first, datetime) and first <= start + length:
            window = between(rows, start, start + length, time)
            ends = series_ends(window, spec, start, start + length, columns)
            blob, _ = keep_profile(look.blobs, profile_parts(window, time, start, start + length, columns), ends)
            found.append(Kept(start, start + length, blob))
        start += length
    return found


def _look_again(
    look: Look,
    memory: Memory,
    subject: str,
    spec: TableSpec,
    rows: pl.DataFrame,
    news: pl.DataFrame,
    columns: Sequence[str],
    window: Kept,
    incident: Incident,
) -> WindowProfile | None:
    """The profile of a bad window with its corrections, if that one is sound."""
    time = known_column(spec)
    bad = between(rows, window.start, window.end, time)
    if news.is_empty() or bad.is_empty():
        return None
    fixed, _ = corrected(bad, news, spec)
    first, last = max(incident.bad_from, window.start), min(incident.bad_to, window.end)
    if first >= last:
        first, last = window.start, window.end
    _, share = corrected(between(bad, first, last, time), news, spec)
    if share < CORRECTED:
        return None
    made, summary = _stored(look, subject, fixed, time, columns, window.start, window.end, spec)
    reference = memory.reference(subject, window.start, look.reference)
    against = findings(summary, [summary_of(look.blobs, w.blob) for w in reference], look.budget)
    return None if any(f.verdict == "bug" for f in against) else made


def _resolution(incident: Incident, look: Look) -> Resolution:
    return Resolution(
        id=content_id({"incident": incident.id, "reason": "corrected"}),
        incident=incident.id,
        reason="corrected rows came and pass the same check",
        at=look.at,
        by=look.by,
    )
