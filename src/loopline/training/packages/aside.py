"""The program that opens a pickled model; `apart` alone starts it, once policy and signature were checked.

A closed pipe ends it: whoever asked is gone then.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import signal
import sys
from typing import IO

import numpy as np

from loopline.base.errors import LooplineError
from loopline.training.packages.apart import HEADER, read_exactly
from loopline.training.packages.calling import Calling
from loopline.training.packages.packaged import Score

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Open the model that comes first, then score the matrices that follow."""
    asks, says = int(sys.argv[1]), int(sys.argv[2])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for end in (asks, says):
        os.set_inheritable(end, False)
    with os.fdopen(asks, "rb") as questions, os.fdopen(says, "wb") as answers:
        score = _opened(questions, answers)
        while score is not None:
            try:
                rows, columns = HEADER.unpack(read_exactly(questions, HEADER.size))
            except EOFError:
                return
            data = read_exactly(questions, 4 * rows * columns)
            try:
                found = score(np.frombuffer(data, dtype="<f4").reshape(rows, columns).copy())
            except BaseException as error:
                _say(answers, 1, _shown(error))
            else:
                _say(answers, 0, np.asarray(found, dtype="<f8").tobytes())


def _opened(questions: IO[bytes], answers: IO[bytes]) -> Score | None:
    about, size = HEADER.unpack(read_exactly(questions, HEADER.size))
    call = Calling.of(json.loads(read_exactly(questions, about)))
    data = read_exactly(questions, size)
    try:
        score = call.bound(pickle.loads(data))
    except BaseException as error:
        _say(answers, 1, _shown(error))
        return None
    _say(answers, 0, b"")
    return score


def _shown(error: BaseException) -> bytes:
    if isinstance(error, LooplineError):
        return json.dumps({"what": error.what, "why": error.why, "fix": error.fix}).encode()
    return json.dumps({"what": f"{type(error).__name__}: {str(error)[:500]}"}).encode()


def _say(answers: IO[bytes], failed: int, data: bytes) -> None:
    answers.write(HEADER.pack(failed, len(data)) + data)
    answers.flush()


if __name__ == "__main__":
    main()
