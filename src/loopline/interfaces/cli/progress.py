"""Progress on standard error, and only where a person watches."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from loopline.base.settings import interactive


class Progress:
    """Says what is being done: call it with a sentence, and with `done` of `total` where known.

    Silent unless standard error is a terminal. With a total it draws a bar and
    estimates the time left. With `story`, sentences without a total stay on the
    screen, and are printed where nobody watches too.
    """

    def __init__(self, *, quiet: bool = False, story: bool = False) -> None:
        self._story = story and not quiet
        self._live: Any = None
        self._task: Any = None
        self._on = interactive() and not quiet

    def __enter__(self) -> Progress:
        if self._on:
            from rich.console import Console
            from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Live

            self._live = Live(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._live.start()
            self._task = self._live.add_task("", total=None)
        return self

    def __call__(self, what: str, done: float | None = None, total: float | None = None) -> None:
        if self._story and total is None:
            if self._live is not None:
                self._live.console.print(what, markup=False, highlight=False)
            else:
                sys.stderr.write(what + "\n")
                sys.stderr.flush()
            return
        if self._live is not None:
            self._live.update(self._task, description=what[:100], completed=done, total=total)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
