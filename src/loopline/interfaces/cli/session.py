"""What most commands share: the project they stand in, its workspace, and their options."""

from __future__ import annotations

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
HERE = Path()


def project(folder: Path) -> Project:
    """The project in `folder`, or in the nearest folder above it."""
    from loopline.loop.project import FILE, load

    start = folder.absolute()
    for candidate in (start, *start.parents) if folder == HERE else (start,):
        if (candidate / FILE).is_file():
            return load(candidate)
    return load(start)


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
