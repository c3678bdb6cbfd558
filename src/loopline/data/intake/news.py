"""Which rows of a batch are news: known by now, and not known before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from loopline.data.contracts.contract import Contract
from loopline.data.intake.columns import read_declared
from loopline.data.sources.json_types import KIND, apart
from loopline.data.sources.times import to_utc
from loopline.data.spec import TableSpec


@dataclass(frozen=True, slots=True)
class Known:
    """When the rows of a batch became known, against what was taken before."""

    known: pl.Series
    """Which are known by now, or say no time that can be read, and are set aside."""
    news: pl.Series
    """Of these, which were not known at the last ingestion."""
    waiting: int
    first: datetime | None
    """Least time that a waiting row says."""
    expired: int = 0
    """Rows as old as those that were let go of."""


def when_known(batch: pl.DataFrame, name: str, spec: TableSpec, contract: Contract | None,
               since: datetime | None, now: datetime, floor: datetime | None = None) -> Known:  # fmt: skip
    """Which rows of a batch are known now, and which of them are news; none from before `floor` is either."""
    assert spec.known_at is not None
    own = batch.select(c for c in (spec.known_at, KIND + spec.known_at) if c in batch.columns)
    bare, kinds = apart(own)
    read, _ = read_declared(bare, contract, kinds=kinds)
    time = to_utc(read, name, spec, contract)[spec.known_at]
    ripe = (time <= now).fill_null(True)
    over = (time < floor).fill_null(False) if floor is not None else ~ripe & ripe
    known = ripe & ~over
    old = (time <= since).fill_null(False) if since is not None else pl.repeat(False, batch.height, eager=True)
    first = time.filter(~ripe).min()
    assert first is None or isinstance(first, datetime)
    return Known(known, known & ~old, batch.height - int(ripe.sum()), first, int(over.sum()))
