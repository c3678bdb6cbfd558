"""The nouns of governance: a graph of where things came from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from loopline.base.nouns import noun


@dataclass(frozen=True, slots=True)
class Node:
    """One fact in the graph."""

    id: str
    """`<kind>:<id>`, unique in the graph."""
    kind: str
    """One of `governance.graph.LEVELS`: from `table` over `snapshot` and `model` to `release`."""
    label: str
    detail: dict[str, str]
    """What a reader wants to see beside it, in words."""
    level: int
    """Distance from the raw rows, for laying the graph out from left to right."""
    missing: bool = False
    """The records name it, but hold nothing about it."""


@dataclass(frozen=True, slots=True)
class Edge:
    """`source` went into `target`."""

    source: str
    target: str
    label: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in order of level, then label; edges in order of their ends. No cycle."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """One thing that holds a subject, and what is done about it."""

    kind: str
    """`table`, `quarantine`, `features`, `predictions`, `online`, `training set`, `snapshot`, `model`, `step answer`,
    `run file`, `record` or `source`."""
    name: str
    rows: int
    """Rows, values or mentions found there; a row that several files hold counts each time."""
    act: str
    """`rewrite`, `delete`, `flag`: what can be done with it."""
    note: str = ""


@noun("erasure_proof")
@dataclass(frozen=True, slots=True)
class ErasureProof:
    """That a subject was erased: where it was found and what was done, without saying who it was."""

    id: str
    subject: str
    """Keyed token of the subject; whoever holds the key can check it against a value, nobody can read it."""
    places: tuple[Place, ...]
    left: tuple[Place, ...]
    """What a second look afterwards still found and could be rewritten: empty when it was complete."""
    columns: tuple[str, ...]
    """Columns that were searched."""
    units: int
    """Units that were found to be the subject's and erased with it."""
    reason: str
    by: str
    at: datetime
    flagged: tuple[Place, ...] = ()
    """What still speaks of the subject and cannot be rewritten: models, facts of the records, sources outside."""

    @property
    def remains(self) -> tuple[Place, ...]:
        """Everything that is still there; proofs of before say what cannot be rewritten among `places` alone."""
        named = self.flagged or tuple(place for place in self.places if place.act == "flag")
        return (*self.left, *named)


@noun("model_flag")
@dataclass(frozen=True, slots=True)
class ModelFlag:
    """A model that learned from rows of an erased subject, and cannot unlearn them."""

    id: str
    model: str
    training_set: str
    proof: str
    rows: int
    at: datetime
    why: str


@noun("expiry")
@dataclass(frozen=True, slots=True)
class Expiry:
    """Rows of a table that were too old, and went or would go."""

    id: str
    table: str
    before: datetime
    """Rows from before this moment."""
    rows: int
    """Of the newest version."""
    units: int | None
    """How many different units these are about; null where the table does not say."""
    oldest: datetime
    done: bool
    at: datetime
    pinned: tuple[str, ...] = ()
    """Snapshots that keep such rows, in files of their own: they stay as they are."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """A model that reads features, the version it became, and where that is served."""

    model: str
    version: int | None
    endpoints: tuple[str, ...]
    features: tuple[str, ...]
    training_set: str


@dataclass(frozen=True, slots=True)
class FeatureEntry:
    """One line of the catalogue of features."""

    name: str
    view: str
    definition: str
    version: str
    """Content id of its definition: source, entity, ttl and expression."""
    entity: tuple[str, ...]
    producers: tuple[str, ...]
    """Tables that it is made from; the spine where it is made from the request alone."""
    consumers: tuple[Consumer, ...]
    importance: float | None
    """Mean change of the newest model's score when it is shuffled; null where that model does not read it."""
    newest_event: datetime | None
    late: bool | None
    """Whether the newest event of its source is older than its view's `freshness`; null where none is declared."""
    recomputable: bool
    slow: bool
    """Whether it calls a Python function for each row."""
    unused: bool
    """Whether no model reads it."""


@dataclass(frozen=True, slots=True)
class FeatureImpact:
    """A feature that is not what models were trained on, and the models that it touches."""

    feature: str
    change: str
    """`changed`, `gone`, `new`, or `unknown` where the model's definitions were not kept."""
    models: tuple[Consumer, ...]
    live: bool
    """Whether one of them is served."""


@noun("fork")
@dataclass(frozen=True, slots=True)
class Fork:
    """A copy of a workspace that became one of its own."""

    id: str
    """The new id of the workspace."""
    former: str
    """The id of the workspace that it was copied from."""
    entries: int
    """Audit entries that both have in common."""
    problems: tuple[str, ...]
    """What was found wrong with the audit trail then."""
    reason: str
    actor: str
    at: datetime
