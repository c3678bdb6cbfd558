"""Commands that bring histories of other trackers in, and send runs out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.progress import Progress
from loopline.interfaces.cli.session import Json

if TYPE_CHECKING:
    from loopline.training.exchange.nouns import Brought
    from loopline.workspace import Workspace

Into = Annotated[
    Path | None,
    Parameter("--workspace", help="Folder that holds the runs; .loopline here or above by default. Made if need be."),
]
From = Annotated[
    Path | None, Parameter("--workspace", help="Folder that holds the runs; .loopline here or above by default.")
]
DryRun = Annotated[bool, Parameter("--dry-run", negative="", help="Write nothing, say what would come.")]
Files = Annotated[
    tuple[Path, ...],
    Parameter("--artifacts", negative="", help="A further folder that files may be read from; may be repeated."),
]
SHOWN = 12


def mlflow(
    source: Annotated[str, Parameter(help="A mlruns folder, an SQLite file, or the address of a server.")],
    *,
    experiment: Annotated[tuple[str, ...], Parameter(help="Name of an experiment; all by default.", negative="")] = (),
    artifacts: Files = (),
    models: Annotated[bool, Parameter(negative="--no-models", help="Registered models too.")] = True,
    dry_run: DryRun = False,
    workspace: Into = None,
    json: Json = False,
) -> Answer:
    """Bring experiments, runs, files and models of MLflow. Again adds only what is missing.

    A server's credentials come from MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
    """
    from loopline.registry.importing import import_models
    from loopline.training.exchange.verbs import import_mlflow, mlflow_source

    with Progress(quiet=json) as say, mlflow_source(source, artifacts=artifacts) as found:
        ws = _into(workspace)
        came = import_mlflow(ws, found, source, experiments=experiment, dry_run=dry_run, say=say)
        if models and not experiment:
            came = import_models(ws, found, came, say=say)
    return _told(came)


def wandb(
    folder: Annotated[Path, Parameter(help="The wandb folder, or one offline run in it.")],
    *,
    project: Annotated[tuple[str, ...], Parameter(help="Name of a project; all by default.", negative="")] = (),
    artifacts: Files = (),
    dry_run: DryRun = False,
    workspace: Into = None,
    json: Json = False,
) -> Answer:
    """Bring offline runs of W&B, each project as an experiment. Again adds only what is missing."""
    from loopline.training.exchange.verbs import import_wandb

    with Progress(quiet=json) as say:
        came = import_wandb(
            _into(workspace), folder, artifacts=artifacts, projects=project, dry_run=dry_run, say=say
        )  # fmt: skip
    return _told(came)


def runs(
    folder: Annotated[Path, Parameter(help="What `loopline export --format tables` wrote.")],
    *,
    experiment: Annotated[tuple[str, ...], Parameter(help="Name of an experiment; all by default.", negative="")] = (),
    dry_run: DryRun = False,
    workspace: Into = None,
    json: Json = False,
) -> Answer:
    """Bring runs of another workspace from an export. Again adds only what is missing."""
    from loopline.training.exchange.verbs import import_runs

    with Progress(quiet=json) as say:
        came = import_runs(_into(workspace), folder, experiments=experiment, dry_run=dry_run, say=say)
    return _told(came)


def export(
    dest: Annotated[Path, Parameter(help="A folder that is not there yet.")],
    *,
    run: Annotated[tuple[str, ...], Parameter("--run", help="Id of a run, or how it begins.", negative="")] = (),
    experiment: Annotated[tuple[str, ...], Parameter(help="Name of an experiment.", negative="")] = (),
    every: Annotated[bool, Parameter("--all", negative="", help="All runs.")] = False,
    deleted: Annotated[bool, Parameter(negative="", help="Deleted ones too.")] = False,
    format: Annotated[
        Literal["mlflow", "tables"],
        Parameter(help="A database that the mlflow client opens, or Parquet that `loopline import runs` reads."),
    ] = "mlflow",
    mlflow: Annotated[
        str | None, Parameter("--mlflow", help="Version of MLflow whose client is to open it; 3.17 by default.")
    ] = None,
    workspace: From = None,
    json: Json = False,
) -> Answer:
    """Write runs with their metrics, files and models into a folder of open files."""
    from loopline.interfaces.cli.runs import _open
    from loopline.training.exchange.verbs import export_runs

    with Progress(quiet=json) as say:
        left = export_runs(
            _open(workspace), dest, runs=run, experiments=experiment, every=every, deleted=deleted, format=format,
            version=mlflow, say=say,
        )  # fmt: skip
    lines = [
        f"{left.runs:,} runs of {left.experiments:,} experiments are in {left.folder}",
        f"{left.points:,} points, {left.files:,} files ({_size(left.bytes)}), {left.models:,} logged models",
        *_some("left out", list(left.left_out)),
    ]
    if left.format == "mlflow":
        follow = f"mlflow ui --backend-store-uri sqlite:///{left.folder}/mlflow.db"
    else:
        follow = f"loopline import runs {left.folder} --dry-run"
    return Answer("\n".join(lines), left, (follow,))


def _into(workspace: Path | None) -> Workspace:
    from loopline.interfaces.cli.runs import _folder
    from loopline.workspace import create_workspace

    return create_workspace(_folder(workspace))


def _told(came: Brought) -> Answer:
    rows = [
        ("experiments", came.experiments), ("runs", came.runs), ("completed", came.completed),
        ("here before", came.known), ("points", came.points), ("params", came.params), ("tags", came.tags),
        ("datasets", came.datasets), ("logged models", came.models), ("registered models", came.names),
        ("versions", came.versions), ("files", came.files), ("bytes", came.bytes),
    ]  # fmt: skip
    shown: list[tuple[str, ...]] = [
        (name, f"{count:,}" if name != "bytes" else _size(count)) for name, count in rows if count
    ]
    head = f"{came.kind} {came.source}: " + ("this would come" if came.dry_run else "this came")
    lines = [head if shown else f"{came.kind} {came.source}: there is nothing in it", table(shown)]
    lines += _some("differs from what is here, which stayed", came.conflicts)
    lines += _some("left out", came.left_out)
    if came.more_told:
        lines += ["", f"and {came.more_told:,} more of such"]
    follow = ("do it: the same without --dry-run",) if came.dry_run else ("loopline runs list",)
    return Answer("\n".join(lines), came, follow)


def _some(title: str, said: list[str]) -> list[str]:
    if not said:
        return []
    more = [f"  and {len(said) - SHOWN:,} more (--json has them)"] if len(said) > SHOWN else []
    return ["", title, *(f"  {one}" for one in said[:SHOWN]), *more]


def _size(count: Any) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError
