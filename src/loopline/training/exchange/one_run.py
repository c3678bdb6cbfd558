"""One run comes in: what is not here yet is written, what is here stays."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from loopline.base.errors import LooplineError, NotFound, Unavailable
from loopline.store.runs.artifacts import Artifacts
from loopline.store.runs.entries import NAME_TAG
from loopline.store.runs.protocol import Dataset, ModelUse, Point, Run, RunLog, Stage
from loopline.training.exchange.keeping import keep_files
from loopline.training.exchange.nouns import Brought, Series, Source

AT_ONCE = 65_536
"""Points that are written in one call."""
PAGE = 1_000_000
GOING_ON = ("RUNNING", "SCHEDULED")


@dataclass(slots=True)
class Place:
    """Where runs go."""

    log: RunLog
    artifacts: Artifacts
    now_ms: int
    gone: frozenset[str] = frozenset()
    """Runs that were deleted here and whose bytes were freed: they stay away."""


def bring_run(
    source: Source, run: Run, into: str | None, place: Place, found: Brought, *, gone: bool, away: bool
) -> None:
    """Bring a run, or what is missing of it.

    Its state and end are written last, together with its deletion: a run that an import was killed in is still
    RUNNING, and completed by the next.

    Parameters
    ----------
    into : str, optional
        The experiment here; null where nothing new can go into it.
    gone : bool
        Whether it is deleted here once it is complete.
    away : bool
        Whether nobody wonders that it is deleted here: it is at its source, or its experiment is.
    """
    log, what = place.log, f"the run {run.id}"
    try:
        here: Run | None = log.run(run.id)
    except NotFound:
        here = None
    new = here is None
    if here is None:
        if run.id in place.gone:
            found.gone += 1
            return
        if into is None:
            found.leave(f"{what}: its experiment is deleted here; restore it first")
            return
        if place.artifacts.files(run.id):
            found.leave(f"{what}: files of something else are kept under its id")
            return
        if not found.dry_run:
            here = log.create_run(into, start_ms=run.start_ms or 0, name=run.name, user=run.user, id=run.id)
        found.runs += 1
    elif (here.start_ms or 0) != (run.start_ms or 0):
        found.conflict(f"{what} is another one here: it began at another time. Nothing of it was taken")
        return
    elif here.stage == "deleted":
        found.known += away
        if not away:
            found.leave(f"{what} is deleted here; `loopline runs restore {run.id}` takes it back")
        return
    changed = _write(source, run, here, place, found, what)
    changed |= keep_files(
        source, run, place.artifacts, found, at_ms=run.end_ms or run.start_ms or place.now_ms, what=what
    )
    changed |= _end(run, here, place, found, what, gone=gone)
    if not new:
        found.completed += changed
        found.known += not changed


def _write(source: Source, run: Run, here: Run | None, place: Place, found: Brought, what: str) -> bool:
    log = place.log
    params = _new(run.params, here.params if here else {}, found, f"the param {{}} of {what}")
    tags = _new(
        {key: value for key, value in run.tags.items() if key != NAME_TAG or not run.name},
        here.tags if here else {},
        found,
        f"the tag {{}} of {what}",
    )
    if here is not None and run.name and here.name != run.name:
        found.conflict(f"{what} is called {here.name[:100]!r} here, not {run.name[:100]!r}")
    if (params or tags) and not found.dry_run:
        log.log(run.id, params=params, tags=tags)
    found.params += len(params)
    found.tags += len(tags)
    points = _write_series(source, run, here, log, found, what)
    points += _write_measured(source, run, here, log, found, what)
    found.points += points
    data = _new_datasets(run.datasets, here, found, what)
    read = [use for use in run.read if here is None or use not in here.read]
    made = [use for use in run.made if here is None or use not in here.made]
    if (data or read or made) and not found.dry_run:
        log.log_uses(run.id, datasets=data, read=_once(read), made=_once(made))
    found.datasets += len(data)
    return bool(params or tags or points or data or read or made)


def _once(uses: list[ModelUse]) -> list[ModelUse]:
    return list(dict.fromkeys(uses))


def _new(given: Mapping[str, str], here: Mapping[str, str], found: Brought, what: str) -> dict[str, str]:
    """What is not here; what differs is told."""
    for key, value in given.items():
        if key in here and here[key] != value:
            found.conflict(f"{what.format(repr(key[:100]))} is {here[key][:100]!r} here, not {value[:100]!r}")
    return {key: value for key, value in given.items() if key not in here}


def _new_datasets(given: tuple[Dataset, ...], here: Run | None, found: Brought, what: str) -> list[Dataset]:
    known = {(one.name, one.digest): one for one in (here.datasets if here else ())}
    new = []
    for one in given:
        old = known.get((one.name, one.digest))
        if old is None or any(key not in old.tags for key in one.tags):
            new.append(one)
        elif any(old.tags[key] != value for key, value in one.tags.items()):
            found.conflict(f"tags of the dataset {one.name[:100]!r} of {what} differ here")
    return new


def _write_series(source: Source, run: Run, here: Run | None, log: RunLog, found: Brought, what: str) -> int:
    known = {point.key for point in here.metrics} if here else set()
    waiting: dict[str, tuple[bytes, bytes, bytes]] = {}
    n = total = 0
    for series in source.series(run):
        if series.key in known:
            series = _missing(series, read_series(log, run.id, series.key))
        for part in _parts(series):
            if n + len(part.steps) > AT_ONCE or part.key in waiting:
                _flush(log, run.id, waiting, found)
                n = 0
            waiting[part.key] = part.values.tobytes(), part.times.tobytes(), part.steps.tobytes()
            n += len(part.steps)
            total += len(part.steps)
    _flush(log, run.id, waiting, found)
    return total


def _flush(log: RunLog, run: str, waiting: dict[str, tuple[bytes, bytes, bytes]], found: Brought) -> None:
    if waiting and not found.dry_run:
        try:
            log.log_columns(run, waiting)
        except Unavailable:
            raise
        except LooplineError:
            for key, columns in waiting.items():  # one of them: the others are not to be lost with it
                try:
                    log.log_columns(run, {key: columns})
                except Unavailable:
                    raise
                except LooplineError as error:
                    found.leave(f"the metric {key[:100]!r} of the run {run}: {error.what}")
    waiting.clear()


def _parts(series: Series) -> Iterator[Series]:
    for at in range(0, len(series.steps), AT_ONCE):
        to = at + AT_ONCE
        yield Series(series.key, series.values[at:to], series.times[at:to], series.steps[at:to])


def read_series(log: RunLog, run: str, key: str) -> Series:
    """A metric of a run that is here, whole."""
    values, times, steps = array("d"), array("q"), array("q")
    while True:
        page = log.read_columns(run, key, start=len(steps), limit=PAGE)
        values.frombytes(page[0])
        times.frombytes(page[1])
        steps.frombytes(page[2])
        if len(page[2]) < 8 * PAGE:
            return Series(key, values, times, steps)


def _missing(series: Series, here: Series) -> Series:
    """Points that are not here, in their order; a point is its value bit for bit, its time and its step.

    All values that are no number are one: databases keep that they are none, not which.
    """
    if _bytes(series) == _bytes(here):
        return Series(series.key, array("d"), array("q"), array("q"))
    known = set(zip(_bits(here), here.times, here.steps, strict=True))
    rows = [
        at for at, row in enumerate(zip(_bits(series), series.times, series.steps, strict=True)) if row not in known
    ]
    return Series(
        series.key,
        array("d", [series.values[at] for at in rows]),
        array("q", [series.times[at] for at in rows]),
        array("q", [series.steps[at] for at in rows]),
    )


def _bytes(series: Series) -> tuple[bytes, bytes, bytes]:
    return series.values.tobytes(), series.times.tobytes(), series.steps.tobytes()


def _bits(series: Series) -> array[int]:
    return array("q", array("d", [_plain(value) for value in series.values]).tobytes())


def _plain(value: float) -> float:
    return math.nan if math.isnan(value) else value


def _write_measured(source: Source, run: Run, here: Run | None, log: RunLog, found: Brought, what: str) -> int:
    """Points measured on logged models; the model must be here."""
    models: dict[str, set[tuple[object, ...]] | None] = {}
    new = []
    for point in source.measured(run):
        if point.model is None:
            continue
        if point.model not in models:
            try:
                models[point.model] = {_point(one) for one in log.model(point.model).metrics}
            except LooplineError:
                models[point.model] = set() if found.dry_run else None
        known = models[point.model]
        if known is None:
            found.leave(f"metrics of {what} on the model {point.model}: it is not here")
        elif _point(point) not in known:
            new.append(point)
    if new and not found.dry_run:
        log.log(run.id, metrics=new)
    return 0 if here is None or not here.metrics else len(new)  # else they were counted with their series


def _point(point: Point) -> tuple[object, ...]:
    return point.key, array("d", [_plain(point.value)]).tobytes(), point.at_ms, point.step, point.dataset


def _end(run: Run, here: Run | None, place: Place, found: Brought, what: str, *, gone: bool) -> bool:
    """Write how it ended, where that is not known here."""
    if here is None:
        return True
    open_here = here.status in GOING_ON or (here.status == "KILLED" and run.status in ("FINISHED", "FAILED"))
    same = here.status == run.status and here.end_ms == run.end_ms
    if not same and not open_here:
        found.conflict(f"{what} is {here.status} here, not {run.status}, or ended at another time")
        return False
    delete = gone and (not same or here.status in GOING_ON)
    if gone and not delete:
        found.conflict(f"{what} is deleted at its source, not here")
    if same and not delete:
        return False
    if not found.dry_run:
        stage: Stage | None = "deleted" if delete else None
        place.log.change_run(run.id, status=run.status, end_ms=run.end_ms, stage=stage, at_ms=place.now_ms)
    return True
