"""Commands of the search for params."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from loopline.base.figures import figure, figures, plural
from loopline.base.spec import length_text
from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, session

if TYPE_CHECKING:
    from loopline.features.nouns import TrainingSet
    from loopline.interfaces.cli.progress import Progress
    from loopline.loop.project import Project
    from loopline.workspace import Workspace

Which = Annotated[str | None, Parameter(help="Id of a search, or how it begins; the newest by default.")]
SHOWN = 20


def run(
    *,
    trials: Annotated[int | None, Parameter(help="How many, instead of training.search.trials.")] = None,
    parallel: Annotated[int | None, Parameter(help="How many at once; changes nothing of what is found.")] = None,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Try params on the rows that would be trained on now; a search that was stopped goes on.

    News are taken in and the rows cut as `loopline run` does it. Nothing is trained for good.
    """
    from loopline import training
    from loopline.base.settings import actor_name
    from loopline.interfaces.cli.progress import Progress
    from loopline.training.spec import TrainingSpec

    ws, found = session(project, create=True)
    declared = found.spec.training
    if declared.search is not None:
        more = {name: value for name, value in (("trials", trials), ("parallel", parallel)) if value is not None}
        section = {**declared.search.model_dump(mode="json"), **more}
        declared = TrainingSpec.model_validate({**declared.model_dump(mode="json"), "search": section})
    with Progress(quiet=json) as progress:
        training_set = rows_now(ws, found, progress)
        progress("trying params")
        search, _ = training.search(
            ws,
            found.root,
            training=declared,
            training_set=training_set,
            framing=found.spec.framing,
            primary=found.spec.evaluation.primary,
            author=actor_name(),
            experiment=found.name,
            tell=progress,
        )
    return _told(_result(ws, search.id, found), ("loopline search plot", "loopline run"))


def rows_now(ws: Workspace, found: Project, progress: Progress) -> TrainingSet:
    """Rows are taken in, and cut as the next training of the loop cuts them: the same again is the set there is."""
    from loopline import data, features, monitoring
    from loopline.loop.facts import champion
    from loopline.training.nouns import Model

    spec, held = found.spec, champion(ws, found.name)
    progress("taking rows in")
    data.ingest(ws, found.root, spec.data, progress=progress)
    progress("cutting the training set")
    return features.training_set(  # type: ignore[no-any-return]
        ws,
        found.root,
        framing=spec.framing,
        features=spec.features,
        training=spec.training,
        tables=spec.data,
        evaluation_slices=spec.evaluation.slices,
        beside=ws.records.get(Model, held[0].model).training_set if held else None,
        excluded_windows=monitoring.excluded_windows(ws),
    )


def show(which: Which = None, *, project: Folder = HERE, json: Json = False) -> Answer:
    """Show what a search tried and what it found best."""
    ws, found = session(project)
    return _told(_result(ws, which, found), ("loopline search plot --kind slices", "loopline run"))


def plot(
    which: Which = None,
    *,
    kind: Annotated[
        Literal["history", "importance", "parallel", "slices", "pareto"], Parameter(help="What is drawn.")
    ] = "history",
    out: Annotated[Path | None, Parameter(help="File for the SVG; search-KIND.svg by default.")] = None,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Draw a search as an SVG file."""
    from loopline.training.searching.plots import drawn

    ws, found = session(project)
    path = out or Path(f"search-{kind}.svg")
    path.write_text(drawn(_result(ws, which, found), kind))
    return Answer(f"{path} shows the {kind}", {"file": str(path), "kind": kind}, ("loopline search show",))


def _result(ws: Any, which: str | None, found: Project) -> dict[str, Any]:
    from loopline import training

    declared = found.spec.training.search
    result = training.search_result(ws, which, pick=declared.pick if declared is not None else "first")
    return {**result, "searched": searched_rows(ws, result["search"]["training_set"])}


def searched_rows(ws: Workspace, training_set: str) -> dict[str, Any] | None:
    """Which rows a search is made on: how many of which tables, as they were known when."""
    from loopline.base.ids import iso
    from loopline.data.nouns import Snapshot
    from loopline.features.nouns import TrainingSet

    for held in ws.records.find(TrainingSet, limit=1, id=training_set):
        for snapshot in ws.records.find(Snapshot, limit=1, id=held.snapshot):
            rows = {"train_rows": held.train_rows, "test_rows": held.test_rows}
            return {"training_set": held.id, **rows, "tables": sorted(snapshot.rows), "as_of": iso(snapshot.known_to)}
    return None


def _told(result: dict[str, Any], following: tuple[str, ...]) -> Answer:
    search, trials = result["search"], result["trials"]
    names = [name for name, _ in search["objectives"]]
    counts = {state: sum(one["state"] == state for one in trials) for state in ("complete", "pruned", "failed")}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    validation = search["validation"]
    lines = [
        f"search {search['id'][:12]}: {plural(len(trials), 'trial')} ({told or 'none ended'}), "
        f"judged on {validation['rows']:,} of the training rows "
        f"({'the newest' if validation['by'] == 'time' else 'drawn at random'})"
    ]
    if of := result["searched"]:
        lines.append(
            f"rows: training set {of['training_set'][:12]}, {of['train_rows']:,} to train on and {of['test_rows']:,} "
            f"held out, of {', '.join(of['tables'])} as known at {of['as_of'][:16].replace('T', ' ')} UTC"
        )
    done = [one for one in trials if one["state"] == "complete"]
    sign = -1 if search["objectives"][0][1] == "maximize" else 1
    ranked = sorted(done, key=lambda one: (sign * one["values"][0], one["number"]))[:SHOWN]
    params = sorted(search["declared"]["params"])
    marks = dict.fromkeys(result["front"], "front") if len(names) > 1 else {}
    if result["best"] is not None:
        marks[result["best"]] = "best"
    columns = [iter(figures([one["values"][at] for one in ranked])) for at in range(len(names))]
    rows = [
        (
            str(one["number"]),
            *(next(of) or "" for of in columns),
            *(_short(one["params"].get(name)) for name in params),
            length_text(one["seconds"]),
            marks.get(one["number"], ""),
        )
        for one in ranked
    ]
    if rows:
        lines += ["", table(rows, head=("trial", *names, *params, "took", ""))]
    if len(done) > SHOWN:
        lines.append(f"and {len(done) - SHOWN} more; --json has them all")
    failed = next((one for one in trials if one["error"]), None)
    if failed is not None:
        lines.append(f"trial {failed['number']} failed: {failed['error'].splitlines()[0]}")
    if result["importance"]:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in result["importance"].items())
        lines.append(f"how much each tells of {names[0]}: {shares}")
    return Answer("\n".join(lines), result, following)


def _short(value: Any) -> str:
    return figure(value) if isinstance(value, float) else str(value)
