"""`loopline up`: the control plane, and beside it the data plane, as processes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from loopline.base import settings
from loopline.base.clock import monotonic
from loopline.base.errors import Conflict, LooplineError, Unavailable
from loopline.base.log import logger
from loopline.interfaces.http.listening import require_free
from loopline.interfaces.http.seats import seated
from loopline.loop import effects, engine
from loopline.loop.doorbell import Doorbell
from loopline.loop.project import Project, load
from loopline.workspace import CLOCK, FOLDER, Workspace, create_workspace

log = logger(__name__)

HOST = "127.0.0.1"
LONGEST_SLEEP_S = 300.0
RETRY_S = 2.0
SHORT_LIFE_S = 10.0
TOLD = frozenset({"FAILED", "ROLLING_BACK", "DATA_INCIDENT"})
"""States whose reason stands in the log of a server too."""


def up(
    root: Path,
    *,
    port: int = 8400,
    host: str = HOST,
    workers: int = 1,
    say: Callable[[str], None] = lambda _: None,
    control_only: bool = False,
    beside: bool = False,
    warn: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until interrupted: `port` for people and the API, `port + 1` for predictions.

    The data plane is a process group of its own: it goes on when this process
    dies, and is found again when this process is started again.

    Raises
    ------
    Conflict
        If another process serves the workspace and `beside` is false, or if a port is in use.
    Denied
        If `host` is open to others and `LOOPLINE_TOKEN` is not set.
    """
    import numpy.typing  # noqa: F401  numpy recurses without end in a thread that asks for it while another loads it

    project = load(root).check()
    ws = create_workspace(project.root / FOLDER, actor="service:loop")
    _ = ws.records
    with _until_told(), seated(ws.root, f"http://{HOST}:{port}", beside=beside, say=warn):
        require_free(port, "the control plane")
        ws.runs.compact_later()
        plane = DataPlane(ws, project.name, port + 1, workers)
        try:
            plane.start()

            def ready() -> None:
                say(f"control plane and pages  http://{HOST}:{port}/")
                say(f"predictions              http://{HOST}:{port + 1}/predict/{project.name}")

            with Reconciler(ws, project):
                _serve_http(ws, project, host, port, ready)
        finally:
            plane.leave()
            if not control_only:
                plane.stop()
    ws.close()


class _Told(BaseException):
    """A signal asked this process to end."""


@contextlib.contextmanager
def _until_told() -> Iterator[None]:
    """Have SIGTERM and SIGINT end the block in order, from its first line on; a second one while it ends is ignored."""

    def tell(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: None)
        raise _Told

    before = {number: signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except _Told:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _serve_http(ws: Workspace, project: Project, host: str, port: int, ready: Callable[[], None]) -> None:
    from loopline import registry
    from loopline.interfaces.asgi import application
    from loopline.interfaces.http.listening import Server, config

    declared = project.spec.registry.protected
    if set(declared) - set(registry.protected(ws)):
        registry.protect(ws, declared)
    app = application(ws, project, host=host, port=port, token=settings.token())
    Server(config(app, host=host, port=port), ready).run()  # takes the signals itself, and raises them again at its end


class DataPlane:
    """The inference supervisor of one endpoint: started once, found again, and started again when it ends."""

    def __init__(self, ws: Workspace, endpoint: str, port: int, workers: int) -> None:
        self._ws, self._endpoint, self._port, self._workers = ws, endpoint, port, workers
        self._process: subprocess.Popen[bytes] | None = None
        self._ours = False
        self._leaving = threading.Event()
        self._left, self._leave = os.pipe()
        self._minder = threading.Thread(target=self._mind, name="data plane", daemon=True)

    def start(self) -> None:
        """Start it unless it runs, and see from now on that one does.

        Raises
        ------
        Conflict
            If its port is in use, or if it runs already on another.
        Unavailable
            If it ends at once.
        """
        self._begin()
        self._ours = True
        self._minder.start()

    def _begin(self) -> None:
        from loopline import serving

        if serving.supervisor_pid(self._ws, self._endpoint):
            self._require_same_port()
            return
        if not serving.workers_left(self._ws, self._endpoint):  # the next supervisor takes over the socket of such
            require_free(self._port, "predictions")
        folder = self._ws.root / "run"
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "loopline.interfaces.inference"]
        command += ["--workspace", str(self._ws.root), "--endpoint", self._endpoint]
        command += ["--port", str(self._port), "--workers", str(self._workers)]
        with (folder / "inference.log").open("ab") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=settings.child_environment(),
            )
        deadline = monotonic() + 30
        while not serving.supervisor_pid(self._ws, self._endpoint):
            if self._process.poll() is not None or monotonic() > deadline:
                tail = (folder / "inference.log").read_text(errors="replace")[-600:]
                raise Unavailable(
                    "the data plane did not start",
                    why=tail.strip() or "it printed nothing",
                    fix="mend this and run again",
                )
            threading.Event().wait(0.02)

    def _require_same_port(self) -> None:
        told = self._ws.root / "run" / f"inference-{self._endpoint}.json"
        try:
            port = int(json.loads(told.read_bytes())["port"])
        except (OSError, ValueError, KeyError):
            return
        if port != self._port:
            raise Conflict(
                f"predictions of {self._endpoint} are answered on port {port} already",
                why="another `loopline up` runs in this workspace, or one was killed and its data plane goes on",
                fix=f"loopline up --port {port - 1}, or end the other first",
            )

    def _mind(self) -> None:
        """Wait for the supervisor's end, and start another: its workers answer alone only for a while."""
        from loopline import serving

        while True:
            since = monotonic()
            pid = serving.supervisor_pid(self._ws, self._endpoint)
            with contextlib.suppress(ProcessLookupError):
                if pid is not None:
                    ended = os.pidfd_open(pid)
                    select.select([ended, self._left], [], [])
                    os.close(ended)
            if self._leaving.wait(0.0 if monotonic() - since > SHORT_LIFE_S else RETRY_S):
                return
            if self._process is not None:
                self._process.poll()
            if serving.supervisor_pid(self._ws, self._endpoint) is None:
                log.warning("the supervisor of the data plane ended; it is started again")
            try:
                self._begin()
            except LooplineError as error:
                log.warning("the data plane could not be started: %s", error)

    def leave(self) -> None:
        """Mind it no longer; it goes on."""
        self._leaving.set()
        os.write(self._leave, b".")
        if self._minder.is_alive():
            self._minder.join()

    def stop(self) -> None:
        """Drain and end what this one started or found; what it was refused goes on."""
        from loopline import serving

        if not self._ours and self._process is None:
            return
        pid = serving.supervisor_pid(self._ws, self._endpoint)
        if pid is None and self._process is not None and self._process.poll() is None:
            pid = self._process.pid  # it is only just starting
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = monotonic() + 25
        while serving.supervisor_pid(self._ws, self._endpoint) and monotonic() < deadline:
            if self._process is not None:
                self._process.poll()
            threading.Event().wait(0.02)


class Reconciler:
    """A thread that sleeps until the doorbell or the next due moment, and then ticks."""

    def __init__(self, ws: Workspace, project: Project) -> None:
        self._ws, self._project = ws, project
        self._stop = threading.Event()
        self._bell = Doorbell(ws.root)
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._ws.wake()
        self._thread.join(timeout=10)
        self._bell.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            pause = LONGEST_SLEEP_S
            try:
                for made in engine.tick(self._ws, self._project):
                    if made.after in TOLD:
                        log.warning("%s: %s -> %s: %s", made.cycle, made.before, made.after, made.why)
                pause = self._pause()
            except Conflict:
                pause = RETRY_S
            except LooplineError as error:
                log.warning("the loop could not move: %s", error)
                pause = 10 * RETRY_S
            except Exception:
                log.exception("the loop could not move; it is tried again")
                pause = 10 * RETRY_S
            self._bell.wait(pause)

    def _pause(self) -> float:
        again = effects.due_in(self._ws, self._project)
        longest = min(LONGEST_SLEEP_S, LONGEST_SLEEP_S if again is None else again)
        due = engine.next_due(self._ws, self._project)
        if due is None or self._ws.records.meta(CLOCK):
            return longest
        return max(0.0, min(longest, (due - self._ws.clock()).total_seconds()))
