"""Answers that were really given, joined with what turned out, each day counted once."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import date, datetime, timedelta

import polars as pl

from loopline.framing.spec import FramingSpec, ValueSpec
from loopline.monitoring.quality import DayCounts
from loopline.serving.nouns import BASELINE

SCHEMA = {
    "entity": pl.String,
    "day": pl.Date,
    "version": pl.String,
    "score": pl.Float64,
    "decision": pl.Boolean,
}
LONGEST_WAIT = timedelta(days=60)
"""An answer whose label has not come by then (or three usual delays, if longer) is given up."""

Days = dict[date, dict[str, DayCounts]]


def given(log: pl.DataFrame) -> pl.DataFrame:
    """Of log rows, the answers people got (no shadows), in the columns of `SCHEMA`.

    A constant given in a version's place is no answer of its own: its version is `baseline`.
    """
    constant = pl.col("fallback").eq_missing(pl.lit(BASELINE))
    return log.filter(pl.col("role") != "shadow").select(
        pl.col("entity").cast(pl.String),
        pl.col("decision_time").dt.date().alias("day"),
        pl.when(constant).then(pl.lit(BASELINE)).otherwise("version").alias("version"),
        pl.col("score").cast(pl.Float64),
        "decision",
    )


def settle(
    pending: pl.DataFrame, fresh: pl.DataFrame, labels: pl.DataFrame, framing: FramingSpec, until: datetime
) -> tuple[pl.DataFrame, Days]:
    """Count the answers whose label has come.

    Parameters
    ----------
    pending, fresh : DataFrame
        Answers waiting since earlier, and new ones, in the columns of `SCHEMA`.
        Of several answers about one entity the last one counts.
    labels : DataFrame
        `framing.unit` and `label` (null = void): those newly known.
    until : datetime
        UTC; what has waited too long by then is given up.

    Returns
    -------
    DataFrame, dict
        The answers still waiting, and the counts to add by day and version. A
        void label settles its answer without counting.
    """
    waiting = pl.concat([pending, fresh]).unique("entity", keep="last", maintain_order=True)
    known = labels.select(pl.col(framing.unit).cast(pl.String).alias("entity"), "label").unique("entity", keep="last")
    settled = waiting.join(known, on="entity", how="inner").drop_nulls("label")
    longest = max(LONGEST_WAIT, 3 * (framing.label_arrives or timedelta(0)))
    rest = waiting.join(known, on="entity", how="anti").filter(pl.col("day") > (until - longest).date())
    return rest, _counted(settled, framing.value)


def _counted(settled: pl.DataFrame, value: ValueSpec | None) -> Days:
    days: Days = {}
    for (day, version), rows in settled.partition_by("day", "version", as_dict=True, maintain_order=True).items():
        assert isinstance(day, date)
        days.setdefault(day, {})[str(version)] = DayCounts.of(
            rows["score"].to_numpy(),
            rows["label"].to_numpy(),
            value=value,
            decisions=rows["decision"].to_numpy(),
        )
    return days


def to_bytes(pending: pl.DataFrame) -> bytes:
    """Waiting answers as an Arrow IPC file."""
    out = io.BytesIO()
    pending.write_ipc(out, compression="zstd")
    return out.getvalue()


def from_bytes(data: bytes | None) -> pl.DataFrame:
    """What `to_bytes` wrote; none without data."""
    return pl.DataFrame(schema=SCHEMA) if data is None else pl.read_ipc(io.BytesIO(data))


def of_version(days: Mapping[date, Mapping[str, DayCounts]], version: str | None) -> dict[date, DayCounts]:
    """Counts by day of one version's answers, or of all answers."""
    empty = DayCounts.empty()
    if version is not None:
        return {day: counts.get(version, empty) for day, counts in days.items()}
    return {day: sum(counts.values(), empty) for day, counts in days.items()}
