"""What was proved of the data of a version, and where the inputs of an answer came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import moment
from loopline.base.nouns import to_doc
from loopline.data.contracts.verbs import ContractVersion
from loopline.data.history.manifest import manifest
from loopline.data.nouns import Snapshot
from loopline.features.nouns import LeakageReport, ParityReport
from loopline.features.written import text_of
from loopline.governance.origins import Origins
from loopline.serving.nouns import BASELINE, DesiredState
from loopline.training.archive import unpack
from loopline.training.bundle import MANIFEST
from loopline.workspace import Workspace

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOOKED_AT = 200
"""Newest parity reports of an endpoint among which those of a version are looked for."""
EXAMPLES = 5


def evidence_of(ws: Workspace, found: Origins) -> dict[str, Any]:
    """`leaks`, `parity`, `contracts`, `transforms`, `search` and `requests` of a version; null if unrecorded."""
    bundle = bundle_manifest(ws, found)
    return {
        "leaks": _leaks(ws, found),
        "parity": _parity(parity_of(ws, found.version.name, found.version.id)),
        "contracts": _contracts(ws, found.snapshot),
        "transforms": _transforms(bundle),
        "search": bundle.get("search"),
        "requests": _requests(ws, found, bundle),
    }


def leaks_of(ws: Workspace, training_set: str) -> LeakageReport | None:
    """The newest search for leaks in a training set; null when none was made."""
    reports = ws.records.find(LeakageReport, limit=1, training_set=training_set)
    return reports[0] if reports else None


def parity_of(ws: Workspace, endpoint: str, version: str) -> ParityReport | None:
    """The newest parity report about a version's own answers; null when none was made."""
    reports = ws.records.find(ParityReport, limit=LOOKED_AT, endpoint=endpoint)
    return next((report for report in reports if report.versions == (version,)), None)


def bundle_manifest(ws: Workspace, found: Origins) -> dict[str, Any]:
    """The manifest of a version's bundle; empty when it cannot be read."""
    try:
        doc = json.loads(unpack(ws.blobs.get(found.version.bundle))[MANIFEST])
    except (NotFound, Invalid, KeyError, ValueError):
        return {}
    return doc if isinstance(doc, dict) else {}


def _leaks(ws: Workspace, found: Origins) -> dict[str, Any] | None:
    report = leaks_of(ws, found.training_set.id) if found.training_set else None
    if report is None:
        return None
    return {
        "report": report.id,
        "searched": list(report.checked),
        "not_searched": dict(report.skipped),
        "rows_recomputed": report.recomputed_rows,
        "findings": [
            {
                "kind": leak.kind,
                "column": leak.column,
                "score": leak.score,
                "evidence": leak.evidence,
                "accepted": leak.accepted,
                "blocks": leak.refuses,
            }
            for leak in report.findings
        ],
        "at": to_doc(report.created_at),
    }


def _parity(report: ParityReport | None) -> dict[str, Any] | None:
    if report is None:
        return None
    return {
        "report": report.id,
        "holds": report.holds,
        "rows": report.rows,
        "values": report.values,
        "differences": dict(report.mismatches),
        "examples": [
            {
                "feature": one.feature,
                "prediction": one.prediction_id,
                "entity": one.entity,
                "served": one.served,
                "recomputed": one.computed,
            }
            for one in report.examples[:EXAMPLES]
        ],
        "not_compared": dict(report.unchecked),
        "from": to_doc(report.since),
        "to": to_doc(report.until),
    }


def _contracts(ws: Workspace, taken: Snapshot | None) -> dict[str, Any] | None:
    """By table the contract that its rows kept when they were frozen; null for a table without one."""
    if taken is None:
        return None
    try:
        tables = manifest(ws, taken)
    except (NotFound, Invalid):
        return None
    told: dict[str, Any] = {}
    for table, entry in sorted(tables.items()):
        content = entry.get("contract")
        kept = ws.records.find(ContractVersion, limit=1, table=table, contract=content) if content else []
        told[table] = None if not content else {"version": kept[0].version if kept else None, "contract": content}
    return told


def _transforms(bundle: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """By input what is done to it before the model reads it; null where nothing is."""
    if not bundle.get("transforms"):
        return None
    inputs = [one["name"] for one in bundle["inputs"]]
    columns: dict[str, list[Mapping[str, Any]]] = {}
    for column in bundle["transforms"]:
        columns.setdefault(inputs[column["input"]], []).append(column)
    told = []
    for name, made in columns.items():
        words = dict.fromkeys(word for column in made for word in _done(column))
        if words:
            told.append({"input": name, "columns": len(made), "done": ", ".join(words)})
    return told or None


def _done(column: Mapping[str, Any]) -> list[str]:
    """What one fitted column does, in words; none where it passes the input on."""
    if column["kind"] == "table":
        return [f"a number for each of {len(column['table']) - 1} categories"]
    if column["kind"] == "flag":
        return ["whether it is missing"]
    words = []
    if column.get("fill") is not None:
        words.append(f"{column['fill']:.6g} where missing")
    if (column.get("shift", 0.0), column.get("by", 1.0)) != (0.0, 1.0):
        words.append(f"less {column['shift']:.6g}, divided by {column['by']:.6g}")
    return words


def _requests(ws: Workspace, found: Origins, bundle: Mapping[str, Any]) -> dict[str, Any]:
    """What requests bring: keys where the endpoint reads the online store, else the features; null if never served."""
    served = next(
        (
            state
            for state in ws.records.find(DesiredState, endpoint=found.version.name)
            if any(variant.version == found.version.id for variant in state.variants)
        ),
        None,
    )
    asked = bundle.get("request")
    return {
        "carry": None if served is None else "keys" if served.online else "features",
        "keys_possible": asked is not None,
        "columns": asked["columns"] if asked else None,
    }


def origins_of_inputs(
    ws: Workspace, answer: Mapping[str, Any], found: Origins, bundle: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Where the inputs of one answer came from, as far as the records tell: one entry for each place.

    `from` is `request` (the caller sent the values, or all that they are made of), `request columns` (computed from
    what the request brought) or `online store`; then with the `view`, the `table` it reads and `as_of`, until when
    rows counted: the refresh at or before the decision time. `behind` says that the store stood at another refresh
    then, `absent` that it held nothing of the entity. `training rows`: the base rate answered, and read nothing.

    Parameters
    ----------
    answer : mapping
        As `find_prediction` gives it.
    bundle : mapping
        Manifest of the version that answered.
    """
    states = ws.records.find(DesiredState, endpoint=answer["endpoint"], generation=answer["generation"], limit=1)
    asked = bundle.get("request")
    inputs = list(answer["inputs"])
    if answer["fallback"] == BASELINE:
        return [{"from": "training rows", "inputs": []}]
    late = answer["broken"] or () if answer["routed"] in (None, answer["version"]) else ()
    if not (states and states[0].online and asked):
        return [{"from": "request", "inputs": inputs, "definitions": _definitions(ws, found, inputs)}]
    read = {one["name"] for one in bundle["inputs"]}
    at = moment(answer["decision_time"])
    told = []
    for group in asked["groups"]:
        for name, features, *more in group["views"]:
            mine = {feature: text_of(tree) for feature, tree in features if feature in read}
            if not mine:
                continue
            reads = more[0] if more else {}
            place: dict[str, Any] = {"from": "request columns", "view": name}
            if reads.get("source"):
                place = {
                    "from": "online store",
                    "view": name,
                    "table": reads["source"],
                    "by": [pair[0] for pair in reads["on"]],
                    "as_of": to_doc(_as_of(at, reads.get("refresh"))),
                }
                if f"stale:{name}" in late:
                    place["behind"] = True
                if f"absent:{name}" in late:
                    place["absent"] = True
                if f"ahead:{name}" in late:
                    place["ahead"] = True
            told.append({**place, "inputs": list(mine), "definitions": mine})
    return told


def _as_of(at: datetime, refresh_us: int | None) -> datetime | None:
    """The refresh that a decision reads; null for tables without times."""
    return None if refresh_us is None else at - (at - EPOCH) % timedelta(microseconds=refresh_us)


def _definitions(ws: Workspace, found: Origins, names: list[str]) -> dict[str, str]:
    """How training computed the inputs; empty where the definitions were not kept."""
    if found.training_set is None:
        return {}
    try:
        doc = json.loads(ws.blobs.get(found.training_set.views))
    except (NotFound, Invalid, ValueError):
        return {}
    return {name: text_of(tree) for one in doc["views"] for name, tree in one["features"] if name in names}
