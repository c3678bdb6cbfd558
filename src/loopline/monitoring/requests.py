"""What the requests of a window broke, as the log says it: every rule under the id it has in the contract.

Requests are judged once, when they come, by the rules that travel with the version they are routed to; the log
keeps the ids. Judging the logged inputs again would say less: a value of the wrong type is null there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

EXAMPLES = 5
"""Predictions that are named for a rule."""


@dataclass(frozen=True, slots=True)
class Requests:
    """How many requests came in a window, and what they broke.

    Attributes
    ----------
    asked : int
        Requests, answered or refused.
    refused : int
        Those that nobody answered, because of a rule they broke.
    broken : dict
        Rule to the number of requests that broke it.
    """

    asked: int
    refused: int = 0
    broken: dict[str, int] = field(default_factory=dict)

    def doc(self) -> list[Any]:
        """As JSON."""
        return [self.asked, self.refused, self.broken]


def count_requests(rows: pl.DataFrame, refused: pl.DataFrame | None = None) -> Requests | None:
    """Count what logged requests broke, and those that were refused; null where the log does not say."""
    if "broken" not in rows.columns:
        return None
    told = told_of(rows, refused)
    tally = told.explode("broken").group_by("broken").len("n").sort("broken")
    away = 0 if refused is None else refused.height
    return Requests(rows.height + away, away, {str(rule): int(n) for rule, n in tally.rows()})


def told_of(rows: pl.DataFrame, refused: pl.DataFrame | None = None) -> pl.DataFrame:
    """`prediction_id`, `routed` and `broken` of the requests that broke anything."""
    wanted = ["prediction_id", "routed", "broken"]
    frames = [one.select(wanted).filter(pl.col("broken").list.len() > 0) for one in (rows, refused) if one is not None]
    return pl.concat(frames)
