"""What came of it: the table, month by month, and `summary.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta
from math import isnan
from typing import Any

import polars as pl

from loopline import data, serving
from loopline.interfaces.demo.player import Player, Told
from loopline.interfaces.demo.scenario import midnight
from loopline.loop.project import Project
from loopline.loop.replay import Replayed
from loopline.loop.worth import Worth, worth
from loopline.monitoring.nouns import Incident
from loopline.monitoring.quality import DayCounts
from loopline.retraining.nouns import Transition
from loopline.workspace import Workspace

AGREE_AUC = 0.002
SAME_WITHIN = timedelta(days=7)
FIGURES = ("auc", "brier", "calibration_error", "value")


def given(ws: Workspace, project: Project, since: datetime, until: datetime) -> tuple[Worth, int]:
    """Figures of the answers that were really given, from the log, and how many there were."""
    framing = project.spec.framing
    log = (
        serving.predictions(ws, project.name)
        .filter(pl.col("role") != "shadow", pl.col("decision_time").is_between(since, until, closed="left"))
        .select("entity", "decision_time", "score", "decision")
        .collect()
    )
    labels = data.labels(ws, framing, project.spec.data, ws.clock()).select(
        pl.col(framing.unit).cast(pl.String).alias("entity"), "label"
    )
    joined = log.join(labels, on="entity", how="left").with_columns(pl.col("decision_time").dt.date().alias("day"))
    days: dict[date, DayCounts] = {}
    for rows in joined.partition_by("day"):
        day: date = rows["day"][0]
        label = rows["label"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        days[day] = DayCounts.of(
            rows["score"].to_numpy(), label, value=framing.value, decisions=rows["decision"].to_numpy()
        )
    return worth(days), log.height


def summarise(player: Player, replays: Sequence[Replayed], live: Worth, logged: int, seconds: float) -> dict[str, Any]:
    """Everything that `summary.json` holds."""
    told, by_name = player.told, {r.policy: r for r in replays}
    figures = {name: found.worth for name, found in by_name.items()}
    figures["loop"] = live
    ends = [t for t in told.transitions if t.after in ("PROMOTED", "REJECTED", "ROLLED_BACK")]
    incidents = player.ws.records.find(Incident)
    return {
        "policies": {
            name: _figures(figures[name]) for name in ("never", "quarterly", "monthly", "loop") if name in figures
        },
        "months": _months(figures),
        "retrains": max(0, sum(t.after == "PROMOTED" for t in ends) - 1),
        "rejected": sum(t.after == "REJECTED" for t in ends),
        "rolled_back": sum(t.after == "ROLLED_BACK" for t in ends),
        "incidents": sum(i.area == "data" for i in incidents),
        "requests": told.requests,
        "seconds": round(seconds, 1),
        "seconds_by_stage": {k: round(v, 1) for k, v in sorted(player.stage.seconds.items())},
        "requests_per_second": round(told.requests / max(player.stage.seconds.get("requests", 0.0), 1e-9)),
        "refused": told.refused,
        "logged": logged,
        "lost": told.requests - told.refused - logged,
        "control_plane_down": told.killed,
        "seed": player.seed,
        "events": told.events,
        "incident_titles": [i.title for i in sorted(incidents, key=lambda i: i.opened_at)],
        "story": [_line(t) for t in ends],
        "agreement": _agreement(by_name.get("loop"), live, told),
        "created": player.ws.clock().isoformat(),
    }


def _figures(found: Worth) -> dict[str, Any]:
    doc = asdict(found)
    doc.pop("months")
    return {k: _round(v) for k, v in doc.items()}


def _round(value: Any) -> Any:
    if isinstance(value, float):
        if isnan(value):
            return None
        return round(value, 5) if abs(value) < 1000 else round(value)
    if isinstance(value, (list, tuple)):
        return [_round(v) for v in value]
    return value


def _months(figures: Mapping[str, Worth]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for name, found in figures.items():
        for month in found.months:
            row = rows.setdefault(month.month, {"month": month.month, "n": month.rows})
            row[name] = {
                "auc": round(month.auc, 4),
                "brier": round(month.brier, 4),
                "calibration_error": round(month.calibration_error, 4),
                "value": _round(month.value),
            }
    return [rows[m] for m in sorted(rows)]


def _line(move: Transition) -> dict[str, Any]:
    return {"at": f"{move.at:%Y-%m-%d}", "what": move.after, "cycle": move.cycle, "why": move.why}


def _agreement(replayed: Replayed | None, live: Worth, told: Told) -> dict[str, Any] | None:
    """How the replay of the loop's own policy compares with what was really lived through."""
    if replayed is None:
        return None
    lived = [(t.at, t.after) for t in told.transitions if t.after in ("PROMOTED", "REJECTED")][1:]
    thought = [(m.at, m.what) for m in replayed.moves if m.what in ("PROMOTED", "REJECTED")]
    pairs, only_lived, only_thought = _paired(lived, thought)
    difference = live.auc - replayed.worth.auc
    return {
        "auc_live": round(live.auc, 5),
        "auc_replayed": round(replayed.worth.auc, 5),
        "difference": round(difference, 5),
        "agree": abs(difference) <= AGREE_AUC,
        "same": [f"{at:%Y-%m-%d} {what} (replayed {other:%m-%d})" for at, other, what in pairs],
        "only_live": [f"{at:%Y-%m-%d} {what}" for at, what in only_lived],
        "only_replayed": [f"{at:%Y-%m-%d} {what}" for at, what in only_thought],
    }


def _paired(
    lived: Sequence[tuple[datetime, str]], thought: Sequence[tuple[datetime, str]]
) -> tuple[list[tuple[datetime, datetime, str]], list[tuple[datetime, str]], list[tuple[datetime, str]]]:
    """Decisions of the same kind within a few days are one decision: canaries end a little earlier or later."""
    left = list(thought)
    pairs, alone = [], []
    for at, what in lived:
        near = [other for other in left if other[1] == what and abs(other[0] - at) <= SAME_WITHIN]
        if near:
            best = min(near, key=lambda other: abs(other[0] - at))
            left.remove(best)
            pairs.append((at, best[0], what))
        else:
            alone.append((at, what))
    return pairs, alone, left


# ---------------------------------------------------------------- text


def text(summary: Mapping[str, Any], project: Project) -> str:
    """The outcome as a page of text."""
    currency = project.spec.framing.value.currency if project.spec.framing.value else ""
    lines = ["", "Was it worth it?  The same rows under four policies, with 95 % intervals between days", ""]
    lines += _policy_table(summary["policies"], currency)
    lines += ["", "AUC by month", ""]
    names = list(summary["policies"])
    lines.append(f"  {'':8}" + "".join(f"{name:>11}" for name in names) + f"{'rows':>10}")
    for row in summary["months"]:
        cells = "".join(f"{row[n]['auc']:>11.3f}" if n in row else f"{'':>11}" for n in names)
        lines.append(f"  {row['month']:8}{cells}{row['n']:>10,}")
    lines += ["", "What happened", ""]
    lines += [f"  {e['day']}  {e['event']}: {e['what']}" for e in sorted(summary["events"], key=lambda e: e["day"])]
    lines += [""]
    lines += [f"  {s['at']}  {s['what']:<12} {s['why']}" for s in summary["story"]]
    lines += [f"  incident    {title}" for title in summary["incident_titles"]]
    lines += ["", *_sentences(summary)]
    return "\n".join(lines)


def _policy_table(policies: Mapping[str, Mapping[str, Any]], currency: str) -> Iterable[str]:
    yield f"  {'policy':<10}{'AUC':>22}{'Brier':>24}{'calibration error':>24}{'value, ' + currency:>32}"
    for name, found in policies.items():
        cells = [_cell(found, key, 4 if key != "auc" else 3) for key in ("auc", "brier", "calibration_error")]
        value = ""
        if found["value"] is not None:
            low, high = found["value_interval"]
            value = f"{found['value']:,.0f} [{low:,.0f}, {high:,.0f}]"
        yield f"  {name:<10}{cells[0]:>22}{cells[1]:>24}{cells[2]:>24}{value:>32}"


def _cell(found: Mapping[str, Any], key: str, digits: int) -> str:
    low, high = found[f"{key}_interval"]
    return f"{found[key]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _sentences(summary: Mapping[str, Any]) -> Iterable[str]:
    loop, never = summary["policies"].get("loop"), summary["policies"].get("never")
    yield (
        f"  {summary['retrains']} retrained version(s) released, {summary['rejected']} rejected by the gates, "
        f"{summary['rolled_back']} rolled back, {summary['incidents']} data incident(s)."
    )
    if loop and never:
        gain = loop["auc"] - never["auc"]
        yield f"  The loop's AUC is {gain:+.3f} against never retraining."
    down = summary["control_plane_down"]
    if down:
        yield f"  The control plane was dead on {', '.join(down)}: predictions went on."
    yield (
        f"  {summary['requests']:,} requests at {summary['requests_per_second']:,} a second; "
        f"{summary['logged']:,} in the log, {summary['lost']} lost, {summary['refused']} refused."
    )
    agreement = summary["agreement"]
    if agreement:
        verdict = "agree" if agreement["agree"] else "DISAGREE"
        yield (
            f"  Replay and life {verdict}: AUC {agreement['auc_replayed']:.4f} replayed, "
            f"{agreement['auc_live']:.4f} lived ({agreement['difference']:+.4f})."
        )
        yield f"    {len(agreement['same'])} decisions are the same within a week."
        for key, what in (("only_live", "only lived"), ("only_replayed", "only replayed")):
            if agreement[key]:
                yield f"    {what}: {', '.join(agreement[key])}"
    stages = ", ".join(f"{k} {v:.0f}" for k, v in summary["seconds_by_stage"].items() if v >= 0.5)
    yield f"  {summary['seconds']:.0f} seconds: {stages}."


def write(summary: Mapping[str, Any], player: Player) -> None:
    """Leave `summary.json` in the played folder."""
    part = player.out / "summary.json.part"
    part.write_text(json.dumps(summary, indent=2, default=str) + "\n")
    part.replace(player.out / "summary.json")


def span(player: Player) -> tuple[datetime, datetime]:
    """The stretch of time that was played."""
    return midnight(player.cast.spec.start), midnight(player.cast.spec.until)


__all__ = ["given", "span", "summarise", "text", "write"]
