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
