"""What a run says of itself, read from its ready document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from loopline.interfaces.ui.runs.question import Field

NAME, PARENT, NOTE = "mlflow.runName", "mlflow.parentRunId", "mlflow.note.content"
_MS = 1e-3


class _Pair(msgspec.Struct):
    key: str
    value: str


class _Metric(msgspec.Struct):
    key: str
    value: float | str
    timestamp: int
    step: int


class _Info(msgspec.Struct):
    run_id: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    lifecycle_stage: str
    artifact_uri: str
    end_time: int | None = None


class _Dataset(msgspec.Struct):
    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""


class _Input(msgspec.Struct):
    dataset: _Dataset
    tags: list[_Pair] = []


class _Inputs(msgspec.Struct):
    dataset_inputs: list[_Input] = []


class _Data(msgspec.Struct):
    metrics: list[_Metric] = []
    params: list[_Pair] = []
    tags: list[_Pair] = []


class _Document(msgspec.Struct):
    info: _Info
    data: _Data
    inputs: _Inputs


_decode = msgspec.json.Decoder(_Document).decode


@dataclass(frozen=True, slots=True)
class Told:
    """A run as the pages show it. Times are milliseconds since 1970 (UTC)."""

    id: str
    name: str
    experiment: str
    user: str
    status: str
    start_ms: int
    end_ms: int | None
    deleted: bool
    artifacts: str
    metrics: dict[str, float]
    """The latest of each key; NaN and infinities among them."""
    steps: dict[str, int]
    """At which step that was."""
    params: dict[str, str]
    tags: dict[str, str]
    inputs: tuple[tuple[_Dataset, dict[str, str]], ...]
    """Datasets, each with the tags of its use."""
    left: str = ""
    """What the spool says of a run that is called running, while nobody writes it."""

    @property
    def standing(self) -> str:
        """Its status, or why it is no longer what the log calls it."""
        return self.left or self.status

    @property
    def title(self) -> str:
        """Its name, or the head of its id."""
        return self.name or self.id[:12]

    @property
    def seconds(self) -> float | None:
        """How long it took; null while it runs."""
        return None if self.end_ms is None else (self.end_ms - self.start_ms) * _MS

    @property
    def running(self) -> bool:
        """Whether more may come."""
        return self.standing in ("RUNNING", "SCHEDULED") and not self.deleted

    def value(self, field: Field) -> str | float | int | None:
        """The value of a field; null where the run has none."""
        if field.kind == "metric":
            return self.metrics.get(field.key)
        if field.kind == "param":
            return self.params.get(field.key)
        if field.kind == "tag":
            return self.tags.get(field.key)
        return self._attribute(field.key.lower())

    def _attribute(self, key: str) -> str | int | None:
        found: dict[str, Any] = {
            "run_id": self.id, "run_name": self.name, "name": self.name, "status": self.status, "user_id": self.user,
            "user": self.user, "artifact_uri": self.artifacts, "start_time": self.start_ms, "end_time": self.end_ms,
            "lifecycle_stage": "deleted" if self.deleted else "active",
        }  # fmt: skip
        return found.get(key.replace(" ", "_"), found.get("start_time") if key == "created" else None)


def told(document: bytes) -> Told:
    """A document of the run log as what it tells."""
    found = _decode(document)
    info, data = found.info, found.data
    return Told(
        id=info.run_id,
        name=info.run_name,
        experiment=info.experiment_id,
        user=info.user_id,
        status=info.status,
        start_ms=info.start_time,
        end_ms=info.end_time,
        deleted=info.lifecycle_stage == "deleted",
        artifacts=info.artifact_uri,
        metrics={one.key: float(one.value) for one in data.metrics},
        steps={one.key: one.step for one in data.metrics},
        params={one.key: one.value for one in data.params},
        tags={one.key: one.value for one in data.tags},
        inputs=tuple((one.dataset, {tag.key: tag.value for tag in one.tags}) for one in found.inputs.dataset_inputs),
    )
