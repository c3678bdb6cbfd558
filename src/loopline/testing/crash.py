"""Die at every line, not at a lucky moment."""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

Action = Callable[[], object]
_HOME = str(Path(__file__).resolve().parents[1])
_SELF = str(Path(__file__).resolve().parent)


def killed_at_every_line(action: Action, *, fresh: bool = False, every: int = 1, within: str = _HOME) -> Iterator[int]:
    """Run `action` again and again, each time in a child that is killed one line later.

    After each death the number of lines that ran is yielded, for the caller to
    look at what was left behind. The last child ends `action` unharmed, and is
    not yielded. Lines count in files below `within` (Loopline's own by default),
    in every thread.

    Parameters
    ----------
    action : callable
        What to do; it must bear being done again after any crash.
    fresh : bool
        Start each child as a fresh interpreter (`action` must then pickle):
        needed wherever Polars, Delta or LightGBM have run in this process. A
        fork by default.
    every : int
        Kill at every n-th line only.

    Raises
    ------
    AssertionError
        If `action` raises, or blocks for a minute, in a child.
    """
    line = 0
    while True:
        line += every
        if _ended(_start(_run_lines, (action, line, within), fresh), f"line {line}"):
            return
        yield line


def killed_at_every_call(
    action: Action, calls: Sequence[str], *, every: int = 1, preload: Sequence[str] = ()
) -> Iterator[int]:
    """Run `action` again and again, each time in a child that is killed before, or right after, one more of the calls.

    For what happens in Rust or C, where no line can be named. Yields after each
    death, as `killed_at_every_line`; the last child ends unharmed.

    Parameters
    ----------
    action : callable
        Must pickle; it must bear being done again after any crash.
    calls : sequence of str
        Functions by `module:name`, such as `os:replace` or `package.module:Class.method`.
    every : int
        Kill at every n-th point only.
    preload : sequence of str
        Modules that children find loaded.

    Raises
    ------
    AssertionError
        If `action` raises, or blocks for a minute, in a child.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    point = 0
    while True:
        point += every
        child = context.Process(target=_run_calls, args=(action, tuple(calls), point))
        child.start()
        if _ended(child, f"call {point}"):
            return
        yield point


def killed_after_delays(
    action: Action, *, times: int, up_to_s: float, seed: int = 0, fresh: bool = True
) -> Iterator[float]:
    """Run `action` in children that are killed after random delays, in Rust or C as well.

    Yields the delay after each death; children that ended before it are not
    yielded. The clock starts when the child is about to call `action`.
    """
    draw = random.Random(seed)
    for _ in range(times):
        delay = draw.uniform(0.0, up_to_s)
        if not _ended(_start(_run_timed, (action, delay), fresh), f"{delay:.4f} s"):
            yield delay
    if not _ended(_start(_run_timed, (action, None), fresh), "its end"):
        raise AssertionError("the last run was killed by something else")


def _start(target: Callable[..., None], arguments: tuple[Any, ...], fresh: bool) -> BaseProcess:
    context: Any = multiprocessing.get_context("spawn" if fresh else "fork")
    child: BaseProcess = context.Process(target=target, args=arguments, daemon=False)
    child.start()
    return child


def _ended(child: BaseProcess, when: str) -> bool:
    """Whether the child ended by itself; false when it was killed as intended."""
    child.join(60)
    if child.exitcode is None:
        child.kill()
        child.join()
        raise AssertionError(f"the action blocked before {when}")
    code = child.exitcode
    child.close()
    if code not in (0, -signal.SIGKILL):
        raise AssertionError(f"the action failed before {when}; its traceback is on the error stream")
    return code == 0


def _run_lines(action: Action, line: int, within: str) -> None:
    left = line
    lock = threading.Lock()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        file = frame.f_code.co_filename
        if not file.startswith(within) or file.startswith(_SELF):
            return None
        if event == "line":
            with lock:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
    _finish(action)


def _run_calls(action: Action, calls: Sequence[str], point: int) -> None:
    left = point
    lock = threading.Lock()

    def pass_by() -> None:
        nonlocal left
        with lock:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def through(*args: Any, **named: Any) -> Any:
            pass_by()
            found = call(*args, **named)
            pass_by()
            return found

        return through

    for name in calls:
        module, _, path = name.partition(":")
        owner: Any = importlib.import_module(module)
        *outer, last = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        setattr(owner, last, watched(getattr(owner, last)))
    _finish(action)


def _run_timed(action: Action, delay: float | None) -> None:
    if delay is not None:

        def kill() -> None:
            time.sleep(delay)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
    _finish(action)


def _finish(action: Action) -> None:
    """Do it and leave without clean-up, which belongs to the parent."""
    try:
        action()
    except BaseException:
        sys.settrace(None)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
