"""The catalogue of features: who makes each, who reads it, what it is worth, and whom a change touches."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from loopline.base.errors import Denied, Invalid, NotFound
from loopline.data.privacy.tombstones import current
from loopline.data.spec import TableSpec
from loopline.features.nouns import TrainingSet
from loopline.features.past import times
from loopline.features.spec import FeaturesSpec
from loopline.features.verbs import project_views
from loopline.features.views import View
from loopline.features.written import text_of, versions
from loopline.framing.spec import FramingSpec
from loopline.governance.nouns import Consumer, FeatureEntry, FeatureImpact
from loopline.registry.nouns import Version
from loopline.serving.nouns import DesiredState
from loopline.training.bundle import Bundle, read_bundle
from loopline.training.nouns import Model
from loopline.training.packages.trust import trust_of
from loopline.workspace import Workspace, query

ROWS, ROUNDS = 300, 2


@query("governance.feature_catalogue")
def feature_catalogue(
    ws: Workspace,
    project: Path,
    *,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
) -> list[FeatureEntry]:
    """Every feature of the project: what it is, where it comes from, who uses it, and what it is worth.

    `importance` is by how much the score of the newest model moves, in the mean,
    when the feature is shuffled among 300 held-out rows.
    """
    views = project_views(ws, project, framing, features, tables)
    own = versions(views.doc())
    consumers = _consumers(ws)
    newest = _newest(ws)
    worth = _importance(ws, newest) if newest is not None else {}
    found = []
    for one in views.views:
        event, age = _age(ws, one, tables)
        for name, tree in one.features:
            readers = tuple(c for c in consumers if name in c.features)
            found.append(
                FeatureEntry(
                    name=name,
                    view=one.name,
                    definition=text_of(tree.doc()),
                    version=own[name],
                    entity=tuple(pair[0] for pair in one.on),
                    producers=one.tables or (features.spine,),
                    consumers=readers,
                    importance=worth.get(name),
                    newest_event=event,
                    late=None if one.freshness is None or age is None else age > one.freshness,
                    recomputable=not one.external,
                    slow=any(node.op == "call" for node in tree.walk()),
                    unused=not readers,
                )
            )
    return found


@query("governance.feature_impact")
def feature_impact(
    ws: Workspace,
    project: Path,
    *,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
) -> list[FeatureImpact]:
    """What differs between the features as the project defines them now and as models were trained on them.

    One entry for each feature that a model reads and that is changed or gone, with
    the models that it touches; and for each feature that is new, with none.
    """
    own = versions(project_views(ws, project, framing, features, tables).doc())
    touched: dict[tuple[str, str], list[Consumer]] = {}
    seen: set[str] = set()
    for consumer in _consumers(ws):
        theirs = _trained_on(ws, consumer)
        for name in consumer.features:
            seen.add(name)
            if name not in own:
                touched.setdefault((name, "gone"), []).append(consumer)
            elif theirs is None:
                touched.setdefault((name, "unknown"), []).append(consumer)
            elif theirs.get(name) != own[name]:
                touched.setdefault((name, "changed"), []).append(consumer)
    found = [
        FeatureImpact(name, change, tuple(models), any(m.endpoints for m in models))
        for (name, change), models in touched.items()
    ]
    return found + [FeatureImpact(name, "new", (), False) for name in own if name not in seen]


def _consumers(ws: Workspace) -> list[Consumer]:
    """The models that were trained, newest first, each with the version it became and where it is served."""
    numbers = {version.model: version for version in ws.records.find(Version)}
    served: dict[str, list[str]] = {}
    latest: dict[str, DesiredState] = {}
    for state in ws.records.find(DesiredState):
        if state.endpoint not in latest or state.generation > latest[state.endpoint].generation:
            latest[state.endpoint] = state
    for state in latest.values():
        for variant in state.variants:
            served.setdefault(variant.version, []).append(f"{state.endpoint} ({variant.role})")
    found = []
    for model in sorted(ws.records.find(Model), key=lambda m: m.created_at, reverse=True):
        version = numbers.get(model.id)
        places = tuple(served.get(version.id, ())) if version is not None else ()
        number = None if version is None else version.number
        found.append(Consumer(model.id, number, places, model.features, model.training_set))
    return found


def _trained_on(ws: Workspace, consumer: Consumer) -> dict[str, str] | None:
    """The versions of the features that a model learned from; null where they were not kept."""
    sets = ws.records.find(TrainingSet, id=consumer.training_set, limit=1)
    if not sets:
        return None
    try:
        return versions(json.loads(ws.blobs.get(sets[0].views)))
    except (NotFound, Invalid):
        return None


def _newest(ws: Workspace) -> Model | None:
    return max(ws.records.find(Model), key=lambda m: m.created_at, default=None)


def _importance(ws: Workspace, model: Model) -> dict[str, float]:
    """Mean change of the score when a column is shuffled among held-out rows; empty where they are gone."""
    sets = ws.records.find(TrainingSet, id=model.training_set, limit=1)
    try:
        bundle = read_bundle(ws.blobs.get(model.bundle), trust_of(ws.id))
        frame = pl.read_ipc(io.BytesIO(ws.blobs.get(current(ws, sets[0].frame))))
    except (NotFound, Invalid, Denied, IndexError):
        return {}
    held_out = frame.filter(pl.col("split") == "test")
    rows = held_out if held_out.height else frame
    return shuffled(bundle, rows.sample(min(ROWS, rows.height), seed=7))


def shuffled(bundle: Bundle, rows: pl.DataFrame) -> dict[str, float]:
    """By feature, how much the score moves in the mean when its values are shuffled among `rows`.

    References
    ----------
    Fisher, Rudin and Dominici (2019), All models are wrong, but many are useful,
    JMLR 20(177); here on the score instead of the loss, so that no label is needed.
    """
    matrix = bundle.matrix(rows)
    scores = bundle.score(matrix)
    rng = np.random.default_rng(7)
    found = {}
    for place, name in enumerate(bundle.names):
        moved = 0.0
        for _ in range(ROUNDS):
            other = matrix.copy()
            other[:, place] = other[rng.permutation(len(other)), place]
            moved += float(np.abs(bundle.score(other) - scores).mean()) if len(other) else 0.0
        found[name] = moved / ROUNDS
    return found


def _age(ws: Workspace, one: View, tables: Mapping[str, TableSpec]) -> tuple[datetime | None, timedelta | None]:
    """When the newest event of a view's source happened, and how long ago."""
    if one.source is None or one.maker is not None or one.source not in tables:
        return None, None
    spec = tables[one.source]
    column = spec.event_time or spec.known_at
    if column is None or ws.tables.version(one.source) is None:
        return None, None
    newest = times(ws.tables.scan(one.source).select(pl.col(column)).collect(), _only(spec, column))[0].max()
    return (newest, ws.clock() - newest) if isinstance(newest, datetime) else (None, None)


def _only(spec: TableSpec, column: str) -> TableSpec:
    return spec.model_copy(update={"event_time": column, "known_at": None})


def entry(entries: Sequence[FeatureEntry], name: str) -> FeatureEntry:
    """The entry of one feature; `NotFound` without it."""
    for one in entries:
        if one.name == name:
            return one
    raise NotFound(
        f"there is no feature {name!r}",
        why="the project's views define none of that name",
        fix=f"they define {', '.join(one.name for one in entries)}",
    )
