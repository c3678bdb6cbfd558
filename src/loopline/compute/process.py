"""A step in a fresh process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from loopline.base import settings
from loopline.base.clock import monotonic
from loopline.base.code import UserCodeError
from loopline.base.errors import FAMILIES, Unavailable
from loopline.compute.spec import StepSpec

_TAIL = 4000
POLITE = 15
"""Niceness of steps that nobody waits for."""
E = TypeVar("E", bound=Exception)


class StepFailed(RuntimeError):
    """A step ended by an exception that is no Loopline error: a bug. The message holds its traceback."""


def run_step(
    spec: StepSpec, *, workspace: Path, timeout_s: float | None = None, log: Path | None = None
) -> dict[str, Any]:
    """Run a step in a fresh process and return its result.

    The process dies with the caller, whatever ends the caller.

    Parameters
    ----------
    spec : StepSpec
        What to call; it gets `workspace` and its arguments.
    workspace : Path
        The folder of the workspace.
    timeout_s : float, optional
        Seconds after which the process is killed.
    log : Path, optional
        Where what the step prints is appended; else only its end is kept, for
        errors.

    Raises
    ------
    LooplineError
        What the step raised, of the same family; the child's traceback and the
        end of its output are attached as notes.
    StepFailed
        If it raised anything else.
    Unavailable
        If it was killed, or ran out of time.
    """
    with Child(workspace, log=log) as child:
        return child.run(spec, timeout_s=timeout_s)


class Child:
    """One process that runs steps, one after another, in the thread that made it.

    A polite one leaves the processor to everything else that wants it.
    """

    def __init__(self, workspace: Path, *, log: Path | None = None, polite: bool = False) -> None:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        self._log: IO[bytes] = log.open("a+b") if log is not None else tempfile.TemporaryFile()  # noqa: SIM115
        answers, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "loopline.compute.child", str(theirs), str(Path(workspace).absolute())],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(theirs,),
                start_new_session=True,
                env=settings.child_environment(PYTHONUNBUFFERED="1", OMP_WAIT_POLICY="PASSIVE", MALLOC_ARENA_MAX="2"),
            )
        except OSError as error:
            os.close(answers)
            self._log.close()
            raise Unavailable(
                f"no process can be started: {error.strerror}",
                why="steps run in processes of their own",
                fix="free memory or processes, then do it again",
            ) from error
        finally:
            os.close(theirs)
        if polite:
            _stand_back(self._process.pid)
        self._answers = answers
        self._buffer = b""

    @property
    def alive(self) -> bool:
        """Whether the process can still take a step."""
        return self._process.poll() is None

    def run(self, spec: StepSpec, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Run one step; see `run_step`."""
        began = self._log.seek(0, os.SEEK_END)
        line = spec.to_json().encode() + b"\n"
        assert self._process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line)
                self._process.stdin.flush()
            answer = self._answer(spec, timeout_s, began)
        except BaseException:
            self.close()
            raise
        if "result" in answer:
            result: dict[str, Any] = answer["result"]
            return result
        raise raised(spec, answer, self._output(began))

    def kill(self) -> None:
        """End the process and all it started, from any thread; whoever waits for its answer hears of it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process and all it started."""
        self.kill()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1
        self._log.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, spec: StepSpec, timeout_s: float | None, began: int) -> dict[str, Any]:
        limit = None if timeout_s is None else monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = None if limit is None else max(0.0, limit - monotonic())
            ready, _, _ = select.select([self._answers], [], [], left)
            if not ready:
                raise Unavailable(
                    f"the step {spec.entrypoint} was stopped after {timeout_s:g} s",
                    why="it was given no more time",
                    fix="raise the time-out, or give it less to do",
                )
            chunk = os.read(self._answers, 1 << 16)
            if not chunk:
                raise self._died(spec, began)
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self, spec: StepSpec, began: int) -> Unavailable:
        code = self._process.wait()
        how = f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with exit code {code}"
        error = Unavailable(
            f"the process of the step {spec.entrypoint} ended {how}",
            why="something killed it: often the system, because memory ran out" if code < 0 else "it ended itself",
            fix="see its output; free memory or give it less to do, then do it again",
        )
        return _noted(error, "", self._output(began))

    def _output(self, began: int) -> str:
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(began, end - _TAIL))
        return self._log.read().decode(errors="replace")


def raised(spec: StepSpec, answer: dict[str, Any], output: str) -> Exception:
    """The error of an answer that is not a result."""
    trace = str(answer["traceback"])
    if "bug" in answer:
        failed = StepFailed(f"the step {spec.entrypoint} raised {answer['bug']}\n\n{trace.rstrip()}")
        return _noted(failed, "", output)
    doc = answer["error"]
    family = UserCodeError if doc["type"] == UserCodeError.__name__ else FAMILIES.get(doc["code"], Unavailable)
    return _noted(family(doc["what"], why=doc["why"], fix=doc["fix"]), trace, output)


def _noted(error: E, trace: str, output: str) -> E:
    if trace:
        error.add_note("In the process of the step:\n" + trace.rstrip())
    if output.strip():
        error.add_note("It printed at its end:\n" + output.rstrip())
    return error


def _stand_back(pid: int) -> None:
    """Have a process that leads a session of its own leave the processor to others.

    Where Linux shares time between sessions first (sched(7), autogroup), the nice
    value counts inside the session alone, and the session has one of its own.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, POLITE)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(POLITE))
