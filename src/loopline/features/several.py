"""What cannot be told from two sums: least and greatest, distinct values, the last n.

A row counts for the questions between its entry and its leaving, as everywhere (`pit`). Numbered in the order
of their times, these questions are a span, and each aggregate is asked of all spans that hold a question.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
import numpy.typing as npt
import polars as pl

from loopline.features import pit

Floats = npt.NDArray[np.float64]


def extreme(ask: pit.Asked, values: Floats, length_us: int, op: str) -> Floats:
    """Least or greatest of `values` (one per source row, NaN for null) in the window before each question.

    NaN where there is none.
    """
    least = op == "minimum"
    nothing = np.inf if least else -np.inf
    if ask.empty:
        return np.full(ask.code.size, np.nan)
    first, last = ask.spans(ask.events.enter, ask.events.out(length_us))
    last = np.where(np.isnan(values), first, last)
    choose = np.minimum if least else np.maximum
    found = pit.overlaid(first, last, values, choose, nothing, ask.code.size)
    return np.where(np.isinf(found), np.nan, found)


def distinct(ask: pit.Asked, values: pl.Series, length_us: int) -> Floats:
    """How many different `values` (one per source row, null not counted) the window before each question holds.

    Notes
    -----
    Exact: the spans of one value are merged, then each merged span counts one from its first question on and
    takes it back at its last.
    """
    if ask.empty:
        return np.zeros(ask.code.size)
    first, last = ask.spans(ask.events.enter, ask.events.out(length_us))
    keep = np.flatnonzero((last > first) & values.is_not_null().to_numpy())
    value = values.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()[keep]
    first, last, code = first[keep], last[keep], ask.codes[keep]
    _, group = np.unique(code * (int(value.max(initial=0)) + 1) + value, return_inverse=True)
    order = np.lexsort((first, group))
    room = ask.code.size + 1
    start, end = (group[order] * room + side[order] for side in (first, last))
    until = np.maximum.accumulate(end) if end.size else end
    opens = np.ones(start.size, bool)
    opens[1:] = start[1:] > until[:-1]
    closes = np.ones(start.size, bool)
    closes[:-1] = opens[1:]
    change = np.bincount(start[opens] % room, minlength=room) - np.bincount(until[closes] % room, minlength=room)
    return np.cumsum(change)[: ask.code.size].astype(np.float64)


def last_n(ask: pit.Asked, values: Floats, n: int, how: str, ttl_us: int) -> Floats:
    """`how` (mean, total, minimum, maximum) of `values` in the newest `n` rows that hold one, within `ttl_us`.

    NaN where there is none. Newest by event, then known, then row. Sums are exact, in fixed point.

    Notes
    -----
    Rows that came in the order of their events are told by two positions; the entities where one came late or
    was corrected are walked through.
    """
    result = np.full(ask.code.size, np.nan)
    rows = np.flatnonzero(~np.isnan(values))
    if ask.empty or not rows.size:
        return result
    ev = ask.events
    order = ask.grouped(ev.by_entry)
    order = order[~np.isnan(values[order])]
    codes, new = ask.codes[order], ev.newness[order]
    same = codes[1:] == codes[:-1]
    unruly = np.unique(codes[1:][same & (new[1:] < new[:-1])])
    if ev.corrected:
        unruly = np.union1d(unruly, np.unique(codes[ev.superseded[order] != pit.NEVER]))
    upper = ask.positions(order, ev.enter, ask.at)
    lower = np.searchsorted(codes, ask.code)
    lower = np.maximum(np.maximum(lower, upper - n), _too_old(ask, order, ttl_us))
    some = np.flatnonzero(upper > lower)
    found = _summary(values[order], lower[some], upper[some], how, n)
    result[some] = found
    for code in unruly:
        _walk(ask, values, int(code), n, how, ttl_us, order[codes == code], result)
    return result


def _too_old(ask: pit.Asked, order: pit.Ints, ttl_us: int) -> pit.Ints:
    """How many rows in `order` come before those of each question's entity that are no older than the ttl."""
    by_event = order[np.lexsort((ask.events.event[order], ask.codes[order]))]
    return ask.positions(by_event, ask.events.event, ask.at - ttl_us - 1)


def _summary(values: Floats, lower: pit.Ints, upper: pit.Ints, how: str, n: int) -> Floats:
    """Of `values[lower:upper]`, for pairs with at least one and at most `n` in between."""
    if how in ("mean", "total"):
        sums = np.concatenate(([0], np.cumsum(pit.fixed(values))))
        total: Floats = (sums[upper] - sums[lower]) / pit.FIXED
        return total / (upper - lower) if how == "mean" else total
    choose = np.minimum if how == "minimum" else np.maximum
    level = np.frexp(upper - lower)[1] - 1
    found = np.empty(lower.size)
    table = values
    for k in range(int(level.max(initial=-1)) + 1):
        here = level == k
        found[here] = choose(table[lower[here]], table[upper[here] - 2**k])
        table = choose(table[: -(2**k)], table[2**k :]) if table.size > 2**k else table[:0]
    return found


def _walk(
    ask: pit.Asked, values: Floats, code: int, n: int, how: str, ttl_us: int, rows: pit.Ints, result: Floats
) -> None:
    """Answer the questions about one entity by keeping its visible rows sorted through time."""
    ev = ask.events
    low, high = np.searchsorted(ask.code, (code, code + 1))
    moves = sorted(
        [(int(ev.enter[row]), 1, row) for row in rows] + [(int(ev.leave[row]), 0, row) for row in rows],
        key=lambda move: move[:2],
    )
    empty = {int(row) for row in rows if ev.leave[row] <= ev.enter[row]}
    seen: list[tuple[int, int, float]] = []
    place = 0
    for q in range(low, high):
        at = int(ask.at[q])
        while place < len(moves) and moves[place][0] <= at:
            _, entering, row = moves[place]
            place += 1
            if int(row) in empty:
                continue
            key = int(ev.newness[row]), int(ev.event[row]), float(values[row])
            if entering:
                insort(seen, key)
            else:
                del seen[bisect_left(seen, key)]
        newest = [value for _, event, value in seen[-n:] if at - event <= ttl_us]
        result[q] = summed(newest, how)


def summed(values: list[float], how: str) -> float:
    """`how` of some values, exactly as in batch; NaN without any."""
    if not values:
        return float("nan")
    if how in ("minimum", "maximum"):
        return min(values) if how == "minimum" else max(values)
    total = sum(round(value * pit.FIXED) for value in values) / pit.FIXED
    return total / len(values) if how == "mean" else total
