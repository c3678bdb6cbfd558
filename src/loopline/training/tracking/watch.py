"""What is recorded of a run without being asked, in a thread of its own."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from loopline.base import settings
from loopline.base.clock import monotonic
from loopline.base.ids import digest
from loopline.base.log import logger
from loopline.training.tracking import machine, origin
from loopline.training.tracking.output import Tail
from loopline.training.tracking.scrubbing import Scrubber

log = logger(__name__)

EVERY_S = 10.0
"""Seconds between samples of the machine."""
OUTPUT_S = 30.0
CODE, DIFF, LOCK, MACHINE, PROCESS, OUTPUT = (
    f"loopline/{name}"
    for name in ("code.json", "code.diff", "environment.txt", "machine.json", "process.json", "output.txt")
)
EXPLORATORY = "loopline.exploratory"
"""Tag of runs whose code no file holds: nothing made by them is promoted."""


class Watched(Protocol):
    """The run that a watch writes to."""

    id: str
    user: str
    folder: Path
    """The spool of the run, where files that runs share are kept too."""

    def log_metric(self, key: str, value: float, step: int | None = None) -> None:
        """A point of a series."""

    def log_metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """A point of each series."""

    def log_text(self, text: str, path: str) -> None:
        """A file of the run."""

    def set_tag(self, key: str, value: str) -> None:
        """One tag."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Several tags."""


class Watch:
    """Captures code, environment, machine, seeds, command line, output, use of the machine, and cost of a run.

    Parameters
    ----------
    folder : Path
        Whose code it is.
    recipe : str, optional
        `file.py:function` whose closure is told.
    output : bool
        Whether the end of standard output and error is kept.
    """

    def __init__(
        self,
        run: Watched,
        folder: Path,
        *,
        scrub: Scrubber,
        recipe: str | None = None,
        seed: int | None = None,
        output: bool = True,
        every_s: float = EVERY_S,
    ) -> None:
        self._run, self._folder, self._scrub, self._recipe = run, folder, scrub, recipe
        self._began, self._cpu = monotonic(), _cpu_seconds()
        self._seeds = origin.seeds(seed)
        self._arguments = scrub.arguments(list(getattr(sys, "orig_argv", sys.argv)))
        self._notebook = origin.is_notebook()
        self._tail = Tail() if output else None
        self._every, self._seen, self._code = every_s, 0, ""
        self._stop = threading.Event()
        if self._tail is not None:
            self._tail.begin()
        self._thread = threading.Thread(target=self._work, name="loopline-watch", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Capture what is known at the end."""
        self._stop.set()
        if self._tail is not None:
            self._tail.end()
        self._thread.join(30.0)
        self._say_output()
        if self._recipe is None:
            self._say_code()
        wall, cpu = monotonic() - self._began, _cpu_seconds() - self._cpu
        self._run.log_metrics({"cost/wall_seconds": wall, "cost/cpu_seconds": cpu}, step=0)
        if (price := settings.price_per_hour()) is not None:
            self._run.log_metric("cost/price", wall / 3600 * price, step=0)

    def _work(self) -> None:
        sampler = machine.Sampler(self._folder)
        try:
            self._say_origin()
        except Exception as error:
            log.warning("where the run %s comes from could not be captured: %s", self._run.id, error)
        wait, told = min(1.0, self._every), monotonic()
        while not self._stop.wait(wait):
            wait = self._every
            try:
                self._run.log_metrics(sampler())
                if monotonic() - told >= OUTPUT_S:
                    told = monotonic()
                    self._say_output()
            except Exception as error:
                log.debug("a sample of the machine is missing: %s", error)
        try:
            self._run.log_metrics(sampler())
        except Exception as error:
            log.debug("the last sample of the machine is missing: %s", error)

    def _say_origin(self) -> None:
        source = "a notebook" if self._notebook else self._recipe or (sys.argv[0] if sys.argv else "")
        tags = {
            "mlflow.user": self._run.user,
            "mlflow.source.name": self._scrub(source),
            "mlflow.source.type": "NOTEBOOK" if self._notebook else "LOCAL",
        }
        if self._notebook:
            tags[EXPLORATORY] = "true"
        self._run.set_tags(tags)
        process: dict[str, Any] = {
            "arguments": self._arguments,
            "folder": self._scrub(str(self._folder)),
            "process": os.getpid(),
            "python": sys.version,
            "seeds": self._seeds,
            "environment": {
                name: self._scrub.value(name, value) for name, value in settings.recorded_environment().items()
            },
        }
        self._say_code()
        locked = origin.lock(self._run.folder / "environments")
        self._run.log_text(locked, LOCK)
        self._run.set_tag("loopline.environment", digest(locked.encode()))
        found = machine.hardware()
        self._run.log_text(_json({**found, "libraries": machine.libraries()}), MACHINE)
        self._run.set_tag("loopline.machine", f"{found['processor']}, {found['cores_allowed'] or found['cores']} cores")
        if found["gpus"]:
            self._run.set_tag("loopline.gpus", ", ".join(one["name"] for one in found["gpus"]))
        self._run.log_text(_json(process), PROCESS)

    def _say_code(self) -> None:
        found, diff = origin.code(self._folder, self._scrub, recipe=self._recipe)
        text = _json(found)
        if text == self._code:
            return
        self._code = text
        self._run.log_text(text, CODE)
        if diff is not None:
            self._run.log_text(diff, DIFF)
        tags = {"loopline.code": digest(text.encode())}
        if found["commit"]:
            tags |= {
                "mlflow.source.git.commit": found["commit"],
                "loopline.dirty": str(found["dirty"] is not None).lower(),
            }
        if found["branch"]:
            tags["mlflow.source.git.branch"] = found["branch"]
        self._run.set_tags(tags)

    def _say_output(self) -> None:
        if self._tail is not None and self._tail.version != self._seen:
            self._seen = self._tail.version
            self._run.log_text(self._scrub(self._tail.text), OUTPUT)


def _json(doc: Any) -> str:
    return json.dumps(doc, indent=2, sort_keys=True, ensure_ascii=False, default=str) + "\n"


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
