"""The program that runs steps: one line of JSON in, one line of JSON out.

Started as `python -m loopline.compute.child ANSWERS WORKSPACE`: steps come on
standard input, answers go to the file descriptor ANSWERS, and whatever the step
prints goes to its log. When standard input ends, the one who asked is gone, and
so is this process, at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from loopline.base.errors import LooplineError
from loopline.compute.spec import StepSpec

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer steps until there is nobody left to answer to."""
    answers, workspace = int(sys.argv[1]), Path(sys.argv[2])
    die_with_parent()
    os.set_inheritable(answers, False)
    steps: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(steps,), daemon=True).start()
    with os.fdopen(answers, "w") as out:
        while True:
            answer = run(steps.get(), workspace)
            sys.stdout.flush()
            sys.stderr.flush()
            out.write(answer + "\n")
            out.flush()
            give_back()


def run(line: str, workspace: Path) -> str:
    """The answer to one step, as one line of JSON."""
    try:
        spec = StepSpec.from_json(line)
        module, _, name = spec.entrypoint.partition(":")
        function = getattr(importlib.import_module(module), name)
        return json.dumps({"result": function(workspace, **spec.args)}, allow_nan=False)
    except LooplineError as error:
        shown = {**error.as_dict(), "type": type(error).__name__}
        return json.dumps({"error": shown, "traceback": traceback.format_exc()})
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
        return json.dumps({"bug": said, "traceback": traceback.format_exc()})


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (Linux)."""
    if sys.platform == "linux":
        libc: Any = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def give_back() -> None:
    """Return to the system what the last step has freed, so that the next one does not come on top of it (glibc)."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)


def _listen(steps: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        steps.put(line)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
