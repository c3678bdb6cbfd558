"""A version told from its records. Pure: documents in, document out."""

from __future__ import annotations

from typing import Any

from loopline.base.nouns import to_doc
from loopline.evaluation.nouns import Estimate
from loopline.governance.origins import Origins


def story(found: Origins) -> dict[str, Any]:
    """Rows, features, code, model, report, gates, approvals, releases; null where the records hold nothing."""
    return {
        "version": _version(found),
        "rows": _rows(found),
        "features": _features(found),
        "code": _code(found),
        "model": _model(found),
        "report": _report(found),
        "gates": [to_doc(verdict) for verdict in found.report.verdicts] if found.report else None,
        "approvals": [_approval(found, word) for word in found.approvals],
        "releases": [
            {"alias": r.alias, "act": r.act, "at": to_doc(r.at), "by": r.actor, "reason": r.reason}
            for r in found.releases
        ],
    }


def _version(found: Origins) -> dict[str, Any]:
    version = found.version
    return {
        "id": version.id,
        "name": version.name,
        "number": version.number,
        "author": version.author,
        "risk": version.risk,
        "registered": to_doc(version.created_at),
        "evidence": found.evidence.id if found.evidence else version.evidence,
        "policy": found.evidence.policy if found.evidence else None,
    }


def _rows(found: Origins) -> dict[str, Any] | None:
    used, taken = found.training_set, found.snapshot
    if used is None:
        return None
    return {
        "training_set": used.id,
        "train_rows": used.train_rows,
        "test_rows": used.test_rows,
        "train_to": to_doc(used.train_to),
        "test_to": to_doc(used.test_to),
        "left_out": used.excluded,
        "snapshot": used.snapshot,
        "known_to": to_doc(taken.known_to) if taken else None,
        "tables": taken.rows if taken else None,
    }


def _features(found: Origins) -> dict[str, Any] | None:
    used = found.training_set
    if used is None:
        return {"names": list(found.model.features)} if found.model else None
    names = found.model.features if found.model else used.features
    return {"definitions": used.views, "count": len(names), "names": list(names), "categories": list(used.categorical)}


def _code(found: Origins) -> dict[str, Any] | None:
    run = found.run
    if run is None:
        return None
    return {
        "run": run.id,
        "recipe": run.recipe,
        "commit": run.code.get("commit"),
        "uncommitted": run.code.get("dirty"),
        "closure": run.code.get("closure"),
        "files": run.code.get("files"),
        "environment": run.environment,
        "params": run.params,
        "seed": run.seed,
        "cached": run.cached,
        "seconds": run.seconds,
    }


def _model(found: Origins) -> dict[str, Any] | None:
    model = found.model
    if model is None:
        return None
    names = ("id", "framework", "bundle", "threshold", "parity", "created_at")
    return {
        **{name: to_doc(getattr(model, name)) for name in names},
        "runtime": "onnx" if model.package is None else model.package["name"],
        "package": to_doc(model.package),
    }


def _report(found: Origins) -> dict[str, Any] | None:
    report = found.report
    if report is None:
        return None

    def figure(estimates: dict[str, Estimate], name: str) -> list[float | None] | None:
        estimate = estimates.get(name)
        return None if estimate is None else [estimate.value, estimate.low, estimate.high]

    return {
        "id": report.id,
        "passed": report.passed,
        "rows": report.rows,
        "test_from": to_doc(report.test_from),
        "test_to": to_doc(report.test_to),
        "champion": report.champion,
        "metrics": {
            name: {
                "candidate": figure(report.metrics, name),
                "champion": figure(report.champion_metrics, name),
                "baseline": figure(report.baseline_metrics, name),
                "difference": figure(report.differences, name),
            }
            for name in report.metrics
        },
    }


def _approval(found: Origins, word: Any) -> dict[str, Any]:
    present = found.evidence.id if found.evidence else found.version.evidence
    return {
        "by": word.approver,
        "decision": word.decision,
        "reason": word.reason,
        "at": to_doc(word.at),
        "key": word.key,
        "void": word.evidence != present,
    }
