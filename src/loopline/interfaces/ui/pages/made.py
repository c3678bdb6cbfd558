"""What was made on the way: tables and snapshots, features, runs and models."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.requests import Request

from loopline import data as rows
from loopline.base.errors import LooplineError, Unavailable
from loopline.data.labelling.guidelines import names
from loopline.data.nouns import Ingestion, Snapshot
from loopline.evaluation.nouns import Report
from loopline.features.nouns import FeatureRows, ParityReport, TrainingSet, ViewFreshness
from loopline.governance.features import feature_catalogue
from loopline.governance.holding import rows_taken_out
from loopline.governance.nouns import ErasureProof, FeatureEntry
from loopline.interfaces.ui.context import Here
from loopline.interfaces.ui.pages.datasets import says
from loopline.interfaces.ui.questions import served_views
from loopline.registry.nouns import Version
from loopline.training import reproductions
from loopline.training.nouns import Model, Run

NEWEST = 20


def data(here: Here, request: Request) -> dict[str, Any]:
    """Tables with their freshness, ingestions with what was refused, snapshots."""
    ingestions = here.ws.records.find(Ingestion, limit=200)
    snapshots = here.ws.records.find(Snapshot, limit=NEWEST)
    return {
        "cards": rows.catalogue(here.ws, here.project.spec.data),
        "declared": here.project.spec.data,
        "ingestions": [i for i in ingestions if says(i)][:NEWEST],
        "quiet": [i for i in ingestions if not says(i)],
        "refused": [i for i in ingestions if i.quarantined][:NEWEST],
        "snapshots": snapshots,
        "tags": {card.id: card.tags for card in rows.snapshots(here.ws)},
        "redacted": {s.id: n for s in snapshots if (n := rows_taken_out(here.ws, s)) is not None},
        "incidents": [(i, r) for i, r in here.incidents() if i.area == "data"],
        "proofs": here.ws.records.find(ErasureProof, limit=NEWEST),
        "labellings": names(here.ws),
    }


def features(here: Here, request: Request) -> dict[str, Any]:
    """The catalogue, how fresh the online store is, the newest proof of parity, and what was computed and kept."""
    views, at, down = _served(here)
    reports = here.ws.records.find(ParityReport, limit=1, endpoint=here.name)
    sets = here.ws.records.find(TrainingSet, limit=NEWEST)
    models = here.ws.records.find(Model, limit=1)
    return {
        "newest": sets[0] if sets else None,
        "sets": sets,
        "inputs": models[0].features if models else (),
        "kept": here.ws.records.find(FeatureRows, limit=NEWEST),
        "spec": here.project.spec.features,
        "entries": _entries(here, models[0].id if models else ""),
        "views": views,
        "at": at,
        "down": down,
        "online": here.project.spec.serving.features == "online",
        "parity": reports[0] if reports else None,
        "numbers": {v.id: v.number for v in here.versions()},
    }


def _served(here: Here) -> tuple[list[ViewFreshness], datetime | None, Unavailable | None]:
    """How fresh the views of the online store are and as of when, or why nobody can tell."""
    try:
        return *served_views(here), None
    except Unavailable as error:
        return [], None, error


_CATALOGUES: dict[str, tuple[str, list[FeatureEntry]]] = {}
"""By workspace the last catalogue and what it was made from: what a feature is worth takes a model to tell."""


def _entries(here: Here, model: str) -> list[FeatureEntry]:
    """The catalogue, the most important first; empty where nothing can be said yet."""
    spec = here.project.spec
    versions = [here.ws.tables.version(name) for name in spec.data]
    mark = f"{here.project.id} {model} {versions}"
    known = _CATALOGUES.get(str(here.ws.root))
    if known is not None and known[0] == mark:
        return known[1]
    try:
        found: list[FeatureEntry] = feature_catalogue(
            here.ws, here.project.root, framing=spec.framing, features=spec.features, tables=spec.data
        )
    except LooplineError:
        return []
    found.sort(key=lambda entry: (-(entry.importance or 0.0), entry.name))
    _CATALOGUES[str(here.ws.root)] = mark, found
    return found


def training(here: Here, request: Request) -> dict[str, Any]:
    """Models of cycles with the run, the rows and the report of each, newest first; `?all=1` shows every model."""
    own, everything = here.made_by_cycles("model"), request.query_params.get("all") == "1"
    known = here.ws.records.find(Model)
    found = [m for m in known if everything or m.id in own]
    lines = []
    for model in found[:NEWEST]:
        reports = here.ws.records.find(Report, limit=1, model=model.id)
        versions = here.ws.records.find(Version, limit=1, model=model.id)
        lines.append(
            {
                "model": model,
                "run": here.known(Run, model.run),
                "logged": here.logged(model.run),
                "set": here.known(TrainingSet, model.training_set),
                "report": reports[0] if reports else None,
                "version": versions[0] if versions else None,
                "again": next(iter(reproductions(here.ws, model.id)), None),
            }
        )
    return {
        "lines": lines,
        "cycles": own,
        "left_out": len(known) - len(found),
        "everything": everything,
        "limit": NEWEST,
        "spec": here.project.spec.training,
        "primary": here.project.spec.evaluation.primary,
    }
