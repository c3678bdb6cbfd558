"""Features of one request: 12 expressions of the row, without a store.

Beside the same 12 written by hand in Python (with the same care for null, NaN and
zero), and the batch compiler's own Polars expressions on a frame of one row. The
answers are compared first. Beside that, what the divisions of a year of rows cost
against Polars' own `/`. CPU time of the process, best of a few, in one run.
"""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from loopline.features import col, compile_row, compute, greatest, minutes_since, together, view, when

AT = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
ROW: dict[str, Any] = {
    "amount": 129.9,
    "limit": 500.0,
    "items": 3,
    "country": "AT ",
    "card": "AT",
    "opened": AT - timedelta(days=400),
    "balance": -12.25,
    "visits": None,
}
VIENNA = ZoneInfo("Europe/Vienna")
UNIX = datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@view()
def request() -> dict[str, Any]:
    """Twelve features such as a card request has."""
    amount, limit, items = col("amount"), col("limit"), col("items")
    at = col("decision_time")
    return {
        "used": amount / limit,
        "each": amount / items,
        "log_amount": amount.log1p(),
        "left": greatest(limit - amount, 0),
        "over": amount > limit * 0.9,
        "many": (items >= 3) & (amount < 200),
        "hour": at.hour("Europe/Vienna"),
        "weekday": at.weekday("Europe/Vienna"),
        "age_days": minutes_since(col("opened")) / 1440,
        "home": (col("country").strip() == col("card")).fill(False),
        "debt": when(col("balance") < 0, abs(col("balance")), 0),
        "visits": col("visits").fill(0),
    }


VIEWS = together([request])
_FLOAT = struct.Struct("12f")


def number(value: Any) -> float | None:
    """A number as it came, null for NaN."""
    return None if value is None or value != value else float(value)


def by_hand(row: dict[str, Any], at: datetime) -> tuple[float | None, ...]:
    """The same, as a careful person writes it."""
    amount, limit, items = number(row.get("amount")), number(row.get("limit")), number(row.get("items"))
    balance, visits, opened = number(row.get("balance")), number(row.get("visits")), row.get("opened")
    country, card = row.get("country"), row.get("card")
    wall = at.astimezone(VIENNA) if UNIX[0] <= at < UNIX[1] else None
    both = amount is not None and limit is not None
    home = country is not None and card is not None and country.strip(" \t\n\r\v\f") == card
    many = None if items is None or amount is None else items >= 3 and amount < 200
    debt = 0.0 if balance is None or balance >= 0 else abs(balance)
    values = (
        amount / limit if both and limit else None,
        amount / items if amount is not None and items else None,
        math.log1p(amount) if amount is not None and amount > -1 else None,
        max(limit - amount, 0.0) if both else None,
        amount > limit * 0.9 if both else None,
        many,
        wall.hour if wall else None,
        wall.isoweekday() if wall else None,
        (at - opened.astimezone(UTC)) // timedelta(microseconds=1) / 60e6 / 1440 if opened else None,
        home,
        debt,
        visits if visits is not None else 0.0,
    )
    single = _FLOAT.unpack(_FLOAT.pack(*(math.nan if v is None else v for v in values)))
    return tuple(v if math.isfinite(v) else None for v in single)


def micros(call: Callable[[], object], times: int) -> float:
    """CPU microseconds of one call, best of a few rounds."""
    best = math.inf
    for _ in range(7):
        start = time.process_time()
        for _ in range(times):
            call()
        best = min(best, (time.process_time() - start) / times * 1e6)
    return best


def say(bench: str, ours: float, baseline: float, unit: str, target: str, ok: bool) -> None:
    """One line of result."""
    doc = {"bench": bench, "ours": round(ours, 4), "baseline": round(baseline, 4), "unit": unit}
    print(json.dumps({**doc, "ratio": round(ours / baseline, 3), "target": target, "ok": ok}), flush=True)


def main() -> None:
    program = compile_row(VIEWS)
    spine = pl.DataFrame({"unit": ["1"], "decision_time": [AT], **{k: [v] for k, v in ROW.items()}})
    spine = spine.with_columns(pl.col("visits").cast(pl.Float64))
    batch = compute(VIEWS, spine, {}).select(VIEWS.names).row(0)
    assert program(ROW, AT) == by_hand(ROW, AT) == batch, (program(ROW, AT), by_hand(ROW, AT), batch)
    ours = micros(lambda: program(ROW, AT), 20_000)
    hand = micros(lambda: by_hand(ROW, AT), 20_000)
    frame = micros(lambda: compute(VIEWS, spine, {}), 30)
    say("features of one row: 12 expressions, beside Python by hand", ours, hand, "us", "<= 5 us", ours <= 5)
    say(
        "features of one row: 12 expressions, beside Polars on one row", ours, frame, "us", "<= 0.1", ours <= frame / 10
    )
    rng = np.random.default_rng(5)
    many = pl.DataFrame({"x": rng.random(1_000_000), "y": rng.random(1_000_000)})
    many = many.with_columns(unit=pl.int_range(pl.len()), decision_time=pl.lit(AT))
    ratios = together([view()(lambda: {"r": col("x") / col("y"), "s": col("x") / 3, "t": col("y") - col("x")})])
    bare = many.lazy().select(r=pl.col("x") / pl.col("y"), s=pl.col("x") / 3, t=pl.col("y") - pl.col("x"))
    ours = micros(lambda: compute(ratios, many, {}), 1) / 1e6
    say("features in batch: 3 of 1 M rows", ours, micros(bare.collect, 1) / 1e6, "CPU s", "<= 0.15 CPU s", ours <= 0.15)


if __name__ == "__main__":
    main()
