"""Runs of pipelines: the list, one with its graph, one step with all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.requests import Request

from loopline.base.errors import LooplineError
from loopline.interfaces.ui import words
from loopline.interfaces.ui.context import Here
from loopline.interfaces.ui.layers import Shape, depths, place
from loopline.interfaces.ui.states import Said
from loopline.training.pipeline.nouns import PipelineRun
from loopline.training.pipeline.verbs import pipeline_log, pipeline_run, pipeline_runs, pipeline_step

A_PAGE = 50
LOG_TAIL = 20_000
"""Characters of a log on a page, from its end."""
AGAIN_S = 2
ACROSS = 7
"""Layers that fit beside each other on a wide screen."""
BOX, GAP = (152.0, 50.0), (26.0, 16.0)
NAME = 19
"""Characters of a step's name that fit into its box."""

STATES = {
    "done": Said("ran", "good"),
    "found": Said("found", "quiet"),
    "running": Said("running", "busy"),
    "waiting": Said("waiting", "quiet"),
    "failed": Said("failed", "bad"),
    "killed": Said("killed", "bad"),
    "not run": Said("not run", "no"),
}
RUN_STATES = {**STATES, "done": Said("done", "good")}


@dataclass(frozen=True, slots=True)
class Box:
    """One step as it is drawn."""

    x: float
    y: float
    name: str
    said: Said
    took: str
    href: str
    title: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """The graph of a run, in units of the drawing."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[tuple[str, str], ...]
    """SVG path, and what it says."""


def listing(here: Here, request: Request) -> dict[str, Any]:
    """What does not change of the list."""
    return {"wanted": request.query_params.get("pipeline"), "declared": here.project.spec.training.pipeline}


def live_listing(here: Here, request: Request) -> dict[str, Any]:
    """Runs, newest first; of one pipeline where it is asked for. Asks again while one of them goes on."""
    wanted = request.query_params.get("pipeline")
    found = pipeline_runs(here.ws, pipeline=wanted, limit=A_PAGE + 1)
    shown = [(run, here.known(PipelineRun, run["id"])) for run in found[:A_PAGE]]
    return {
        "runs": [{**run, "said": _run_said(run), "seconds": ended.seconds if ended else None} for run, ended in shown],
        "more": len(found) > A_PAGE,
        "limit": A_PAGE,
        "wanted": wanted,
        "declared": here.project.spec.training.pipeline,
        "again_s": AGAIN_S if any(run["state"] == "running" for run, _ in shown) else None,
    }


def frame(here: Here, request: Request) -> dict[str, Any]:
    """What does not change of a run."""
    return {"run": pipeline_run(here.ws, run=request.path_params["run"])}


def live(here: Here, request: Request) -> dict[str, Any]:
    """One run with its graph; asks again while it goes on."""
    run = pipeline_run(here.ws, run=request.path_params["run"])
    ended = here.known(PipelineRun, run["id"])
    lines = [{**step, "said": STATES[step["state"]], "href": _href(run["id"], step["step"])} for step in run["steps"]]
    return {
        "run": run,
        "said": _run_said(run),
        "steps": lines,
        "counts": {state: n for state in STATES if (n := sum(step["state"] == state for step in lines))},
        "cpu_seconds": sum(step.get("cpu_seconds", 0.0) for step in lines if step["state"] == "done"),
        "seconds": ended.seconds if ended else None,
        "ended": ended,
        "drawing": drawing(run["id"], run["steps"]),
        "box": BOX,
        "needs": needs,
        "duration": duration,
        "states": STATES,
        "again_s": AGAIN_S if run["state"] == "running" else None,
    }


def step(here: Here, request: Request) -> dict[str, Any]:
    """One step of a run; asks again while it runs."""
    run, name = request.path_params["run"], request.path_params["step"]
    found = pipeline_step(here.ws, run=run, step=name)
    try:
        log, lost = pipeline_log(here.ws, run=found["run"], step=name), None
    except LooplineError as error:
        log, lost = "", error.what
    whole = pipeline_run(here.ws, run=found["run"])
    return {
        "step": found,
        "said": STATES[found["state"]],
        "needs": needs(found["needs"]),
        "duration": duration,
        "log": log[-LOG_TAIL:],
        "cut": max(0, len(log) - LOG_TAIL),
        "lost": lost,
        "read_by": [one["step"] for one in whole["steps"] if name in one["after"]],
        "link": lambda other, of=None: _href(of or found["run"], other),
        "running": whole["state"] == "running",
        "again_s": AGAIN_S if whole["state"] == "running" and found["state"] in ("running", "waiting") else None,
    }


def step_frame(here: Here, request: Request) -> dict[str, Any]:
    """What does not change of a step."""
    run = pipeline_run(here.ws, run=request.path_params["run"])
    return {"run": run, "name": request.path_params["step"]}


def needs(asked: Mapping[str, Any]) -> list[str]:
    """What a step asks for, in words."""
    told = [words.plural(asked["gpus"], "GPU")] if asked.get("gpus") else []
    told += [f"{asked['cpus']:g} CPU{'' if asked['cpus'] == 1 else 's'}"] if "cpus" in asked else []
    told += [f"{asked['memory'] / 2**30:.3g} GiB of memory"] if asked.get("memory") else []
    told += [f"at most {words.span(asked['timeout_s'])}"] if asked.get("timeout_s") else []
    told += [words.plural(asked["retries"], "retry", "retries")] if asked.get("retries") else []
    told += [f"variable {name}" for name in asked.get("env", ())]
    told += [f"file {name}" for name in asked.get("extra_files", ())]
    told += ["runs each time"] if asked.get("volatile") else []
    return told + (["this kind of processor"] if asked.get("bitwise") else [])


def drawing(run: str, steps: list[dict[str, Any]]) -> Drawing:
    """The graph of a run: from left to right, or downwards where it is too long for that."""
    layer_of = depths({one["step"]: one["after"] for one in steps})
    by_layer = list(layer_of.values())
    long, widest = 1 + max(by_layer, default=-1), max((by_layer.count(at) for at in set(by_layer)), default=0)
    edges = [(before, one["step"]) for one in steps for before in one["after"] if before in layer_of]
    placing = place(layer_of, edges, Shape(BOX, GAP, down=long > ACROSS and widest < long))
    found = {one["step"]: one for one in steps}
    boxes = tuple(_box(run, found[name], corner) for name, corner in placing.corners.items())
    lines = tuple((placing.paths[ends], f"{ends[1]} reads {ends[0]}") for ends in edges)
    return Drawing(placing.width, placing.height, boxes, lines)


def _box(run: str, step: dict[str, Any], corner: tuple[float, float]) -> Box:
    said = STATES[step["state"]]
    took = duration(step["seconds"]) if step["state"] == "done" else ""
    why = step["error"] or "; ".join(step.get("why", ()))
    title = f"{step['step']}: {said.words}" + (f" in {took}" if took else "") + (f", {why}" if why else "")
    return Box(*corner, step["step"], said, took, _href(run, step["step"]), title)


def duration(seconds: float) -> str:
    """A length of time as short as it can be told."""
    if seconds < 0.01:
        return "< 0.01 s"
    return f"{seconds:.2g} s" if seconds < 10 else words.span(seconds)


def _run_said(run: Mapping[str, Any]) -> Said:
    return RUN_STATES.get(run["state"], Said(run["state"], "quiet"))


def _href(run: str, step: str) -> str:
    return f"/training/pipelines/{quote(run)}/{quote(step)}"
