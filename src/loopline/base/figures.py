"""Numbers and counts as people read them: short, and never so short that they mislead."""

from __future__ import annotations

import math
from collections.abc import Sequence

DIGITS = 6
WRITTEN_OUT = 2.0**53
"""Beyond it, where floats skip whole numbers, and below `SMALL` numbers are written with a power of ten."""
SMALL = 1e-4


def figure(value: float) -> str:
    """A number: a whole one with all its digits, another in six figures, or in more where these would make it whole.

    >>> figure(1234567.0), figure(0.123456789), figure(0.9999999), figure(1234567.891), figure(2e-7)
    ('1,234,567', '0.123457', '0.9999999', '1,234,567.9', '2e-07')
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    size = abs(value)
    if isinstance(value, int) or (value.is_integer() and size <= WRITTEN_OUT):
        return f"{int(value):,}"
    if not SMALL <= size <= WRITTEN_OUT:
        return f"{value:.{DIGITS}g}"
    before = len(str(int(size))) if size >= 1 else -int(math.floor(math.log10(size)) + 1)
    for places in range(max(1, DIGITS - before if size >= 1 else DIGITS + before), 13):
        text = f"{value:,.{places}f}".rstrip("0")
        if not text.endswith("."):
            return text
    return f"{round(value):,}"


def figures(values: Sequence[float | None]) -> list[str | None]:
    """Numbers that stand beside one another: two look equal only where they are; null stays null."""
    texts = [None if value is None else figure(value) for value in values]
    meant: dict[str, set[str]] = {}
    for value, text in zip(values, texts, strict=True):
        if text is not None:
            meant.setdefault(text, set()).add(repr(value))
    for text, alike in meant.items():
        if len(alike) == 1:
            continue
        for digits in range(DIGITS + 1, 18):
            told = {one: f"{float(one):,.{digits}g}" for one in alike}
            if len(set(told.values())) == len(alike):
                break
        texts = [
            told[repr(value)] if now == text and repr(value) in told else now
            for value, now in zip(values, texts, strict=True)
        ]
    return texts


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
