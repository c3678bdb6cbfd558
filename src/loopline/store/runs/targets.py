"""What can be searched: where the fields of a filter lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Type = Literal["text", "number"]


@dataclass(frozen=True, slots=True)
class Keyed:
    """A table that holds a value by owner and key."""

    table: str
    owner: str
    """Its column that names the owner."""
    of: str = "r.id"
    """What stands in that column."""
    type: Type = "text"
    numbers: bool = False
    """Whether a column `number` holds what a text writes."""
    many: bool = False
    """Whether there may be several rows for a key; the latest counts in an order."""
    indexes: tuple[str, str] | None = None
    """Where (experiment, key, value) is indexed: by value, and by number."""


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of thing that can be searched."""

    what: str
    table: str
    partition: tuple[str, ...]
    """Columns that every question gives: each part is searched by itself."""
    attributes: dict[str, tuple[str, Type]]
    keyed: dict[str, Keyed]
    newest: str
    """By which the newest come first."""
    id: str
    """By which ties are broken."""
    only: str = ""
    """What holds for all that can be found."""
    aliases: dict[str, str] = field(default_factory=dict)
    datasets: bool = False


RUNS = Target(
    what="run",
    table="runs",
    partition=("experiment", "stage"),
    attributes={
        "run_id": ("r.uuid", "text"),
        "run_name": ("r.name", "text"),
        "status": ("r.status", "text"),
        "user_id": ("r.user", "text"),
        "artifact_uri": ("r.artifacts", "text"),
        "lifecycle_stage": ("r.stage", "text"),
        "start_time": ("r.start", "number"),
        "end_time": ("r.end", "number"),
    },
    keyed={
        "metric": Keyed("latest", "run", type="number", indexes=("latest_value", "")),
        "param": Keyed("params", "run", numbers=True, indexes=("params_text", "params_number")),
        "tag": Keyed("tags", "run", indexes=("tags_text", "")),
    },
    newest="r.start",
    id="r.uuid",
    aliases={
        "run id": "run_id", "run name": "run_name", "name": "run_name", "created": "start_time",
        "user": "user_id", "user id": "user_id", "artifact uri": "artifact_uri",
        "start time": "start_time", "end time": "end_time",
    },
    datasets=True,
)  # fmt: skip

EXPERIMENTS = Target(
    what="experiment",
    table="experiments",
    partition=("stage",),
    attributes={
        "name": ("r.name", "text"),
        "experiment_id": ("r.id", "number"),
        "creation_time": ("r.created", "number"),
        "last_update_time": ("r.updated", "number"),
        "lifecycle_stage": ("r.stage", "text"),
    },
    keyed={"tag": Keyed("experiment_tags", "experiment")},
    newest="r.created",
    id="r.id",
    aliases={"created": "creation_time", "id": "experiment_id"},
)

MODELS = Target(
    what="logged model",
    table="models",
    partition=("experiment",),
    attributes={
        "name": ("r.name", "text"),
        "model_id": ("r.uuid", "text"),
        "model_type": ("r.type", "text"),
        "status": ("r.status", "text"),
        "source_run_id": ("r.run", "text"),
        "creation_timestamp": ("r.created", "number"),
        "last_updated_timestamp": ("r.updated", "number"),
    },
    keyed={
        "metric": Keyed("model_metrics", "model", of="r.uuid", type="number", many=True),
        "param": Keyed("model_params", "model", numbers=True),
        "tag": Keyed("model_tags", "model"),
    },
    newest="r.created",
    id="r.uuid",
    only="r.deleted IS NULL",
    aliases={"creation_time": "creation_timestamp", "last_updated_time": "last_updated_timestamp"},
)
