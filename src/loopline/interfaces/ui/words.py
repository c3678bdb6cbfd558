"""How values are written for people: one way each, everywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

from loopline.base import figures
from loopline.base.ids import moment
from loopline.base.sizes import size_text
from loopline.base.spec import length_text

NOTHING = "–"
MINUS = "−"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_LONG = re.compile(r"\b[0-9a-f]{32,64}\b")
_HEX = frozenset("0123456789abcdef")


def number(value: float | int | None, digits: int = 0) -> str:
    """A number with thousands separated and a true minus; a dash for null and NaN."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:,.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """A difference: always with its sign."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:+,.{digits}f}".replace("-", MINUS)


def percent(value: float | None, digits: int = 0) -> str:
    """A share as per cent."""
    return NOTHING if value is None else f"{number(100 * value, digits)} %"


def when(value: datetime | str | None) -> Markup:
    """A moment, UTC, to the minute, readable by machines."""
    if value is None:
        return Markup(NOTHING)
    at = (moment(value) if isinstance(value, str) else value).astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        at.strftime("%Y-%m-%dT%H:%M:%SZ"), at.strftime("%Y-%m-%d %H:%M")
    )


def day(value: datetime | str | None) -> Markup:
    """The UTC day of a moment."""
    if value is None:
        return Markup(NOTHING)
    at = (moment(value) if isinstance(value, str) else value).astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(at.strftime("%Y-%m-%dT%H:%M:%SZ"), at.strftime("%Y-%m-%d"))


def span(value: timedelta | float | None) -> str:
    """A length of time in its one or two largest units."""
    if value is None:
        return NOTHING
    return length_text(value)


def short(value: str | None, length: int = 8) -> str:
    """The head of an id; other text stays as it is."""
    if not value:
        return NOTHING
    return value[:length] if is_id(value) else value


def is_id(value: str) -> bool:
    """Whether text is a content id or a UUID."""
    plain = value.replace("-", "")
    return len(plain) >= 32 and set(plain) <= _HEX


def told(value: Any) -> str:
    """Whatever a guard saw or wanted, in words."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return number(value)
    if isinstance(value, float):
        return NOTHING if not math.isfinite(value) else figures.figure(value).replace("-", MINUS)
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if isinstance(value, timedelta):
        return span(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {told(item)}" for key, item in value.items()) or NOTHING
    if isinstance(value, (list, tuple)):
        return ", ".join(told(item) for item in value) or "none"
    return detail(str(value)) if _MOMENT.fullmatch(str(value)) else short(str(value))


def ticks(text: str) -> Markup:
    """Text with what stands between backticks set as code, and ids cut to their head."""
    text = _LONG.sub(lambda id: id[0][:8], str(text))
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def detail(value: str) -> str:
    """A detail of a lineage node: digits grouped, moments to the minute, ids cut."""
    if value.isdigit():
        return number(int(value))
    if _MOMENT.fullmatch(value):
        return f"{value[:10]} {value[11:16]}"
    return {"True": "yes", "False": "no"}.get(value, short(value, 16))


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2 rows`."""
    return figures.plural(count, one, many).replace("-", MINUS)


def e_value(value: float) -> str:
    """Evidence: to two figures, huge values as a power of ten."""
    if value >= 1e6:
        return f"> 10^{math.floor(math.log10(value))}" if math.isfinite(value) else "> 10^300"
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


FILTERS = {
    "number": number,
    "signed": signed,
    "percent": percent,
    "when": when,
    "day": day,
    "span": span,
    "short": short,
    "told": told,
    "ticks": ticks,
    "detail": detail,
    "plural": plural,
    "e_value": e_value,
    "size": size_text,
}
