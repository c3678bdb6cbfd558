"""The code that a training ran, found again: as it was kept, from its commit, or as it stands in the project."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid, LooplineError, NotFound
from loopline.training import cache
from loopline.training.nouns import Run
from loopline.training.source import unfolded
from loopline.workspace import Workspace


def restored(ws: Workspace, run: Run, project: Path | None, folder: Path) -> tuple[str, dict[str, Any]]:
    """Write the code of a run into a folder; where it came from, and files that are not as they were.

    The kept text is taken; else the files at the commit; else those of the project. Of the two latter the first that
    has the same syntax trees; `missing` where none has, then those of the project stand there.
    """
    if run.text is not None and run.text in ws.blobs:
        unfolded(ws.blobs.get(run.text), folder)
        return "text", changed(folder, run)
    if project is None:
        return "missing", dict.fromkeys(run.code.get("files", {}), "not kept")
    if (
        (commit := run.code.get("commit"))
        and _from_commit(project, str(commit), run, folder)
        and not changed(folder, run)
    ):
        return "commit", {}
    for name in run.code.get("files", {}):
        source = project / name
        if source.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(source.read_bytes())
    found = changed(folder, run)
    return ("missing" if found else "project"), found


def changed(folder: Path, run: Run) -> dict[str, Any]:
    """Files whose code is not that of the run, and how."""
    wanted: dict[str, str] = run.code.get("files", {})
    try:
        found = cache.closure(folder, run.recipe).files
    except (NotFound, Invalid) as error:
        return {run.recipe: error.what}
    return {
        name: "not there" if name not in found else "new" if name not in wanted else "changed"
        for name in sorted({*wanted, *found})
        if wanted.get(name) != found.get(name)
    }


def _from_commit(project: Path, commit: str, run: Run, folder: Path) -> bool:
    for name in run.code.get("files", {}):
        try:
            done = subprocess.run(
                ["git", "-C", str(project), "show", f"{commit}:./{name}"], capture_output=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode:
            return False
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(done.stdout)
    return True


def reason(error: LooplineError) -> str:
    """An error in two lines at most."""
    return f"{error.what}\n{error.why}"[:4000]
