"""Commands that play, serve and replay."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from loopline.base.spec import duration
from loopline.interfaces.cli.answer import Answer, note, show, table
from loopline.interfaces.cli.progress import Progress
from loopline.interfaces.cli.session import HERE, Beside, Folder, Json, moment_of, session
from loopline.interfaces.cli.session import project as project_in

if TYPE_CHECKING:
    from datetime import datetime

    from loopline.workspace import Workspace

FIGURES = ("auc", "brier", "calibration_error", "value")


def demo(
    source: Annotated[Path, Parameter(help="A project with a scenario.yaml.")] = Path("examples/flights"),
    *,
    out: Annotated[Path, Parameter(help="Folder for the workspace and summary.json.")] = Path("demo"),
    seed: Annotated[int, Parameter(help="Moves the dates of the faults and the training seed.")] = 0,
    ui: Annotated[bool, Parameter(help="Serve the pages afterwards.")] = True,
    port: Annotated[int, Parameter(help="Port of the pages; the model answers on the next one.")] = 8400,
    json: Json = False,
) -> Answer | None:
    """Play a project's scenario: release a model, live through the year, meet the faults, tell what happened."""
    from loopline.base.settings import headless
    from loopline.interfaces import demo as play
    from loopline.interfaces import serve

    found = project_in(source)
    with Progress(quiet=json, story=True) as progress:
        told: dict[str, Any] = play.play(found.root, out, seed, progress, port=port)
    answer = Answer(str(told.pop("text", "")), told, (f"loopline up --project {out}",))
    if json or headless() or not ui:
        return answer
    show(answer, as_json=False)
    serve.up(out, port=port, say=_say)
    return None


def up(
    *,
    project: Folder = HERE,
    port: Annotated[int, Parameter(help="Pages and API; the model answers on the next port.")] = 8400,
    workers: Annotated[int, Parameter(help="Processes that answer predictions.")] = 1,
    control_only: Annotated[bool, Parameter(negative="", help="Leave the model's server running at the end.")] = False,
    beside: Beside = False,
    json: Json = False,
) -> None:
    """Serve the pages and the API on one port, the model on the next, and keep the loop turning."""
    from loopline.interfaces import serve

    root = project_in(project).check().root
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if not json:
            _say(line)
        elif len(said) == 2:
            show(Answer("", {"control": f"http://{serve.HOST}:{port}", "port": port, "said": said}), as_json=True)
            sys.stdout.flush()

    serve.up(
        root, port=port, workers=workers, say=say, control_only=control_only, beside=beside, warn=note
    )  # fmt: skip


def replay(
    *,
    project: Folder = HERE,
    policy: Annotated[
        tuple[str, ...], Parameter(negative="", help="never, quarterly, monthly or loop; may repeat.")
    ] = (),
    since: Annotated[str | None, Parameter(help="First day; that of the first release by default.")] = None,
    until: Annotated[str | None, Parameter(help="Day after the last; today by default.")] = None,
    approved_after: Annotated[
        str, Parameter(help="How long a candidate of the loop waits for its signature, for example 2d.")
    ] = "0s",
    json: Json = False,
) -> Answer:
    """Play policies over past data and compare what each would have been worth."""
    from loopline.loop import replay as past

    ws, found = session(project, create=True)
    begin = moment_of(since) if since else _first_release(ws, found.name)
    end = moment_of(until) if until else ws.clock().replace(hour=0, minute=0, second=0, microsecond=0)
    waits = _waits(approved_after)
    with Progress(quiet=json) as progress:
        told = past.replay(
            ws,
            found.check(),
            policies=policy or past.POLICIES,
            since=begin,
            until=end,
            approved_after=waits,
            progress=progress,
        )
    rows = [
        (r.policy, *(_cell(getattr(r.worth, name)) for name in FIGURES), f"{r.promotions}", f"{r.worth.n:,}")
        for r in told
    ]
    doc = {"since": begin, "until": end, "policies": {r.policy: r for r in told}}
    text = table(rows, head=("policy", "AUC", "Brier", "calibration error", "value", "promotions", "rows"))
    return Answer(text, doc, ("loopline plan",))


def _waits(text: str) -> timedelta:
    from loopline.base.errors import Invalid

    try:
        return duration(text)
    except ValueError as error:
        raise Invalid(str(error), why="--approved-after is a length of time", fix="--approved-after 1d") from error


def _first_release(ws: Workspace, name: str) -> datetime:
    from loopline.base.errors import Invalid
    from loopline.registry.nouns import Release

    first = ws.records.find(Release, limit=1, newest_first=False, name=name, alias="production")
    if not first:
        raise Invalid(
            "--since is missing",
            why=f"a replay starts at the first release, and {name} has none yet",
            fix="loopline replay --since 2026-01-01, or first loopline run",
        )
    return first[0].at


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
