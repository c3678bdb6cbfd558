"""The noun of features."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

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
    beside: str | None = None
    """The champion's training set whose features, where these views do not make them, are `champion:<name>` columns of
    the held-out rows; null where these views make them all."""
    missing: dict[str, str] = field(default_factory=dict)
    """Features of the champion that could not be computed, and why."""


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
    not_features: dict[str, str] = field(default_factory=dict)
    """Columns that are no features, and why, where the features are the other columns of the rows."""

    @property
    def refusing(self) -> tuple[Leak, ...]:
        """The findings that keep the rows from being trained on."""
        return tuple(leak for leak in self.findings if leak.refuses)


@noun("published")
@dataclass(frozen=True, slots=True)
class Published:
    """Features brought to the online store: what is known at `upto` of some versions of their tables."""

    id: str
    views: str
    """Content id of the view definitions."""
    names: tuple[str, ...]
    upto: datetime
    versions: dict[str, int]
    """Version of each table that the store's entities go up to."""
    entities: int
    """How many were written."""


NEVER = "never published"
EMPTIED = "was published, the store is empty: `loopline features publish --backfill`"
"""Why a view is late of which the online store holds nothing."""


@dataclass(frozen=True, slots=True)
class ViewFreshness:
    """How fresh one view of the online store is."""

    view: str
    source: str
    refresh: timedelta | None
    """Null for tables without times."""
    stands_at: datetime | None
    """The refresh that it stands at; null when it was never published, or has no times."""
    behind: timedelta | None
    """How far that is from the refresh that is due."""
    newest_event: datetime | None
    age: timedelta | None
    allowed: timedelta | None
    """The `freshness` that the view declares."""
    late: str | None
    """Why the service level is broken; null where it holds."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One logged value that the batch path does not confirm."""

    feature: str
    prediction_id: str
    entity: str
    decision_time: datetime
    served: float | str | None
    computed: float | str | None


@noun("parity_report")
@dataclass(frozen=True, slots=True)
class ParityReport:
    """Logged requests beside what the batch path makes of the same entities at the same times."""

    id: str
    endpoint: str
    views: str
    """Content id of the view definitions."""
    rows: int
    """Logged requests that were recomputed."""
    values: int
    """Single values that were compared."""
    mismatches: dict[str, int]
    """Values that differ, by feature; only features that do."""
    examples: tuple[Mismatch, ...]
    unchecked: dict[str, str]
    """Features and rows that could not be recomputed, and why."""
    since: datetime | None
    until: datetime | None
    """First and last decision time among the rows."""
    created_at: datetime
    versions: tuple[str, ...] = ()
    """Whose answers were recomputed; all answers' where there is none."""
    open: tuple[str, ...] = ()
    """Of `unchecked` the features that had to be compared: those of external views apart, which no batch path makes."""

    @property
    def holds(self) -> bool:
        """Whether every value that was compared agrees."""
        return not self.mismatches

    @property
    def left_open(self) -> str:
        """The features that had to be compared and were not, with why, the first three."""
        named = "; ".join(f"{name} ({self.unchecked.get(name, 'not told')})" for name in self.open[:3])
        return named + (f" and {len(self.open) - 3} more" if len(self.open) > 3 else "")
