"""Rows of a training set that nobody learns from, in words that a person reads."""

from __future__ import annotations

from loopline.features.nouns import TrainingSet

_WHY = {
    "unlabelled": "have no answer yet",
    "void": "have an answer that is void",
    "incident": "fall into a data incident",
    "outside_window": "are older than training.window",
    "same_unit": "share their unit with another row",
}


def left_out(made: TrainingSet) -> tuple[str, ...]:
    """How many rows a training set leaves out, and why; with what to do where that may be a mistake.

    Returns
    -------
    tuple of str
        A line each; nothing where every row counts.
    """
    why = {name: n for name, n in made.excluded.items() if n}
    if not why:
        return ()
    kept = made.train_rows + made.test_rows
    named = ", ".join(f"{n:,} {_WHY.get(name, name.replace('_', ' '))}" for name, n in why.items())
    lines = [f"{sum(why.values()):,} of {kept + sum(why.values()):,} rows are left out: {named}"]
    if "same_unit" in why:
        lines.append(
            "of rows with one unit the newest that was known at its decision time counts, the others are its earlier "
            "versions; if each is a decision of its own, make a column that names each framing.unit"
        )
    if kept and why.get("unlabelled", 0) > kept:
        lines.append(
            "more rows have no answer than have one: if answers should be there, see framing.label and the unit and "
            "times of their table (`loopline data labels`)"
        )
    return tuple(lines)
