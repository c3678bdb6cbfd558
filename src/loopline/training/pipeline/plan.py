"""A pipeline beside what the records hold: what each step reads, its key, and whether its answer is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid, LooplineError, NotFound
from loopline.base.ids import content_id
from loopline.store.blobs.local import LocalBlobs
from loopline.training.cache import Closure
from loopline.training.pipeline import keys
from loopline.training.pipeline.declare import Answer, Graph, Node, answers
from loopline.training.pipeline.functions import hints
from loopline.training.pipeline.nouns import StepRun
from loopline.training.pipeline.task import store
from loopline.training.pipeline.values import (
    dict_doc,
    digest_of,
    pack,
    pack_params,
    part_of,
    path_doc,
    tuple_doc,
)
from loopline.workspace import Workspace

ANSWERS = "step_answer"
"""Pointer from a key to the step run that answered it."""
LATEST = "step_latest"
"""Pointer from pipeline and step to its newest step run."""
FIRST = "it has not run before"


@dataclass(frozen=True, slots=True)
class Ready:
    """A step all of whose inputs are known."""

    node: Node
    ref: str
    code: Closure
    arguments: dict[str, Any]
    parts: dict[str, Any]
    key: str
    made_by: dict[str, str]
    """Argument to the step whose answer it is, or holds."""


class Plan:
    """The steps of a graph, with what is known of each as answers come in.

    Parameters
    ----------
    project : Path
        Folder that relative paths and files of steps are in.
    carries : bool
        Whether paths must travel: their files are copied into the store then.
    """

    def __init__(self, ws: Workspace, project: Path, pipeline: str, graph: Graph, *, seed: int, carries: bool) -> None:
        self.ws, self.project, self.pipeline, self.graph = ws, project, pipeline, graph
        self.blobs: LocalBlobs = store(ws.root)
        self.outputs: dict[str, Any] = {}
        self._seed, self._carries = seed, carries
        self._code: dict[Any, tuple[str, Closure]] = {}

    def ready(self, node: Node) -> Ready:
        """What a step would be given, and its key."""
        called = node.step
        known = self._code.get(called.function)
        if known is None:
            if called.file is not None and self.project not in called.file.parents:
                raise Invalid(
                    f"the step {node.name} is defined in {called.file}, outside the project {self.project.name}",
                    why="a run only keeps track of code of its own project",
                    fix=f"move it into {self.project}, or call it from a step there",
                )
            known = keys.ref_of(self.project, called), keys.code_of(self.project, called)
            self._code[called.function] = known
        ref, code = known
        paths = {name for name, kind in hints(called.function).items() if kind is Path}
        arguments: dict[str, Any] = {}
        inputs: dict[str, str] = {}
        params: dict[str, Any] = {}
        made_by: dict[str, str] = {}
        for name, value in node.arguments.items():
            if isinstance(value, str) and name in paths:
                value = Path(value)
            doc = arguments[name] = self._packed(value, f"{name} of {node.name}")
            sources = list(answers(value))
            if sources:
                made_by[name] = sources[0].step
            if sources or isinstance(value, Path):
                inputs[name] = doc["content"] if isinstance(doc, dict) and doc.get("$") == "path" else digest_of(doc)
            else:
                params[name] = doc
        options = called.options
        parts = keys.parts(
            ref, code, inputs=inputs, params=params, seed=self._seed, variables=options.env, bitwise=options.bitwise
        )
        return Ready(node, ref, code, arguments, parts, keys.key_of(parts), made_by)

    def found(self, ready: Ready, *, resumes: str | None = None) -> tuple[StepRun | None, tuple[str, ...]]:
        """The step run whose answer holds, or why there is none.

        Parameters
        ----------
        resumes : str, optional
            A run that was killed: what it finished is not run again, even where it is volatile.
        """
        if ready.node.step.options.volatile:
            kept = None if resumes is None else self._recorded(step_run_id(resumes, ready.node.name, ready.key))
            return (kept, ()) if kept is not None and not self._broken(kept) else (None, ("it is volatile",))
        pointer = self.ws.records.pointer(ANSWERS, ready.key)
        if pointer is None:
            return None, self._reasons(ready)
        made = self.ws.records.get(StepRun, pointer.target)
        broken = self._broken(made)
        return (None, (broken,)) if broken else (made, ())

    def latest(self, step: str) -> StepRun | None:
        """The newest run of a step of this pipeline."""
        pointer = self.ws.records.pointer(LATEST, f"{self.pipeline}/{step}")
        return None if pointer is None else self._recorded(pointer.target)

    def _recorded(self, id: str) -> StepRun | None:
        try:
            return self.ws.records.get(StepRun, id)
        except NotFound:
            return None

    def _reasons(self, ready: Ready) -> tuple[str, ...]:
        before = self.latest(ready.node.name)
        if before is None:
            return (FIRST,)
        told = keys.differences(before.parts, ready.parts, ready.made_by)
        return told or ("its answer was not kept",)

    def _broken(self, made: StepRun) -> str:
        """What is wrong with a kept answer; empty when every blob is there and matches its digest."""
        for mark in made.blobs:
            try:
                self.blobs.path(mark)
            except NotFound:
                return f"its answer is gone (blob {mark[:12]})"
            except LooplineError:
                self.blobs.delete(mark)
                return f"its answer was damaged (blob {mark[:12]})"
        return ""

    def _packed(self, value: Any, what: str) -> Any:
        if isinstance(value, Answer):
            return part_of(self.outputs[value.step], value.path, self.blobs, f"the answer of {value.step}")
        if isinstance(value, Path):
            path = value if value.is_absolute() else self.project / value
            doc = path_doc(path)
            return pack(path, self.blobs, what) if self._carries and path.is_file() else doc
        if any(True for _ in answers(value)):
            if isinstance(value, Mapping):
                return dict_doc({str(key): self._packed(item, f"{what}[{key!r}]") for key, item in value.items()})
            items = [self._packed(item, f"{what}[{at}]") for at, item in enumerate(value)]
            return tuple_doc(items) if isinstance(value, tuple) else items
        return pack_params(value, what)


def step_run_id(run: str, step: str, key: str) -> str:
    """The id of a step in a run: the same when the run is taken up again."""
    return content_id({"run": run, "step": step, "key": key})
