"""The pages of a project: its route table."""

from __future__ import annotations

import functools

from starlette.requests import Request
from starlette.routing import BaseRoute

from loopline.interfaces.ui import figures, states
from loopline.interfaces.ui.actions import ACTIONS, Act, form_of
from loopline.interfaces.ui.context import Here
from loopline.interfaces.ui.frame import Do, Frame
from loopline.interfaces.ui.pages import PAGES, PARTS, SERIES
from loopline.interfaces.ui.runs import site as runs
from loopline.interfaces.ui.runs.context import Log
from loopline.loop.project import Project
from loopline.workspace import Workspace

NAVIGATION = (
    ("/", "Now"),
    ("/framing", "Framing"),
    ("/data", "Data"),
    ("/features", "Features"),
    ("/training", "Training"),
    ("/runs", "Runs"),
    ("/traces", "Traces"),
    ("/evaluation", "Evaluation"),
    ("/registry", "Registry"),
    ("/serving", "Serving"),
    ("/monitoring", "Monitoring"),
    ("/retraining", "Retraining"),
    ("/lineage", "Lineage"),
    ("/worth", "Worth it?"),
)


def project_routes(ws: Workspace, project: Project) -> list[BaseRoute]:
    """Pages, live parts, chart figures, static files, and the page for what is not there."""
    here, log = Here(ws, project), Log(ws, project)
    parts = {path: (template, functools.partial(show, here)) for path, (template, show) in PARTS.items()}
    value = project.spec.framing.value
    frame = Frame(
        lambda: here.now,
        parts | runs.parts(log),
        figures=figures,
        states=states,
        navigation=NAVIGATION,
        brand=project.name,
        project=project,
        currency=value.currency if value else "",
    )
    made: list[BaseRoute] = [
        frame.page(path, template, functools.partial(show, here)) for path, template, show in PAGES
    ]
    made += runs.routes(frame, log)
    made += [frame.action(path, _doing(here, act)) for path, act in ACTIONS]
    made += frame.live()
    made += [frame.series(path, functools.partial(show, here)) for path, show in SERIES]
    return made + frame.rest([path for path, _, _ in PAGES] + [path for path, _, _ in runs.PAGES])


def _doing(here: Here, act: Act) -> Do:
    def do(request: Request, body: bytes) -> str:
        form = form_of(body, request.headers.get("content-type", ""))
        return act(here, request.path_params, form)

    return do
