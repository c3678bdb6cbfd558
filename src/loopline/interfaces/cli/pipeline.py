"""Pipelines: run one, see how its steps stand, why one ran, what it printed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from loopline.base.sizes import size_text
from loopline.base.spec import length_text
from loopline.interfaces.cli.answer import FAILED, OK, Answer, table
from loopline.interfaces.cli.progress import Progress
from loopline.interfaces.cli.session import HERE, Folder, Json

if TYPE_CHECKING:
    from loopline.compute import Place
    from loopline.training.pipeline.declare import Pipeline
    from loopline.training.pipeline.runner import Event
    from loopline.workspace import Workspace

Ref = Annotated[str | None, Parameter(help="`file.py:name`; training.pipeline of loop.yaml by default.")]
Params = Annotated[
    list[str] | None, Parameter("--param", negative="", help="`name=value`, for each param of the pipeline.")
]
Seed = Annotated[int, Parameter("--seed", help="Seeds Python and NumPy before each step.")]
Run = Annotated[str, Parameter(help="Id of a run, or the first characters of it.")]


def run(
    ref: Ref = None,
    *,
    param: Params = None,
    seed: Seed = 0,
    on: Annotated[
        str | None,
        Parameter("--on", help="Where: here, threads:4, processes:4, ray, ray://host:port; loop.yaml by default."),
    ] = None,
    again: Annotated[
        list[str] | None, Parameter("--again", negative="", help="Step to run although its answer is known.")
    ] = None,
    verify: Annotated[
        bool, Parameter("--verify", negative="", help="Run all steps; tell modules that keys do not know of.")
    ] = False,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Run the steps that must run, and find the answers of the others.

    Ends with 1 when a step failed. Started again after it was killed, it goes on where it was.
    """
    from loopline.base.nouns import to_doc
    from loopline.training.pipeline import verbs
    from loopline.training.pipeline.nouns import StepRun

    with Progress(quiet=json) as progress:
        ws, root, chosen, place = _opened(project, ref, on)
        told = _Told(progress, quiet=json)
        made = verbs.run_pipeline(
            ws,
            root,
            chosen,
            params=_pairs(param),
            seed=seed,
            place=place,
            watch=told,
            verify=verify,
            again=again or (),
        )
    steps = [ws.records.get(StepRun, id) for id in made.steps.values()]
    rows = [
        (
            step.step,
            "found" if step.cached else length_text(step.seconds),
            "-" if step.device == "cpu" else step.device,
            "; ".join(step.why) or "-",
        )
        for step in steps
    ]
    rows += [(name, "failed", "-", error.splitlines()[0]) for name, error in made.failed.items()]
    rows += [
        (name, "not run", "-", "a step it reads failed") for name in made.after if name not in {r[0] for r in rows}
    ]
    text = [table(rows, head=("step", "took", "device", "why"))]
    text += [f"\n{name}:\n{error}" for name, error in made.failed.items()]
    missed = {file for step in steps for file in step.missed}
    text += [f"\n{step.step} loaded {', '.join(step.missed)}: add it to extra_files" for step in steps if step.missed]
    if verify and not missed and made.state == "done":
        text.append("\nevery module that was loaded is part of a key")
    text.append(
        f"\nrun {made.id[:18]} of {made.pipeline} is {made.state} after {length_text(made.seconds)} on {made.executor}"
    )
    answer = verbs.returned(ws, made)
    if answer is not None:
        text.append("\n" + _answer_lines(answer))
    doc = {**to_doc(made), "ran": [step.step for step in steps if not step.cached], "returned": answer}
    hints = (
        (f"loopline pipeline logs {made.id[:18]} {next(iter(made.failed))}",)
        if made.failed
        else (f"loopline pipeline show {made.id[:18]}",)
    )
    return Answer("\n".join(text), doc, hints, code=FAILED if made.failed else OK)


def status(
    ref: Ref = None,
    *,
    limit: Annotated[int, Parameter("--limit", help="How many runs.")] = 20,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """List runs of pipelines, newest first: those that go on, were killed, failed or are done."""
    from loopline.training.pipeline import verbs

    ws, _ = _workspace(project)
    found = verbs.pipeline_runs(ws, pipeline=ref, limit=limit)
    if not found:
        return Answer("no pipeline has run here", [], ("loopline pipeline run",))
    rows = [
        (
            item["id"][:18],
            item["started_at"][:19],
            item["pipeline"],
            item["state"],
            f"{item['finished']}/{item['total']}",
        )
        for item in found
    ]
    head = ("run", "started", "pipeline", "state", "steps")
    return Answer(table(rows, head=head), found, (f"loopline pipeline show {found[0]['id'][:18]}",))


def show(
    run: Run,
    step: Annotated[str | None, Parameter(help="Name of a step; all by default.")] = None,
    *,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Show the steps of a run: what each reads, whether it ran and why; of one step all that is known."""
    from loopline.training.pipeline import verbs

    ws, _ = _workspace(project)
    if step is not None:
        one = verbs.pipeline_step(ws, run=run, step=step)
        lines = [
            ("state", one["state"]),
            ("reads", ", ".join(f"{name}: {' and '.join(of)}" for name, of in one["reads"].items()) or "-"),
            ("asks for", ", ".join(f"{name} {value}" for name, value in one["needs"].items()) or "-"),
            ("why", one["error"] or "; ".join(one.get("why", ())) or "-"),
            (
                "took",
                f"{length_text(one['seconds'])}, {length_text(one['cpu_seconds'])} of CPU" if "seconds" in one else "-",
            ),
            ("answer", _answer(one["answer"]) if one["answer"] else "-"),
            ("found in", one["found_in"] or "-"),
        ]
        hint = f"loopline pipeline logs {one['run'][:18]} {step}"
        return Answer(table(lines, head=(step, "")), one, (hint,))
    found = verbs.pipeline_run(ws, run=run)
    rows = [
        (
            step["step"],
            step["state"],
            ", ".join(step["after"]) or "-",
            length_text(step["seconds"]) if step["state"] == "done" else "-",
            step["error"] or "; ".join(step.get("why", ())) or "-",
        )
        for step in found["steps"]
    ]
    head = f"{found['pipeline']} is {found['state']}; started {found['started_at'][:19]} on {found['executor']}"
    text = f"{head}\n\n{table(rows, head=('step', 'state', 'reads', 'took', 'why'))}"
    first = found["steps"][0]["step"]
    return Answer(text, found, (f"loopline pipeline logs {found['id'][:18]} {first}",))


def why_rerun(
    step: Annotated[str, Parameter(help="Name of the step.")],
    ref: Ref = None,
    *,
    param: Params = None,
    seed: Seed = 0,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Tell whether a step would run now, which part changed, and why it ran the last time. Nothing is run."""
    from loopline.training.pipeline import verbs
    from loopline.training.pipeline.plan import FIRST

    ws, root, chosen, _ = _opened(project, ref, None)
    found = verbs.why_rerun(ws, root, chosen, step=step, params=_pairs(param), seed=seed)
    verdict = {True: "would run now:", False: "would not run now: its answer is known", None: "may run now:"}
    lines = [f"{step} {verdict[found['would_run']]}", *(f"  {line}" for line in found["why"])]
    if found["last"]:
        at, why = found["last"]["started_at"][:19], found["last"]["why"]
        if why == [FIRST]:
            lines.append(f"it ran once, at {at}")
        else:
            lines += [f"it ran last at {at}, because then:", *(f"  {line}" for line in why)]
    words = ["loopline pipeline run", *([shlex.quote(ref)] if ref else [])]
    words += [f"--param {shlex.quote(one)}" for one in param or ()] + ([f"--seed {seed}"] if seed else [])
    words += [f"--project {shlex.quote(str(project))}"] if project != HERE else []
    return Answer("\n".join(lines), found, (" ".join(words),))


def logs(
    run: Run,
    step: Annotated[str, Parameter(help="Name of the step.")],
    *,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Print what a step printed; what it has printed so far while it runs."""
    from loopline.training.pipeline import verbs

    ws, _ = _workspace(project)
    text = verbs.pipeline_log(ws, run=run, step=step)
    return Answer(text or f"{step} printed nothing", {"run": run, "step": step, "log": text})


def _answer_lines(told: dict[str, Any]) -> str:
    """What a pipeline returned, with the parts of a tuple or dict below each other."""
    lines = [f"it returned {_answer(told)}", *(f"  {name}: {_answer(part)}" for name, part in told.get("parts", ()))]
    return "\n".join([*lines, f"  and {told['more']} more"] if told.get("more") else lines)


def _answer(told: dict[str, Any]) -> str:
    text = f" {told['text']}" if told.get("text") else ""
    size = f", {size_text(told['bytes'])}" if told.get("bytes") is not None else ""
    return f"{told['kind']}{text}{size}"


class _Told:
    """Events as lines on standard error: what steps print, and how far the run is."""

    def __init__(self, progress: Progress, *, quiet: bool) -> None:
        self._progress, self._quiet = progress, quiet

    def __call__(self, event: Event) -> None:
        if event.kind == "printed":
            self._line(f"{event.step} | {event.text}")
        elif event.kind in ("again", "failed", "waiting"):
            self._line(f"{event.step or 'pipeline'}: {event.text}")
        else:
            self._progress(f"{event.step}: {event.kind}", event.done, event.total)

    def _line(self, text: str) -> None:
        if not self._quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


def _workspace(folder: Path) -> tuple[Workspace, Path]:
    from loopline.training.pipeline.at_hand import around
    from loopline.workspace import FOLDER, create_workspace

    root = around(folder)
    return create_workspace(root / FOLDER), root


def _opened(folder: Path, ref: str | None, on: str | None) -> tuple[Workspace, Path, Pipeline, Place]:
    """The workspace, the project, the pipeline, and where its steps run: as asked, as the machine, as the page says."""
    from loopline.base import settings
    from loopline.base.errors import Invalid
    from loopline.compute import Place
    from loopline.loop.project import FILE, load
    from loopline.training.pipeline import verbs

    ws, root = _workspace(folder)
    spec = load(root).spec.training if (root / FILE).is_file() else None
    named = ref or (spec.pipeline if spec is not None else None)
    if named is None:
        raise Invalid(
            "no pipeline is named",
            why="loop.yaml has no training.pipeline" if spec else f"{root} has no {FILE} that could name it",
            fix="loopline pipeline run flow.py:main",
        )
    given = on or settings.compute_place()
    if given:
        place = Place.parse(given)
    elif spec is not None:
        compute = spec.compute
        place = Place(compute.executor, compute.address, compute.workers)
    else:
        place = Place()
    return ws, root, verbs.find(root, named), place


def _pairs(given: list[str] | None) -> dict[str, Any]:
    from loopline.base.errors import Invalid

    made: dict[str, Any] = {}
    for item in given or ():
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier():
            raise Invalid(f"--param {item} cannot be read", why="a param is name=value", fix="write --param rows=100")
        made[name] = value
    return made
