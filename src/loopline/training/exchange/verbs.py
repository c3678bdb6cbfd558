"""What can be done: bring a history in, and send runs out. All of it reads or writes files beside the workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loopline.base.errors import Invalid, NotFound
from loopline.training.exchange.nouns import Brought, Left, OfferedName, Source
from loopline.workspace import Workspace, verb

if TYPE_CHECKING:
    from loopline.training.exchange.leaving import Chosen

Say = Callable[..., None]
COUNTED = ("runs", "completed", "known", "points", "files", "bytes", "models")


def quiet(*_: Any) -> None:
    """Say nothing."""


@contextmanager
def mlflow_source(source: str, *, artifacts: Sequence[Path] = ()) -> Iterator[Source]:
    """What stands at an address: a server, a database file, or a `mlruns` folder.

    Parameters
    ----------
    artifacts : sequence of Path
        Further folders that files may be read from.

    Raises
    ------
    NotFound
        If there is nothing.
    Invalid
        If it is nothing of MLflow.
    """
    found = _mlflow(source, artifacts)
    try:
        yield found
    finally:
        found.close()


def _mlflow(source: str, artifacts: Sequence[Path]) -> Source:
    if source.startswith(("http://", "https://")):
        from loopline.training.exchange.mlflow_server import MlflowServer

        return MlflowServer(source, *artifacts)
    from loopline.training.exchange.folders import local

    given = (
        "/" + source[len("sqlite:////") :] if source.startswith("sqlite:////") else source.removeprefix("sqlite:///")
    )
    path = local(given)
    if path is None:
        raise Invalid(
            f"{source.partition(':')[0]!r:.40} is no kind of source",
            why="histories come from a folder, an SQLite file or a server",
            fix="name mlruns, sqlite:///mlflow.db or http://host:5000; start `mlflow server` before another database",
        )
    path = path.expanduser()
    if not path.exists():
        raise NotFound(
            f"there is no {path}", why="a history is read from it", fix="give the path of mlruns or mlflow.db"
        )
    if path.is_dir():
        from loopline.training.exchange.mlflow_folder import MlflowFolder

        return MlflowFolder(path, *artifacts)
    from loopline.training.exchange.mlflow_database import MlflowDatabase

    return MlflowDatabase(path, *artifacts)


@verb("training.import_mlflow", offered=False)
def import_mlflow(
    ws: Workspace,
    source: Source,
    name: str,
    *,
    experiments: Sequence[str] = (),
    dry_run: bool = False,
    say: Say = quiet,
) -> Brought:
    """Bring experiments, runs, metrics, files and logged models of MLflow; again adds what is missing.

    Parameters
    ----------
    source : Source
        What `mlflow_source` opened.
    name : str
        How it was named; for the answer and the audit trail.
    experiments : sequence of str
        Names; all by default.
    dry_run : bool
        Write nothing, say what would come.

    Raises
    ------
    NotFound
        If an experiment that was named is not there.
    Denied
        If a server wants other credentials.
    Unavailable
        If the disk is full or a server stops answering. What came stays, and again goes on from there.
    """
    return _bring(ws, source, name, experiments, dry_run, say)


@verb("training.import_wandb", offered=False)
def import_wandb(
    ws: Workspace, folder: Path, *, artifacts: Sequence[Path] = (), projects: Sequence[str] = (), dry_run: bool = False,
    say: Say = quiet,
) -> Brought:  # fmt: skip
    """Bring offline runs of W&B, a project as an experiment; again adds what is missing.

    Parameters
    ----------
    folder : Path
        The `wandb` folder, the one above it, or a single `offline-run-*`.
    artifacts : sequence of Path
        Further folders that links in a run's files may lead to.
    """
    from loopline.training.exchange.wandb_folder import WandbFolder

    return _bring(ws, WandbFolder(Path(folder), *artifacts), str(folder), projects, dry_run, say)


@verb("training.import_runs", offered=False)
def import_runs(
    ws: Workspace, folder: Path, *, experiments: Sequence[str] = (), dry_run: bool = False, say: Say = quiet
) -> Brought:
    """Bring runs that `loopline export --format tables` wrote; they come back as they were."""
    from loopline.training.exchange.from_tables import TablesFolder

    return _bring(ws, TablesFolder(Path(folder)), str(folder), experiments, dry_run, say)


def _bring(ws: Workspace, source: Source, name: str, experiments: Sequence[str], dry_run: bool, say: Say) -> Brought:
    from loopline.training.exchange.bringing import bring

    found = bring(ws, source, name, experiments=experiments, dry_run=dry_run, say=say)
    told = {key: value for key, value in asdict(found).items() if key in COUNTED}
    ws.note(source=name, kind=source.kind, dry_run=dry_run, **told)
    return found


@verb("training.export_runs", offered=False)
def export_runs(
    ws: Workspace,
    dest: Path,
    *,
    runs: Sequence[str] = (),
    experiments: Sequence[str] = (),
    every: bool = False,
    deleted: bool = False,
    format: Literal["mlflow", "tables"] = "mlflow",
    version: str | None = None,
    registered: Callable[[Chosen], Iterable[OfferedName]] | None = None,
    say: Say = quiet,
) -> Left:
    """Write runs with their histories, files and logged models into a folder of open files.

    Parameters
    ----------
    dest : Path
        A folder that is not there yet. It appears once all of it is written.
    runs, experiments, every
        Which runs; one of the three.
    deleted : bool
        Deleted ones too.
    format : "mlflow" or "tables"
        A database that the stock client opens, or Parquet that brings everything back as it was.
    version : str, optional
        Of MLflow, whose tables the database has; each version opens only its own. The newest known by default.
    registered : callable, optional
        Says which registered models go along with what was chosen (`registry.exporting.registered`); none by default.

    Raises
    ------
    Conflict
        If there is something at `dest`.
    NotFound
        If there is no such run or experiment.
    Unavailable
        If the disk is full. Nothing stays behind.
    """
    from loopline.training.exchange.leaving import choose, whole_folder

    dest = Path(dest).expanduser().absolute()
    chosen = choose(ws, runs, experiments, every=every, deleted=deleted)
    with whole_folder(dest) as part:
        chosen.registered = list(registered(chosen)) if registered is not None else []
        if format == "tables":
            from loopline.training.exchange import to_tables

            to_tables.write(ws, chosen, part, say=say)
        elif format == "mlflow":
            from loopline.training.exchange import to_mlflow

            to_mlflow.write(ws, chosen, part, dest, version=version or to_mlflow.NEWEST, say=say)
        else:
            raise Invalid(f"{format!r} is no format", why="it is mlflow or tables", fix="leave --format out")
    models = sum(len(found) for found in chosen.models.values())
    left = Left(
        str(dest), format, len(chosen.experiments), chosen.count, chosen.points, models, chosen.files, chosen.bytes,
        len(chosen.registered), sum(len(one.versions) for one in chosen.registered), tuple(chosen.left_out),
    )  # fmt: skip
    ws.note(folder=str(dest), format=format, runs=left.runs, points=left.points, files=left.files)
    return left
