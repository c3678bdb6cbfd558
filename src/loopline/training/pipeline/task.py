"""One step, wherever it runs: inputs from the store, the function, its answer into the store."""

from __future__ import annotations

import contextlib
import contextvars
import io
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from loopline.base import settings
from loopline.base.clock import monotonic
from loopline.base.code import calling_user_code
from loopline.base.errors import Invalid
from loopline.store.blobs.local import LocalBlobs
from loopline.training.pipeline import live, loading
from loopline.training.pipeline.declare import Step
from loopline.training.pipeline.typed import check_answer, check_arguments
from loopline.training.pipeline.values import blobs_of, pack, unpack

FOLDER = "steps"
"""Below the workspace: answers of steps and logs of those that run. Free to delete: it only costs running again."""
_said: contextvars.ContextVar[_Log | None] = contextvars.ContextVar("step output", default=None)


def store(workspace: Path) -> LocalBlobs:
    """The blobs that answers of steps live in."""
    return LocalBlobs(workspace / FOLDER / "blobs")


def run(
    workspace: Path,
    *,
    project: str,
    ref: str,
    step: str,
    arguments: dict[str, Any],
    sources: dict[str, str],
    seed: int,
    log: str,
    devices: list[int],
    own_process: bool,
    verify: bool = False,
) -> dict[str, Any]:
    """Run one step and keep its answer.

    Parameters
    ----------
    arguments : dict
        Argument to its packed value.
    sources : dict
        File of the project to the digest of its bytes, as the key was made of them.
    log : str
        File below the workspace that takes what the step prints.
    devices : list of int
        GPUs it may use.
    verify : bool
        Whether to say which modules of the project it has loaded in the end.

    Returns
    -------
    dict
        `output`, `blobs`, `seconds`, `cpu_seconds` and `loaded`; or only `stale`, the files that this process has
        loaded from other bytes.
    """
    root, blobs = Path(project), store(workspace)
    mine = os.getpid() if own_process else 0
    file = ref.partition(":")[0]
    if own_process and devices:
        settings.see_devices(devices)
    notebook = file == live.NOTEBOOK
    if not notebook and (old := loading.stale(root, sources, file)):
        return {"stale": old}
    cpu_clock = time.process_time if mine else time.thread_time
    with _Log(workspace / log) as out, _printing(out, whole_process=bool(mine)):
        function = live.FUNCTIONS[ref] if notebook else _function(root, ref)
        if not notebook and (old := loading.stale(root, sources, file)):
            return {"stale": old}
        given = {name: unpack(doc, blobs) for name, doc in arguments.items()}
        check_arguments(step, function, given, ())
        _seed(seed)
        begin, cpu = monotonic(), cpu_clock()
        with calling_user_code(ref):
            answer = function(**given)
        seconds, cpu_seconds = monotonic() - begin, cpu_clock() - cpu
    check_answer(step, function, answer)
    output = pack(answer, blobs, f"the answer of {step}")
    return {
        "output": output,
        "blobs": sorted(set(blobs_of(output))),
        "seconds": round(seconds, 6),
        "cpu_seconds": round(cpu_seconds, 6),
        "loaded": sorted(loading.modules_of(root)) if verify else [],
    }


def _function(root: Path, ref: str) -> Any:
    found = loading.load(root, ref)
    if isinstance(found, Step):
        return found.function
    if not callable(found):
        raise Invalid(f"{ref} is no function", why="it is to be run as a step", fix="define it with `def` and @step")
    return found


def _seed(seed: int) -> None:
    """Seed what has one seed for the whole process: Python, and NumPy where it is loaded."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


class _Log:
    """The file that takes what a step prints; it is there once something was printed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def open(self) -> IO[str]:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a")
        return self._file

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk: the answer counts, not what was printed
            self.open().write(text)
            self.open().flush()

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()


@contextmanager
def _printing(out: _Log, *, whole_process: bool) -> Iterator[None]:
    """Have what is printed go to `out`: of the whole process, libraries in C too, or of this thread's Python only."""
    if whole_process:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = [os.dup(number) for number in (1, 2)]
        try:
            for number in (1, 2):
                os.dup2(out.open().fileno(), number)
            yield
        finally:
            with contextlib.suppress(OSError):  # a full disk: the answer counts, not what was printed
                sys.stdout.flush()
                sys.stderr.flush()
            for number, before in zip((1, 2), kept, strict=True):
                os.dup2(before, number)
                os.close(before)
        return
    _Routed.install()
    token = _said.set(out)
    try:
        yield
    finally:
        _said.reset(token)
        _Routed.remove()


class _Routed(io.TextIOBase):
    """Standard output that knows which step prints: each thread's goes to its own log."""

    _lock = threading.Lock()
    _users = 0

    def __init__(self, before: Any) -> None:
        self._before = before

    @classmethod
    def install(cls) -> None:
        """Stand before both streams; until as many have removed it."""
        with cls._lock:
            cls._users += 1
            for name in ("stdout", "stderr"):
                if not isinstance(getattr(sys, name), cls):
                    setattr(sys, name, cls(getattr(sys, name)))

    @classmethod
    def remove(cls) -> None:
        """Give the streams back once nobody needs them routed."""
        with cls._lock:
            cls._users -= 1
            for name in ("stdout", "stderr"):
                if not cls._users and isinstance(routed := getattr(sys, name), cls):
                    setattr(sys, name, routed._before)

    def write(self, text: str) -> int:
        out = _said.get()
        if out is None:
            return int(self._before.write(text))
        out.write(text)
        return len(text)

    def flush(self) -> None:
        if _said.get() is None:
            self._before.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return _said.get() is None and bool(self._before.isatty())

    def fileno(self) -> int:
        return int(self._before.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(getattr(self._before, "encoding", "utf-8"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._before, name)
