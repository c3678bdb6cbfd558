"""A small shop whose endpoint reads the online store: events each hour, a recipe that takes no time."""

from __future__ import annotations

import os
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline import registry
from loopline.base.clock import ManualClock
from loopline.compute import StepSpec
from loopline.loop import engine, facts
from loopline.loop.effects import Patience
from loopline.loop.project import load
from loopline.retraining.nouns import Transition
from loopline.testing.inference import Server
from loopline.workspace import FOLDER, create_workspace

HOUR = timedelta(hours=1)
START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 20
SHOPS = "abcdef"
PAGE = """\
name: shop
framing:
  {task: binary, label: {table: outcomes, value: late > 5}, unit: order, decision_time: due - 2h, label_arrives: 1h,
   baseline: constant, owner: {name: team}}
data:
  orders: {source: orders.parquet, event_time: due, known_at: placed, key: [order]}
  sales: {source: sales.parquet, event_time: sold, known_at: told, key: [sale], every: 1h}
  outcomes: {source: outcomes.parquet, event_time: ended, known_at: heard, key: [order]}
features: {spine: orders, views: features.py}
training: {recipe: train.py:fit, split: {by: time, test: 2d}}
evaluation: {gates: []}
registry: {approvals: {needed: 1, by: anyone_but_author}}
serving: {features: online, release: {canary: [50%], each_at_most: 3h, parity: 25}}
monitoring: {window: 3650d}
retraining: {mode: auto, any_of: [every 90d], budget: {runs: 50, per: 30d}}
"""
VIEWS = """\
from loopline.features import col, count, latest, mean, view


@view(entity="order")
def own():
    return {"size": col("size"), "shop": col("shop").category()}


@view(entity="shop", source="sales", ttl="1d", refresh="1h")
def recent():
    return {"amount_1d": mean("amount", "1d"), "sales_6h": count("6h"), "last": latest("amount")}
"""
RECIPE = """\
import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def fit(X, y, seed=0, strength=1.0):
    return make_pipeline(SimpleImputer(), LogisticRegression(C=strength)).fit(X.to_numpy(), y)
"""


def frames() -> dict[str, pl.DataFrame]:
    """All that the shop's producers will ever send."""
    rng = np.random.default_rng(3)
    n = DAYS * 24 * 4
    minutes = pl.Series(np.arange(n) * 15)
    due = pl.select(pl.lit(START) + pl.duration(minutes=minutes)).to_series().dt.cast_time_unit("us")
    shop = pl.Series([SHOPS[i] for i in rng.integers(0, len(SHOPS), n)])
    size = pl.Series(rng.integers(1, 50, n))
    order = pl.Series([f"o{i}" for i in range(n)])
    sold = due + timedelta(minutes=7)
    return {
        "orders": pl.DataFrame({"order": order, "shop": shop, "size": size, "due": due, "placed": due - 24 * HOUR}),
        "sales": pl.DataFrame(
            {
                "sale": order.str.replace("o", "s"),
                "shop": shop,
                "amount": pl.Series(rng.integers(0, 90, n)).cast(pl.Float64),
                "sold": sold,
                "told": sold + timedelta(minutes=20),
            }
        ),
        "outcomes": pl.DataFrame(
            {
                "order": order,
                "late": pl.Series(rng.integers(0, 12, n)) + (size > 30).cast(pl.Int64) * 3,
                "ended": due + timedelta(minutes=30),
                "heard": due + HOUR,
            }
        ),
    }


class Here:
    """Long steps in this process."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def submit(self, spec: StepSpec, *, timeout_s: float | None = None) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        module, _, name = spec.entrypoint.partition(":")
        try:
            future.set_result(getattr(import_module(module), name)(self._root, **spec.args))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Nothing is kept open."""


class Shop:
    """The project in a workspace whose clock is in the test's hand."""

    def __init__(self, root: Path, at: datetime, page: str = PAGE) -> None:
        root.mkdir(parents=True)
        for name, frame in frames().items():
            frame.write_parquet(root / f"{name}.parquet")
        for name, text in (("loop.yaml", page), ("features.py", VIEWS), ("train.py", RECIPE)):
            (root / name).write_text(text)
        self.root, self.clock = root, ManualClock(at)
        self.project = load(root)
        self.ws = create_workspace(root / FOLDER, clock=self.clock, actor="service:loop")
        self.ws.stores._open["compute"] = Here(self.ws.root)
        os.environ.setdefault("OMP_NUM_THREADS", "1")

    def tick(self) -> list[str]:
        return [t.after for t in engine.tick(self.ws, self.project, patience=Patience(tries=2, first_pause_s=0.0))]

    def candidate(self, strength: float) -> list[str]:
        """A candidate of another strength, as far as a person's word carries it."""
        scientist = self.ws.acting_as("user:scientist")
        engine.propose(scientist, self.project, training={"params": {"strength": strength}})
        assert self.tick()[-1] == "AWAIT_APPROVAL", self.last.why
        cycle = facts.current_cycle(self.ws, "shop")
        assert cycle is not None
        registry.approve(self.ws.acting_as("user:ada"), cycle.changes["version"], reason="fine")
        return self.tick()

    def step(self, share: float) -> Any:
        """The canary's step of the running cycle."""
        cycle = facts.current_cycle(self.ws, "shop")
        assert cycle is not None and cycle.state == "ROLLOUT" and share
        return cycle

    @property
    def last(self) -> Transition:
        return engine.history(self.ws, self.project, limit=1)[0]

    def ask(self, server: Server, many: int) -> list[tuple[int, bytes]]:
        """Orders that are due from now on, named one by one, within the hour of the store's refresh."""
        now = self.clock()
        rows = frames()["orders"].filter(pl.col("due") >= now + 2 * HOUR).head(many)
        answers = []
        for row in rows.iter_rows(named=True):
            body = {
                "rows": [{"shop": row["shop"], "size": row["size"]}],
                "ids": [f"{row['order']}-{now:%d%H}"],
                "entities": [row["order"]],
                "decision_times": [now.isoformat()],
            }
            status, _, text = server.call("POST", "/predict/shop", body)
            answers.append((status, text))
        return answers
