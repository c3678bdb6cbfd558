"""A small project with a pipeline, written into a folder and run there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopline.compute import Place
from loopline.training.pipeline.nouns import PipelineRun, StepRun
from loopline.training.pipeline.runner import Event
from loopline.training.pipeline.verbs import find, result_of, run_pipeline
from loopline.workspace import Workspace, create_workspace

HEAD = "from pathlib import Path\nfrom loopline.training.pipeline import pipeline, step\n"
CHAIN = {
    "flow.py": HEAD
    + """
from helper import double

FACTOR = 3
UNUSED = 1


@step
def load(n: int) -> list:
    print("loading", n)
    return list(range(n))


@step
def scale(rows: list) -> list:
    return [double(row) * FACTOR for row in rows]


@step
def total(rows: list, less: int = 0) -> int:
    return sum(rows) - less


@pipeline
def main(n: int = 4, less: int = 0):
    return total(scale(load(n)), less=less)
""",
    "helper.py": "from inner import TWO\n\n\ndef double(x):\n    return x * TWO\n",
    "inner.py": "TWO = 2\n",
    "other.py": "LONELY = 1\n",
}


class World:
    """A project in a folder, with its workspace."""

    def __init__(self, folder: Path, files: dict[str, str] | None = None) -> None:
        self.root = folder / "project"
        self.root.mkdir(parents=True, exist_ok=True)
        self.write(CHAIN if files is None else files)
        self.ws: Workspace = create_workspace(self.root / ".loopline")
        self.events: list[Event] = []
        self.errors: dict[str, Exception] = {}

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)

    def edit(self, file: str, old: str, new: str) -> None:
        text = (self.root / file).read_text()
        assert old in text
        (self.root / file).write_text(text.replace(old, new))

    def run(self, ref: str = "flow.py:main", *, place: str | None = "here", **options: Any) -> PipelineRun:
        self.events, self.errors = [], {}
        return run_pipeline(
            self.ws,
            self.root,
            find(self.root, ref),
            place=None if place is None else Place.parse(place),
            watch=self.events.append,
            errors=self.errors,
            **options,
        )

    def value(self, run: PipelineRun) -> Any:
        assert not self.errors, self.errors
        return result_of(self.ws, run)

    def step(self, run: PipelineRun, name: str) -> StepRun:
        return self.ws.records.get(StepRun, run.steps[name])

    def ran(self, run: PipelineRun) -> set[str]:
        """Steps that were really run."""
        return {name for name in run.steps if not self.step(run, name).cached}

    def why(self, run: PipelineRun, name: str) -> tuple[str, ...]:
        return self.step(run, name).why
