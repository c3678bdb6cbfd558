"""What can be done about live behaviour: check a window, see and end incidents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from loopline.base.errors import Conflict
from loopline.base.ids import content_id, iso, moment
from loopline.data.spec import TableSpec
from loopline.framing.spec import FramingSpec
from loopline.monitoring import answers
from loopline.monitoring.champion import champion_quality
from loopline.monitoring.contract import Known, broken_rules
from loopline.monitoring.finding import Budget, Finding
from loopline.monitoring.growth import new_labels
from loopline.monitoring.memory import POINTER, SPARE, Behind, Kept, Memory, Sink, counts_of, summary_of, trimmed
from loopline.monitoring.nouns import Alert, Incident, Quality, Resolution, WindowProfile
from loopline.monitoring.quality import DayCounts
from loopline.monitoring.reading import read_refused, read_window
from loopline.monitoring.redefined import redefined
from loopline.monitoring.requests import count_requests
from loopline.monitoring.spec import MonitoringSpec
from loopline.monitoring.tables import Look, Seen, compare, judge, look_at_table
from loopline.registry.nouns import Release
from loopline.serving.log import input_columns
from loopline.workspace import Workspace, query, verb

YEAR = timedelta(days=365.25)
_LEAST = datetime.min.replace(tzinfo=UTC)


class Checked(NamedTuple):
    """What a check of one window recorded."""

    profiles: tuple[WindowProfile, ...]
    quality: Quality | None
    alerts: tuple[Alert, ...]
    opened: tuple[Incident, ...]
    resolved: tuple[Resolution, ...]


@verb("monitoring.check")
def check(
    ws: Workspace,
    *,
    project: Path,
    endpoint: str,
    framing: FramingSpec,
    tables: Mapping[str, TableSpec],
    monitoring: MonitoringSpec,
    over: timedelta,
    since: datetime,
    until: datetime,
    spine: str | None = None,
) -> Checked:
    """Look at one closed window: data, model, and the quality that labels show.

    The data layer compares the rows of each table that became known in (since,
    until] with the trailing reference windows; the model layer does so for the
    answers decided in [since, until) and their inputs. Labels that became known in
    (since, until] settle the answers they belong to; quality is judged over the
    champion's labelled days within `over`. Windows are checked in order; one that
    was checked already is answered from the records.

    Requests were judged when they came, by the contract of `spine` and by the ranges of
    the inputs: a rule that they break far oftener than in the reference windows is
    an alert of cause `contract`, and opens an incident when its severity is `error`.

    Notes
    -----
    Only the rows of the window are read. At the first look at a table the
    reference windows before it are profiled too. A bug opens one data incident per
    subject; while it is open, further bugs of the subject join it. It ends by
    itself once corrected rows (same key, later `known_at`) pass the same check.
    """
    memory = Memory.of(ws.records.pointer(POINTER, endpoint))
    if memory.until is not None and memory.until >= until:
        return _recorded(ws, endpoint, tables, since, until)
    _clear(ws, memory)
    looks = (len(tables) + 1) * (YEAR / (until - since))
    budget = Budget(monitoring.false_alarms_per_year, looks)
    with Behind(ws.blobs) as behind:
        look = Look(behind, since, until, monitoring.reference, budget, ws.clock(), ws.actor)
        open_now = [i for i in _open(ws) if i.area == "data"]
        log, read, fresh, rows = read_window(ws, endpoint, framing, tables, look, memory)
        seen = []
        for name in rows:
            mine = [i for i in open_now if i.subject == f"table:{name}"]
            seen.append(look_at_table(look, memory, name, tables[name], rows[name], mine))
        ended = {r.incident for s in seen for r in s.resolved}
        still = [*(i for s in seen for i in s.opened), *(i for i in open_now if i.id not in ended)]
        if log is not None:
            known = Known.of(project, tables.get(spine) if spine else None)
            refused = read_refused(ws, endpoint, look)
            others = redefined(ws, endpoint, log["version"].unique().to_list(), since - monitoring.reference)
            seen.append(_look_at_answers(look, memory, endpoint, log, refused, known, still, others))
        keep = max(1, int(monitoring.reference / (until - since))) + SPARE
        for one in seen:
            memory = memory.adding(one.subject, one.kept, keep=keep)
        memory, days = _settle(behind, memory, framing, log, fresh, over, until)
        quality = _quality(ws, endpoint, days, over, until)
        if quality is not None and quality.version is not None:
            growth, trained = new_labels(ws, framing, tables, quality.version, fresh, since, until)
            quality = replace(quality, new_labels=growth, trained_rows=trained)
        behind.wait()
    versions = {name: version for name in tables if (version := ws.tables.version(name)) is not None}
    memory = replace(memory.marking(ws.clock(), versions), until=until, read=read)
    _save(ws, endpoint, content_id({"endpoint": endpoint, "until": iso(until)}), memory)
    return Checked(
        tuple(p for s in seen for p in s.profiles),
        quality,
        tuple(a for s in seen for a in s.alerts),
        tuple(i for s in seen for i in s.opened),
        tuple(r for s in seen for r in s.resolved),
    )


# ---------------------------------------------------------------- the model layer


def _look_at_answers(
    look: Look,
    memory: Memory,
    endpoint: str,
    log: pl.DataFrame,
    refused: pl.DataFrame | None,
    known: Known,
    open_now: Sequence[Incident],
    others: Collection[str],
) -> Seen:
    """Check the answers of the window and the inputs they were made from.

    Bad rows of a table reach the inputs: while a data incident is open, bugs seen
    here join it. A bug that only one of several versions shows belongs to that
    release, not to the data. Nothing is said of the inputs `others` alone, which
    another version reads or defines otherwise than those of the reference windows.
    """
    subject = f"endpoint:{endpoint}"
    rows = log.filter(pl.col("role") != "shadow")
    columns = [*input_columns(rows.columns), "score"]
    reference = memory.reference(subject, look.since, look.reference)
    requests, earlier = count_requests(rows, refused), [summary_of(look.blobs, w.blob) for w in reference]
    seen = compare(look, subject, rows, "decision_time", columns, earlier, requests=requests)
    found = [_of_one_version(rows, _derived(f)) for f in seen.findings if not f.columns or set(f.columns) - set(others)]
    if requests is not None:
        told = [one.requests for one in earlier if one.requests is not None]
        found += broken_rules(requests, told, look.budget, known, rows, refused)
    alerts, opened, incident = judge(look, subject, "model", found, open_now)
    kept = Kept(look.since, look.until, seen.profile.blob, incident)
    return Seen(subject, (seen.profile,), alerts, opened, (), (kept,))


def _derived(finding: Finding) -> Finding:
    """A unit is a fact of a source: inputs are computed from tables, which are looked at themselves.

    Aggregates of one cause (a day when everything is late) rise together by any
    factor, so that a conversion which fits several of them proves nothing.
    """
    if finding.verdict == "bug" and finding.cause == "unit_change":
        return replace(finding, verdict="suspect")
    return finding


def _of_one_version(rows: pl.DataFrame, finding: Finding) -> Finding:
    if finding.verdict != "bug" or finding.cause != "null_burst":
        return finding
    (column,) = finding.columns
    shares = rows.group_by("version").agg(pl.col(column).is_null().mean().alias("missing")).sort("missing")
    if shares.height < 2 or shares["missing"][0] > 0.25 * shares["missing"][-1]:
        return finding
    return replace(finding, verdict="suspect", evidence={**finding.evidence, "only_version": shares["version"][-1]})


def _settle(
    blobs: Sink,
    memory: Memory,
    framing: FramingSpec,
    log: pl.DataFrame | None,
    fresh: pl.DataFrame | None,
    over: timedelta,
    until: datetime,
) -> tuple[Memory, dict[date, dict[str, DayCounts]]]:
    """Count what the new labels settle; returns the counts of the days within `over`."""
    pending = answers.from_bytes(blobs.get(memory.pending) if memory.pending else None)
    given = answers.given(log) if log is not None else pending.clear()
    news: answers.Days = {}
    if fresh is not None:
        pending, news = answers.settle(pending, given, fresh, framing, until)
    else:
        pending = pl.concat([pending, given])
    days = {day: dict(versions) for day, versions in memory.days.items()}
    for day, counted in news.items():
        known = days.setdefault(day.isoformat(), {})
        for version, counts in counted.items():
            if version in known:
                counts = counts + counts_of(blobs, known[version])
            known[version] = blobs.put(counts.to_bytes())
    memory = replace(
        memory,
        pending=blobs.put(answers.to_bytes(pending)) if pending.height else None,
        left=memory.pending,
        days=trimmed(days, int(over / timedelta(days=1)) + SPARE),
    )
    first = (until - over).date()
    within = {
        date.fromisoformat(day): {v: counts_of(blobs, blob) for v, blob in versions.items()}
        for day, versions in memory.days.items()
        if date.fromisoformat(day) >= first
    }
    return memory, within


def _quality(
    ws: Workspace, endpoint: str, days: Mapping[date, Mapping[str, DayCounts]], over: timedelta, until: datetime
) -> Quality | None:
    """Quality of the champion's own answers since its release; of all answers where nothing was released."""
    releases = ws.records.find(Release, limit=1, name=endpoint, alias="production")
    version, released = (releases[0].version, releases[0].at) if releases else (None, _LEAST)
    own = answers.of_version(days, version)
    metrics = champion_quality(own, released=released, until=until, over=over)
    if metrics is None:
        return None
    first = max(released.date(), (until - over).date())
    counted = [counts for day, counts in own.items() if day >= first and counts.rows]
    labelled = sum(c.rows for c in counted)
    return Quality(
        id=content_id({"endpoint": endpoint, "until": iso(until), "version": version}),
        endpoint=endpoint,
        at=ws.clock(),
        over_from=max(released, until - over),
        over_to=until,
        days=len(counted),
        rows=labelled,
        labelled=labelled,
        metrics=metrics,
        version=version,
    )


def _recorded(
    ws: Workspace, endpoint: str, tables: Mapping[str, TableSpec], since: datetime, until: datetime
) -> Checked:
    """What an earlier check of the same window recorded."""
    subjects = [*(f"table:{name}" for name in tables), f"endpoint:{endpoint}"]
    profiles = [
        p
        for s in subjects
        for p in ws.records.find(WindowProfile, subject=s, window_to=until)
        if p.window_from == since
    ]
    alerts = [a for s in subjects for a in ws.records.find(Alert, subject=s, window_to=until)]
    quality = ws.records.find(Quality, limit=1, endpoint=endpoint, over_to=until)
    named = {a.evidence.get("incident") for a in alerts}
    opened = [i for s in subjects for i in ws.records.find(Incident, subject=s) if i.id in named]
    return Checked(tuple(profiles), quality[0] if quality else None, tuple(alerts), tuple(opened), ())


# ---------------------------------------------------------------- incidents


@query("monitoring.open_incidents")
def open_incidents(ws: Workspace, subject: str | None = None) -> list[Incident]:
    """Incidents without a resolution, newest first; of one subject where it is given."""
    return _open(ws, subject)


@verb("monitoring.resolve")
def resolve(ws: Workspace, incident: str, reason: str, *, real: bool = False) -> Resolution:
    """End an incident by hand.

    Parameters
    ----------
    real : bool
        The data were right after all: the window may be trained on, and later ones
        are compared with it. Otherwise it stays out of both.

    Raises
    ------
    Conflict
        If it has ended already.
    """
    found = ws.records.get(Incident, incident)
    ended = ws.records.find(Resolution, limit=1, incident=found.id)
    if ended:
        raise Conflict(
            f"incident {found.id[:12]} has ended already",
            why=f"{ended[0].by} resolved it: {ended[0].reason}",
            fix="nothing to do; a new one opens if it happens again",
        )
    if real:
        _take_back(ws, found.id)
    return Resolution(
        id=content_id({"incident": found.id, "reason": reason}),
        incident=found.id,
        reason=reason,
        at=ws.clock(),
        by=ws.actor,
        real=real,
    )


def _take_back(ws: Workspace, incident: str) -> None:
    """Let the windows of an incident into the reference again."""
    for pointer in ws.records.pointers(POINTER):
        memory = Memory.of(pointer)
        changed = {
            subject: tuple(replace(w, incident=None) if w.incident == incident else w for w in rows)
            for subject, rows in memory.windows.items()
        }
        if changed != memory.windows:
            _save(ws, pointer.name, pointer.target, replace(memory, windows=changed))


def _clear(ws: Workspace, memory: Memory) -> None:
    """Delete the answers that the window before the last one waited with: they name units, and nothing reads them."""
    named = {Memory.of(pointer).pending for pointer in ws.records.pointers(POINTER)} if memory.left else set()
    if memory.left is not None and memory.left not in named:
        ws.blobs.delete(memory.left)


def _save(ws: Workspace, endpoint: str, target: str, memory: Memory) -> None:
    at, doc = ws.clock(), memory.doc()
    ws.on_commit(lambda tx: tx.move(POINTER, endpoint, target, expect=memory.generation, at=at, doc=doc))


@query("monitoring.excluded_windows")
def excluded_windows(ws: Workspace) -> list[tuple[datetime, datetime]]:
    """Stretches of time, oldest first, that must not be trained on.

    The bad windows of data incidents, also of corrected ones: what was decided
    then was decided on bad values, and features are as they were known. Not those
    that a person resolved as real.
    """
    real = {r.incident for r in ws.records.find(Resolution) if r.real}
    incidents = {i.id: i for i in ws.records.find(Incident, area="data") if i.id not in real}
    if not incidents:
        return []
    stretches = [(i.bad_from, i.bad_to) for i in incidents.values()]
    for alert in ws.records.find(Alert, verdict="bug"):
        incident = incidents.get(str(alert.evidence.get("incident")))
        if incident is not None and alert.subject == incident.subject and alert.id not in incident.alerts:
            part = alert.evidence.get("part")
            stretches.append((moment(part[0]), moment(part[1])) if part else (alert.window_from, alert.window_to))
    return _joined(sorted(stretches))


def _joined(stretches: Sequence[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    result: list[tuple[datetime, datetime]] = []
    for start, end in stretches:
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def _open(ws: Workspace, subject: str | None = None) -> list[Incident]:
    incidents = ws.records.find(Incident) if subject is None else ws.records.find(Incident, subject=subject)
    if not incidents:
        return []
    ended = {r.incident for r in ws.records.find(Resolution)}
    return [i for i in incidents if i.id not in ended]


@query("monitoring.quality_history")
def quality_history(ws: Workspace, endpoint: str) -> list[Quality]:
    """Every judgement of an endpoint's quality, oldest first."""
    return ws.records.find(Quality, newest_first=False, endpoint=endpoint)
