"""Units that numbers of a source may come in."""

from __future__ import annotations

from fractions import Fraction

_EXACT: dict[str, tuple[str, str, str]] = {
    "mm": ("length", "0.001", "0"),
    "cm": ("length", "0.01", "0"),
    "m": ("length", "1", "0"),
    "km": ("length", "1000", "0"),
    "in": ("length", "0.0254", "0"),
    "ft": ("length", "0.3048", "0"),
    "mi": ("length", "1609.344", "0"),
    "nmi": ("length", "1852", "0"),
    "g": ("mass", "0.001", "0"),
    "kg": ("mass", "1", "0"),
    "t": ("mass", "1000", "0"),
    "oz": ("mass", "0.028349523125", "0"),
    "lb": ("mass", "0.45359237", "0"),
    "ms": ("time", "0.001", "0"),
    "s": ("time", "1", "0"),
    "min": ("time", "60", "0"),
    "h": ("time", "3600", "0"),
    "d": ("time", "86400", "0"),
    "K": ("temperature", "1", "0"),
    "C": ("temperature", "1", "273.15"),
    "F": ("temperature", "5/9", "45967/180"),
    "m/s": ("speed", "1", "0"),
    "km/h": ("speed", "5/18", "0"),
    "mph": ("speed", "0.44704", "0"),
    "kn": ("speed", "463/900", "0"),
    "Pa": ("pressure", "1", "0"),
    "hPa": ("pressure", "100", "0"),
    "bar": ("pressure", "100000", "0"),
    "inHg": ("pressure", "3386.389", "0"),
    "percent": ("share", "0.01", "0"),
    "share": ("share", "1", "0"),
}
UNITS: dict[str, tuple[str, Fraction, Fraction]] = {
    unit: (what, Fraction(factor), Fraction(offset)) for unit, (what, factor, offset) in _EXACT.items()
}
"""Unit to what it measures, and to factor and offset that lead to the first of its kind."""


def convertible(given: str, wanted: str) -> bool:
    """Whether both units are known and measure the same."""
    return given in UNITS and wanted in UNITS and UNITS[given][0] == UNITS[wanted][0]


def conversion(given: str, wanted: str) -> tuple[float, float]:
    """Factor and offset from one unit to the other: `value * factor + offset`."""
    _, factor, offset = UNITS[given]
    _, other, start = UNITS[wanted]
    return float(factor / other), float((offset - start) / other)
