"""Inputs put together from requests and the online store: one request alone, and 64 of one turn.

The views of the flights example over events that are made up: 14 views of one file, 45 features. CPU of
`judge`: reading the row, the contract, the store, the features, the ranges. Beside the bare statement of SQLite.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measure import cpu_us, line

TARGET_US = 150.0
FLIGHTS = Path(__file__).resolve().parents[1] / "examples" / "flights"
START, HOURS = datetime(2026, 1, 1, tzinfo=UTC), 24 * 35
UTC_US = pl.Datetime("us", "UTC")
SPINE = {
    "flight_id": pl.String, "carrier": pl.String, "flight": pl.Int64, "origin": pl.String, "dest": pl.String,
    "tailnum": pl.String, "sched_dep": UTC_US, "sched_arr": UTC_US, "arr_minute": pl.Int64, "distance": pl.Float64,
    "planned_same_hour": pl.Int64,
}  # fmt: skip
TAILS = 4_000
CARRIERS = np.array([a + b for a in "ABCD" for b in "WXYZ"])
ORIGINS = np.array(["EWR", "JFK", "LGA"])
DESTS = np.array(["A" + a + b for a in "ABCDEFGHIJ" for b in "ABCDEFGHIJ"])


def drawn(n: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "carrier": CARRIERS[rng.integers(0, 16, n)],
        "origin": ORIGINS[rng.integers(0, 3, n)],
        "dest": DESTS[rng.integers(0, 100, n)],
        "flight": rng.integers(1, 4_000, n),
        "tailnum": np.char.add("N", rng.integers(0, TAILS, n).astype(str)),
    }


def sources() -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(2)

    def times(n: int) -> dict[str, Any]:
        at = pl.Series(np.sort(rng.integers(0, HOURS * 3_600, n)) * 1_000_000 + int(START.timestamp()) * 1_000_000)
        return {"event_time": at.cast(UTC_US), "known_at": (at + 300_000_000).cast(UTC_US)}

    n = 40 * HOURS
    flights = {"dep_delay": rng.normal(10, 30, n).round(), "arr_delay": rng.normal(5, 40, n).round()}
    hours = np.repeat(np.arange(HOURS), ORIGINS.size)
    at = pl.Series(hours * 3_600_000_000 + int(START.timestamp()) * 1_000_000).cast(UTC_US)
    weather = {
        name: rng.normal(20, 9, hours.size).round(1)
        for name in ("temp", "dewp", "humid", "wind_speed", "wind_gust", "wind_dir", "precip", "pressure", "visib")
    }
    tails = np.char.add("N", np.arange(TAILS).astype(str))
    return {
        "departures": pl.DataFrame({**drawn(n, 3), **flights, **times(n)}),
        "arrivals": pl.DataFrame({**drawn(n, 4), **flights, **times(n)}),
        "cancellations": pl.DataFrame({**drawn(n // 30, 5), **times(n // 30)}),
        "weather": pl.DataFrame({"origin": np.tile(ORIGINS, HOURS), "event_time": at,
                                 "known_at": at, **weather}),
        "planes": pl.DataFrame({"tailnum": tails, "year": rng.integers(1980, 2012, TAILS),
                                "seats": rng.integers(50, 300, TAILS), "model": rng.integers(0, 90, TAILS).astype(str),
                                "known_at": pl.Series([START] * TAILS, dtype=UTC_US)}),
    }  # fmt: skip


def requests(n: int) -> list[dict[str, Any]]:
    made = drawn(n, 7)
    leaves = START + timedelta(hours=HOURS + 2)
    return [
        {
            **{name: (int(v[i]) if name == "flight" else str(v[i])) for name, v in made.items()},
            "sched_dep": (leaves + timedelta(minutes=i % 60)).isoformat(),
            "sched_arr": (leaves + timedelta(minutes=150 + i % 90)).isoformat(),
            "arr_minute": i % 1440,
            "distance": 700.0 + i % 50,
            "planned_same_hour": 1 + i % 30,
        }
        for i in range(n)
    ]


def main() -> None:
    from loopline.base.ids import canonical
    from loopline.data.spec import TableSpec
    from loopline.features import OnlineFeatures
    from loopline.features.requests import request_doc, space_of
    from loopline.features.views import load_views
    from loopline.serving.assembled import AssembledInputs
    from loopline.store.online.sqlite import SqliteOnline
    from loopline.testing.inference import linear_bundle
    from loopline.training.bundle import read_bundle
    from loopline.training.encoding import Input

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "features.py").write_text((FLIGHTS / "features.py").read_text())
        views = load_views(root, ("features.py",))
        store = SqliteOnline(root / "online.db")
        planes = {"planes": TableSpec.model_validate({"source": "p.parquet", "key": "tailnum"})}
        OnlineFeatures(store, views, tables=planes, space=space_of(views)).apply_all(
            sources(), START + timedelta(hours=HOURS)
        )
        known = (*CARRIERS, *ORIGINS, *DESTS, *map(str, range(100)))
        inputs = [
            Input(name, "category", tuple(map(str, known)), True, 0.1)
            if name in views.categorical
            else Input(name, "number", (), True, 0.1, -1e6, 1e6)
            for name in views.names
        ]
        bundle = read_bundle(linear_bundle(inputs, [0.01] * len(inputs)))
        contract = FLIGHTS / "contracts" / "schedule.yaml"
        spec = {"source": "s.parquet", **({"contract": str(contract)} if contract.exists() else {})}
        doc = request_doc(root, ("features.py",), views, TableSpec.model_validate(spec), SPINE)
        bundle.manifest["request"] = json.loads(canonical(doc))
        made = AssembledInputs(bundle, store)
        rows, at = requests(2_000), round((START + timedelta(hours=HOURS, minutes=20)).timestamp() * 1e6)
        judged = made.judge(rows[0], at)
        assert not judged.hard, judged.broken
        if "--profile" in sys.argv:
            profile(lambda: [made.judge(row, at) for row in rows])
        places = [[f"view{i}\x1f{n}" for i in range(14)] for n in range(2_000)]
        bare = cpu_us(lambda i: store.read(places[i]), 2_000)
        one = cpu_us(lambda i: made.judge(rows[i], at), 2_000)
        line("assembled-1", one, bare, "cpu_us/row", TARGET_US)
        if hasattr(made, "judge_many"):
            batches = [rows[i : i + 64] for i in range(0, 1_984, 64)]
            many = cpu_us(lambda i: made.judge_many(batches[i], [at] * 64), len(batches)) / 64
            line("assembled-64", many, bare, "cpu_us/row", TARGET_US)


def profile(call: Callable[[], object]) -> None:
    import cProfile
    import pstats

    with cProfile.Profile() as seen:
        call()
    pstats.Stats(seen).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
