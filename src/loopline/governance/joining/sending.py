"""What a workspace has that another may lack, put into a parcel."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopline.base.errors import NotFound
from loopline.base.figures import plural
from loopline.base.ids import canonical, content_id, digest, iso
from loopline.base.keys import SigningKey
from loopline.base.nouns import to_doc
from loopline.evaluation.nouns import Report
from loopline.features.nouns import TrainingSet
from loopline.framing.nouns import Problem
from loopline.governance.joining import traces
from loopline.governance.joining.nouns import ARRIVING
from loopline.governance.joining.parcel import LARGEST_DOCUMENT, TRACE, Writer
from loopline.governance.traced import has_traces
from loopline.registry.nouns import Approval, Evidence
from loopline.registry.origin import AUTHOR, FROM, ORIGIN, origin_of, travelling
from loopline.registry.shelf import Entry, entries, models
from loopline.store.runs.protocol import LoggedModel
from loopline.store.runs.protocol import Run as Logged
from loopline.training.nouns import Model, Run
from loopline.training.tracking.frames import Begin, Data, End, Facts, Points, pack
from loopline.workspace import Workspace

OWN = frozenset({ARRIVING, "mlflow.runName"})
_POINTS = 1_000_000
_PAGE = 1_000
_ENDED = ("FINISHED", "FAILED", "KILLED")


@dataclass(slots=True)
class Sent:
    """What went into a parcel."""

    parcel: str = ""
    counts: dict[str, int] = field(
        default_factory=lambda: {"runs": 0, "models": 0, "registrations": 0, "traces": 0, "files": 0}
    )
    told: list[str] = field(default_factory=list)
    """What stayed, and why."""


def had(ws: Workspace) -> dict[str, Any]:
    """What a workspace has, told shortly, so that only the rest is sent.

    Returns
    -------
    dict
        `runs` and `models` (id to a digest of what they say), `registrations` (ids of origin), `traces` (as runs),
        `blobs` (digests). Traces that were deleted say `gone`, and so do runs of which the bytes were freed.
    """
    return {
        "workspace": ws.id,
        "runs": dict.fromkeys(ws.runs.gone(), traces.GONE) | {run.id: _sketch(ws, run) for run in whole_runs(ws)},
        "models": {model.id: _model_sketch(ws, model) for model in logged_models(ws)},
        "registrations": {origin_of(one): _said(one) for one in entries(ws)},
        "traces": traces.sketches(ws, [one.id for one in _experiments(ws)]),
        "blobs": sorted(ws.artifacts.blobs),
    }


def put_together(ws: Workspace, to: Path, have: Mapping[str, Any]) -> Sent:
    """Write a parcel with what `have` lacks."""
    sent = Sent()
    writer = Writer(to)
    blobs = set(have.get("blobs", ()))
    index = ws.artifacts.index()

    def files_of(owner: str) -> dict[str, list[Any]]:
        found = {}
        for file in index.get(owner, ()):
            found[file.path] = [file.digest, file.size, file.at_ms]
            if file.digest not in blobs:
                blobs.add(file.digest)
                writer.blob(file.digest, ws.artifacts.blobs.where(file.digest))
                sent.counts["files"] += 1
        return found

    names = {one.id: one.name for one in _experiments(ws)}
    gone = 0
    for run in whole_runs(ws, sent.told):
        there = have.get("runs", {}).get(run.id)
        gone += there == traces.GONE
        if there not in (traces.GONE, _sketch(ws, run)):
            writer.stream(f"runs/{run.id}.frames", frames_of(ws, run, names[run.experiment]))
            writer.document(f"runs/{run.id}.json", {**_beside(run), "files": files_of(run.id)})
            sent.counts["runs"] += 1
    _tell_gone(sent, gone, "run")
    for model in logged_models(ws):
        if have.get("models", {}).get(model.id) != _model_sketch(ws, model):
            doc = {**_model(model), "experiment": names[model.experiment], "files": files_of(model.id)}
            writer.document(f"models/{model.id}.json", doc)
            sent.counts["models"] += 1
    shelves = {one.name: one for one in models(ws)}
    for entry in entries(ws):
        if have.get("registrations", {}).get(origin_of(entry)) == _said(entry):
            continue
        doc = {**_registration(ws, entry), "description": entry.description, "tags": travelling(entry, ws.id)}
        doc["aliases"] = sorted(a for a, target in shelves[entry.name].aliases.items() if target in entry.ids)
        doc["files"] = files_of(entry.deposit.id[:32]) if entry.deposit is not None else {}
        if entry.version is not None and entry.deposit is None:
            doc["files"] = {}
            at_ms = int(entry.created_at.timestamp() * 1000)
            for path, data in _lineage(ws, entry, doc["told"]).items():
                key, size = _put(ws, writer, data, blobs)
                doc["files"][path] = [key, size, at_ms]
        sent.told += doc.pop("told")
        writer.document(f"registrations/{origin_of(entry)}.json", doc)
        sent.counts["registrations"] += 1
    gone = 0
    for trace, runs in traces.over(ws, list(names), sent.told):
        there = have.get("traces", {}).get(trace.id)
        gone += there == traces.GONE
        if there in (traces.GONE, traces.sketch(trace, runs)):
            continue
        doc = traces.document(ws, trace, runs, names[trace.experiment])
        if not TRACE.fullmatch(trace.id) or len(canonical(doc)) > LARGEST_DOCUMENT // 2:
            sent.told.append(f"trace {trace.id} stays: its id or its size has no place in a parcel")
            continue
        writer.document(f"traces/{trace.id}.json", {**doc, "files": files_of(trace.id)})
        sent.counts["traces"] += 1
    _tell_gone(sent, gone, "trace")
    sent.told += _staying(ws)
    ws.audit.seal()
    head = ws.root / "audit" / "head.json"
    signer = SigningKey.load(f"workspace-{ws.id}", create=True)
    about = {
        "workspace": ws.id,
        "public": signer.public,
        "head": json.loads(head.read_text()) if head.exists() else None,
    }
    sent.parcel = writer.close(about, signer.sign)
    return sent


def _tell_gone(sent: Sent, count: int, kind: str) -> None:
    """What the other side deleted is not sent."""
    if count:
        was, stays = ("was", "stays") if count == 1 else ("were", "stay")
        sent.told.append(f"{plural(count, kind)} that {was} deleted where this would go {stays} deleted")


def _staying(ws: Workspace) -> list[str]:
    """What is not sent at all, in words."""
    sets = ws.traces.count()[1] if has_traces(ws) else 0
    if not sets:
        return []
    words = ("evaluation dataset stays", "it does") if sets == 1 else ("evaluation datasets stay", "they do")
    return [f"{sets:,} {words[0]} in that workspace: {words[1]} not travel"]


# runs


def whole_runs(ws: Workspace, told: list[str] | None = None) -> Iterator[Logged]:
    """Runs that have ended and are not deleted: they do not change any more."""
    going = 0
    ids = [one.id for one in _experiments(ws)]
    token: str | None = None
    while ids:
        page = ws.runs.search_runs(ids, limit=_PAGE, token=token)
        for document in page.items:
            run = ws.runs.run(json.loads(document)["info"]["run_id"])
            if run.status in _ENDED and ARRIVING not in run.tags:
                yield run
            else:
                going += 1
        if (token := page.token) is None:
            break
    if going and told is not None:
        told.append("1 run has not ended and stays" if going == 1 else f"{going:,} runs have not ended and stay")


def frames_of(ws: Workspace, run: Logged, experiment: str) -> Iterator[bytes]:
    """What of a run never changes, as frames in one order: equal runs, equal bytes."""
    yield pack(0, Begin(run=run.id, experiment=experiment, start_ms=run.start_ms or 0, user=run.user))
    number = 1
    for key in sorted(point.key for point in run.metrics):
        start = 0
        while True:
            columns = ws.runs.read_columns(run.id, key, start=start, limit=_POINTS)
            if columns[0]:
                yield pack(number, Points(run=run.id, columns={key: columns}))
                number += 1
            start += len(columns[0]) // 8
            if len(columns[0]) < 8 * _POINTS:
                break
    for name in sorted(run.params):
        yield pack(number, Facts(run=run.id, params={name: run.params[name]}))
        number += 1
    for one in sorted(run.datasets, key=lambda used: (used.name, used.digest)):
        tags = dict(sorted(one.tags.items()))
        yield pack(
            number,
            Data(run=run.id, name=one.name, digest=one.digest, source_type=one.source_type, source=one.source,
                 schema=one.schema, profile=one.profile, tags=tags),
        )  # fmt: skip
        number += 1
    yield pack(number, End(run=run.id, status=run.status, end_ms=run.end_ms or 0))  # type: ignore[arg-type]


def _beside(run: Logged) -> dict[str, Any]:
    """What may be added to a run later: its name, tags, and the models that it read or made."""
    uses = {"read": [[one.model, one.step] for one in run.read], "made": [[one.model, one.step] for one in run.made]}
    return {"name": run.name, "tags": {k: v for k, v in run.tags.items() if k not in OWN}, **uses}


def _sketch(ws: Workspace, run: Logged) -> str:
    """A digest of what a run says, its series by their newest points."""
    points = [[p.key, repr(p.value), p.at_ms, p.step] for p in run.metrics]
    data = sorted([one.name, one.digest, sorted(one.tags.items())] for one in run.datasets)
    files = [[file.path, file.digest] for file in ws.artifacts.files(run.id)]
    times = [run.start_ms, run.end_ms, run.status, run.user]
    return content_id(
        {"run": times, "points": points, "params": run.params, "data": data, "files": files, **_beside(run)}
    )


def _experiments(ws: Workspace) -> list[Any]:
    found: list[Any] = []
    token: str | None = None
    while True:
        page = ws.runs.search_experiments(token=token)
        found += page.items
        if (token := page.token) is None:
            return found


# logged models


def logged_models(ws: Workspace) -> Iterator[LoggedModel]:
    """Logged models that are ready."""
    ids = [one.id for one in _experiments(ws)]
    token: str | None = None
    while ids:
        page = ws.runs.search_models(ids, limit=50, token=token)
        yield from (one for one in page.items if one.status == "READY")
        if (token := page.token) is None:
            return


def _model(model: LoggedModel) -> dict[str, Any]:
    points = [
        [p.key, repr(p.value), p.at_ms, p.step, p.model, list(p.dataset) if p.dataset else None] for p in model.metrics
    ]
    doc = {"id": model.id, "name": model.name, "run": model.run, "type": model.type, "created_ms": model.created_ms}
    return {**doc, "params": model.params, "tags": model.tags, "metrics": points}


def _model_sketch(ws: Workspace, model: LoggedModel) -> str:
    return content_id({**_model(model), "files": [[one.path, one.digest] for one in ws.artifacts.files(model.id)]})


# registrations


def _said(entry: Entry) -> str:
    tags = {key: value for key, value in entry.tags.items() if key not in (ORIGIN, FROM, AUTHOR)}
    return content_id({"description": entry.description, "tags": tags})


def _registration(ws: Workspace, entry: Entry) -> dict[str, Any]:
    known = entry.deposit
    return {
        "name": entry.name,
        "prompt": entry.prompt,
        "source": known.source if known is not None else f"loopline:{ws.id}/{entry.name}/{entry.number}",
        "run": known.run if known is not None else None,
        "logged_model": known.logged_model if known is not None else None,
        "run_link": known.run_link if known is not None else "",
        "created_at": iso(entry.created_at),
        "told": [],
    }


def _lineage(ws: Workspace, entry: Entry, told: list[str]) -> dict[str, bytes | str]:
    """A judged version as files: its bundle and signature (digests of blobs), and what it came from as documents."""
    version = entry.version
    assert version is not None
    found: dict[str, bytes | str] = {}
    for path, key in (("bundle.zip", version.bundle), ("signature.json", version.signature)):
        if key in ws.blobs:
            found[path] = key
        else:
            told.append(f"version {version.number} of {version.name}: its {path} is not here any more")
    parts: dict[str, Any] = {"version": version, "approvals": ws.records.find(Approval, version=version.id)}
    model = _maybe(ws, Model, version.model)
    run = _maybe(ws, Run, model.run) if model is not None else None
    parts |= {"model": model, "run": run, "report": _maybe(ws, Report, version.report)}
    parts |= {"evidence": _maybe(ws, Evidence, version.evidence), "problem": _maybe(ws, Problem, version.problem)}
    parts |= {"training_set": _maybe(ws, TrainingSet, model.training_set) if model is not None else None}
    for name, noun in parts.items():
        if noun is not None:
            found[f"lineage/{name}.json"] = json.dumps(to_doc(noun), sort_keys=True, ensure_ascii=False).encode()
    return found


def _put(ws: Workspace, writer: Writer, data: bytes | str, blobs: set[str]) -> tuple[str, int]:
    """Put bytes, or a blob by its digest, into a parcel unless it is there; digest and size."""
    if isinstance(data, str):
        path = ws.blobs.path(data)
        if data not in blobs:
            writer.blob(data, path)
        blobs.add(data)
        return data, path.stat().st_size
    key = digest(data)
    if key not in blobs:
        writer.raw(f"blobs/{key}", data)
    blobs.add(key)
    return key, len(data)


def _maybe(ws: Workspace, cls: type[Any], id: str) -> Any:
    try:
        return ws.records.get(cls, id)
    except NotFound:
        return None
