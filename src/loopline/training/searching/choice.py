"""Which trial is the best, and which of several that none beats in everything is picked."""

from __future__ import annotations

from collections.abc import Sequence

from loopline.training.nouns import Search, Trial


def losses(search: Search, trial: Trial) -> tuple[float, ...]:
    """The trial's objectives, turned so that less is better."""
    turned = (1.0 if direction == "minimize" else -1.0 for _, direction in search.objectives)
    return tuple(sign * value for sign, value in zip(turned, trial.values, strict=True))


def front(search: Search, trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials that no other one beats: none is as good in everything and better in something.

    By number; of equal ones all stay.
    """
    done = [(losses(search, one), one) for one in trials if one.state == "complete"]
    kept = [one for mine, one in done if not any(_beats(other, mine) for other, _ in done)]
    return sorted(kept, key=lambda one: one.number)


def best(search: Search, trials: Sequence[Trial], *, pick: str = "first") -> Trial | None:
    """The trial to train with; null where none is complete. Of equals the one proposed first.

    Parameters
    ----------
    pick : str
        `first`: the best by the first objective, then by the second, and so on. `balanced`: each objective is scaled
        to 0 (the best of the front) to 1 (its worst), and the trial whose greatest is least is picked, then the one
        whose sum is least.
    """
    found = front(search, trials)
    if not found:
        return None
    turned = {one.number: losses(search, one) for one in found}
    if pick == "first" or len(search.objectives) == 1:
        return min(found, key=lambda one: (turned[one.number], one.number))
    columns = list(zip(*turned.values(), strict=True))
    spans = [(min(column), max(column) - min(column) or 1.0) for column in columns]

    def distance(one: Trial) -> tuple[float, float, int]:
        scaled = [(value - low) / span for value, (low, span) in zip(turned[one.number], spans, strict=True)]
        return max(scaled), sum(scaled), one.number

    return min(found, key=distance)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
