"""Registered models and their versions in the shapes of the protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from loopline.interfaces.mlflow import shapes
from loopline.registry.names import PROTECTED
from loopline.registry.shelf import Entry, Shelf

PRODUCTION, ARCHIVED = "Production", "Archived"
STAGES = ("None", "Staging", PRODUCTION, ARCHIVED)
RELEASED_AS = PROTECTED[0]
"""The alias that the stage Production is another word for."""
SAID = "loopline."
"""Begins the tags that Loopline says itself; no client sets them."""


def millis(at: datetime) -> int:
    """A moment as the protocol has it."""
    return int(at.timestamp() * 1000)


def stage(found: Entry, aliases: Mapping[str, str], were: Iterable[str] = ()) -> str:
    """The stage of a version: where the alias of production points, or what a client said.

    `were` are the versions that were in production once.
    """
    if aliases.get(RELEASED_AS) in found.ids:
        return PRODUCTION
    if found.stage is None and any(one in were for one in found.ids):
        return ARCHIVED
    return found.stage or "None"


def version(found: Entry, aliases: Mapping[str, str], were: Iterable[str] = (), *, source: str) -> dict[str, Any]:
    """A version; `source` is where its files can be read."""
    doc: dict[str, Any] = {
        "name": found.name,
        "version": str(found.number),
        "creation_timestamp": millis(found.created_at),
        "last_updated_timestamp": millis(found.updated_at),
        "user_id": found.author.partition(":")[2],
        "current_stage": stage(found, aliases, were),
        "description": found.description,
        "source": source,
        "run_id": found.run or "",
        "status": "READY",
        "run_link": found.deposit.run_link if found.deposit is not None else "",
        "tags": shapes.tags({**found.tags, **_said(found)}),
        "aliases": sorted(alias for alias, target in aliases.items() if target in found.ids),
    }
    if found.deposit is not None and found.deposit.logged_model is not None:
        doc["model_id"] = found.deposit.logged_model
    if found.version is not None:
        doc["model_metrics"] = [
            {"key": name, "value": value, "timestamp": millis(found.created_at), "step": 0}
            for name, value in found.version.released.items()
            if value is not None
        ]
    return doc


def _said(found: Entry) -> dict[str, str]:
    """What Loopline itself says of a version, as tags."""
    if found.prompt:
        return {}
    said = {SAID + "judged": "true" if found.version is not None else "false"}
    if found.version is not None:
        said[SAID + "report"] = found.version.report
        said[SAID + "bundle"] = found.version.bundle
    if found.deposit is not None:
        said[SAID + "digest"] = found.deposit.digest or "none: its bytes lie elsewhere"
    return said


def model(on: Shelf, latest: list[dict[str, Any]], numbers: Mapping[str, int]) -> dict[str, Any]:
    """A registered model; `numbers` are those of the ids that its aliases point at."""
    return {
        "name": on.name,
        "creation_timestamp": millis(on.created_at),
        "last_updated_timestamp": millis(on.updated_at),
        "description": on.description,
        "latest_versions": latest,
        "tags": shapes.tags(on.tags),
        "aliases": [
            {"alias": alias, "version": str(numbers[target])}
            for alias, target in sorted(on.aliases.items())
            if target in numbers
        ],
    }
