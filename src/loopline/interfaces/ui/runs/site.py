"""Which address shows what of runs; and the site that shows nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from loopline.base.clock import SystemClock
from loopline.interfaces.ui.frame import Frame, Serve, Show
from loopline.interfaces.ui.runs import compare, curves, experiments, exports, files, run, spans, table, traces
from loopline.interfaces.ui.runs.context import Log
from loopline.workspace import Workspace, authorise

PERMISSION = "training.runs"
NAVIGATION = (("/experiments", "Experiments"), ("/runs", "Runs"), ("/traces", "Traces"))

PAGES: tuple[tuple[str, str, Callable[[Log, Request], dict[str, Any]]], ...] = (
    ("/experiments", "experiments.html", experiments.page),
    ("/runs", "runs.html", table.page),
    ("/runs/compare", "runs_compare.html", compare.page),
    ("/runs/{id}", "run.html", run.overview),
    ("/runs/{id}/files", "run_files.html", files.page),
    ("/runs/{id}/code", "run_code.html", run.code),
    ("/runs/{id}/environment", "run_environment.html", run.environment),
    ("/runs/{id}/output", "run_output.html", run.output),
    ("/traces", "traces.html", traces.page),
    ("/traces/{id}", "trace.html", spans.page),
)
PARTS: dict[str, tuple[str, Callable[[Log, Request], dict[str, Any]]]] = {
    "/runs/{id}/live": ("live_run.html", run.live),
    "/runs/{id}/heard": ("live_run_output.html", run.heard),
}
SERIES: tuple[tuple[str, Callable[[Log, Request], dict[str, Any]]], ...] = (("/runs/curves.json", curves.figures),)
ANSWERS: tuple[tuple[str, Callable[[Log, Request], Response]], ...] = (
    ("/runs.csv", exports.csv),
    ("/runs.json", exports.json),
    ("/runs/{id}/file", files.download),
)


def runs_routes(ws: Workspace) -> list[BaseRoute]:
    """The pages of runs as a site of its own."""
    log = Log(ws)
    frame = Frame(SystemClock(), parts(log), navigation=NAVIGATION, brand="Runs", project=None)
    return [*routes(frame, log), *frame.live(), *frame.rest([path for path, _, _ in PAGES])]


def routes(frame: Frame, log: Log) -> list[BaseRoute]:
    """Pages, figures of charts, and files."""
    made: list[BaseRoute] = [frame.series(path, _allowed(log, show)) for path, show in SERIES]
    made += [frame.page(path, template, _allowed(log, show)) for path, template, show in PAGES]
    return made + [frame.answer(path, _answered(log, serve)) for path, serve in ANSWERS]


def parts(log: Log) -> dict[str, tuple[str, Show]]:
    """The parts that ask again."""
    return {path: (template, _allowed(log, show)) for path, (template, show) in PARTS.items()}


def _allowed(log: Log, show: Callable[[Log, Request], dict[str, Any]]) -> Show:
    """What a page shows to those who may look at runs."""

    @functools.wraps(show)
    def shown(request: Request) -> dict[str, Any]:
        authorise(log.ws, PERMISSION)
        return show(log, request)

    return shown


def _answered(log: Log, serve: Callable[[Log, Request], Response]) -> Serve:
    @functools.wraps(serve)
    def served(request: Request) -> Response:
        authorise(log.ws, PERMISSION)
        return serve(log, request)

    return served
