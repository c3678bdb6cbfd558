"""Live quality over time, incidents with their playbooks, alerts."""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime
from typing import Any

from starlette.requests import Request

from loopline import monitoring
from loopline.base.ids import moment
from loopline.interfaces.ui import figures
from loopline.interfaces.ui.context import Here
from loopline.monitoring.nouns import Alert, Quality
from loopline.registry.nouns import Release, Version
from loopline.retraining.policy import Trigger, parse_trigger

ALERTS = 50
LINES = 14

Point = tuple[datetime, Quality | None]


def page(here: Here, request: Request) -> dict[str, Any]:
    """Charts of the metrics that matter, then what went wrong."""
    history = monitoring.quality_history(here.ws, here.name)
    primary = here.project.spec.evaluation.primary
    seen = {metric for quality in history for metric in quality.metrics}
    watched = [primary, *(t.metric for t in _triggers(here) if t.metric), "brier", "value"]
    shown = [m for m in dict.fromkeys(watched) if m in seen]
    checked = here.ws.records.meta(f"checked/{here.name}")
    return {
        "shown": shown,
        "history": list(reversed(history[-LINES:])),
        "judgements": len(history),
        "incidents": here.incidents(),
        "alerts": here.ws.records.find(Alert, limit=ALERTS),
        "alerts_limit": ALERTS,
        "spec": here.project.spec.monitoring,
        "over": here.project.spec.retraining.over,
        "triggers": {m: [t.text for t in _triggers(here) if t.metric == m] for m in shown},
        "checked": moment(checked) if checked else None,
    }


def series(here: Here, request: Request) -> dict[str, Any]:
    """Every metric by the end of its trailing window: value and 90 % interval, releases, trigger bounds."""
    judged = sorted(monitoring.quality_history(here.ws, here.name), key=lambda q: q.over_to)
    releases = here.releases()
    versions = {v.id: v for v in here.versions()}
    history = _parted(judged, [release.at for release in releases])
    metrics = sorted({m for quality in judged for m in quality.metrics})
    return {
        "x": [_seconds(at) for at, _ in history],
        "metrics": {
            metric: {
                "name": figures.name(metric, _currency(here)),
                "digits": figures.DIGITS.get(metric, 4),
                "value": [_part(quality, metric, 0) for _, quality in history],
                "low": [_part(quality, metric, 1) for _, quality in history],
                "high": [_part(quality, metric, 2) for _, quality in history],
                "bounds": _bounds(here, metric, history, releases, versions),
            }
            for metric in metrics
        },
        "marks": [
            {
                "x": _seconds(release.at),
                "label": f"v{versions[release.version].number}" if release.version in versions else "?",
                "back": release.act == "rollback",
            }
            for release in releases
        ],
    }


def _parted(judged: list[Quality], releases: list[datetime]) -> list[Point]:
    """Judgements by time, with an empty point at each release: no line joins two versions."""
    breaks: list[Point] = [(at, None) for at in releases]
    known: list[Point] = [(quality.over_to, quality) for quality in judged]
    return sorted(known + breaks, key=lambda point: (point[0], point[1] is None))


def _part(quality: Quality | None, metric: str, index: int) -> float | None:
    found = quality.metrics.get(metric) if quality else None
    if found is None or abs(found[index]) >= figures.ABSURD:
        return None
    return round(found[index], 6)


def _bounds(
    here: Here, metric: str, history: list[Point], releases: list[Release], versions: dict[str, Version]
) -> list[dict[str, Any]]:
    """Where each trigger on the metric lay at each judgement: it moves with the version in production."""
    times = [release.at for release in releases]
    found = []
    for trigger in _triggers(here):
        if trigger.metric != metric:
            continue
        line: list[float | None] = []
        for _, quality in history:
            if quality is None:
                line.append(None)
                continue
            held = bisect_right(times, quality.over_from) - 1
            if not trigger.released:
                line.append(trigger.bound)
                continue
            version = versions.get(releases[held].version) if held >= 0 else None
            base = version.released.get(metric) if version else None
            line.append(None if base is None else round(base + trigger.bound, 6))
        found.append({"name": trigger.text, "value": line})
    return found


def _triggers(here: Here) -> list[Trigger]:
    return [parse_trigger(text) for text in here.project.spec.retraining.any_of]


def _currency(here: Here) -> str:
    value = here.project.spec.framing.value
    return value.currency if value else ""


def _seconds(at: datetime) -> int:
    return round(at.timestamp())
