"""A run of a pipeline: steps as soon as their inputs are there, found where they are known, kept as they end."""

from __future__ import annotations

import heapq
import queue
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from loopline.base.clock import monotonic
from loopline.base.code import UserCodeError
from loopline.base.errors import Invalid, Unavailable
from loopline.base.ids import content_id, iso, uuid7
from loopline.base.process import holder, is_gone
from loopline.compute.devices import devices
from loopline.compute.process import StepFailed
from loopline.compute.protocol import Executor
from loopline.compute.spec import StepSpec
from loopline.store.records.protocol import Lease, Row
from loopline.training.pipeline import live, told
from loopline.training.pipeline.declare import Graph, Node
from loopline.training.pipeline.job import Job
from loopline.training.pipeline.nouns import StepRun
from loopline.training.pipeline.plan import ANSWERS, LATEST, Plan, step_run_id
from loopline.training.pipeline.values import digest_of
from loopline.workspace import Workspace

RUNS = "pipeline_run"
"""Kind of the rows that say how a run stands."""
STARTED = "pipeline_started"
"""Pointer from a pipeline with its params to the run that was started last."""
ENTRYPOINT = "loopline.training.pipeline.task:run"
LEASE_S, RENEW_S, LOOK_S, SAVE_S = 30.0, 10.0, 0.1, 0.05
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run, for whoever watches."""

    kind: Literal["waiting", "started", "found", "printed", "done", "again", "failed", "skipped"]
    step: str
    text: str = ""
    done: int = 0
    total: int = 0


Watch = Callable[[Event], None]


@dataclass(slots=True)
class Outcome:
    """How a run ended."""

    run: str
    started_at: datetime
    seconds: float
    steps: dict[str, StepRun]
    errors: dict[str, Exception]
    resumes: str | None


class Runner:
    """One run; `execute` brings it to its end."""

    def __init__(
        self,
        ws: Workspace,
        project: Path,
        *,
        pipeline: str,
        graph: Graph,
        params: dict[str, Any],
        seed: int,
        executor: Executor,
        watch: Watch,
        verify: bool = False,
        again: frozenset[str] = frozenset(),
    ) -> None:
        self._ws, self._project, self._executor, self._watch = ws, project, executor, watch
        self._graph, self._seed, self._verify, self._again = graph, seed, verify, again
        self._name, self._params = pipeline, params
        self._plan = Plan(ws, project, pipeline, graph, seed=seed, carries=executor.name == "ray")
        self._lane = f"pipeline/{content_id([pipeline, params, seed])}"
        self._id = uuid7(ws.clock())
        self._row: Row | None = None
        self._pending: list[StepRun] = []
        self._done: dict[str, StepRun] = {}
        self._errors: dict[str, Exception] = {}
        self._skipped: set[str] = set()
        self._missing = {name: len(node.after) for name, node in graph.nodes.items()}
        self._children: dict[str, list[str]] = {}
        for name, node in graph.nodes.items():
            for before in node.after:
                self._children.setdefault(before, []).append(name)
        self._ready = deque(name for name, count in self._missing.items() if not count)
        self._running: dict[str, Job] = {}
        self._begun: dict[str, dict[str, Any]] = {}
        self._later: list[tuple[float, str, Job]] = []
        self._ended: queue.SimpleQueue[tuple[str, Future[dict[str, Any]]]] = queue.SimpleQueue()
        self._free = [device.number for device in devices()] if executor.name != "ray" else []
        self._saved = self._renewed = monotonic()
        self._resumes: str | None = None

    def execute(self) -> Outcome:
        """Run every step that must run; branches that do not need a failed step are brought to their end."""
        started_at, begin = self._ws.clock(), monotonic()
        lease = self._taken()
        try:
            self._begin(started_at)
            while self._ready or self._running or self._later:
                self._start()
                if self._running or self._later:
                    self._look()
                lease = self._renew(lease)
            self._commit(force=True)
        finally:
            self._ws.records.release(lease)
        seconds = round(monotonic() - begin, 6)
        return Outcome(self._id, started_at, seconds, self._done, self._errors, self._resumes)

    # ------------------------------------------------------------ the row of the run

    def _taken(self) -> Lease:
        """The right to run this pipeline with these params: a second run waits, and then finds what the first made."""
        said = False
        while (lease := self._ws.records.lease(self._lane, holder(), lease_s=LEASE_S)) is None:
            for owner in self._ws.records.owners():
                if is_gone(owner):
                    self._ws.records.evict(owner)
            if not said:
                self._watch(Event("waiting", "", "another run of this pipeline goes first"))
                said = True
            time.sleep(LOOK_S)
        return lease

    def _renew(self, lease: Lease) -> Lease:
        if monotonic() - self._renewed < RENEW_S:
            return lease
        self._renewed = monotonic()
        return self._ws.records.lease(self._lane, holder(), lease_s=LEASE_S) or lease

    def _begin(self, at: datetime) -> None:
        before = self._ws.records.pointer(STARTED, self._lane)
        row = None if before is None else self._ws.records.row(RUNS, before.target)
        if row is not None and row.state == "running":
            self._resumes = row.id
        doc = {
            "pipeline": self._name,
            "params": self._params,
            "seed": self._seed,
            "executor": self._executor.name,
            "started_at": iso(at),
            "resumes": self._resumes,
            "steps": {},
            "running": [],
            **told.graph_doc(self._graph, holder()),
        }
        self._row = Row(RUNS, self._id, "running", 1, doc)
        with self._ws.records.transaction(durable=False) as tx:
            if row is not None and self._resumes:
                tx.save(replace(row, state="killed", generation=row.generation + 1), expect=row.generation)
            tx.save(self._row, expect=0)
            tx.move(STARTED, self._lane, self._id, expect=None, at=at)

    def _commit(self, *, force: bool = False) -> None:
        """Keep the steps that ended, in one transaction; the row of the run not more often than people look."""
        assert self._row is not None
        late = force or monotonic() - self._saved >= SAVE_S
        if not (self._pending or late):
            return
        at = self._ws.clock()
        with self._ws.records.transaction(durable=False) as tx:
            for made in self._pending:
                tx.put(made)
                if not made.cached:
                    tx.move(ANSWERS, made.key, made.id, expect=None, at=at)
                tx.move(LATEST, f"{self._name}/{made.step}", made.id, expect=None, at=at)
            if late:
                steps = {name: made.id for name, made in self._done.items()}
                doc = {**self._row.doc, "steps": steps, "running": sorted(self._running), "begun": {**self._begun}}
                doc["found"] = sum(made.cached for made in self._done.values())
                doc["failed"] = {name: str(error).splitlines()[0] for name, error in self._errors.items()}
                state = "running" if not force else "failed" if self._errors else "done"
                self._row = Row(RUNS, self._id, state, self._row.generation + 1, doc)
                tx.save(self._row, expect=self._row.generation - 1)
                self._saved = monotonic()
        self._pending.clear()

    # ------------------------------------------------------------ starting steps

    def _start(self) -> None:
        """Find, or start, every step whose inputs are there and for which there is room."""
        full: list[str] = []
        while self._ready:
            name = self._ready.popleft()
            node = self._graph.nodes[name]
            if any(step in self._errors or step in self._skipped for step in node.after):
                self._skipped.add(name)
                self._ended_now(name)
                self._tell("skipped", name, "a step it reads from failed")
            elif self._has_room(node):
                self._open(node)
            else:
                full.append(name)
        self._ready.extend(full)

    def _ended_now(self, name: str) -> None:
        """A step will not change any more: those that waited for it alone are ready."""
        for child in self._children.get(name, ()):
            self._missing[child] -= 1
            if not self._missing[child]:
                self._ready.append(child)

    def _has_room(self, node: Node) -> bool:
        if not self._running:
            return True
        options = node.step.options
        used = sum(job.ready.node.step.options.cpus for job in self._running.values())
        if options.gpus and self._executor.gpus and self._executor.name != "ray" and not self._free:
            return False
        return self._executor.name == "ray" or used + options.cpus <= self._executor.cpus

    def _open(self, node: Node) -> None:
        try:
            ready = self._plan.ready(node)
            made, why = self._plan.found(ready, resumes=self._resumes)
        except Exception as error:
            self._fail(node.name, error)
            return
        if node.name in self._again:
            made, why = None, ("it was asked to run again",)
        if made is not None:
            self._finish(
                replace(
                    made,
                    id=step_run_id(self._id, node.name, ready.key),
                    run=self._id,
                    pipeline=self._name,
                    step=node.name,
                    cached=True,
                    why=(),
                    attempts=0,
                    seconds=0.0,
                    cpu_seconds=0.0,
                    started_at=self._ws.clock(),
                )
            )
            self._tell("found", node.name)
            return
        fresh = self._verify or bool(node.step.options.gpus and self._free)
        self._submit(Job(ready, why, self._ws.clock(), fresh=fresh))

    def _submit(self, job: Job) -> None:
        ready, options = job.ready, job.ready.node.step.options
        name = ready.node.name
        notebook = ready.ref.startswith(f"{live.NOTEBOOK}:")
        if notebook:
            live.FUNCTIONS[ready.ref] = ready.node.step.function
            if options.timeout_s is not None or self._executor.own_process:
                self._fail(
                    name,
                    Invalid(
                        f"the step {name} is written in a notebook and cannot run in another process",
                        why="only this process knows its code; a thread cannot be stopped by a timeout",
                        fix="move it into a file of the project and import it, or run it without timeout, here",
                    ),
                )
                return
        if options.gpus and not job.devices:
            job.devices = [self._free.pop(0) for _ in range(min(options.gpus, len(self._free)))]
        log = job.opened_log(self._id)
        fresh = job.fresh and not notebook
        apart = self._executor.own_process or fresh or options.timeout_s is not None
        spec = StepSpec(
            ENTRYPOINT,
            {
                "project": str(self._project),
                "ref": ready.ref,
                "step": name,
                "arguments": ready.arguments,
                "sources": ready.code.sources,
                "seed": self._seed,
                "log": log,
                "devices": job.devices,
                "own_process": apart,
                "verify": self._verify,
            },
        )
        needs = job.needs(self._project, fresh=fresh)
        self._running[name] = job
        self._begun[name] = told.begun(job.why, job.started_at, job.attempt)
        self._tell("started", name, "; ".join(job.why) if job.attempt == 1 else f"attempt {job.attempt}")
        future = self._executor.submit(spec, needs)
        future.add_done_callback(lambda ended: self._ended.put((name, ended)))

    # ------------------------------------------------------------ what comes back

    def _look(self) -> None:
        """Wait a little for steps to end, pass on what they print, and start those that are tried again."""
        wait = LOOK_S
        if self._later:
            wait = min(wait, max(0.0, self._later[0][0] - monotonic()))
        try:
            self._settle(*self._ended.get(timeout=wait))
            while True:
                self._settle(*self._ended.get_nowait())
        except queue.Empty:
            pass
        for name, job in self._running.items():
            self._pass_on(name, job)
        while self._later and self._later[0][0] <= monotonic():
            self._submit(heapq.heappop(self._later)[2])
        self._commit()

    def _settle(self, name: str, future: Future[dict[str, Any]]) -> None:
        job = self._running.pop(name)
        self._pass_on(name, job)
        error = future.exception()
        answer = None if error is not None else future.result()
        if answer is not None and "stale" in answer:
            job.fresh = True  # that process has loaded older modules: a new one has not
            job.logs.pop()
            self._submit(job)
            return
        self._free = sorted({*self._free, *job.devices}) if job.devices else self._free
        options = job.ready.node.step.options
        if answer is None:
            assert isinstance(error, Exception)
            if job.attempt <= options.retries and isinstance(error, (UserCodeError, Unavailable, StepFailed)):
                wait = min(LONGEST_WAIT_S, options.backoff_s * 2 ** (job.attempt - 1))
                self._tell("again", name, f"{str(error).splitlines()[0]}; again in {wait:g} s")
                job.attempt += 1
                job.devices = []
                heapq.heappush(self._later, (monotonic() + wait, name, job))
                return
            self._begun[name] = told.begun(
                job.why, job.started_at, job.attempt, job.kept_log(self._ws.root, self._plan.blobs)
            )
            self._fail(name, error)
            return
        ready = job.ready
        id = step_run_id(self._id, name, ready.key)
        made = StepRun(
            id=id,
            run=self._id,
            pipeline=self._name,
            step=name,
            ref=ready.ref,
            key=ready.key,
            parts=ready.parts,
            output=answer["output"],
            output_digest=digest_of(answer["output"]),
            blobs=tuple(answer["blobs"]),
            cached=False,
            why=job.why,
            made_by=id,
            attempts=job.attempt,
            seconds=answer["seconds"],
            cpu_seconds=answer["cpu_seconds"],
            device=job.device(self._executor),
            started_at=job.started_at,
            log=job.kept_log(self._ws.root, self._plan.blobs),
            missed=job.missed(self._project, answer["loaded"]) if self._verify else (),
        )
        self._finish(made)
        self._tell("done", name, f"{made.seconds:.3g} s")

    def _finish(self, made: StepRun) -> None:
        self._done[made.step] = made
        self._begun.pop(made.step, None)
        self._plan.outputs[made.step] = made.output
        self._pending.append(made)
        self._ended_now(made.step)

    def _fail(self, name: str, error: Exception) -> None:
        self._errors[name] = error
        self._ended_now(name)
        self._tell("failed", name, str(error).splitlines()[0])

    def _pass_on(self, name: str, job: Job) -> None:
        """Hand the lines a step has printed since to whoever watches."""
        for line in job.printed(self._ws.root):
            self._tell("printed", name, line)

    def _tell(self, kind: Any, name: str, text: str = "") -> None:
        self._watch(Event(kind, name, text, len(self._done), len(self._graph.nodes)))
