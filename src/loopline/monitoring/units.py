"""Units that data is mistaken for: the affine conversions between them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was done to a column by mistake: reported = scale * true + offset."""

    name: str
    scale: float
    offset: float
    weight: float
    """Part of the alarm budget for unit changes; all weights sum to 1."""
    near: bool = False
    """One of the many factors of two or so, of which a real jump is likely to hit one."""


_SCALES = {
    ("pounds", "kilograms"): 0.45359237,
    ("miles", "kilometres"): 1.609344,
    ("nautical miles", "kilometres"): 1.852,
    ("feet", "metres"): 0.3048,
    ("inches", "centimetres"): 2.54,
    ("inches", "millimetres"): 25.4,
    ("miles per hour", "metres per second"): 0.44704,
    ("gallons", "litres"): 3.785411784,
    ("ounces", "grams"): 28.349523125,
    ("inches of mercury", "hectopascals"): 33.8638866667,
    ("kilocalories", "kilojoules"): 4.184,
    ("degrees", "radians"): math.pi / 180,
    ("hours", "minutes"): 60.0,
    ("hours", "seconds"): 3600.0,
    ("days", "hours"): 24.0,
}
_POWERS = (1, 2, 3, 6, 9)
_AFFINE = (
    ("Fahrenheit as Celsius", 5 / 9, -160 / 9),
    ("Celsius as Fahrenheit", 9 / 5, 32.0),
    ("Kelvin as Celsius", 1.0, -273.15),
    ("Celsius as Kelvin", 1.0, 273.15),
    ("Kelvin as Fahrenheit", 9 / 5, -459.67),
    ("Fahrenheit as Kelvin", 5 / 9, 459.67 * 5 / 9),
)


def _conversions() -> tuple[Conversion, ...]:
    scales = {f"{a} as {b}": f for (a, b), f in _SCALES.items()}
    scales |= {f"{b} as {a}": 1 / f for (a, b), f in _SCALES.items()}
    tens = {f"{sign}e{k}": 10.0 ** (k if sign == "times 1" else -k) for k in _POWERS for sign in ("times 1", "by 1")}
    # A column seldom moves by itself as a change of zero point or a power of ten would move it, but often by a
    # factor of two or so: such factors get little of the budget, and so have to be shown more strongly.
    near = {name: f for name, f in scales.items() if 1 / 5 < f < 5}
    far = {name: f for name, f in scales.items() if name not in near}
    return (
        *(Conversion(name, scale, offset, 0.5 / len(_AFFINE)) for name, scale, offset in _AFFINE),
        *(Conversion(name, scale, 0.0, 0.3 / len(tens)) for name, scale in tens.items()),
        *(Conversion(name, scale, 0.0, 0.15 / len(far)) for name, scale in far.items()),
        *(Conversion(name, scale, 0.0, 0.05 / len(near), near=True) for name, scale in near.items()),
    )


CONVERSIONS: tuple[Conversion, ...] = _conversions()
