"""Moments and dates that a request brings as text, read as files of text are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from loopline.data.contracts.rules import Column

RowReader = Callable[[Mapping[str, object]], Mapping[str, object]]
SHAPE = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ tT](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
    r"(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])?"
)
"""What a text must look like to be read as a moment, in files and in requests."""
_SHAPE = re.compile(SHAPE)
_MOMENT = re.compile(r"(.{10}).([0-9:.]{5,})(?:([zZ])|([+-][0-9]{2}):?([0-9]{2}))?")
DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
"""What a text must look like to be read as a date."""
_DAY = re.compile(DAY)
_BLANKS = "".join(c for c in map(chr, range(0x3001)) if c.isspace() and c not in "\x1c\x1d\x1e\x1f")
"""White space as Unicode has it, and as columns of texts are freed of it."""


def read_moment(text: str, zone: str | None) -> datetime | None:
    """An RFC 3339 text as a UTC time; null where it is none, or names no one moment.

    Without an offset it is a local time of `zone`, and null without one, as in
    `times.read_times`.
    """
    text = text.strip(_BLANKS)
    found = _MOMENT.fullmatch(text) if _SHAPE.fullmatch(text) else None
    if found is None:
        return None
    day, clock, utc, hours, minutes = found.groups()
    whole, _, fraction = clock.partition(".")
    offset = "+00:00" if utc else f"{hours}:{minutes}" if hours else ""
    if not offset and (zone is None or len(whole) < 8):
        return None
    try:
        moment = datetime.fromisoformat(f"{day}T{whole}{'.' + fraction[:6].ljust(6, '0') if fraction else ''}{offset}")
        return moment.astimezone(UTC) if offset else _local(moment, ZoneInfo(str(zone)))
    except (ValueError, OverflowError):
        return None


_kept_moment = lru_cache(maxsize=4096)(read_moment)
"""Requests that come together name the same few moments; what is too long to be one is not kept."""
_LONGEST = 48


def _local(moment: datetime, zone: ZoneInfo) -> datetime | None:
    there = moment.replace(tzinfo=zone)
    if there.utcoffset() != there.replace(fold=1).utcoffset():
        return None  # it comes twice, or never
    return there.astimezone(UTC)


def read_day(text: str) -> date | None:
    """A text as a date; null where it is none."""
    text = text.strip(_BLANKS)
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        return None


def row_reader(columns: tuple[Column, ...]) -> RowReader:
    """A function that reads the texts of a row where moments and dates are declared.

    What cannot be read stays the text it is, and so breaks `logicalType`; an empty text
    is missing. A row without such texts comes back as it is.
    """
    moments = tuple((c.name, c.zone) for c in columns if c.type == "timestamp")
    days = tuple(c.name for c in columns if c.type == "date")

    def read(row: Mapping[str, object]) -> Mapping[str, object]:
        made: dict[str, object] = {}
        for name, zone in moments:
            value = row.get(name)
            if value.__class__ is str:
                text = str(value)
                read_text = _kept_moment if len(text) <= _LONGEST else read_moment
                made[name] = None if not text else read_text(text, zone) or text
        for name in days:
            value = row.get(name)
            if value.__class__ is str:
                text = str(value)
                made[name] = None if not text else read_day(text) or text
        return {**row, **made} if made else row

    return read
