"""A history comes in, experiment by experiment: what is here already is not written again.

There is no mark of what was imported: each thing is compared with what is here under its name or id. So an import
that was killed goes on where it was and a second one writes nothing. Of two at once on a machine one waits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import replace

from loopline.base.errors import Conflict, LooplineError, NotFound, Unavailable
from loopline.base.locks import alone
from loopline.store.runs.protocol import Experiment, LoggedModel, Run, RunLog
from loopline.training.exchange.keeping import keep_files
from loopline.training.exchange.nouns import Brought, Source
from loopline.training.exchange.one_run import Place, bring_run
from loopline.workspace import Workspace

UNFINISHED = "loopline.import"
"""Tag of an experiment that is deleted once all of it is here."""
Say = Callable[..., None]


def bring(
    ws: Workspace, source: Source, name: str, *, experiments: Collection[str] = (), dry_run: bool, say: Say
) -> Brought:
    """Write what `source` offers into the run log and the artifacts of `ws`.

    Parameters
    ----------
    name : str
        What the source is called in the answer.
    experiments : collection of str
        Names; all when empty.

    Raises
    ------
    NotFound
        If an experiment that was named is not there.
    Unavailable
        If the disk is full, or the source does not answer any more; again goes on from there.
    """
    with nullcontext() if dry_run else alone(ws.root / "run" / "importing.lock"):
        return _bring(ws, source, name, experiments=experiments, dry_run=dry_run, say=say)


def _bring(
    ws: Workspace, source: Source, name: str, *, experiments: Collection[str], dry_run: bool, say: Say
) -> Brought:
    found = Brought(name, source.kind, dry_run)
    place = Place(ws.runs, ws.artifacts, int(ws.clock().timestamp() * 1000), frozenset(ws.runs.gone()))
    offered = list(source.experiments())
    if missing := set(experiments) - {one.name for one in offered}:
        raise NotFound(
            f"{name} has no experiment {min(missing)!r}",
            why=f"it has {', '.join(sorted(repr(one.name) for one in offered)[:10]) or 'none'}",
            fix="name one of them, or leave --experiment out",
        )
    chosen = [one for one in offered if not experiments or one.name in experiments]
    for at, experiment in enumerate(chosen):
        say(f"experiment {experiment.name}", at, len(chosen))
        try:
            _experiment(source, experiment, place, found, lambda what, at=at: say(what, at, len(chosen)))  # type: ignore[misc]
        except Unavailable:
            raise
        except LooplineError as error:
            found.leave(f"the experiment {experiment.name[:100]!r}: {error.what}")
    for told in source.told:
        found.leave(told)
    return found


def _experiment(source: Source, given: Experiment, place: Place, found: Brought, say: Callable[[str], None]) -> None:
    log, gone = place.log, given.stage == "deleted"
    here = log.experiment_named(given.name)
    if here is None:
        found.experiments += 1
        here = None if found.dry_run else _made(log, given)
    else:
        for key, value in given.tags.items():
            if here.tags.get(key, value) != value:
                found.conflict(f"the tag {key[:100]!r} of the experiment {given.name[:100]!r} differs here")
        new = {key: value for key, value in given.tags.items() if key not in here.tags}
        if new and here.stage == "active" and not found.dry_run:
            log.change_experiment(here.id, at_ms=place.now_ms, tags=new)
    into = "" if here is None else here.id if here.stage == "active" else None
    for model in source.models(given):
        _each(lambda model=model: _model(source, model, into, place, found), found, f"the model {model.id}")  # type: ignore[misc]
    for n, run in enumerate(source.runs(given)):
        if n % 20 == 0:
            say(f"experiment {given.name}, run {n + 1:,}")
        _each(lambda run=run: _run(source, run, into, place, found, gone), found, f"the run {run.id}")  # type: ignore[misc]
    for told in source.left(given):
        found.leave(told)
    if gone and here is not None and here.stage == "active":
        _delete(log, here.id, found, place)


def _made(log: RunLog, given: Experiment) -> Experiment:
    tags = dict(given.tags) | ({UNFINISHED: "unfinished"} if given.stage == "deleted" else {})
    try:
        made = log.create_experiment(given.name, at_ms=given.created_ms, tags=tags)
    except Conflict:  # somebody made it just now
        again = log.experiment_named(given.name)
        if again is None:
            raise
        return again
    return made


def _delete(log: RunLog, id: str, found: Brought, place: Place) -> None:
    now = log.experiment(id)
    if UNFINISHED in now.tags:
        if not found.dry_run:
            log.change_experiment(id, at_ms=place.now_ms, stage="deleted", tags={UNFINISHED: None})
    elif now.stage == "active":
        found.conflict(f"the experiment {now.name[:100]!r} is deleted at its source, not here")


def _run(source: Source, run: Run, into: str | None, place: Place, found: Brought, gone: bool) -> None:
    """Runs of a deleted experiment go with it, so that they come back with it."""
    try:
        alone = run.stage == "deleted" and not gone
        bring_run(source, run, into, place, found, gone=alone, away=alone or gone)
    except NotFound as error:
        found.leave(f"the run {run.id}: {error.what}")


def _each(work: Callable[[], None], found: Brought, what: str) -> None:
    try:
        work()
    except Unavailable:
        raise
    except LooplineError as error:
        found.leave(f"{what}: {error.what}")


def _model(source: Source, given: LoggedModel, into: str | None, place: Place, found: Brought) -> None:
    """A logged model: READY only once its files are here."""
    log, what = place.log, f"the model {given.id}"
    try:
        here: LoggedModel | None = log.model(given.id)
    except NotFound:
        here = None
    if here is None:
        if into is None:
            found.leave(f"{what}: its experiment is deleted here; restore it first")
            return
        if place.artifacts.files(given.id) and not found.dry_run:
            found.leave(f"{what}: files of something else, or of a deleted model, are kept under its id")
            return
        if not found.dry_run:
            here = log.create_model(replace(given, experiment=into, artifacts="", status="PENDING", metrics=()))
        found.models += 1
    elif here.created_ms != given.created_ms:
        found.conflict(f"{what} is another one here: it was made at another time. Nothing of it was taken")
        return
    else:
        for kind, theirs, ours in (("param", given.params, here.params), ("tag", given.tags, here.tags)):
            for key in theirs:
                if key in ours and ours[key] != theirs[key]:
                    found.conflict(f"the {kind} {key[:100]!r} of {what} differs here")
        params = {key: value for key, value in given.params.items() if key not in here.params}
        tags = {key: value for key, value in given.tags.items() if key not in here.tags}
        if (params or tags) and not found.dry_run:
            log.change_model(given.id, at_ms=here.updated_ms, params=params, tags=tags)
    keep_files(source, given, place.artifacts, found, at_ms=given.updated_ms, what=what)
    if here is not None and here.status == "PENDING" and given.status != "PENDING" and not found.dry_run:
        log.change_model(given.id, at_ms=given.updated_ms, status=given.status, message=given.status_message)
