"""A model's life in records: two cycles, one release, an approval that waits, an incident, live quality."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from loopline import registry
from loopline.base.errors import Invalid
from loopline.base.nouns import to_doc
from loopline.evaluation.nouns import Estimate, Report, Verdict
from loopline.features import refuse_leaks
from loopline.features.nouns import Leak, LeakageReport, Mismatch, ParityReport, TrainingSet
from loopline.loop import facts
from loopline.loop.project import Project
from loopline.monitoring.nouns import Alert, Incident, Quality
from loopline.registry.nouns import Version
from loopline.retraining.nouns import Cycle, Guard, Transition
from loopline.store.records.protocol import Row
from loopline.training.nouns import Model, Run
from loopline.workspace import Workspace

NOW = datetime(2031, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'

SLICE = {
    "column": "depot", "value": HOSTILE, "n": 1090, "positives": 0.4596, "roc_auc": 0.6998, "roc_auc_low": 0.66,
    "roc_auc_high": 0.743, "bias": -0.017, "bias_low": -0.07, "bias_high": 0.04,
}  # fmt: skip


def live(ws: Workspace, project: Project, *, reason: str = "the newest days are the truest") -> dict[str, Any]:
    """Write the life; `reason` is a person's own words. Returns the nouns by name."""
    name = project.name
    first, second = candidate(ws, "one", auc=0.7), candidate(ws, "two", auc=0.73, champion="model-one-" + "a" * 24)
    version = register(ws, name, *first)
    registry.approve(ws.acting_as("user:bob"), version, reason=reason)
    registry.promote(ws, version, reason=f"cycle {name}/1: first release")
    waiting = register(ws, name, *second)
    cycle(ws, name, 1, "PROMOTED", [("IDLE", "TRIAGE", reason), ("WATCH", "PROMOTED", "released to everyone")], version)
    cycle(ws, name, 2, "AWAIT_APPROVAL", [("IDLE", "TRIAGE", "calibration_error > 0.05 fires")], waiting)
    incident = Incident(
        "incident-" + "b" * 24, "table:climate", "data", "climate: temp in another unit", ("alert-1",),
        NOW - DAY, NOW, NOW, "Ask the source which unit it sent.",
    )  # fmt: skip
    alert = Alert(
        "alert-1", "table:climate", "data", "unit_change", "temp", NOW - DAY, NOW, 1e-9, "unit_change", "bug",
        {"conversion": "Fahrenheit as Celsius"}, NOW,
    )  # fmt: skip
    judged = [
        Quality(
            f"quality-{n}", name, NOW + n * DAY, NOW, NOW + n * DAY, n, 300 * n, 300 * n,
            {"roc_auc": (0.69, 0.66, 0.72), "calibration_error": (0.0612, 0.0551, 0.0673)},
        )
        for n in range(1, 4)
    ]  # fmt: skip
    with ws.records.transaction() as tx:
        for noun in (incident, alert, *judged):
            tx.put(noun)
    return {"version": version, "waiting": waiting, "incident": incident, "report": second[1], "model": second[0]}


def proofs(ws: Workspace, project: Project, life: dict[str, Any]) -> dict[str, Any]:
    """What was proved of features: version 1 agrees with the tables, version 2 does not; a cycle failed by leaks."""
    kinds = ("target_copy", "too_good", "duplicate_rows")
    copied = Leak("target_copy", "final_status", 0.9997, 0.999, "final_status alone has an AUC of 0.9997 " + HOSTILE,
                  "take `final_status` out of the features")  # fmt: skip
    bought = Leak("too_good", "courier_score", 0.91, 0.85, "courier_score alone has an AUC of 0.91", "check it", True,
                  "bought before the decision")  # fmt: skip
    leaked = LeakageReport(
        "leaks-" + "d" * 24, "another set", (copied, bought), kinds, {"early_label": "no time"}, 600, NOW
    )
    clean = LeakageReport("clean-" + "d" * 24, "set-one-" + "a" * 24, (bought,), kinds, {}, 600, NOW)
    examples = tuple(
        Mismatch("temp", f"p{n}", HOSTILE if n == 0 else f"parcel {n}", NOW + n * DAY, 41.5, None) for n in range(9)
    )
    agreed = ParityReport(
        "parity-1" + "e" * 24, project.name, "views", 1200, 2400, {}, (), {"score": "computed elsewhere"}, NOW, NOW,
        NOW, (life["version"].id,),
    )  # fmt: skip
    differs = ParityReport(
        "parity-2" + "e" * 24, project.name, "views", 1000, 2000, {"temp": 37, "depot": 2}, examples, {}, NOW,
        NOW + DAY, NOW + DAY, (life["waiting"].id,),
    )  # fmt: skip
    with ws.records.transaction() as tx:
        for noun in (leaked, clean, agreed, differs):
            tx.put(noun)
    try:
        refuse_leaks(leaked)
    except Invalid as refusal:
        moves = [("IDLE", "TRIAGE", "every 90d fires"), ("SNAPSHOT", "FAILED", f"prepare failed: {refusal}")]
        cycle(ws, project.name, 3, "FAILED", moves, None)
    return {"leaked": leaked, "agreed": agreed, "differs": differs}


def candidate(ws: Workspace, mark: str, *, auc: float, champion: str | None = None) -> tuple[Model, Report]:
    """A model with its run and rows, and the report about it."""
    long = f"{mark}-" + "a" * 24
    run = Run(f"run-{long}", "key", "train.py:fit", {"files": {}}, ws.blobs.put(b"{}"), {}, 0, NOW, 12.3, 4.5, False)
    rows = TrainingSet(
        f"set-{long}", "snapshot", "frame", ("depot", "temp"), ("depot",), "views", 16134, 4172, NOW - 14 * DAY, NOW,
        {"void": 432},
    )  # fmt: skip
    model = Model(
        f"model-{long}", run.id, rows.id, "problem", ws.blobs.put(mark.encode()), rows.features, "lightgbm 4.7.0",
        "user:ada", 0.125, {}, NOW,
    )  # fmt: skip
    verdict = Verdict("roc_auc at_least 0.6", True, "roc_auc", "all", auc, auc - 0.02, 0.6, None, "0.68 is above 0.60")
    gap = {"roc_auc": Estimate(0.0312, 0.0123, 0.0456)} if champion else {}
    report = Report(
        id=f"report-{long}", model=model.id, champion=champion, rows=4172, test_from=NOW - 14 * DAY, test_to=NOW,
        metrics={"roc_auc": Estimate(auc, auc - 0.02, auc + 0.02), "calibration_error": Estimate(0.0221, 0.01, 0.03)},
        champion_metrics={"roc_auc": Estimate(0.6988, 0.68, 0.71)} if champion else {},
        baseline_metrics={"roc_auc": Estimate(0.5, 0.5, 0.5)}, differences=gap,
        baseline_differences={"roc_auc": Estimate(auc - 0.5, 0.1, 0.3)},
        calibration=tuple({"predicted": p, "observed": o, "rows": 400.0} for p, o in ((0.2, 0.25), (0.6, 0.55))),
        slices=(SLICE,),
        verdicts=(verdict,), passed=True, threshold=0.125, created_at=NOW,
    )  # fmt: skip
    with ws.records.transaction() as tx:
        for noun in (run, rows, model, report):
            tx.put(noun)
    return model, report


def register(ws: Workspace, name: str, model: Model, report: Report) -> Version:
    """A registered version."""
    made: Version = registry.register(
        ws, name=name, model=model, report=report, author="user:ada", risk="limited", policy={}
    )
    return made


def cycle(
    ws: Workspace, name: str, number: int, state: str, moves: list[tuple[str, str, str]], version: Version | None
) -> None:
    """A cycle with its decisions, as the engine commits them."""
    id, at = f"{name}/{number}", NOW + number * timedelta(hours=1)
    changes = {"version": version.id, "model": version.model, "report": version.report} if version else {}
    made = Cycle(id, name, state, len(moves), at, at, "policy", 1, "operator", "user:ada", changes=changes)
    doc = {"cycle": id if state in ("AWAIT_APPROVAL", "DATA_INCIDENT") else None, "cycles": number}
    with ws.records.transaction() as tx:
        for generation, (before, after, why) in enumerate(moves, 1):
            guards = (Guard("calibration_error > 0.05", True, "0.0777 [0.0534, 0.0939]", 0.05, "quality-1"),)
            tx.put(Transition(f"{id}/{generation}", name, id, generation, before, after, why, guards, (), at))
        for generation in range(1, len(moves) + 1):
            tx.save(
                Row(facts.CYCLE, id, state, generation, to_doc(replace(made, generation=generation))),
                expect=generation - 1,
            )
        tx.save(Row(facts.LOOP, name, state, number, doc), expect=number - 1)


def summary(project: Project) -> dict[str, Any]:
    """The summary of a played stretch, written beside the project."""
    figures = {
        "auc": 0.7312, "auc_interval": [0.72, 0.74], "brier": 0.21, "brier_interval": [0.2, 0.22],
        "calibration_error": 0.03, "calibration_error_interval": [0.02, 0.04], "value": 22825,
        "value_interval": [21370, 23989], "n": 19282,
    }  # fmt: skip
    month = {"auc": 0.7, "brier": 0.2, "calibration_error": 0.03, "value": 1.0}
    doc = {
        "policies": {"never": {**figures, "auc": 0.7001}, "loop": figures},
        "months": [{"month": f"2031-0{m}", "n": 9000, "never": month, "loop": {**month, "auc": 0.75}} for m in (5, 6)],
        "retrains": 2, "rejected": 3, "rolled_back": 1, "incidents": 1, "requests": 19667, "seconds": 284.0,
        "story": [{"at": "2031-05-12", "what": "REJECTED", "cycle": "parcels/4", "why": "rejected by the gates"}],
        "events": [{"event": "outage", "day": "2031-05-17", "what": HOSTILE}],
    }  # fmt: skip
    (project.root / "summary.json").write_text(json.dumps(doc))
    return doc
