"""Searches for params: the list, and one with its trials, drawings, and what came of the best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.requests import Request

from loopline import training
from loopline.base.errors import LooplineError
from loopline.base.figures import figures
from loopline.evaluation.nouns import Report
from loopline.features.nouns import TrainingSet
from loopline.interfaces.ui.context import Here
from loopline.interfaces.ui.runs.cells import minus
from loopline.interfaces.ui.states import Said
from loopline.registry.nouns import Version
from loopline.training.nouns import Model, Search, Trial
from loopline.training.searching.choice import best
from loopline.training.searching.plots import drawn

A_PAGE = 50
AGAIN_S = 5
"""While a search goes on: its drawings take longer to make than a line of text."""
SHOWN = 200
"""Trials on a page."""
STATES = {"complete": Said("complete", "good"), "pruned": Said("ended early", "quiet"), "failed": Said("failed", "bad")}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the trials, and the address that orders by it."""

    name: str
    kind: str
    """`trial`, `value`, `param` or `took`."""
    href: str
    order: str | None
    """`ascending` or `descending` where the trials stand by it."""


def listing(here: Here, request: Request) -> dict[str, Any]:
    """The frame of the list."""
    return {}


def live_listing(here: Here, request: Request) -> dict[str, Any]:
    """Searches, newest first, each with its best trial; asks again while one of them goes on."""
    found: list[Search] = training.searches(here.ws)
    lines = []
    for search in found[:A_PAGE]:
        trials = here.ws.records.find(Trial, search=search.id)
        lines.append({"search": search, "counts": _counts([one.state for one in trials]), "best": best(search, trials)})
    return {
        "lines": lines,
        "more": len(found) > A_PAGE,
        "limit": A_PAGE,
        "declared": here.project.spec.training.search is not None,
        "again_s": AGAIN_S if any(_goes_on(here, one.run) for one in found[:A_PAGE]) else None,
    }


def search(here: Here, request: Request) -> dict[str, Any]:
    """The frame of one search."""
    return {"search": here.ws.records.get(Search, request.path_params["id"])}


def live(here: Here, request: Request) -> dict[str, Any]:
    """One search; `?by=param:rate&down=1` orders its trials. Asks again while it goes on."""
    declared = here.project.spec.training.search
    pick = declared.pick if declared is not None else "first"
    found = training.search_result(here.ws, request.path_params["id"], pick=pick)
    told, trials = found["search"], found["trials"]
    params = sorted(told["declared"]["params"])
    by, down = request.query_params.get("by", ""), request.query_params.get("down") == "1"
    worded = {name for name in params if any(isinstance(one["params"].get(name), str) for one in trials)}
    ordered = _ordered(trials, told, by, down)
    chosen = next((one for one in trials if one["number"] == found["best"]), None)
    several = len(told["objectives"]) > 1
    kinds = ("history", *(("pareto",) if several else ()), "importance", "parallel", "slices")
    return {
        "search": told,
        "found": found,
        "params": params,
        "columns": _columns(told, params, by, down, worded),
        "worded": worded,
        "said": _said(trials, len(told["objectives"])),
        "trials": ordered[:SHOWN],
        "limit": SHOWN,
        "counts": _counts([one["state"] for one in trials]),
        "states": STATES,
        "marks": {**dict.fromkeys(found["front"] if several else (), "front"), found["best"]: "best"},
        "best": chosen,
        "pick": pick,
        "used": here.known(TrainingSet, told["training_set"]),
        "models": _models(here, found["models"]),
        "drawings": {kind: Markup(drawn(found, kind)) for kind in kinds if found["history"]},
        "logged": here.logged(told["run"]),
        "again_s": AGAIN_S if _goes_on(here, told["run"]) else None,
        "ranges": {name: _range(space) for name, space in told["declared"]["params"].items()},
    }


def _models(here: Here, made: list[tuple[int, str]]) -> list[dict[str, Any]]:
    """Models of its trials with the report and the version of each."""
    lines = []
    for number, id in made:
        reports = here.ws.records.find(Report, limit=1, model=id)
        versions = [v for v in here.ws.records.find(Version, model=id) if v.name == here.name]
        model = here.known(Model, id)
        lines.append(
            {
                "trial": number,
                "model": model,
                "report": reports[0] if reports else None,
                "version": versions[0] if versions else None,
            }
        )
    return [line for line in lines if line["model"] is not None]


def _counts(states: list[str]) -> dict[str, int]:
    return {state: states.count(state) for state in STATES if state in states}


def _said(trials: list[dict[str, Any]], objectives: int) -> dict[int, list[str]]:
    """By trial what it came to; two look equal only where they are."""
    ended = [one for one in trials if one["values"]]
    columns = [figures([one["values"][at] for one in ended]) for at in range(objectives)]
    return {one["number"]: [minus(column[at] or "") for column in columns] for at, one in enumerate(ended)}


def _columns(search: dict[str, Any], params: list[str], by: str, down: bool, worded: set[str]) -> list[Column]:
    named = [("trial", "trial", "Trial")]
    named += [(f"value:{at}", "value", name) for at, (name, _) in enumerate(search["objectives"])]
    named += [(f"param:{name}", "word" if name in worded else "param", name) for name in params]
    named.append(("took", "took", "Took"))
    return [
        Column(
            words,
            kind,
            "?" + urlencode({"by": key, **({"down": 1} if key == by and not down else {})}),
            ("descending" if down else "ascending") if key == by else None,
        )
        for key, kind, words in named
    ]


def _ordered(trials: list[dict[str, Any]], search: dict[str, Any], by: str, down: bool) -> list[dict[str, Any]]:
    """Trials as asked; by default the best first, then those that did not end, by number."""
    kind, _, name = by.partition(":")
    if kind not in ("trial", "took", "param", "value"):
        kind, name, down = "value", "0", search["objectives"][0][1] == "maximize"
    placed = [(_place(_told(one, kind, name)), one) for one in trials]
    there = [(place, one) for place, one in placed if place is not None]
    ordered = [one for _, one in sorted(there, key=lambda pair: pair[0], reverse=down)]
    return ordered + [one for place, one in placed if place is None]


def _told(trial: dict[str, Any], kind: str, name: str) -> Any:
    """What a trial has in a column."""
    match kind:
        case "trial":
            return trial["number"]
        case "took":
            return trial["seconds"]
        case "param":
            return trial["params"].get(name)
    values = trial["values"]
    return values[int(name)] if name.isdecimal() and int(name) < len(values) else None


def _place(value: Any) -> tuple[int, float, str] | None:
    """Numbers before words; null for what has no place."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (0, float(value), "") if math.isfinite(value) else None
    return None if value is None else (1, 0.0, str(value))


def _goes_on(here: Here, run: str) -> bool:
    """Whether the run log says that a search has not ended."""
    try:
        return here.ws.runs.run(run).status == "RUNNING"
    except LooplineError:
        return False


def _range(space: dict[str, Any]) -> str:
    """What a param may be, in words."""
    if choices := space.get("choices"):
        return ", ".join(str(one) for one in choices)
    told = f"{space['low']:g} to {space['high']:g}" if space.get("low") is not None else ""
    more = [word for word, key in (("whole", "int_"), ("by its logarithm", "log")) if space.get(key)]
    more += [f"in steps of {space['step']:g}"] if space.get("step") else []
    return ", ".join([told, *more])
