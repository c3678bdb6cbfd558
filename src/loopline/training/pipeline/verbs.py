"""What can be done with a pipeline: run it, look at its runs, ask why a step ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from loopline.base import settings
from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import iso
from loopline.base.nouns import to_doc
from loopline.compute.executor import Place, open_executor
from loopline.training.pipeline import live, loading
from loopline.training.pipeline.answers import in_use
from loopline.training.pipeline.declare import Answer, Graph, Pipeline, answers
from loopline.training.pipeline.describing import described
from loopline.training.pipeline.nouns import PipelineRun, StepRun
from loopline.training.pipeline.plan import LATEST, Plan
from loopline.training.pipeline.runner import RUNS, Runner, Watch
from loopline.training.pipeline.task import FOLDER, store
from loopline.training.pipeline.told import shown, state_of
from loopline.training.pipeline.values import MARK, pack_params, part_of, unpack
from loopline.workspace import Workspace, query, verb


def find(project: Path, ref: str) -> Pipeline:
    """The pipeline that `file.py:name` names, in a project.

    Raises
    ------
    Invalid
        If it is no pipeline.
    """
    found = loading.load(Path(project).resolve(), ref)
    if not isinstance(found, Pipeline):
        raise Invalid(
            f"{ref} is no pipeline",
            why="a pipeline is a function marked @pipeline that calls functions marked @step",
            fix=f"write `from loopline.training.pipeline import pipeline`, and @pipeline above {ref.partition(':')[2]}",
        )
    return found


@verb("training.run_pipeline")
def run_pipeline(
    ws: Workspace,
    project: Path,
    pipeline: Pipeline,
    *,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    place: Place | None = None,
    watch: Watch | None = None,
    verify: bool = False,
    again: Iterable[str] = (),
    errors: dict[str, Exception] | None = None,
) -> PipelineRun:
    """Run the steps of a pipeline that must run, and find the answers of the others.

    Each step is kept as it ends, so a run that was killed goes on where it was
    when it is started again. While one run of a pipeline with the same params is
    going on, a second waits for it, and then finds what it made.

    Parameters
    ----------
    project : Path
        Folder of the code; relative paths are read from there.
    params : mapping, optional
        Params of the pipeline; text is read as their annotations say.
    seed : int
        Seeds Python and NumPy before each step; part of every key.
    place : Place, optional
        Where steps run: `LOOPLINE_COMPUTE`, else here.
    watch : callable, optional
        Told of every `Event`, lines that steps print among them.
    verify : bool
        Run every step again, and record modules it loads that reading its code does not find.
    again : iterable of str
        Steps to run although their answers are known.
    errors : dict, optional
        Takes what steps raised, by step.
    """
    root = Path(project).resolve()
    given = pipeline.params(params or {})
    graph = pipeline.graph(**given)
    wanted = frozenset(graph.nodes if verify else again)
    for name in wanted - set(graph.nodes):
        raise _no_step(name, graph)
    name = name_of(root, pipeline)
    notebook = pipeline.file is None or live.in_notebook()
    shown = {key: str(value) if isinstance(value, Path) else pack_params(value, key) for key, value in given.items()}
    executor = open_executor(place or _place(), ws.root)
    try:
        runner = Runner(
            ws,
            root,
            pipeline=name,
            graph=graph,
            params=shown,
            seed=seed,
            executor=executor,
            watch=watch or _silent,
            verify=verify,
            again=wanted,
        )
        with in_use(ws.root):
            outcome = runner.execute()
    finally:
        executor.close()
    if errors is not None:
        errors |= outcome.errors
    return PipelineRun(
        id=outcome.run,
        pipeline=name,
        params=shown,
        seed=seed,
        state="failed" if outcome.errors else "done",
        steps={step: outcome.steps[step].id for step in graph.nodes if step in outcome.steps},
        after={step: node.after for step, node in graph.nodes.items()},
        failed={step: str(error) for step, error in outcome.errors.items()},
        answers=_returned(graph.returned),
        executor=executor.name,
        source="notebook" if notebook else "file",
        commit=_commit(root),
        started_at=outcome.started_at,
        seconds=outcome.seconds,
        resumes=outcome.resumes,
        tags={"loopline.source": "notebook"} if notebook else {},
    )


@query("training.pipeline_runs")
def pipeline_runs(ws: Workspace, *, pipeline: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
    """Runs of pipelines, newest first: those that go on, were killed, failed or are done.

    Parameters
    ----------
    pipeline : str, optional
        As `file.py:name`; all by default.
    """
    wanted = {} if pipeline is None else {"pipeline": pipeline}
    return [
        {
            "id": row.id,
            "state": state_of(row),
            **shown(row.doc),
            "total": len(row.doc["after"]),
            "finished": len(row.doc["steps"]),
        }
        for row in ws.records.last_rows(RUNS, limit=limit, **wanted)
    ]


@query("training.pipeline_run")
def pipeline_run(ws: Workspace, *, run: str) -> dict[str, Any]:
    """One run with its graph: for each step its state, why it ran, what it read, asked for and answered, and where.

    Parameters
    ----------
    run : str
        Its id, or the first characters of it.
    """
    known = ws.records.row(RUNS, run)
    rows = [known] if known else [row for row in ws.records.rows(RUNS) if row.id.startswith(run)]
    if len(rows) != 1:
        several = f"{len(rows):,} runs of pipelines have ids that begin"
        raise NotFound(
            f"{several if rows else 'no run of pipelines has an id that begins'} with {run[:100]}",
            why="a run is named by its id, or by the first characters of it that no other has",
            fix="loopline pipeline status",
        )
    row = rows[0]
    steps = {name: ws.records.get(StepRun, id) for name, id in row.doc["steps"].items()}
    failed, begun = row.doc.get("failed", {}), row.doc.get("begun", {})
    stands = state_of(row)
    told = []
    for name, after in row.doc["after"].items():
        made = steps.get(name)
        state = "waiting" if made is None else "found" if made.cached else "done"
        if name in failed:
            state = "failed"
        elif name in row.doc["running"] and made is None:
            state = "running" if stands == "running" else "killed"
        elif made is None and stands in ("failed", "killed"):
            state = "not run"
        doc = {key: value for key, value in to_doc(made).items() if key != "output"} if made else begun.get(name, {})
        asked = {"needs": row.doc.get("needs", {}).get(name, {}), "reads": row.doc.get("reads", {}).get(name, {})}
        told.append({"step": name, "state": state, "after": after, **asked, **doc, "error": failed.get(name)})
    return {"id": row.id, "state": stands, **shown(row.doc), "steps": told}


@query("training.pipeline_step")
def pipeline_step(ws: Workspace, *, run: str, step: str) -> dict[str, Any]:
    """One step of a run: all that `pipeline_run` says of it, what it answered, and the whole of what it raised.

    Returns
    -------
    dict
        As `pipeline_run` has it, with `answer` (as `described` says it; null where there is none yet), `found_in` (the
        run that made the answer, where this one found it) and `error` whole.
    """
    whole, found = _step_of(ws, run, step)
    answer = found_in = None
    if found.get("id"):
        made = ws.records.get(StepRun, found["id"])
        answer = described(made.output, store(ws.root))
        if made.made_by != made.id:
            found_in = ws.records.get(StepRun, made.made_by).run
    if found["error"] and (ended := ws.records.find(PipelineRun, id=whole["id"], limit=1)):
        found["error"] = ended[0].failed.get(step, found["error"])
    return {**found, "run": whole["id"], "pipeline": whole["pipeline"], "answer": answer, "found_in": found_in}


@query("training.pipeline_log")
def pipeline_log(ws: Workspace, *, run: str, step: str) -> str:
    """What a step printed, in the run that made its answer; what it has printed so far while it runs."""
    whole, found = _step_of(ws, run, step)
    if found.get("log"):
        return store(ws.root).get(found["log"]).decode(errors="replace")
    named = ((path, *path.stem.rpartition("-")) for path in (ws.root / FOLDER / "logs" / whole["id"]).glob("*.log"))
    attempts = sorted((int(attempt), path) for path, name, _, attempt in named if name == step)
    return "".join(path.read_text(errors="replace") for _, path in attempts)


@query("training.why_rerun")
def why_rerun(
    ws: Workspace,
    project: Path,
    pipeline: Pipeline,
    *,
    step: str,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Whether a step would run now and why, and why it ran the last time. Nothing is run.

    Returns
    -------
    dict
        `would_run` (null where it depends on a step before it), `why` (sentences) and `last` (the newest step run).
    """
    root = Path(project).resolve()
    graph = pipeline.graph(**pipeline.params(params or {}))
    if step not in graph.nodes:
        raise _no_step(step, graph)
    plan = Plan(ws, root, name_of(root, pipeline), graph, seed=seed, carries=False)
    blocked: dict[str, str] = {}
    verdict: tuple[bool | None, tuple[str, ...]] = (None, ())
    for name, node in graph.nodes.items():
        waits = next((before for before in node.after if before in blocked), None)
        if waits is not None:
            first = blocked[waits]
            blocked[name] = first
            verdict = None, (f"{first} would run first; it runs if that answers something else",)
        else:
            made, why = plan.found(plan.ready(node))
            verdict = made is None, why
            if made is None:
                blocked[name] = name
            else:
                plan.outputs[name] = made.output
        if name == step:
            break
    last = plan.latest(step)
    while last is not None and last.cached and last.made_by != last.id:
        last = ws.records.get(StepRun, last.made_by)
    shown = None if last is None else {"run": last.run, "started_at": iso(last.started_at), "why": list(last.why)}
    return {"step": step, "would_run": verdict[0], "why": list(verdict[1]), "last": shown}


def _step_of(ws: Workspace, run: str, step: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run, and one step of it."""
    whole = pipeline_run(ws, run=run)
    found = next((item for item in whole["steps"] if item["step"] == step), None)
    if found is None:
        raise NotFound(
            f"the run {run} has no step {step}",
            why=f"it has {', '.join(item['step'] for item in whole['steps'])}",
            fix="correct the name",
        )
    return whole, found


def result_of(ws: Workspace, run: PipelineRun) -> Any:
    """What the pipeline returned in a run, with the answers of its steps."""
    blobs = store(ws.root)

    def filled(doc: Any) -> Any:
        if isinstance(doc, dict) and doc.get(MARK) == "answer":
            made = ws.records.get(StepRun, run.steps[doc["step"]])
            return unpack(part_of(made.output, tuple(doc["path"]), blobs, doc["step"]), blobs)
        if isinstance(doc, dict) and doc.get(MARK) == "tuple":
            return tuple(filled(item) for item in doc["items"])
        if isinstance(doc, dict) and MARK not in doc:
            return {key: filled(item) for key, item in doc.items()}
        return [filled(item) for item in doc] if isinstance(doc, list) else unpack(doc, blobs)

    return filled(run.answers)


def returned(ws: Workspace, run: PipelineRun) -> dict[str, Any] | None:
    """What the pipeline returned in a run, as `described` tells it; null where the run failed."""
    blobs = store(ws.root)

    def filled(doc: Any) -> Any:
        if isinstance(doc, list):
            return [filled(item) for item in doc]
        if not isinstance(doc, dict):
            return doc
        if doc.get(MARK) == "answer":
            return part_of(
                ws.records.get(StepRun, run.steps[doc["step"]]).output, tuple(doc["path"]), blobs, doc["step"]
            )
        if doc.get(MARK) == "tuple":
            return {**doc, "items": [filled(item) for item in doc["items"]]}
        return doc if MARK in doc else {key: filled(item) for key, item in doc.items()}

    return None if run.failed else described(filled(run.answers), blobs)


def name_of(project: Path, pipeline: Pipeline) -> str:
    """The pipeline as `file.py:name`; `notebook:name` where it has no file."""
    file = pipeline.file
    if file is None:
        return f"{live.NOTEBOOK}:{pipeline.name}"
    if project not in file.parents:
        raise Invalid(
            f"the pipeline {pipeline.name} is defined in {file}, outside the project {project.name}",
            why="a run only keeps track of code of its own project",
            fix=f"move it into {project}",
        )
    return f"{file.relative_to(project).as_posix()}:{pipeline.name}"


def _place() -> Place:
    given = settings.compute_place()
    return Place.parse(given) if given else Place()


def _returned(value: Any) -> Any:
    if isinstance(value, Answer):
        return {MARK: "answer", "step": value.step, "path": list(value.path)}
    if isinstance(value, tuple):
        return {MARK: "tuple", "items": [_returned(item) for item in value]}
    if isinstance(value, list):
        return [_returned(item) for item in value]
    if isinstance(value, dict) and any(True for _ in answers(value)):
        return {str(key): _returned(item) for key, item in value.items()}
    return pack_params(value, "what the pipeline returns")


def _no_step(name: str, graph: Graph) -> NotFound:
    return NotFound(
        f"the pipeline has no step {name}", why=f"it has {', '.join(graph.nodes)}", fix="correct the name of the step"
    )


def _commit(project: Path) -> str | None:
    """The commit that is checked out, read from the files of git; the keys say what the code really was."""
    for folder in (project, *project.parents):
        head = folder / ".git" / "HEAD"
        try:
            text = head.read_text().strip()
            if not text.startswith("ref: "):
                return text
            named = folder / ".git" / text.removeprefix("ref: ")
            return named.read_text().strip() if named.is_file() else None
        except OSError:
            continue
    return None


def _silent(_: object) -> None:
    return None


__all__ = [
    "LATEST",
    "find",
    "pipeline_log",
    "pipeline_run",
    "pipeline_runs",
    "result_of",
    "returned",
    "run_pipeline",
    "why_rerun",
]
