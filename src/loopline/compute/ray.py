"""Steps on a Ray cluster. Nothing is pickled but text and bytes: a step, its code and what it reads travel with it."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import queue
import socket
import tempfile
import threading
import zipfile
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from loopline.base.errors import LooplineError, Unavailable, missing_extra
from loopline.compute.process import StepFailed, raised, run_step
from loopline.compute.protocol import Needs
from loopline.compute.spec import StepSpec

_MOST_BYTES = 100 << 20
_LEFT_OUT = frozenset({".git", ".loopline", ".venv", "__pycache__", "node_modules"})
_POLL_S, _KNOCK_S = 0.05, 5.0


class RayExecutor:
    """Steps as Ray tasks, each in a fresh process on the node that Ray chooses.

    The project's code and the files a step reads are put into Ray's object store
    once; what the step writes comes back with its answer, so nodes share no
    folder with this machine. They need the same Loopline installed.

    Parameters
    ----------
    workspace : Path
    address : str, optional
        `ray://head:10001`, `auto`, or the address of a head; without one, the
        cluster that `RAY_ADDRESS` names, else one started here.

    Raises
    ------
    Unavailable
        If Ray is not installed, or no cluster answers.
    """

    name, own_process = "ray", True

    def __init__(self, workspace: Path, *, address: str | None = None) -> None:
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise missing_extra("ray", "ray") from error
        self._ray = ray
        self._workspace = Path(workspace)
        self._mine = not ray.is_initialized()
        if self._mine:
            alone = {} if address else {"include_dashboard": False}
            try:
                _knock(address)
                ray.init(address=address, log_to_driver=False, configure_logging=False, **alone)
            except (OSError, RuntimeError, ValueError) as error:
                raise Unavailable(
                    f"no Ray cluster answers at {address or 'this machine'}: {error}",
                    why="the steps were to run there",
                    fix="start it with `ray start --head`, or correct the address",
                ) from error
        resources = ray.cluster_resources()
        self.cpus, self.gpus = float(resources.get("CPU", 1.0)), int(resources.get("GPU", 0))
        self._task: Any = ray.remote(_on_node)
        self._objects: dict[str, Any] = {}
        self._waiting: dict[Any, tuple[StepSpec, Future[dict[str, Any]]]] = {}
        self._lock = threading.Lock()
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._closed = False
        threading.Thread(target=self._collect, name="ray-answers", daemon=True).start()

    def submit(self, spec: StepSpec, needs: Needs) -> Future[dict[str, Any]]:
        """Hand a step to Ray, which runs it where there is room; it is run again where a node is lost."""
        future: Future[dict[str, Any]] = Future()
        files = [self._object(f"file:{name}", self._workspace / name) for name in needs.reads]
        code = self._code(needs.project) if needs.project is not None else None
        options: dict[str, Any] = {"num_cpus": needs.cpus, "max_retries": 3}
        if needs.gpus and self.gpus:
            options["num_gpus"] = min(needs.gpus, self.gpus)
        if needs.memory is not None:
            options["memory"] = needs.memory
        reference = self._task.options(**options).remote(
            spec.to_json(), needs.timeout_s, list(needs.reads), code, *files
        )
        with self._lock:
            self._waiting[reference] = (spec, future)
        future.set_running_or_notify_cancel()
        self._woken.put(None)
        return future

    def close(self) -> None:
        """Give up what still runs; leave the cluster, and end it if it was started here."""
        self._closed = True
        self._woken.put(None)
        with self._lock:
            for reference in self._waiting:
                self._ray.cancel(reference, force=True)
            self._waiting.clear()
        if self._mine:
            self._ray.shutdown()

    def _object(self, key: str, path: Path) -> Any:
        if key not in self._objects:
            self._objects[key] = self._ray.put(path.read_bytes())
        return self._objects[key]

    def _code(self, project: Path) -> Any:
        data = packed(project)
        key = f"code:{hashlib.sha256(data).hexdigest()}"
        if key not in self._objects:
            self._objects[key] = self._ray.put(data)
        return self._objects[key]

    def _collect(self) -> None:
        while not self._closed:
            with self._lock:
                running = list(self._waiting)
            if not running:
                self._woken.get()
                continue
            done, _ = self._ray.wait(running, num_returns=1, timeout=_POLL_S)
            for reference in done:
                with self._lock:
                    job = self._waiting.pop(reference, None)
                if job is not None:
                    self._settle(reference, *job)

    def _settle(self, reference: Any, spec: StepSpec, future: Future[dict[str, Any]]) -> None:
        try:
            line, files = self._ray.get(reference)
            for name, data in files.items():
                path = self._workspace / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    part = path.with_name(f"{path.name}.part")
                    part.write_bytes(data)
                    part.replace(path)
            answer = json.loads(line)
            if "result" in answer:
                future.set_result(answer["result"])
            else:
                future.set_exception(raised(spec, answer, answer.get("output", "")))
        except OSError as error:
            future.set_exception(error)
        except Exception as error:
            lost = Unavailable(
                f"Ray did not bring the step {spec.entrypoint} to its end: {str(error).splitlines()[0]}",
                why="the node or the cluster that ran it was lost",
                fix="see `ray status`; the steps that had finished are kept",
            )
            lost.__cause__ = error
            future.set_exception(lost)


def _knock(address: str | None) -> None:
    """See that somebody listens there: Ray itself asks for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()


def packed(project: Path) -> bytes:
    """The code of a project as a zip: its files, without hidden folders, data beyond 100 MiB refused."""
    out, total = io.BytesIO(), 0
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(project.rglob("*")):
            inside = path.relative_to(project)
            if path.is_symlink() or not path.is_file() or not _LEFT_OUT.isdisjoint(inside.parts):
                continue
            if path.suffix not in (".py", ".yaml", ".yml", ".toml", ".json", ".sql", ".txt"):
                continue
            total += path.stat().st_size
            if total > _MOST_BYTES:
                raise Unavailable(
                    f"the code of {project.name} is larger than {_MOST_BYTES >> 20} MiB",
                    why="it travels to the nodes with each run",
                    fix="move data out of the project, and hand it to the first step as a path",
                )
            archive.writestr(zipfile.ZipInfo(inside.as_posix()), path.read_bytes())
    return out.getvalue()


def _on_node(
    line: str, timeout_s: float | None, names: list[str], code: bytes | None, *files: bytes
) -> tuple[str, dict[str, bytes]]:
    """One step in a fresh process of this node; its answer and the files it wrote."""
    with tempfile.TemporaryDirectory(prefix="loopline-step-") as place:
        workspace, project = Path(place) / "workspace", Path(place) / "project"
        workspace.mkdir()
        for name, data in zip(names, files, strict=True):
            (workspace / name).parent.mkdir(parents=True, exist_ok=True)
            (workspace / name).write_bytes(data)
        spec = StepSpec.from_json(line)
        if code is not None:
            zipfile.ZipFile(io.BytesIO(code)).extractall(project)
            spec = StepSpec(spec.entrypoint, {**spec.args, "project": str(project)})
        answer: dict[str, Any]
        try:
            answer = {"result": run_step(spec, workspace=workspace, timeout_s=timeout_s)}
        except LooplineError as error:
            shown = {**error.as_dict(), "type": type(error).__name__}
            answer = {"error": shown, "traceback": "\n".join(getattr(error, "__notes__", ()))}
        except StepFailed as error:
            answer = {"bug": str(error), "traceback": ""}
        known = set(names)
        made = {path.relative_to(workspace).as_posix(): path for path in workspace.rglob("*") if path.is_file()}
        return json.dumps(answer), {name: path.read_bytes() for name, path in made.items() if name not in known}
