"""What most commands share: the project they stand in, its workspace, and their options."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from loopline.loop.project import Project
    from loopline.workspace import Workspace

Folder = Annotated[Path, Parameter("--project", help="Folder with loop.yaml.")]
Json = Annotated[bool, Parameter("--json", negative="", help="Print one JSON object instead of text.")]
Reason = Annotated[str, Parameter("--reason", help="Goes into the records.")]
Beside = Annotated[
    bool, Parameter("--beside", negative="", help="Serve although another process serves this workspace.")
]
HERE = Path()


def project(folder: Path) -> Project:
    """The project in `folder`, or in the nearest folder above it."""
    from loopline.loop.project import load

    return load(_root(folder))


def _root(folder: Path) -> Path:
    from loopline.loop.project import FILE

    start = folder.absolute()
    above = (start, *start.parents) if folder == HERE else (start,)
    return next((one for one in above if (one / FILE).is_file()), start)


def session(folder: Path, *, create: bool = False) -> tuple[Workspace, Project]:
    """The workspace and the project of `folder`; `create` makes the workspace when there is none."""
    from loopline.base.errors import NotFound
    from loopline.workspace import FOLDER, create_workspace, open_workspace

    found = project(folder)
    root = found.root / FOLDER
    if create:
        found.check()  # before anything is written
        return create_workspace(root), found
    try:
        return open_workspace(root), found
    except NotFound as error:
        raise NotFound(
            f"the loop {found.name} has not run yet",
            why=f"{root} is not there",
            fix="loopline run" if found.root == Path.cwd() else f"loopline run --project {folder}",
        ) from error


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Where:
    """Which workspace a command about runs means. Runs need no project, so both may be left out."""

    workspace: Annotated[
        Path | None, Parameter("--workspace", help="Folder that holds the runs; .loopline here or above by default.")
    ] = None
    project: Annotated[
        Path | None, Parameter("--project", help="Folder with loop.yaml; its runs lie in its .loopline.")
    ] = None

    @property
    def folder(self) -> Path:
        """The folder of the workspace, there or not.

        Raises
        ------
        Invalid
            If both are given and name two folders.
        NotFound
            If the project is none.
        """
        from loopline.base.errors import Invalid
        from loopline.loop.project import FILE, load
        from loopline.training.tracking.client import workspace_folder
        from loopline.workspace import FOLDER

        given = None if self.workspace is None else self.workspace.absolute()
        if self.project is None:
            return given or workspace_folder()
        root = _root(self.project)
        if not (root / FILE).is_file():
            load(root)  # says what is missing
        found = root / FOLDER
        if given is not None and given.resolve() != found.resolve():
            raise Invalid(
                "--workspace and --project name two folders",
                why=f"{given}, and {found} of the project",
                fix="leave one of them out",
            )
        return found

    def open(self) -> Workspace:
        """The workspace.

        Raises
        ------
        NotFound
            If there is none.
        """
        from loopline.base.errors import NotFound
        from loopline.workspace import open_workspace

        folder = self.folder
        try:
            return open_workspace(folder)
        except NotFound as error:
            raise NotFound(
                f"no run was logged in {folder}",
                why="it is no workspace yet",
                fix="log one with `loopline.start_run()`, or name another folder with --workspace or --project",
            ) from error

    def create(self) -> Workspace:
        """The workspace, made if there is none."""
        from loopline.workspace import create_workspace

        return create_workspace(self.folder)


ANYWHERE = Where()


def moment_of(text: str) -> datetime:
    """A moment as people type it: `2026-03-01` (midnight UTC) or a time with its zone."""
    from loopline.base.errors import Invalid

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is not None and found.tzinfo is None and len(text) == 10:
        return found.replace(tzinfo=UTC)
    if found is None or found.tzinfo is None:
        raise Invalid(
            f"{text!r} is not a moment",
            why="a moment is a date, or a time with its zone" if found is None else "it carries no zone",
            fix="write for example 2026-03-01 or 2026-03-01T06:00Z",
        )
    return found.astimezone(UTC)
