"""Commands that bring histories of other trackers in, and send runs out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from loopline.base.figures import plural
from loopline.base.sizes import size_text
from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.progress import Progress
from loopline.interfaces.cli.session import ANYWHERE, Json, Where

if TYPE_CHECKING:
    from loopline.training.exchange.leaving import Chosen
    from loopline.training.exchange.nouns import Brought, OfferedName
    from loopline.workspace import Workspace

DryRun = Annotated[bool, Parameter("--dry-run", negative="", help="Write nothing, say what would come.")]
Files = Annotated[
    tuple[Path, ...],
    Parameter("--artifacts", negative="", help="A further folder that files may be read from; may be repeated."),
]
Models = Annotated[bool, Parameter(negative="--no-models", help="Registered models too.")]
SHOWN = 12


def mlflow(
    source: Annotated[str, Parameter(help="A mlruns folder, an SQLite file, or the address of a server.")],
    *,
    experiment: Annotated[tuple[str, ...], Parameter(help="Name of an experiment; all by default.", negative="")] = (),
    artifacts: Files = (),
    models: Models = True,
    dry_run: DryRun = False,
    where: Where = ANYWHERE,
    json: Json = False,
) -> Answer:
    """Bring experiments, runs, files and models of MLflow. Again adds only what is missing.

    A server's credentials come from MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
    """
    from loopline.registry.importing import import_models
    from loopline.training.exchange.verbs import import_mlflow, mlflow_source

    with Progress(quiet=json) as say, mlflow_source(source, artifacts=artifacts) as found:
        ws = where.create()
        came = import_mlflow(ws, found, source, experiments=experiment, dry_run=dry_run, say=say)
        if models and not experiment:
            came = import_models(ws, found, came, say=say)
    return _told(came)


def wandb(
    folder: Annotated[Path, Parameter(help="The wandb folder, or one offline run in it.")],
    *,
    only: Annotated[
        tuple[str, ...], Parameter("--wandb-project", help="Name of a project of W&B; all by default.", negative="")
    ] = (),
    artifacts: Files = (),
    dry_run: DryRun = False,
    where: Where = ANYWHERE,
    json: Json = False,
) -> Answer:
    """Bring offline runs of W&B, each project as an experiment. Again adds only what is missing."""
    from loopline.training.exchange.verbs import import_wandb

    with Progress(quiet=json) as say:
        came = import_wandb(
            where.create(), folder, artifacts=artifacts, projects=only, dry_run=dry_run, say=say
        )  # fmt: skip
    return _told(came)


def runs(
    folder: Annotated[Path, Parameter(help="What `loopline export --format tables` wrote.")],
    *,
    experiment: Annotated[tuple[str, ...], Parameter(help="Name of an experiment; all by default.", negative="")] = (),
    models: Models = True,
    dry_run: DryRun = False,
    where: Where = ANYWHERE,
    json: Json = False,
) -> Answer:
    """Bring runs of another workspace from an export. Again adds only what is missing."""
    from loopline.registry.importing import import_models
    from loopline.training.exchange.from_tables import TablesFolder
    from loopline.training.exchange.verbs import import_runs

    with Progress(quiet=json) as say:
        ws = where.create()
        came = import_runs(ws, folder, experiments=experiment, dry_run=dry_run, say=say)
        if models and not experiment:
            came = import_models(ws, TablesFolder(folder), came, say=say)
    return _told(came)


def export(
    dest: Annotated[Path, Parameter(help="A folder that is not there yet.")],
    *,
    run: Annotated[tuple[str, ...], Parameter("--run", help="Id of a run, or how it begins.", negative="")] = (),
    experiment: Annotated[tuple[str, ...], Parameter(help="Name of an experiment.", negative="")] = (),
    every: Annotated[bool, Parameter("--all", negative="", help="All runs.")] = False,
    deleted: Annotated[bool, Parameter(negative="", help="Deleted ones too.")] = False,
    models: Models = True,
    format: Annotated[
        Literal["mlflow", "tables"],
        Parameter(help="A database that the mlflow client opens, or Parquet that `loopline import runs` reads."),
    ] = "mlflow",
    mlflow: Annotated[
        str | None, Parameter("--mlflow", help="Version of MLflow whose client is to open it; 3.17 by default.")
    ] = None,
    where: Where = ANYWHERE,
    json: Json = False,
) -> Answer:
    """Write runs with their metrics, files and models into a folder of open files."""
    from loopline.training.exchange.verbs import export_runs

    with Progress(quiet=json) as say:
        ws = where.open()
        left = export_runs(
            ws, dest, runs=run, experiments=experiment, every=every, deleted=deleted, format=format,
            version=mlflow, registered=partial(_registered, ws) if models else None, say=say,
        )  # fmt: skip
    lines = [
        f"{plural(left.runs, 'run')} of {plural(left.experiments, 'experiment')} "
        f"{'is' if left.runs == 1 else 'are'} in {left.folder}",
        f"{plural(left.points, 'point')}, {plural(left.files, 'file')} ({size_text(left.bytes)}), "
        f"{plural(left.models, 'logged model')}",
        *([f"{plural(left.versions, 'version')} of {plural(left.names, 'registered model')}"] if left.names else []),
        *_some("left out", list(left.left_out)),
    ]
    if left.format == "mlflow":
        follow = f"mlflow ui --backend-store-uri sqlite:///{left.folder}/mlflow.db"
    else:
        follow = f"loopline import runs {left.folder} --dry-run"
    return Answer("\n".join(lines), left, (follow,))


def _registered(ws: Workspace, chosen: Chosen) -> Iterator[OfferedName]:
    """What is registered of what goes out, each judged version as the folder that `mlflow` loads."""
    from loopline.interfaces.mlflow.registry_bundle import show
    from loopline.registry.exporting import registered

    return registered(ws, chosen, shown=partial(show, ws))


def _told(came: Brought) -> Answer:
    rows = [
        ("experiments", came.experiments), ("runs", came.runs), ("completed", came.completed),
        ("here before", came.known), ("points", came.points), ("params", came.params), ("tags", came.tags),
        ("datasets", came.datasets), ("logged models", came.models), ("registered models", came.names),
        ("versions", came.versions), ("files", came.files), ("bytes", came.bytes),
    ]  # fmt: skip
    shown: list[tuple[str, ...]] = [
        (name, f"{count:,}" if name != "bytes" else size_text(count)) for name, count in rows if count
    ]
    head = f"{came.kind} {came.source}: " + ("this would come" if came.dry_run else "this came")
    lines = [head if shown else f"{came.kind} {came.source}: there is nothing in it", table(shown)]
    lines += _some("differs from what is here, which stayed", came.conflicts)
    stay = "stays" if came.gone == 1 else "stay"
    kept = [f"{plural(came.gone, 'run')} deleted here {stay} deleted"] if came.gone else []
    lines += _some("left out", [*kept, *came.left_out])
    if came.more_told:
        lines += ["", f"and {came.more_told:,} more of such"]
    follow = ("do it: the same without --dry-run",) if came.dry_run else ("loopline runs list",)
    return Answer("\n".join(lines), came, follow)


def _some(title: str, said: list[str]) -> list[str]:
    if not said:
        return []
    more = [f"  and {len(said) - SHOWN:,} more (--json has them)"] if len(said) > SHOWN else []
    return ["", title, *(f"  {one}" for one in said[:SHOWN]), *more]
