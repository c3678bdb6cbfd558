"""The command that makes a model again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer
from loopline.interfaces.cli.session import HERE, Folder, Json, session

if TYPE_CHECKING:
    from loopline.training.nouns import Model, Reproduction
    from loopline.workspace import Workspace

LISTS = ("files", "manifest")
LEVELS = {
    4: "L4: the same bundle, byte by byte",
    3: "L3: the same scores on probe and held-out rows, bit by bit",
    2: "L2: scores within 1e-6",
    1: "L1: every metric inside its interval",
    0: "L0: not reproduced",
}


def reproduce(
    what: Annotated[
        str | None, Parameter(help="Version number or id, alias, or model id; production by default.")
    ] = None,
    *,
    environment: Annotated[
        Literal["present", "fresh"], Parameter(help="As it is here, or installed anew from the recorded list.")
    ] = "present",
    sample: Annotated[
        int | None, Parameter(help="So many versions instead, those that were not made again for longest.")
    ] = None,
    at_least: Annotated[int, Parameter(help="Fail below this level, 0 to 4.")] = 0,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Make a model again from its recorded rows, code, params and seed, and tell how near it comes."""
    from loopline import training
    from loopline.interfaces.cli.answer import FAILED, OK
    from loopline.interfaces.cli.progress import Progress
    from loopline.loop.sampling import reported, sampled

    ws, found = session(project)
    models = [_model(ws, found.name, what)] if sample is None else sampled(ws, found.name, sample)
    made: list[Reproduction] = []
    with Progress(quiet=json) as progress:
        for at, model in enumerate(models):
            progress(f"making model {model.id[:12]} again", at, len(models))
            made.append(
                training.reproduce(
                    ws,
                    model,
                    project=found.root,
                    training=found.spec.training,
                    reported=reported(ws, model),
                    environment=environment,
                )
            )
    lines = [line for one in made for line in _told(one)] or ["no version was made by a training here"]
    code = FAILED if any(one.level < at_least for one in made) else OK
    return Answer("\n".join(lines), made[0] if sample is None else made, ("loopline why",), code=code)


def _model(ws: Workspace, name: str, what: str | None) -> Model:
    from loopline import registry
    from loopline.base.errors import NotFound
    from loopline.training.nouns import Model

    try:
        return ws.records.get(Model, registry.resolve(ws, name, what or "production").model)
    except NotFound:
        if what is None or len(what) < 8:
            raise
        return ws.records.get(Model, what)


def _told(one: Reproduction) -> list[str]:
    lines = [f"model {one.model[:12]}: {LEVELS[one.level]}"]
    if one.error:
        lines += [f"  {line}" for line in one.error.splitlines()[:6]]
    if one.difference:
        lines.append(f"  greatest difference of a score: {one.difference:.3g}")
    where = {"text": "as it was kept", "commit": "from its commit", "project": "as it stands in the project"}
    lines.append(f"  code {where.get(one.code, 'is missing')}; environment {one.environment}; {one.seconds:.1f} s")
    for name, value in one.differs.items():
        lines += [f"  differs: {name} {text}" for text in _pairs(value)]
    return lines


def _pairs(value: Any, key: str = "") -> list[str]:
    if isinstance(value, dict):
        return [f"{key}: {text}" for key, inner in value.items() for text in _pairs(inner, key)]
    if isinstance(value, (list, tuple)) and key in LISTS:
        return [", ".join(str(one) for one in value)]
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return [f"{value[0] if value[0] is not None else 'none'} -> {value[1] if value[1] is not None else 'none'}"]
    return [str(value)]
