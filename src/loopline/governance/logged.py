"""A subject in what pipelines and runs keep: answers of steps, which go, and files of runs, which are told."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from loopline.base.errors import LooplineError
from loopline.governance.holding import Search
from loopline.governance.mentions import Mentions
from loopline.governance.nouns import Place
from loopline.training.pipeline.answers import LOGS, Kept, alone, answers, let_go, runs_of
from loopline.training.pipeline.nouns import StepRun
from loopline.training.pipeline.task import FOLDER, store
from loopline.training.pipeline.values import MARK
from loopline.workspace import Workspace

ANSWER = "step answer"
DERIVED = "it was computed from an answer that holds it"
GOES = "the step runs again when it is asked for"
FILE = "what was logged is kept; delete the run or trace, then `loopline gc --older-than 0d --yes`"
BLIND = "it cannot be looked into; the step runs again when it is asked for"
UNREAD = "not looked into: it is packed, or too large"


def places(ws: Workspace, search: Search) -> list[Place]:
    """Answers of steps and logs of running ones that hold the subject or came from such; files of runs that hold it."""
    found: dict[str, list[str]] = defaultdict(list)
    for one, why in _answers(ws, search):
        found[_named(one)].append(why)
    told = [Place(ANSWER, name, len(whys), "delete", min(whys)) for name, whys in sorted(found.items())]
    told += [Place(ANSWER, f"log of {path.parent.name}", 1, "delete", GOES) for path in _live_logs(ws, search)]
    return told + list(_files(ws, search))


def take_out(ws: Workspace, search: Search) -> None:
    """Delete those answers and logs; where a pipeline runs they stay, and are found again."""
    with alone(ws.root) as nobody:
        if nobody:
            let_go(ws, [one.digest for one, _ in _answers(ws, search)])
            for path in _live_logs(ws, search):
                path.unlink(missing_ok=True)


def _answers(ws: Workspace, search: Search) -> Iterator[tuple[Kept, str]]:
    """Blobs of the store of answers to delete, and why."""
    kept, mentions = answers(ws), Mentions(search)
    direct = {one.digest: why for one in kept if (why := _why(ws, one, mentions))}
    steps = {made.id: made for made in ws.records.find(StepRun)}
    tainted = {made.id for made in steps.values() if direct.keys() & set(made.blobs) or mentions.in_doc(made.output)}
    derived = {digest for id in _computed_from(ws, tainted) if id in steps for digest in steps[id].blobs}
    for one in kept:
        if one.digest in direct:
            yield one, direct[one.digest]
        elif one.digest in derived:
            yield one, DERIVED


def _computed_from(ws: Workspace, tainted: set[str]) -> set[str]:
    """Step runs that read an answer of one of these, directly or over others, in any run; what they found too."""
    made_by = {made.id: made.made_by for made in ws.records.find(StepRun)}
    reached = {made_by.get(id, id) for id in tainted}
    runs = list(runs_of(ws))
    grew = True
    while grew:
        grew = False
        for steps, after in runs:
            for step, id in steps.items():
                if made_by.get(id, id) not in reached and any(
                    made_by.get(steps[before], steps[before]) in reached for before in after[step] if before in steps
                ):
                    reached.add(made_by.get(id, id))
                    grew = True
    return reached


def _why(ws: Workspace, one: Kept, mentions: Mentions) -> str:
    """Why a blob goes; empty where it does not hold the subject. What cannot be looked into is computed again."""
    try:
        path = store(ws.root).path(one.digest)
    except LooplineError:
        return ""  # it is damaged or gone: no run takes it
    if one.step is not None and _kind_of(one.step.output, one.digest) == "json":
        return GOES if mentions.in_doc(json.loads(path.read_bytes())) else ""
    found = mentions.in_file(path)
    return BLIND if found is None else GOES if found else ""


def _kind_of(doc: object, digest: str) -> str | None:
    """As what a packed value keeps a blob."""
    if isinstance(doc, dict):
        if doc.get("digest") == digest and MARK in doc:
            return str(doc[MARK])
        return next((kind for value in doc.values() if (kind := _kind_of(value, digest))), None)
    if isinstance(doc, (list, tuple)):
        return next((kind for value in doc if (kind := _kind_of(value, digest))), None)
    return None


def _named(one: Kept) -> str:
    return "an answer that no run names" if one.step is None else f"{one.step.step} of {one.step.pipeline}"


def _live_logs(ws: Workspace, search: Search) -> list[Path]:
    mentions = Mentions(search)
    found = []
    for path in (ws.root / FOLDER / LOGS).glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            if mentions.in_bytes(path.read_bytes()):
                found.append(path)
    return sorted(found)


def _files(ws: Workspace, search: Search) -> Iterator[Place]:
    """Files of runs, logged models and registrations that hold the subject; those nobody can look into, as one."""
    mentions = Mentions(search)
    known: dict[str, int | None] = {}
    unread = 0
    for owner, files in ws.artifacts.index().items():
        for file in files:
            if file.digest not in known:
                with contextlib.suppress(FileNotFoundError):
                    known[file.digest] = mentions.in_file(ws.artifacts.blobs.where(file.digest))
            found = known.get(file.digest, 0)
            unread += found is None
            if found:
                said = "(its path names it too)" if mentions.in_bytes(file.path.encode()) else file.path
                yield Place("run file", f"{owner}/{said}", found, "flag", FILE)
    if unread:
        yield Place("run file", f"{unread} packed or large", unread, "flag", UNREAD)
