"""Columns of texts read as moments and dates, as `row_texts` reads one text."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from loopline.data.contracts.row_texts import DAY, SHAPE

UTC_TIME = pl.Datetime("us", "UTC")
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""The moments that there are: a request, and Python, know no others."""
IN_TEXT = ("timestamp", "date")
"""Types that requests, and rows whose values have types, write as text."""


def read_column(texts: pl.Expr, declared: str, zone: str | None) -> pl.Expr:
    """Texts as the moments or dates that are declared; null where a text is none.

    Parameters
    ----------
    declared : {"timestamp", "date"}
    zone : str or None
        Zone of texts that carry none.
    """
    if declared == "date":
        return texts.map_batches(read_days, return_dtype=pl.Date(), is_elementwise=True)
    return texts.map_batches(lambda s: read_times(s, zone), return_dtype=UTC_TIME, is_elementwise=True)


def read_days(text: pl.Series) -> pl.Series:
    """Texts as dates; null where a text is none."""
    bare = text.str.strip_chars()
    shaped = pl.select(pl.when(bare.str.contains(f"^(?:{DAY})$") & _in_time(bare)).then(bare)).to_series()
    return shaped.str.to_date("%Y-%m-%d", strict=False).alias(text.name)


def read_times(text: pl.Series, zone: str | None) -> pl.Series:
    """RFC 3339 texts as UTC times; null where a text is none, or has no zone and none is given."""
    name = text.name
    if not text.len():
        return pl.Series(name, [], UTC_TIME)
    bare = text.str.strip_chars()
    shaped = pl.select(pl.when(bare.str.contains(f"^(?:{SHAPE})$") & _in_time(bare)).then(bare)).to_series()
    spaced = shaped.str.replace(r"^(\d{4}-\d\d-\d\d)[ t]", "${1}T")
    aware = spaced.str.replace(r"[zZ]$", "+00:00").str.replace(r"([+-]\d\d)(\d\d)$", "${1}:${2}")
    found = _parsed(aware, "%Y-%m-%dT%H:%M:%S%.f%:z").fill_null(_parsed(aware, "%Y-%m-%dT%H:%M%:z"))
    if zone is not None:
        local = spaced.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
        there = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")
        found = found.fill_null(there)
    return found.set(~found.is_between(FIRST, LAST), None).alias(name)


def beyond(values: pl.Series) -> pl.Series | None:
    """Which dates or times of a column are of no year from 1 to 9999; null where none is."""
    dtype = values.dtype
    if dtype == pl.Date:
        first, last = FIRST.date(), LAST.date()
    elif isinstance(dtype, pl.Datetime) and dtype.time_unit != "ns":  # nanoseconds reach from 1677 to 2262
        first, last = (end if dtype.time_zone else end.replace(tzinfo=None) for end in (FIRST, LAST))
    else:
        return None
    least, most = values.to_physical().min(), values.to_physical().max()
    ends = pl.Series([first, last], dtype=dtype).to_physical()
    if least is None or (least >= ends[0] and most <= ends[1]):
        return None
    return ~values.is_between(first, last).fill_null(True)


def _in_time(text: pl.Series) -> pl.Series:
    """Whether a text names a year from 1 on, as Python's times do."""
    return ~text.str.starts_with("0000")


def _parsed(text: pl.Series, form: str) -> pl.Series:
    return text.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
