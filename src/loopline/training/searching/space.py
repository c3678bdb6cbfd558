"""What a search is after, and how much there is to try."""

from __future__ import annotations

import math

from loopline.training.spec import RISING, SearchSpec


def possible(spec: SearchSpec) -> int:
    """How many different trials there are at most, for a grid; no end otherwise counts as `spec.trials`."""
    if spec.sampler != "grid":
        return spec.trials
    return min(spec.trials, math.prod(len(one.grid) for one in spec.params.values()))


def objectives(spec: SearchSpec, primary: str) -> tuple[tuple[str, str], ...]:
    """Metric and direction of each objective; `primary` where none is declared."""
    names = spec.objectives or (spec.metric or primary,)
    return tuple((name, "maximize" if name in RISING else "minimize") for name in names)
