"""What changed from one version to the next. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopline.base.nouns import to_doc
from loopline.governance.origins import Origins


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What was added, removed or changed (`[old, new]`); empty kinds are left out."""
    found = {
        "added": sorted(set(new) - set(old)),
        "removed": sorted(set(old) - set(new)),
        "changed": {key: [old[key], new[key]] for key in sorted(set(old) & set(new)) if old[key] != new[key]},
    }
    return {kind: items for kind, items in found.items() if items}


def changes(
    old: Origins, new: Origins, *, old_packages: Mapping[str, str], new_packages: Mapping[str, str]
) -> dict[str, Any]:
    """What is different about `new`, by topic; a topic without a difference is left out."""
    told: dict[str, Any] = {}
    if old.training_set and new.training_set:
        rows: dict[str, Any] = {
            name: [before, after]
            for name in ("train_rows", "test_rows", "train_to", "test_to")
            if (before := to_doc(getattr(old.training_set, name))) != (after := to_doc(getattr(new.training_set, name)))
        }
        if excluded := difference(old.training_set.excluded, new.training_set.excluded):
            rows["excluded"] = excluded
        told["rows"] = rows
        features = difference(dict.fromkeys(old.training_set.features), dict.fromkeys(new.training_set.features))
        if old.training_set.views != new.training_set.views:
            features["definitions"] = [old.training_set.views[:12], new.training_set.views[:12]]
        told["features"] = features
    if old.run and new.run:
        code = difference(old.run.code.get("files") or {}, new.run.code.get("files") or {})
        if "changed" in code:
            code["changed"] = sorted(code["changed"])
        told["code"] = code
        told["params"] = difference({**old.run.params, "seed": old.run.seed}, {**new.run.params, "seed": new.run.seed})
        told["packages"] = difference(old_packages, new_packages)
    if old.report and new.report:
        told["metrics"] = {
            name: [_round(old.report.metrics[name].value), _round(estimate.value)]
            for name, estimate in new.report.metrics.items()
            if name in old.report.metrics and old.report.metrics[name].value != estimate.value
        }
        if old.report.threshold != new.report.threshold:
            told["threshold"] = [_round(old.report.threshold), _round(new.report.threshold)]
    if old.evidence and new.evidence:
        told["policy"] = difference(old.evidence.policy, new.evidence.policy)
        told["plan"] = difference(old.evidence.plan, new.evidence.plan)
    if old.version.author != new.version.author:
        told["author"] = [old.version.author, new.version.author]
    return {topic: items for topic, items in told.items() if items}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
