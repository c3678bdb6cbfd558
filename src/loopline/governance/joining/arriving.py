"""A parcel taken in: what is new is added, what is here stays, what clashes is told. Again is safe, so is stopping."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from loopline.base.errors import Conflict, Denied, Invalid, LooplineError, NotFound, Unavailable
from loopline.base.figures import plural
from loopline.base.locks import alone
from loopline.governance.joining import traces
from loopline.governance.joining.nouns import ARRIVING
from loopline.governance.joining.parcel import Parcel
from loopline.governance.joining.sending import OWN, frames_of
from loopline.registry import shelving
from loopline.registry.nouns import Deposit, Version
from loopline.registry.origin import AUTHOR, FROM, key_of, origin_of
from loopline.registry.shelf import Entry, entries, entry, shelf
from loopline.store.runs.protocol import LoggedModel, ModelUse, Point, Run
from loopline.training.tracking.frames import Begin, End, cut
from loopline.training.tracking.receiving import named, take
from loopline.workspace import Workspace

_FILES = TypeAdapter(dict[str, tuple[str, int, int]])
_TEXTS = TypeAdapter(dict[str, str])
_USES = TypeAdapter(list[tuple[str, int]])
_POINTS = TypeAdapter(list[tuple[str, str, int, int, str | None, tuple[str, str] | None]])
_TEXT: TypeAdapter[str] = TypeAdapter(str)
_MAYBE: TypeAdapter[str | None] = TypeAdapter(str | None)
_PART = 16 << 20


@dataclass(slots=True)
class Taken:
    """What came of a parcel."""

    added: dict[str, int] = field(
        default_factory=lambda: {"runs": 0, "models": 0, "registrations": 0, "traces": 0, "files": 0}
    )
    refused: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def one_at_a_time(ws: Workspace) -> AbstractContextManager[None]:
    """Parcels are taken in one after the other."""
    return alone(ws.root / "run" / "arriving.lock")


def take_in(ws: Workspace, parcel: Parcel) -> Taken:
    """Add to a workspace what a parcel has and it lacks."""
    taken = Taken()
    gone = _Gone(ws.runs.gone())
    for name in parcel.names("runs"):
        if name.endswith(".frames"):
            _each(taken, name, lambda name=name: _run(ws, parcel, name, gone, taken))
    if gone.met:
        stay = "stays" if gone.met == 1 else "stay"
        taken.told.append(f"{plural(gone.met, 'run')} deleted here {stay} deleted")
    for name in parcel.names("models"):
        _each(taken, name, lambda name=name: _model(ws, parcel, name, taken))
    for name in parcel.names("registrations"):
        _each(taken, name, lambda name=name: _registration(ws, parcel, name, taken))
    lost = traces.deleted(ws)
    for name in parcel.names("traces"):
        _each(taken, name, lambda name=name: _trace(ws, parcel, name, lost, taken))
    return taken


def _each(taken: Taken, name: str, work: Any) -> None:
    """One refusal does not keep the others out; a store that cannot be written does."""
    try:
        work()
    except Unavailable:
        raise
    except ValidationError as error:
        taken.refused.append(f"{name}: {error.errors()[0]['msg']}")
    except LooplineError as error:
        taken.refused.append(f"{name}: {error.what} ({error.why})")


# runs


class _Gone:
    """Runs that were deleted here and whose bytes were freed, and how many of them a parcel has."""

    def __init__(self, ids: Collection[str]) -> None:
        self.ids, self.met = frozenset(ids), 0


def _run(ws: Workspace, parcel: Parcel, name: str, gone: _Gone, taken: Taken) -> None:
    id = name.removeprefix("runs/").removesuffix(".frames")
    beside = parcel.document(f"runs/{id}.json")
    tags, called = _TEXTS.validate_python(beside.get("tags")), _TEXT.validate_python(beside.get("name"))
    uses = {kind: _USES.validate_python(beside.get(kind)) for kind in ("read", "made")}
    files = _FILES.validate_python(beside.get("files"))
    known = _known_run(ws, id)
    if known is None and id in gone.ids:
        gone.met += 1
        return
    if known is not None and known.stage == "deleted":
        taken.told.append(f"run {id} is deleted here and stays so")
        return
    if known is None or ARRIVING in known.tags:
        _log_run(ws, parcel, name, id, called)
        taken.added["runs"] += 1
    elif _digest_of(ws, known) != parcel.entries[name]:
        raise Conflict(
            f"the run {id} is here with another content", why="what a run logged never changes", fix="rename one"
        )
    here = ws.runs.run(id)
    taken.added["files"] += _keep(ws, parcel, id, files, taken)
    wanted = {"mlflow.runName": called, **tags} if called else tags
    _add_tags(f"run {id}", here.tags, wanted, taken, lambda new: ws.runs.log(id, tags=new))
    more = {
        kind: [ModelUse(*one) for one in some if ModelUse(*one) not in getattr(here, kind)]
        for kind, some in uses.items()
    }
    if any(more.values()):
        ws.runs.log_uses(id, read=more["read"], made=more["made"])
    if ARRIVING in here.tags:
        _end(ws, parcel, name, id)


def _log_run(ws: Workspace, parcel: Parcel, name: str, id: str, called: str) -> None:
    """Log all that never changes of a run, marked as on its way."""
    for frame in _frames(parcel, name):
        if frame.run != id:
            raise Invalid(f"a frame of {frame.run}", why=f"it stands among those of {id}", fix="make the parcel again")
        if isinstance(frame, Begin):
            frame = Begin(run=id, experiment=frame.experiment, start_ms=frame.start_ms, name=called, user=frame.user,
                          tags={ARRIVING: parcel.workspace})  # fmt: skip
        if not isinstance(frame, End):
            refused = take(ws.runs, ws.artifacts, [frame]).refused
            if refused:
                raise Invalid(refused[0], why="it stands in a parcel", fix="make the parcel again")
    if ARRIVING not in ws.runs.run(id).tags:
        raise Invalid(f"the run {id} does not begin", why="its first frame says how", fix="make the parcel again")


def _end(ws: Workspace, parcel: Parcel, name: str, id: str) -> None:
    ends = [frame for frame in _frames(parcel, name) if isinstance(frame, End)]
    if len(ends) != 1:
        raise Invalid(f"the run {id} has {len(ends)} ends", why="one that is sent has ended", fix="make it again")
    ws.runs.change_run(id, status=ends[0].status, end_ms=ends[0].end_ms or None)
    ws.runs.log(id, tags={ARRIVING: None})
    found = ws.runs.run(id)
    if _digest_of(ws, found) != parcel.entries[name]:
        ws.runs.log(id, tags={ARRIVING: parcel.workspace})  # it never was whole: once freed, it may come again
        ws.runs.change_run(id, stage="deleted")
        raise Conflict(
            f"the run {id} did not arrive as it was sent", why="another wrote to it meanwhile; it is deleted here",
            fix="loopline gc --older-than 0d --yes, then pull again",
        )  # fmt: skip


def _frames(parcel: Parcel, name: str) -> Iterator[Any]:
    """The frames of an entry, read bit by bit."""
    rest = b""
    with parcel.open(name) as opened:
        while part := opened.read(_PART):
            found = cut(rest + part)
            if found.damaged:
                raise Invalid("a frame is damaged", why="its checksum does not hold", fix="make the parcel again")
            rest = (rest + part)[found.end :]
            for _, frame in found.frames:
                yield frame
    if rest:
        raise Invalid("the last frame is cut off", why="frames are whole", fix="make the parcel again")


def _digest_of(ws: Workspace, run: Run) -> str:
    sha = hashlib.sha256()
    for frame in frames_of(ws, run, ws.runs.experiment(run.experiment).name):
        sha.update(frame)
    return sha.hexdigest()


def _known_run(ws: Workspace, id: str) -> Run | None:
    try:
        return ws.runs.run(id)
    except NotFound:
        return None


def _trace(ws: Workspace, parcel: Parcel, name: str, gone: Collection[str], taken: Taken) -> None:
    id, doc = name.removeprefix("traces/").removesuffix(".json"), parcel.document(name)
    files = _FILES.validate_python(doc.get("files"))
    new = traces.take(ws, id, doc, gone, taken.told)
    if new is not None:
        taken.added["traces"] += new
        taken.added["files"] += _keep(ws, parcel, id, files, taken)


# files and tags


def _keep(ws: Workspace, parcel: Parcel, owner: str, files: dict[str, tuple[str, int, int]], taken: Taken) -> int:
    """Give an owner files that it lacks; how many. A path that holds other bytes here stays as it is, told."""
    here = {file.path: file.digest for file in ws.artifacts.files(owner)}
    added = 0
    for path, (key, _, at_ms) in files.items():
        if here.get(path) == key:
            continue
        if path in here:
            taken.told.append(f"{owner}/{path} holds other bytes here, which stay")
            continue
        if f"blobs/{key}" in parcel.entries:
            with parcel.open(f"blobs/{key}") as opened, ws.artifacts.blobs.incoming(durable=True) as file:
                while part := opened.read(1 << 20):
                    file.write(part)
                ws.artifacts.keep(file, owner, path, at_ms=at_ms)
        else:
            ws.artifacts.name(owner, path, key, at_ms=at_ms)
        added += 1
    return added


def _add_tags(what: str, here: dict[str, str], wanted: dict[str, str], taken: Taken, log: Any) -> None:
    """Set the tags that are missing here; those that say something else stay, told."""
    new = {key: value for key, value in wanted.items() if key not in here and key != ARRIVING}
    for key, value in wanted.items():
        if key in here and here[key] != value:
            taken.told.append(f"{what}: {key} says {here[key]!r:.60} here, which stays, and {value!r:.60} there")
    if new:
        log(new)


# logged models


def _model(ws: Workspace, parcel: Parcel, name: str, taken: Taken) -> None:
    doc = parcel.document(name)
    id = name.removeprefix("models/").removesuffix(".json")
    params, tags = _TEXTS.validate_python(doc.get("params")), _TEXTS.validate_python(doc.get("tags"))
    points = [
        Point(k, float(v), at, step, id, data)
        for k, v, at, step, _, data in _POINTS.validate_python(doc.get("metrics"))
    ]
    try:
        here = ws.runs.model(id)
    except NotFound:
        at_ms = int(doc.get("created_ms") or 0)
        into = named(ws.runs, _TEXT.validate_python(doc.get("experiment")), at_ms=at_ms)
        run = _MAYBE.validate_python(doc.get("run"))
        made = LoggedModel(id, into, _TEXT.validate_python(doc.get("name")), run, "", "PENDING", "",
                           _TEXT.validate_python(doc.get("type")), at_ms, at_ms, params)  # fmt: skip
        here = ws.runs.create_model(made)
        taken.added["models"] += 1
    if here.params != params:
        raise Conflict(f"the model {id} is here with other params", why="they never change", fix="rename one")
    if new := _measured(ws, here, points):
        ws.runs.log(str(here.run), metrics=new)
    taken.added["files"] += _keep(ws, parcel, id, _FILES.validate_python(doc.get("files")), taken)
    at = here.updated_ms
    _add_tags(f"model {id}", here.tags, tags, taken, lambda new: ws.runs.change_model(id, at_ms=at, tags=new))
    if here.status == "PENDING":
        ws.runs.change_model(id, at_ms=at, status="READY")


def _measured(ws: Workspace, model: LoggedModel, points: list[Point]) -> list[Point]:
    """Points that were measured on a model and that it lacks here; only such as its run has logged."""
    lacks = [one for one in points if one not in set(model.metrics)]
    if not lacks or model.run is None or _known_run(ws, model.run) is None:
        return []
    logged = {}
    for key in {one.key for one in lacks}:
        values, times, steps = (array("q", data) for data in ws.runs.read_columns(model.run, key))
        logged[key] = set(zip(values, times, steps, strict=True))
    return [one for one in lacks if (_bits(one.value), one.at_ms, one.step) in logged[one.key]]


def _bits(value: float) -> int:
    return array("q", array("d", [value]).tobytes())[0]


# registrations


def _registration(ws: Workspace, parcel: Parcel, name: str, taken: Taken) -> None:
    doc = parcel.document(name)
    origin = name.removeprefix("registrations/").removesuffix(".json")
    called, files = _TEXT.validate_python(doc.get("name")), _FILES.validate_python(doc.get("files"))
    tags, said = _TEXTS.validate_python(doc.get("tags")), _TEXT.validate_python(doc.get("description"))
    if ws.records.find(Version, limit=1, id=origin):
        return  # it was judged here
    found = _here(ws, origin)
    if found is None:
        found = _deposit(ws, parcel, doc, origin, called, files, tags, said, taken)
        if found is None:
            return
        taken.added["registrations"] += 1
    assert found.deposit is not None
    if found.deposit.files != {path: key for path, (key, _, _) in files.items()}:
        raise Conflict(
            f"{found.name} {found.number} is here with other files", why="they never change", fix="rename one"
        )
    if found.name != called:
        taken.told.append(f"{called} of there is called {found.name} here, which stays")
    _add_tags(
        f"{found.name} {found.number}",
        {AUTHOR: tags.get(AUTHOR, ""), FROM: tags.get(FROM, ""), **found.tags},
        {key: value for key, value in tags.items() if origin != found.id or not key.startswith("loopline.")},
        taken,
        lambda new: shelving.label(ws, found.name, found.number, tags=new),
    )
    if said and not found.description:
        shelving.label(ws, found.name, found.number, description=said)
    elif said != found.description and said:
        taken.told.append(f"{found.name} {found.number} is described otherwise there")
    on = shelf(ws, found.name)
    for alias in TypeAdapter(list[str]).validate_python(doc.get("aliases")):
        if alias not in on.aliases:
            try:
                shelving.point(ws, found.name, alias, found.number)
            except (Denied, Invalid) as error:
                taken.told.append(f"the alias {alias!r:.60} of {found.name} stays there: {error.why}")
        elif on.aliases[alias] not in found.ids:
            taken.told.append(f"the alias {alias!r:.60} of {found.name} points at another version here, and stays so")


def _here(ws: Workspace, origin: str) -> Entry | None:
    return next((one for one in entries(ws) if origin_of(one) == origin), None)


def _deposit(
    ws: Workspace, parcel: Parcel, doc: dict[str, Any], origin: str, called: str, files: Any, tags: Any, said: str,
    taken: Taken,
) -> Entry | None:  # fmt: skip
    """Register what came under the next number of its name."""
    prompt = doc.get("prompt") is True
    try:
        on = shelf(ws, called)
    except NotFound:
        shelving.create(ws, called, prompt=prompt)
        on = shelf(ws, called)
    if on.prompt != prompt:
        raise Conflict(
            f"{called} is {'a prompt' if on.prompt else 'a model'} here", why="it is the other there", fix="rename one"
        )
    waiting = f"arriving-{origin[:40]}"
    if files:
        _keep(ws, parcel, waiting, files, taken)
    made: Deposit = shelving.deposit(
        ws, called, source=_TEXT.validate_python(doc.get("source"))[:2_000], owner=waiting if files else None,
        run=_MAYBE.validate_python(doc.get("run")), logged_model=_MAYBE.validate_python(doc.get("logged_model")),
        run_link=_TEXT.validate_python(doc.get("run_link")), description=said, tags=tags, key=key_of(origin),
    )  # fmt: skip
    ws.artifacts.delete(waiting)
    try:
        return entry(ws, called, made.number)
    except NotFound:
        taken.told.append(f"version {made.number} of {called} was withdrawn here and stays so")
        return None


__all__ = ["OWN", "Taken", "one_at_a_time", "take_in"]
