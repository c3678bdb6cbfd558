"""A model in a process of its own: matrices go in, scores come out, and what it does otherwise it does there.

The process gets no keys, no token and no settings of Loopline, and an empty
folder to stand in. It may still do what its user may: a separate process keeps
the server's memory and secrets from it, not the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from typing import IO, Any

import numpy as np

from loopline.base.errors import Invalid, Unavailable
from loopline.base.settings import bare_environment
from loopline.training.encoding import Floats
from loopline.training.packages.calling import Calling
from loopline.training.packages.packaged import Scores

HEADER = struct.Struct("<II")
WAIT_S = 120.0
"""Opening the model, or one call, takes no longer; the process is ended then."""


class Apart:
    """The scores of a pickled model; safe to share between threads."""

    def __init__(self, data: bytes, call: Calling) -> None:
        self._data, self._call = data, call
        self._lock = threading.Lock()
        self._child: _Child | None = None
        with self._lock:
            self._start()

    def __call__(self, matrix: Floats) -> Scores:
        """(n, k) float32 to (n,) float64.

        Raises
        ------
        Invalid
            If the model raises, or gives no probabilities.
        Unavailable
            If its process ended or was too slow; the next call starts another.
        """
        with self._lock:
            child = self._child or self._start()
            try:
                return child.score(np.ascontiguousarray(matrix, dtype=np.float32))
            except (OSError, EOFError, struct.error) as error:
                self._child = None
                child.end()
                raise Unavailable(
                    "the model's own process ended",
                    why="its code stopped it, it ran out of memory, or one call took too long",
                    fix="look at the server's log; the next request starts it again",
                ) from error

    def _start(self) -> _Child:
        self._child = None
        child = _Child()
        try:
            child.open(self._data, self._call)
        except (OSError, EOFError, struct.error) as error:
            child.end()
            raise Invalid(
                "the model's own process ended while it opened the model",
                why="its code stopped it, or it was too slow",
                fix="train the model again where its packages are installed",
            ) from error
        except BaseException:
            child.end()
            raise
        self._child = child
        weakref.finalize(self, child.end)
        return child


class _Child:
    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="loopline-apart-", ignore_cleanup_errors=True)
        asks, questions = os.pipe()
        answers, says = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "loopline.training.packages.aside", str(asks), str(says)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(asks, says),
            cwd=self._folder.name,
            env=bare_environment(),
        )
        os.close(asks)
        os.close(says)
        self._to: IO[bytes] = os.fdopen(questions, "wb")
        self._from: IO[bytes] = os.fdopen(answers, "rb")

    def open(self, data: bytes, call: Calling) -> None:
        about = json.dumps(call.doc()).encode()
        self._asked(HEADER.pack(len(about), len(data)) + about + data)

    def score(self, matrix: Floats) -> Scores:
        rows, columns = matrix.shape
        said = self._asked(HEADER.pack(rows, columns) + matrix.tobytes())
        return np.frombuffer(said, dtype="<f8").copy()

    def _asked(self, question: bytes) -> bytes:
        watch = threading.Timer(WAIT_S, self._process.kill)
        watch.start()
        try:
            self._to.write(question)
            self._to.flush()
            failed, size = HEADER.unpack(read_exactly(self._from, HEADER.size))
            said = read_exactly(self._from, size)
        finally:
            watch.cancel()
        if failed:
            raise _said(json.loads(said))
        return said

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for end in (self._to, self._from):
            with contextlib.suppress(OSError):  # what was not sent is of no use now
                end.close()
        self._folder.cleanup()


def read_exactly(source: IO[bytes], size: int) -> bytes:
    """The next `size` bytes; EOFError where there are fewer."""
    data = source.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _said(doc: dict[str, Any]) -> Invalid:
    return Invalid(
        f"the model stopped: {doc['what']}",
        why=str(doc.get("why") or "it runs in a process of its own"),
        fix=str(doc.get("fix") or "mend it and train again"),
    )
