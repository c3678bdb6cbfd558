"""The end of what a run printed."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Any, TextIO

KEPT = 256 << 10
"""Characters of output that are kept, the last ones."""


class Tail:
    """Keeps the end of standard output and standard error while they go where they went."""

    def __init__(self, most: int = KEPT) -> None:
        self._most, self._size = most, 0
        self._parts: deque[str] = deque()
        self._cut = False
        self._lock = threading.Lock()
        self._before: tuple[TextIO, TextIO] | None = None
        self._own: tuple[Any, Any] | None = None
        self.version = 0

    def begin(self) -> None:
        """Listen from now on."""
        self._before = sys.stdout, sys.stderr
        self._own = _Ear(sys.stdout, self), _Ear(sys.stderr, self)
        sys.stdout, sys.stderr = self._own

    def end(self) -> None:
        """Listen no more; where somebody else has taken the streams since, they are left to him."""
        if self._before is None or self._own is None:
            return
        if sys.stdout is self._own[0]:
            sys.stdout = self._before[0]
        if sys.stderr is self._own[1]:
            sys.stderr = self._before[1]
        for ear in self._own:
            ear.tail = None
        self._before = self._own = None

    def heard(self, text: str) -> None:
        """Keep a piece of output."""
        with self._lock:
            self._parts.append(text[-self._most :])
            self._size += len(self._parts[-1])
            self.version += 1
            while self._size - len(self._parts[0]) >= self._most:
                self._size -= len(self._parts.popleft())
                self._cut = True

    @property
    def text(self) -> str:
        """What is kept."""
        with self._lock:
            found = "".join(self._parts)
            cut = self._cut or len(found) > self._most
        if not cut:
            return found
        return "[earlier output was let go]\n" + found[-self._most :].partition("\n")[2]


class _Ear:
    """A stream that is heard."""

    def __init__(self, stream: Any, tail: Tail) -> None:
        self.stream = stream
        self.tail: Tail | None = tail

    def write(self, text: str) -> int:
        written = self.stream.write(text)
        tail = self.tail
        if tail is not None and isinstance(text, str):
            tail.heard(text)
        return written if isinstance(written, int) else len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> Any:
        return iter(self.stream)
