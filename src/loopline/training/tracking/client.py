"""The client: `with loopline.start_run() as run: run.log_metric("loss", 0.3)`."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from loopline.base import settings
from loopline.base.clock import SystemClock, ticks
from loopline.base.errors import Conflict, Invalid
from loopline.base.ids import digest, uuid7
from loopline.base.log import logger
from loopline.store.runs import checks
from loopline.store.runs.artifacts import clean
from loopline.training.tracking import datasets
from loopline.training.tracking.delivery import Target, target_of
from loopline.training.tracking.frames import INLINE, Begin, Data, End, Facts, File
from loopline.training.tracking.recorder import Recorder
from loopline.training.tracking.scrubbing import Scrubber
from loopline.training.tracking.series import EXACT, INT64, Over, as_float, as_step, is_rounded
from loopline.training.tracking.spool import keep_bytes
from loopline.training.tracking.watch import Watch
from loopline.workspace import FOLDER

log = logger(__name__)

SETTLE_S = 10.0
"""The end of a run waits so long for its delivery; the rest waits in the spool."""
Status = Literal["FINISHED", "FAILED", "KILLED"]
_open: weakref.WeakSet[ActiveRun] = weakref.WeakSet()


class ActiveRun:
    """A run that is being logged.

    No call waits for a disk, a store or a server, but those that take a file: its bytes are copied as they are now.
    All of it may be called from several threads.

    Attributes
    ----------
    id : str
        32 hexadecimal digits, or what it was given.
    """

    def __init__(self, recorder: Recorder, begin: Begin, folder: Path, *, start_ns: int) -> None:
        self.id, self.name, self.experiment, self.user = begin.run, begin.name, begin.experiment, begin.user
        self._recorder, self.folder = recorder, folder
        self._params: dict[str, str] = {}
        self.scrub = Scrubber.of_this_process()
        self._start_ns, self._began = start_ns, ticks()
        self._lock = threading.Lock()
        self._ended = self._rounds = False
        self.watch: Any = None
        """What is captured beside what is logged, if anything."""
        _open.add(self)

    def log_metric(self, key: str, value: Any, step: int | None = None) -> None:
        """Log a point of a series.

        Parameters
        ----------
        key : str
            Any text of up to 1,000 characters; slashes group.
        value : number
            As a float of 64 bits; NaN and infinities are kept. A whole number beyond 2**53 that such a float cannot
            hold is rounded; the first of a run is told with a warning.
        step : int, optional
            By default one more than the greatest of this key, from 0 on.

        Raises
        ------
        Invalid
            If `value` is no number, `step` no whole one, or `key` no text that can be kept.
        Conflict
            If the run has ended.
        """
        if type(value) is not float:
            given, value = value, as_float(key, value)
            if abs(value) >= EXACT and not self._rounds and is_rounded(given, value):
                self._rounds = True
                log.warning("the metric %r is %s, kept as %d: a metric is a float of 64 bits, which has not every "
                            "whole number beyond 2**53; a param keeps all digits", key[:100], given, value)  # fmt: skip
        if step is not None and (type(step) is not int or not -INT64 <= step < INT64):
            step = as_step(step)
        sink = self._recorder.sinks.get(key)
        if sink is None:
            sink = self._recorder.series.sink(key)
        sink((value, step, ticks()))

    def log_metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log a point of each series."""
        for key, value in values.items():
            self.log_metric(key, value, step)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log what the run was given, written once: the same again is fine.

        Values become text as `str` writes them. What looks like a secret is replaced.

        Raises
        ------
        Invalid
            If a value has more than 1,000,000 characters; log it with `log_text`. Nothing of the call is kept.
        Conflict
            If a param has another value already.
        """
        self._require_open()
        found = {
            checks.key("param", key): self._value(f"the param {key!r:.100}", key, value)
            for key, value in params.items()
        }
        with self._lock:
            for key, value in found.items():
                if self._params.get(key, value) != value:
                    raise Conflict(
                        f"the param {key!r:.100} is {self._params[key]!r:.100}, not {value!r:.100}",
                        why="a param is written once",
                        fix="log it under another name, as a metric, or begin another run",
                    )
            fresh = {key: value for key, value in found.items() if key not in self._params}
            self._params |= fresh
            if fresh:
                self._recorder.add(Facts(run=self.id, params=fresh))

    def log_param(self, key: str, value: Any) -> None:
        """Log one param."""
        self.log_params({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; one that is set already gets the new value."""
        self._require_open()
        found = {
            checks.key("tag", key): self._value(f"the tag {key!r:.100}", key, value) for key, value in tags.items()
        }
        if found:
            self._recorder.add(Facts(run=self.id, tags=found))

    def set_tag(self, key: str, value: Any) -> None:
        """Set one tag."""
        self.set_tags({key: value})

    def log_artifact(self, path: str | os.PathLike[str], to: str | None = None) -> None:
        """Keep a file with the run, as it is now.

        Parameters
        ----------
        path : path
            File on this machine.
        to : str, optional
            Folder among the run's files; the top by default.

        Raises
        ------
        Invalid
            If `path` is no file or a link, or `to` leads elsewhere.
        Unavailable
            If the disk is full.
        """
        source = Path(path)
        if source.is_symlink():
            raise Invalid(
                f"{source} is a link", why="links are not followed: what they point to may be meant for nobody else",
                fix="give the file that it points to",
            )  # fmt: skip
        self._keep(f"{to}/{source.name}" if to else source.name, source)

    def log_artifacts(self, folder: str | os.PathLike[str], to: str | None = None) -> None:
        """Keep every file below a folder; links are not followed."""
        top = Path(folder)
        if not top.is_dir():
            raise Invalid(
                f"{top} is no folder", why="log_artifacts keeps all below one", fix="log_artifact keeps one file"
            )
        for source in sorted(top.rglob("*")):
            if source.is_file() and not source.is_symlink():
                below = source.relative_to(top).as_posix()
                self._keep(f"{to}/{below}" if to else below, source)

    def log_text(self, text: str, path: str) -> None:
        """Keep a text as a file at `path` of the run."""
        self._put(path, text.encode(errors="replace"))

    def log_bytes(self, data: bytes, path: str) -> None:
        """Keep bytes as a file at `path` of the run."""
        self._put(path, data)

    def log_figure(self, figure: Any, path: str) -> None:
        """Keep a figure of matplotlib or plotly, or a picture of PIL, at `path`; its end names the format."""
        self._put(path, datasets.figure_bytes(figure, path))

    def log_dataset(
        self, data: Any, *, name: str | None = None, context: str | None = None, digest: str | None = None
    ) -> None:
        """Note what data the run was given: name and digest, never the rows.

        Parameters
        ----------
        data
            A snapshot or training set of Loopline, a file, or a frame or array.
        name : str, optional
            By default that of the file, or what kind it is.
        context : str, optional
            What for: `train`, `test`.
        digest : str, optional
            By default made of the content.
        """
        self._require_open()
        found = datasets.described(data, name=name, digest=digest)
        tags = {"mlflow.data.context": context} if context else {}
        source = self.scrub(found.source)
        self._recorder.add(
            Data(run=self.id, name=found.name, digest=found.digest, source_type=found.source_type, source=source,
                 schema=found.schema, profile=found.profile, tags=tags)
        )  # fmt: skip
        if found.tag is not None:
            self.set_tag(*found.tag)

    def flush(self) -> bool:
        """Wait until all that was logged so far is in the spool, where a kill does not reach it.

        False where the disk takes nothing just now. Whether it is delivered is another matter.
        """
        return self._recorder.flush()

    def settle(self, seconds: float = SETTLE_S) -> bool:
        """Wait until all that was logged so far is delivered; false where that takes longer."""
        return self._recorder.flush() and self._recorder.settle(seconds)

    def finish(self, status: Status = "FINISHED") -> bool:
        """End the run; whether all of it is delivered. Again changes nothing."""
        with self._lock:
            if self._ended:
                return True
            self._ended = True
        if self.watch is not None:
            try:
                self.watch.finish()
            except Exception as error:
                log.warning("what the run %s used could not be captured: %s", self.id, error)
        end = (self._start_ns + ticks() - self._began) // 1_000_000
        self._recorder.flush()
        self._recorder.add(End(run=self.id, status=status, end_ms=end))
        delivered = self._recorder.close(SETTLE_S)
        _open.discard(self)
        if not delivered:
            log.warning("the run %s waits in %s; `loopline runs sync` delivers it", self.id, self.folder)
        return delivered

    def __enter__(self) -> ActiveRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or (kind is SystemExit and getattr(error, "code", 1) in (0, None)):
            self.finish()
        else:
            self.finish("KILLED" if issubclass(kind, (KeyboardInterrupt, SystemExit, GeneratorExit)) else "FAILED")

    def _keep(self, path: str, source: Path) -> None:
        self._require_open()
        clean(path)
        if not source.is_file():
            raise Invalid(
                f"{source} is no file", why="its bytes are kept with the run", fix="name a file that is there"
            )
        size = source.stat().st_size
        if size <= INLINE:
            self._put(path, source.read_bytes())
            return
        kept, size = keep_bytes(self.folder, source)
        self._recorder.add(File(run=self.id, path=path, digest=kept, size=size, at_ms=self._now_ms()))

    def _put(self, path: str, data: bytes) -> None:
        self._require_open()
        clean(path)
        self._recorder.add(
            File(run=self.id, path=path, digest=digest(data), size=len(data), at_ms=self._now_ms(), data=data)
        )

    def _now_ms(self) -> int:
        return (self._start_ns + ticks() - self._began) // 1_000_000

    def _value(self, what: str, key: str, value: Any) -> str:
        text = checks.text(what, value if isinstance(value, str) else str(value))
        return self.scrub.value(key, text)

    def _require_open(self) -> None:
        if isinstance(self._recorder.sinks, Over):
            self._recorder.sinks.get("")


def start_run(
    name: str = "",
    *,
    experiment: str = "Default",
    id: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    to: str | os.PathLike[str] | None = None,
    capture: bool = True,
) -> ActiveRun:
    """Begin a run, recorded without being asked: code, environment, machine, seeds, output, cost.

    Parameters
    ----------
    name : str, optional
        For people; need not be unique.
    experiment : str
        What it is a run of; made if there is none.
    id : str, optional
        Take up the run with this id, or begin it.
    params, tags : mapping, optional
        As `log_params` and `set_tags`.
    to : path or address, optional
        Folder of a workspace, or a server. By default `LOOPLINE_TRACKING_URI`, else `.loopline` here or in the
        nearest folder above that has one.
    capture : bool
        Whether to record more than is logged.

    Returns
    -------
    ActiveRun
        Use it as a context manager: an error ends the run as FAILED.
    """
    here = workspace_folder()
    uri = os.fspath(to) if to is not None else settings.tracking_uri()
    target = target_of(uri, here)
    run = begin(
        target, spool=settings.spool_folder() or here / "spool", name=name, experiment=experiment, id=id, tags=tags
    )
    if params:
        run.log_params(params)
    if capture:
        run.watch = Watch(run, Path.cwd(), scrub=run.scrub)
    return run


def begin(
    target: Target,
    *,
    spool: Path,
    name: str = "",
    experiment: str = "Default",
    id: str | None = None,
    tags: Mapping[str, Any] | None = None,
    user: str | None = None,
    at: datetime | None = None,
) -> ActiveRun:
    """A run that is delivered to `target`, with nothing captured yet; it begins `at` (UTC), by default now."""
    scrub = Scrubber.of_this_process()
    checks.text("the name of a run", name)
    checks.title("the name of an experiment", experiment)
    now = at or SystemClock()()
    given = checks.identity("run", id) if id is not None else uuid7(now).replace("-", "")
    start_ns = int(now.timestamp() * 1_000_000) * 1_000
    set_tags = {
        checks.key("tag", key): checks.text(f"the tag {key!r:.100}", scrub.value(key, str(value)))
        for key, value in (tags or {}).items()
    }
    first = Begin(
        run=given,
        experiment=experiment,
        start_ms=start_ns // 1_000_000,
        name=name,
        user=user or settings.user_name(),
        tags=set_tags,
    )
    durable = settings.run_log_durability() == "full"
    recorder = Recorder(spool, first, target, start_ns=start_ns, durable=durable)
    return ActiveRun(recorder, first, spool, start_ns=start_ns)


def workspace_folder() -> Path:
    here = Path.cwd()
    return next((one / FOLDER for one in (here, *here.parents) if (one / FOLDER).is_dir()), here / FOLDER)


@atexit.register
def _finish_all() -> None:
    for run in list(_open):
        run.finish()


__all__ = ["ActiveRun", "begin", "start_run"]
