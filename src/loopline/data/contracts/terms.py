"""What judging rows needs to know of a contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import polars as pl

from loopline.data.contracts.compile_row import RowRules
from loopline.data.contracts.rules import Column, Rule


class Terms(Protocol):
    """Columns and rules of one table, with what they are judged beside."""

    @property
    def columns(self) -> Sequence[Column]:
        """Those declared, in their order."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """In the order in which a row is judged."""

    @property
    def types(self) -> Mapping[str, str | None]:
        """Declared logical type by column."""

    @property
    def held(self) -> Mapping[str, pl.Series]:
        """Values of other tables, by id of the reference that asks for them."""

    @property
    def at(self) -> datetime | None:
        """The moment that freshness is judged at; null leaves it unjudged."""

    def read_row(self, row: Mapping[str, object]) -> Mapping[str, object]:
        """A row with its moments and dates read from text."""

    def row_rules(self) -> RowRules:
        """The function from one row to the ids of the rules it breaks."""
