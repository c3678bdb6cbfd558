"""The noun of features."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from loopline.base.nouns import noun


@noun("training_set")
@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Labelled rows with what was known at each row's decision time.

    The frame is an Arrow IPC blob with columns `unit`, `decision_time`, the
    features, `label` (Boolean), `split` (`train` or `test`) and the declared
    slice columns. Void labels and rows inside a data incident are not in it.
    """

    id: str
    snapshot: str
    frame: str
    """Blob digest of the Arrow IPC file."""
    features: tuple[str, ...]
    categorical: tuple[str, ...]
    views: str
    """Content id of the view definitions."""
    train_rows: int
    test_rows: int
    train_to: datetime
    test_to: datetime
    excluded: dict[str, int]
    """Rows left out, by reason: void, unlabelled, incident, outside window, same unit (one row of each counts)."""
    request: str | None = None
    """Blob of what requests must bring (`features.requests`); null where a function of the project is called."""


@noun("feature_rows")
@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Features that were computed and kept: all spine rows due in `[since, until)`.

    `rows` counts those added by this record; what earlier records cover is not
    computed again.
    """

    id: str
    views: str
    """Content id of the view definitions."""
    table: str
    since: datetime
    until: datetime
    rows: int


@dataclass(frozen=True, slots=True)
class Leak:
    """One way in which the rows know more than they could when their prediction was due."""

    kind: str
    column: str | None
    """Feature, group column or table it stands in; null where it concerns whole rows."""
    score: float | None
    """What was measured, in the unit that `evidence` names."""
    bound: float | None
    """What is believed of honest rows; derived from the data where `evidence` says so."""
    evidence: str
    fix: str
    blocking: bool = True
    accepted: str | None = None
    """The reason that loop.yaml gives for training all the same; null where it gives none."""

    @property
    def refuses(self) -> bool:
        """Whether it keeps the rows from being trained on."""
        return self.blocking and self.accepted is None


@noun("leakage_report")
@dataclass(frozen=True, slots=True)
class LeakageReport:
    """What was found when the rows of a training set were searched for leaks, before training."""

    id: str
    training_set: str
    findings: tuple[Leak, ...]
    checked: tuple[str, ...]
    """Kinds of leak that were looked for."""
    skipped: dict[str, str]
    """Kinds that could not be looked for, and why."""
    recomputed_rows: int
    """Rows whose features were computed again with the history cut at their decision time."""
    created_at: datetime

    @property
    def refusing(self) -> tuple[Leak, ...]:
        """The findings that keep the rows from being trained on."""
        return tuple(leak for leak in self.findings if leak.refuses)
