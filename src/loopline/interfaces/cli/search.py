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
    """Try params on the newest training set, made if there is none; a search that was stopped goes on.

    Nothing is trained for good.
    """
    from loopline import training
    from loopline.base.settings import actor_name
    from loopline.features.nouns import TrainingSet
    from loopline.interfaces.cli.progress import Progress
    from loopline.training.spec import TrainingSpec

    ws, found = session(project, create=True)
    declared = found.spec.training
    if declared.search is not None:
        more = {name: value for name, value in (("trials", trials), ("parallel", parallel)) if value is not None}
        section = {**declared.search.model_dump(mode="json"), **more}
        declared = TrainingSpec.model_validate({**declared.model_dump(mode="json"), "search": section})
    with Progress(quiet=json) as progress:
        sets = ws.records.find(TrainingSet, limit=1)
        training_set = sets[0] if sets else _first_rows(ws, found, progress)
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


def _first_rows(ws: Workspace, found: Project, progress: Progress) -> TrainingSet:
    """Rows are taken in, and cut as the first training cuts them."""
    from loopline import data, features, monitoring

    spec = found.spec
    progress("ingest ...", 0, 0)
    data.ingest(ws, found.root, spec.data)
    return features.training_set(  # type: ignore[no-any-return]
        ws,
        found.root,
        framing=spec.framing,
        features=spec.features,
        training=spec.training,
        tables=spec.data,
        evaluation_slices=spec.evaluation.slices,
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
    return training.search_result(ws, which, pick=declared.pick if declared is not None else "first")  # type: ignore[no-any-return]


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
