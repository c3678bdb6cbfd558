"""`pipeline.run()` in scripts and notebooks: the project and the workspace are found around the file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from loopline.training.pipeline import loading
from loopline.training.pipeline.declare import Pipeline
from loopline.training.pipeline.runner import Event
from loopline.training.pipeline.verbs import result_of, run_pipeline
from loopline.workspace import FOLDER, create_workspace

FILE = "loop.yaml"


def run_at_hand(pipeline: Pipeline, params: dict[str, Any]) -> Any:
    """Run a pipeline and return what it returns; the first error of its steps is raised."""
    loading.refuse_while_importing(pipeline.name)
    root = around(pipeline.file.parent if pipeline.file is not None else Path.cwd())
    ws = create_workspace(root / FOLDER)
    errors: dict[str, Exception] = {}
    try:
        run = run_pipeline(ws, root, pipeline, params=params, watch=_told, errors=errors)
        for error in errors.values():
            raise error
        return result_of(ws, run)
    finally:
        ws.close()


def around(folder: Path) -> Path:
    """The project that a folder is in: the nearest one with a `loop.yaml`, else the folder itself."""
    folder = folder.resolve()
    return next((place for place in (folder, *folder.parents) if (place / FILE).is_file()), folder)


def _told(event: Event) -> None:
    """One line for each step that runs, and what it prints."""
    if event.kind == "printed":
        sys.stderr.write(f"{event.step} | {event.text}\n")
    elif event.kind in ("started", "again", "failed", "waiting"):
        sys.stderr.write(f"{event.step or 'pipeline'}: {event.kind}{': ' if event.text else ''}{event.text}\n")
