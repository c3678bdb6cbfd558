"""What must stay: everything that a registered model, or what a client registered, came from and is judged by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from loopline.base.errors import LooplineError, NotFound
from loopline.base.nouns import to_doc
from loopline.evaluation.nouns import Report
from loopline.features.nouns import TrainingSet
from loopline.registry.nouns import Deposit, Evidence, Version
from loopline.registry.queries import HERE, LABEL
from loopline.store.runs.artifacts import Kept
from loopline.store.runs.protocol import Run as Logged
from loopline.training.nouns import Model, Run, Search, Trial
from loopline.workspace import Workspace

HOLD = "loopline.hold"
"""A run with this tag is never let go of; its value says why."""
_DESCRIPTION, _LONGEST = "MLmodel", 1 << 20
_NAMED = re.compile(r"(?:\b(?:m|tr)-)?\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}(?:[0-9a-f]{32})?\b")
N = TypeVar("N")


class Held:
    """Ids and digests that a registered model names, directly or by what it came from."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._by: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        for version in ws.records.find(Version):
            said = f"version {version.number} of {version.name} names it"
            self._of_version(version, said)
        gone = {row.id for row in ws.records.rows(LABEL) if row.state != HERE}
        for deposit in ws.records.find(Deposit):
            if deposit.id not in gone:
                said = f"version {deposit.number} of {deposit.name} names it"
                self._name(said, deposit)
                self._owners[deposit.id[:32]] = said

    def _of_version(self, version: Version, said: str) -> None:
        self._name(
            said, version, _maybe(self._ws, Report, version.report), _maybe(self._ws, Evidence, version.evidence)
        )
        model = _maybe(self._ws, Model, version.model)
        if model is None:
            return
        run, used = _maybe(self._ws, Run, model.run), _maybe(self._ws, TrainingSet, model.training_set)
        self._name(said, model, run, used)
        for search in self._ws.records.find(Search, training_set=model.training_set):
            if run is not None and search.recipe == run.recipe:  # it may have chosen the params
                self._name(said, search, *self._ws.records.find(Trial, search=search.id))

    def _name(self, said: str, *nouns: Any) -> None:
        for noun in nouns:
            for text in _texts(to_doc(noun)):
                for found in (text, *_NAMED.findall(text)):
                    self._by.setdefault(found, said)

    def why(self, *names: str) -> str:
        """Which registered model names one of them; empty where none does."""
        return next((self._by[name] for name in names if name in self._by), "")

    def why_run(self, run: Logged) -> str:
        """Why a run stays; empty where it may go."""
        if HOLD in run.tags:
            return f"held: {run.tags[HOLD] or 'it has the tag ' + HOLD}"
        return self.why(run.id, *(used.model for used in run.made))

    def why_owner(self, owner: str, files: Iterable[Kept]) -> str:
        """Why files of an owner that is no run, trace or logged model stay; empty where they may go."""
        return self._owners.get(owner) or self.why(owner) or self._why_shown(files)

    def _why_shown(self, files: Iterable[Kept]) -> str:
        """Why the folder stays that a judged version is given out as: its description names the version."""
        for file in files:
            if file.path == _DESCRIPTION and file.size <= _LONGEST:
                try:
                    text = self._ws.artifacts.blobs.get(file.digest).decode()
                except (LooplineError, UnicodeDecodeError):
                    return ""
                return self.why(*_NAMED.findall(text))
        return ""


def _texts(doc: Any) -> Iterator[str]:
    if isinstance(doc, str):
        yield doc
    elif isinstance(doc, dict):
        for key, value in doc.items():
            yield key
            yield from _texts(value)
    elif isinstance(doc, list):
        for item in doc:
            yield from _texts(item)


def _maybe(ws: Workspace, cls: type[N], id: str) -> N | None:
    try:
        return ws.records.get(cls, id)
    except NotFound:
        return None
