from __future__ import annotations

import linecache
import sys
import types

import pytest

from loopline.base.errors import Invalid
from loopline.compute import Place
from loopline.training.pipeline.nouns import StepRun
from loopline.training.pipeline.verbs import result_of, run_pipeline
from loopline.workspace import create_workspace

CELL = """
from loopline.training.pipeline import pipeline, step
from shared import add

RATE = 2

def helper(x):
    return x * RATE

@step
def a(n: int) -> int:
    return add(helper(n))

@pipeline
def main(n: int = 3):
    return a(n)
"""


class Notebook:
    """Cells, as a notebook's kernel runs them: into one module, their source where `inspect` finds it."""

    def __init__(self, folder, monkeypatch):
        self.root = folder
        (folder / "shared.py").write_text("def add(x):\n    return x + 1\n")
        monkeypatch.syspath_prepend(str(folder))
        sys.modules.pop("shared", None)
        self.module = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", self.module)
        self.ws = create_workspace(folder / ".loopline")
        self.count = 0

    def cell(self, text):
        self.count += 1
        name = f"/tmp/ipykernel_1/{self.count}.py"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), self.module.__dict__)

    def run(self, **options):
        self.errors = {}
        run = run_pipeline(self.ws, self.root, self.module.main, errors=self.errors, **options)
        ran = [name for name, id in run.steps.items() if not self.ws.records.get(StepRun, id).cached]
        return run, ran


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    yield Notebook(tmp_path, monkeypatch)
    sys.modules.pop("shared", None)


def test_cells_run_as_steps_are_found_again_and_marked_exploratory(notebook):
    notebook.cell(CELL)
    run, ran = notebook.run()
    assert (result_of(notebook.ws, run), ran) == (7, ["a"])
    assert (run.source, run.tags, run.pipeline) == ("notebook", {"loopline.source": "notebook"}, "notebook:main")
    notebook.cell(CELL.replace("def helper(x):", "def helper(x):  # said again"))
    assert notebook.run()[1] == []
    notebook.cell("RATE = 5")
    run, ran = notebook.run()
    assert (result_of(notebook.ws, run), ran) == (16, ["a"])
    assert notebook.ws.records.get(StepRun, run.steps["a"]).why == ("notebook:RATE changed",)
    notebook.cell("def helper(x):\n    return x - RATE\n")
    assert result_of(notebook.ws, notebook.run()[0]) == -1


def test_a_step_in_a_cell_is_called_as_the_function_it_is(notebook):
    notebook.cell(CELL)
    assert notebook.module.a(1) == 3
    assert notebook.module.main(1) == 3


def test_a_cell_cannot_leave_its_process_and_hidden_inputs_are_refused(notebook):
    notebook.cell(CELL.replace("@step\n", "@step(timeout='5s')\n"))
    notebook.run()
    assert "in a notebook" in str(notebook.errors["a"])
    notebook.cell(CELL)
    notebook.run(place=Place("processes", workers=1))
    assert "in a notebook" in str(notebook.errors["a"])
    notebook.cell("RATE = object()")
    notebook.run()
    assert isinstance(notebook.errors["a"], Invalid)
    assert "give a a parameter RATE" in str(notebook.errors["a"])
