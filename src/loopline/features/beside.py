"""A champion's features on the held-out rows of a candidate that drops or redefines them.

Both are judged on the same rows, each by its own features. A feature is known by its definition, not by its name: what
the champion reads and the candidate's views do not make is computed from the document of the champion's training set,
as its views were then, and stands beside the candidate's in a column of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from loopline.base.code import UserCodeError, load_module
from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import content_id
from loopline.data.spec import TableSpec
from loopline.features.assemble import compute
from loopline.features.expr import Expr
from loopline.features.functions import FrameFunction, RowFunction
from loopline.features.nouns import TrainingSet
from loopline.features.past import EVENT, KNOWN, SUPERSEDED, planned
from loopline.features.program import written_view
from loopline.features.sources import histories, version_of
from loopline.features.spec import FeaturesSpec
from loopline.features.spine import spine_rows
from loopline.features.views import View, Views, together
from loopline.features.written import versions
from loopline.framing.spec import FramingSpec
from loopline.workspace import Workspace

ROW = "_row"
PREFIX = "champion:"
"""Begins the columns of held-out rows that the champion alone reads."""
FIRST = datetime.min.replace(tzinfo=UTC)
NOT_KEPT = "what it was made of is not kept in this workspace"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where the champion finds its features on the held-out rows of a candidate."""

    columns: dict[str, str]
    """Column of each feature."""
    missing: dict[str, str]
    """Features that stand in none, and why."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What a training set holds for a champion beside its own features."""

    names: tuple[str, ...] = ()
    """The champion's features that the set's own views do not make."""
    frame: pl.DataFrame | None = None
    """`_row`, and those that could be computed."""
    missing: dict[str, str] = field(default_factory=dict)
    """Those that could not, and why."""


def _set(ws: Workspace, id: str) -> TrainingSet | None:
    sets = ws.records.find(TrainingSet, id=id, limit=1)
    return sets[0] if sets else None


def _definitions(ws: Workspace, of: TrainingSet | None) -> Mapping[str, Any] | None:
    """The document of the views that a training set was made of; null where it is not kept."""
    if of is None or of.views not in ws.blobs:
        return None
    found: Mapping[str, Any] = json.loads(ws.blobs.get(of.views))
    return found


def definitions(ws: Workspace, training_set: str) -> dict[str, str] | None:
    """Content id of each feature's definition in a training set; null where it is not kept."""
    doc = _definitions(ws, _set(ws, training_set))
    return None if doc is None else versions(doc)


def inputs(ws: Workspace, mine: TrainingSet, champion: str, names: Sequence[str]) -> Inputs:
    """Where a model trained on the set `champion` finds its features among the held-out rows of `mine`.

    A feature of the same definition is read as it is; one that `mine` drops or defines otherwise from the column that
    was computed beside, if that was done for this champion.
    """
    plain = Inputs({name: name for name in names}, {})
    if champion == mine.id:
        return plain
    other = _set(ws, champion)
    if other is not None and other.views == mine.views:
        return plain
    theirs, own = _definitions(ws, other), _definitions(ws, mine)
    if theirs is None or own is None:
        return Inputs({}, dict.fromkeys(names, NOT_KEPT))
    then, now = versions(theirs), versions(own)
    for name in names:
        if name in then and then[name] == now.get(name):
            continue
        plain.columns[name] = f"{PREFIX}{name}"
        if name in mine.missing:
            plain.missing[name] = mine.missing[name]
        elif mine.beside != champion:
            plain.missing[name] = "the held-out rows were prepared beside another champion"
    return plain


def beside(
    ws: Workspace,
    project: Path,
    framing: FramingSpec,
    features: FeaturesSpec,
    files: Sequence[str],
    tables: Mapping[str, TableSpec],
    *,
    own: Views,
    champion: str,
    rows: pl.DataFrame,
    now: datetime,
) -> Beside:
    """The features of the set `champion` that `own` does not make, for some rows, as they were defined then.

    Parameters
    ----------
    files : sequence of str
        Where functions of the project are looked for, which a document only names.
    own : Views
        The candidate's.
    champion : str
        Id of a training set.
    rows : DataFrame
        The unit and `decision_time` of the rows to compute them for, and their number `_row`.
    now : datetime
        As known at this moment.

    Returns
    -------
    Beside
        Nothing where each feature is made by `own`. Columns are called `champion:<name>`.

    Notes
    -----
    Features that go with a table, a column or code that is gone are named with the reason, not guessed.
    """
    doc = _definitions(ws, _set(ws, champion))
    if doc is None:
        return Beside()
    then, today = versions(doc), versions(own.doc())
    names = tuple(name for name, version in then.items() if today.get(name) != version)
    if not names:
        return Beside()
    spine = _spine(ws, framing, features, tables, rows, now)
    written, missing = _rebuilt(project, files, doc, names)
    views = []
    for view in written:
        if gone := _lacking(ws, view, spine, tables):
            missing |= {name: gone for name, _ in view.features}
        else:
            views.append(view)
    frame, failed = _computed(ws, views, spine, tables, now)
    return Beside(names, frame, missing | failed)


def as_then(
    ws: Workspace, project: Path, files: Sequence[str], training_set: str
) -> tuple[Views, dict[str, str]] | None:
    """The views that a training set was made of, as they were then, and its features whose code is gone, with why.

    Null where nothing tells what it was made of. Views that travel keep their names, file by file: see
    `requests.groups_of`.
    """
    doc = _definitions(ws, _set(ws, training_set))
    if doc is None:
        return None
    views, missing = _rebuilt(project, files, doc, list(versions(doc)))
    return together(views), missing


def _rebuilt(
    project: Path, files: Sequence[str], doc: Mapping[str, Any], names: Sequence[str]
) -> tuple[list[View], dict[str, str]]:
    """The views of a document as far as they make `names`, and the features whose code is gone, with why."""
    functions = _Functions(project, files)
    views: list[View] = []
    missing: dict[str, str] = {}

    def rebuild(one: Mapping[str, Any], features: Sequence[Any]) -> None:
        try:
            view = written_view({**one, "features": features}, functions.row, functions.frame, name=str(features[0][0]))
        except (_Gone, Invalid) as error:
            if len(features) == 1:
                missing[str(features[0][0])] = error.what if isinstance(error, Invalid) else str(error)
            else:
                for feature in features:
                    rebuild(one, [feature])
        else:
            views.append(view)

    for one in doc["views"]:
        if wanted := [[name, tree] for name, tree in one["features"] if name in names]:
            rebuild(one, wanted)
    return views, missing


def _computed(
    ws: Workspace, views: Sequence[View], spine: pl.DataFrame, tables: Mapping[str, TableSpec], now: datetime
) -> tuple[pl.DataFrame | None, dict[str, str]]:
    """The features of some views, under the champion's names, and why some of them cannot be told."""
    if not views:
        return None, {}
    since = spine["decision_time"].min()
    try:
        found = together(_renamed(view) for view in views)
        low = since if isinstance(since, datetime) else FIRST
        sources = histories(ws, found, tables, since=low, until=now)
        return compute(found, spine, sources, unit=ROW).drop("decision_time"), {}
    except (Invalid, UserCodeError) as error:
        if len(views) == 1:
            return None, {name: error.what for name, _ in views[0].features}
    parts = [_computed(ws, [view], spine, tables, now) for view in views]
    frames = [frame for frame, _ in parts if frame is not None]
    missing = {name: why for _, one in parts for name, why in one.items()}
    if not frames:
        return None, missing
    return frames[0].hstack([column for frame in frames[1:] for column in frame.drop(ROW)]), missing


class _Gone(Exception):
    """Why a feature of then cannot be computed today."""


class _Functions:
    """The functions of a project's view files, by what documents say of them; read once one is asked for."""

    def __init__(self, project: Path, files: Sequence[str]) -> None:
        self._project, self._files = project, files
        self._found: dict[str, RowFunction | FrameFunction] | None = None

    def row(self, doc: Mapping[str, Any]) -> RowFunction:
        found = self._of(doc)
        assert isinstance(found, RowFunction)
        return found

    def frame(self, doc: Mapping[str, Any]) -> FrameFunction:
        found = self._of(doc)
        assert isinstance(found, FrameFunction)
        return found

    def _of(self, doc: Mapping[str, Any]) -> RowFunction | FrameFunction:
        if self._found is None:
            self._found = {content_id(one.doc()): one for file in self._files for one in self._in(file)}
        found = self._found.get(content_id(doc))
        if found is None:
            raise _Gone(f"it calls {doc['name']}, whose code of then is no longer in {', '.join(self._files)}")
        return found

    def _in(self, file: str) -> list[RowFunction | FrameFunction]:
        held = list(vars(load_module(self._project, file)).values())
        views = [one for one in held if isinstance(one, View)]
        trees = [one for one in held if isinstance(one, Expr)] + [tree for one in views for _, tree in one.features]
        called = [node.args[0] for tree in trees for node in tree.walk() if node.op == "call"]
        return [*called, *(one.maker for one in views if one.maker is not None)]


def _renamed(view: View) -> View:
    return replace(view, features=tuple((f"{PREFIX}{name}", tree) for name, tree in view.features))


def _spine(
    ws: Workspace,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    rows: pl.DataFrame,
    now: datetime,
) -> pl.DataFrame:
    """The spine rows that `rows` were made of, each under its `_row`."""
    versions = ws.tables.scan(features.spine).join(rows.lazy(), on=framing.unit, how="semi", maintain_order="left")
    spine = spine_rows(framing, versions.collect())
    if framing.decision_time is not None:
        spine = spine.filter(pl.col("decision_time") < now)
    numbered = rows.select(framing.unit, "decision_time", ROW)
    keys = [framing.unit, "decision_time"]
    joined = spine.join(numbered, on=keys, how="inner", nulls_equal=True, maintain_order="left")
    return planned(joined, tables[features.spine], ROW)


def _lacking(ws: Workspace, view: View, spine: pl.DataFrame, tables: Mapping[str, TableSpec]) -> str | None:
    """What a view reads and is no longer there."""
    if lacking := [name for name in Views((view,)).spine_columns if name not in spine.columns]:
        return f"it reads column {lacking[0]}, which the spine no longer has"
    for table in view.tables:
        if table not in tables:
            return f"it reads table {table}, which loop.yaml no longer declares under data"
        try:
            version = version_of(ws, table)
        except (Invalid, NotFound):
            return f"it reads table {table}, which holds nothing any more"
        if view.maker is not None:
            continue
        present = {*ws.tables.scan(table, version=version).collect_schema(), EVENT, KNOWN, SUPERSEDED}
        read = [node.args[0] for leaf in view.leaves() for node in leaf.args[0].walk() if node.op == "col"]
        needed = [*read, *(theirs for _, theirs in view.on), *([view.available_at] if view.available_at else [])]
        if lacking := [name for name in needed if name not in present]:
            return f"it reads column {lacking[0]} of table {table}, which is no longer there"
    return None
