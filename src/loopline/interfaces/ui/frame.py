"""How a page is made, whatever it shows: templates filled, errors told in words, parts that ask again, bytes."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from anyio import to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from loopline.base.errors import LooplineError, install
from loopline.interfaces.ui import words

FOLDER = Path(__file__).parent
LIVE_S = 5
STATUS = {"invalid": 422, "not_found": 404, "conflict": 409, "denied": 403, "unavailable": 503}

Show = Callable[[Request], dict[str, Any]]
"""What a template is filled with; `status` is that of the answer, `again_s` says how often a part asks again."""
Serve = Callable[[Request], Response]
Do = Callable[[Request, bytes], str]
"""From a form to the page that is shown next."""


class Frame:
    """The pages of one site.

    Parameters
    ----------
    now : callable
        The time that pages show.
    parts : mapping
        Address of a part that asks again by itself, to its template and what it shows.
    given : Any
        What every template is given besides.
    """

    def __init__(self, now: Callable[[], datetime], parts: Mapping[str, tuple[str, Show]], **given: Any) -> None:
        self._now, self._parts = now, parts
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(words.FILTERS)
        self._templates.globals.update(asset=_asset, install=install, **given)

    def page(self, path: str, template: str, show: Show) -> Route:
        """A page at a path."""

        def page(request: Request) -> Response:
            context = show(request)
            status = context.pop("status", 200)
            return HTMLResponse(self.render(template, request, **context), status_code=status)

        return self.answer(path, page)

    def answer(self, path: str, serve: Serve) -> Route:
        """What is no page, but whose errors are told on one."""

        @functools.wraps(serve)
        def told(request: Request) -> Response:
            try:
                return serve(request)
            except LooplineError as error:
                return self._wrong(request, error)

        return Route(path, told, methods=["GET"])

    def action(self, path: str, act: Do) -> Route:
        """Do what a form asks, then show the page that follows."""

        async def done(request: Request) -> Response:
            body = await request.body()
            try:
                place = await to_thread.run_sync(act, request, body)
            except LooplineError as error:
                return self._wrong(request, error)
            return RedirectResponse(place, status_code=303)

        return Route(path, done, methods=["POST"])

    def series(self, path: str, show: Show) -> Route:
        """The figures of a chart."""

        @functools.wraps(show)
        def series(request: Request) -> Response:
            return JSONResponse(show(request))

        return Route(path, series, methods=["GET"])

    def live(self) -> list[BaseRoute]:
        """The parts that ask again."""
        return [Route(path, self._part(path), methods=["GET"]) for path in self._parts]

    def rest(self, paths: Iterable[str]) -> list[BaseRoute]:
        """Static files, and the page for what is not there beside and below some paths."""
        made: list[BaseRoute] = [Mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")]
        made.append(Route("/{page}", self._missing, methods=["GET"]))
        below = dict.fromkeys(f"/{path.split('/')[1]}" for path in paths if path != "/")
        return made + [Route(path + "/{page:path}", self._missing, methods=["GET"]) for path in below]

    def render(self, template: str, request: Request, **context: Any) -> str:
        """A template filled with what every page shows and with `context`."""
        shared = {"path": request.url.path, "now": self._now(), "part": functools.partial(self._live, request)}
        return self._templates.get_template(template).render(**shared, **context)

    def _part(self, path: str) -> Callable[[Request], Response]:
        """A part of a page that asks again by itself: no content while nothing has changed."""

        def part(request: Request) -> Response:
            try:
                inside, digest, again_s = self._inside(request, path)
            except LooplineError as error:
                inside, digest, again_s = Markup("<p>{}</p>").format(error.what), "", None
            if again_s is not None and request.query_params.get("seen") == digest:
                return Response(status_code=204)
            answer = HTMLResponse(_wrapped(_address(path, request), inside, digest, again_s))
            if again_s is None:
                answer.headers["HX-Reswap"] = "outerHTML"  # a new element asks no more; a changed one would
            return answer

        return part

    def _live(self, request: Request, path: str) -> Markup:
        """A part within its page; a path such as `/live/runs/{id}` is filled from the path of the page."""
        inside, digest, again_s = self._inside(request, path)
        return _wrapped(_address(path, request), inside, digest, again_s)

    def _inside(self, request: Request, path: str) -> tuple[Markup, str, float | None]:
        """What a part shows, its digest, and after how long it asks again: never where `again_s` is null."""
        template, show = self._parts[path]
        context = show(request)
        again_s = context.pop("again_s", LIVE_S)
        text = self.render(template, request, **context)
        return Markup(text), hashlib.sha256(text.encode()).hexdigest()[:16], again_s

    def _missing(self, request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            raise HTTPException(404)
        return self._problem(
            request, f"There is no page {request.url.path}", "no page has that address", "open /", status=404
        )

    def _wrong(self, request: Request, error: LooplineError) -> Response:
        return self._problem(request, error.what, error.why, error.fix, STATUS.get(error.code, 500))

    def _problem(self, request: Request, what: str, why: str, fix: str, status: int) -> Response:
        text = self.render("problem.html", request, what=what, why=why, fix=fix, status=status)
        return HTMLResponse(text, status_code=status)


def _address(path: str, request: Request) -> str:
    """The address of a part: its path with the values that the path of the page holds, and what the page was asked."""
    given = request.path_params
    asked = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "seen"])
    found = re.sub(r"\{(\w+)(:\w+)?\}", lambda name: quote(str(given[name[1]])), path)
    return f"{found}?{asked}&" if asked else f"{found}?"


def _wrapped(address: str, inside: Markup, digest: str, again_s: float | None) -> Markup:
    """A part with the request that asks for it again; without one where nothing changes any more."""
    if again_s is None:
        return Markup('<div class="live">{}</div>').format(inside)
    frame = '<div class="live" hx-get="{}seen={}" hx-trigger="every {}s" hx-swap="outerMorph">{}</div>'
    return Markup(frame).format(address, digest, again_s, inside)


@functools.cache
def _asset(name: str) -> str:
    """The address of a static file, with its digest so that a new one is fetched."""
    path = FOLDER / "static" / name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8] if path.exists() else "missing"
    return f"/static/{name}?v={digest}"
