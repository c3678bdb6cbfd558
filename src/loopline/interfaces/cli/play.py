"""Commands that play, serve and replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.progress import Progress
from loopline.interfaces.cli.session import HERE, Folder, Json, moment_of, session
from loopline.interfaces.cli.session import project as project_in

POLICIES = ("never", "quarterly", "monthly", "loop")


def demo(
    source: Annotated[Path, Parameter(help="A project with a scenario.yaml.")] = Path("examples/flights"),
    *,
    out: Annotated[Path, Parameter(help="Folder for the workspace and summary.json.")] = Path("demo"),
    seed: Annotated[int, Parameter(help="Moves the dates of the faults and the training seed.")] = 0,
    ui: Annotated[bool, Parameter(help="Serve the pages afterwards.")] = True,
    port: Annotated[int, Parameter(help="Port of the pages; the model answers on the next one.")] = 8400,
    json: Json = False,
) -> Answer | None:
    """Play a project's scenario: release a model, live through the year, meet the faults, tell what happened.

    Example: loopline demo --seed 7
    """
    from loopline.base.settings import headless
    from loopline.interfaces import demo as play
    from loopline.interfaces import serve

    found = project_in(source)
    with Progress(quiet=json) as progress:
        told: dict[str, Any] = play.play(found.root, out, seed, progress)
    answer = Answer(str(told.pop("text", "")) or _policies(told), told, (f"loopline up --project {out}",))
    if json or headless() or not ui:
        return answer
    from loopline.interfaces.cli.answer import show

    show(answer, as_json=False)
    serve.up(out, port=port)
    return None


def up(
    *,
    project: Folder = HERE,
    port: Annotated[int, Parameter(help="Pages and API; the model answers on the next port.")] = 8400,
    host: Annotated[str, Parameter(help="Address to listen on; others than loopback need a token.")] = "127.0.0.1",
    json: Json = False,
) -> None:
    """Serve the pages and the API on one port, the model on the next, and keep the loop turning.

    Example: loopline up --port 8400
    """
    from loopline.interfaces import serve

    serve.up(project_in(project).check().root, port=port, host=host)


def replay(
    *,
    project: Folder = HERE,
    policy: Annotated[tuple[str, ...], Parameter(help="never, quarterly, monthly or loop; may repeat.")] = POLICIES,
    since: Annotated[str | None, Parameter(help="First day; the first release by default.")] = None,
    until: Annotated[str | None, Parameter(help="Day after the last; the end of the data by default.")] = None,
    json: Json = False,
) -> Answer:
    """Play policies over past data and compare what each would have been worth.

    Example: loopline replay --policy never --policy loop --since 2026-01-01
    """
    import difflib

    from loopline.base.errors import Invalid
    from loopline.loop import replay as past

    for name in policy:
        if name not in POLICIES:
            near = difflib.get_close_matches(name, POLICIES, 1)
            raise Invalid(
                f"there is no policy {name!r}",
                why=f"policies are {', '.join(POLICIES)}",
                fix=f"--policy {near[0] if near else 'loop'}",
            )
    ws, found = session(project, create=True)
    begin, end = (moment_of(text) if text else None for text in (since, until))
    with Progress(quiet=json) as progress:
        told = past.replay(ws, found.check(), tuple(policy), begin, end, progress)
    return Answer(_policies(told), told, ("loopline plan",))


def _policies(told: dict[str, Any]) -> str:
    columns = ("auc", "brier", "calibration_error", "value", "n")
    rows = [
        (name, *(_cell(result.get(column)) for column in columns), _cell(result.get("promotions")))
        for name, result in (told.get("policies") or {}).items()
    ]
    return table(rows, head=("policy", *columns, "promotions")) if rows else "nothing was played"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
