"""Reports: the list, and one of them with its verdict first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from loopline import training
from loopline.base.errors import Invalid
from loopline.evaluation.nouns import Report
from loopline.interfaces.ui import figures
from loopline.interfaces.ui.context import Here
from loopline.registry.nouns import Version
from loopline.training.nouns import Model

A_PAGE = 50
Z = 1.96


def reports(here: Here, request: Request) -> dict[str, Any]:
    """Reports of cycles, newest first; with `?all=1` those of replays too."""
    own, everything = here.made_by_cycles("report"), request.query_params.get("all") == "1"
    known = here.ws.records.find(Report)
    found = [r for r in known if everything or r.id in own]
    return {
        "cycles": own,
        "left_out": len(known) - len(found),
        "everything": everything,
        "primary": here.project.spec.evaluation.primary,
        "spec": here.project.spec.evaluation,
        "lines": [
            {"report": report, "model": here.known(Model, report.model), "version": _version(here, report)}
            for report in found[:A_PAGE]
        ],
        "limit": A_PAGE,
    }


def report(here: Here, request: Request) -> dict[str, Any]:
    """One report."""
    id = request.path_params["id"]
    if len(id) < 8:
        raise Invalid(f"{id} is too short for an id", why="8 characters are needed", fix="open /evaluation")
    found = here.ws.records.get(Report, id)
    champions = here.ws.records.find(Version, limit=1, model=found.champion) if found.champion else []
    return {
        "report": found,
        "model": here.known(Model, found.model),
        "version": _version(here, found),
        "champion": champions[0] if champions else None,
        "rows": figures.rows(found, here.project.spec.evaluation.primary),
        "calibration": calibration(found),
        "slices": slices(found),
        "again": next(iter(training.reproductions(here.ws, found.model)), None),
        "failed": [v for v in found.verdicts if not v.passed],
    }


def _version(here: Here, report: Report) -> Version | None:
    found = here.ws.records.find(Version, limit=1, report=report.id)
    return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Dot:
    """One bin of a calibration plot: shares, and the 95 % interval of what was observed."""

    predicted: float
    observed: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a calibration plot shows, on a square from 0 to `top`."""

    dots: tuple[Dot, ...]
    top: float
    ticks: tuple[float, ...]


def calibration(found: Report) -> Calibration | None:
    """The reliability of the scores; null without bins."""
    dots = []
    for bin in found.calibration:
        low, high = wilson(bin["observed"], bin["rows"])
        dots.append(Dot(bin["predicted"], bin["observed"], low, high, int(bin["rows"])))
    if not dots:
        return None
    reach = max(max(d.predicted, d.high) for d in dots)
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if reach <= 5 * s or s == 0.2)
    top = min(1.0, math.ceil(round(reach / step, 6)) * step)
    count = round(top / step)
    return Calibration(tuple(dots), top, tuple(round(i * step, 4) for i in range(count + 1)))


def wilson(share: float, rows: float) -> tuple[float, float]:
    """95 % interval of a share of independent rows (Wilson)."""
    if not rows:
        return 0.0, 1.0
    squared = Z * Z / rows
    middle = (share + squared / 2) / (1 + squared)
    half = Z * math.sqrt(share * (1 - share) / rows + squared / (4 * rows)) / (1 + squared)
    return max(0.0, middle - half), min(1.0, middle + half)


def slices(found: Report) -> dict[str, Any] | None:
    """Lines of the slices table, with one scale for all its small drawings."""
    lines = [line for line in found.slices if line.get("n")]
    if not lines:
        return None
    known = [line[k] for line in lines for k in ("roc_auc", "roc_auc_low", "roc_auc_high") if line.get(k) is not None]
    reach = max(
        (abs(line[k]) for line in lines for k in ("bias", "bias_low", "bias_high") if line.get(k) is not None),
        default=0,
    )
    return {
        "lines": lines,
        "auc_from": math.floor(20 * min(known, default=0.5)) / 20,
        "auc_to": math.ceil(20 * max(known, default=1.0)) / 20,
        "bias_to": max(0.01, math.ceil(100 * reach) / 100),
        "columns": sorted({line["column"] for line in lines}),
    }
