"""A small project and what is done to its data; children import it by name."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from loopline import data, features
from loopline.base.clock import ManualClock
from loopline.data.nouns import Ingestion
from loopline.data.spec import TableSpec
from loopline.features.online import spaces
from loopline.features.spec import FeaturesSpec
from loopline.framing.spec import FramingSpec
from loopline.governance.erasure import erase
from loopline.governance.nouns import ErasureProof
from loopline.training.spec import TrainingSpec
from loopline.workspace import Workspace, create_workspace, open_workspace

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
WHO = "k3"
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: sales
version: 1.0.0
status: active
schema:
  - name: sales
    properties:
      - {name: amount, logicalType: number, logicalTypeOptions: {minimum: 0, maximum: 60}}
"""
VIEWS = """\
from loopline.features import col, count, latest, mean, view


@view(entity="shop", source="sales", ttl="1d", refresh="1h")
def recent():
    return {"amount_1d": mean("amount", "1d"), "sales_6h": count("6h"), "last": latest("amount")}
"""
TABLES = {
    "orders": TableSpec.model_validate(
        {"source": "orders.parquet", "event_time": "due", "known_at": "placed", "key": ["order"]}
    ),
    "sales": TableSpec.model_validate(
        {"source": "sales.parquet", "event_time": "sold", "known_at": "told", "key": ["sale"], "every": "1h",
         "contract": "sales.yaml"}
    ),
}  # fmt: skip
FRAMING = FramingSpec.model_validate(
    {"label": {"table": "orders", "value": "late > 5"}, "unit": "order", "decision_time": "due - 2h"}
)
FEATURES = FeaturesSpec(spine="orders", views=("features.py",))
TRAINING = TrainingSpec.model_validate({"recipe": "train.py:fit", "split": {"by": "time", "test": "1d"}})


def project(root: Path) -> Path:
    """The folder of the project, with rows of four days."""
    root.mkdir()
    n = 4 * 24 * 4
    index = pl.int_range(n, eager=True)
    due = pl.select(pl.lit(START) + pl.duration(minutes=index * 15)).to_series().dt.cast_time_unit("us")
    shop = ("k" + (index % 5).cast(pl.String)).alias("shop")
    order = ("o" + index.cast(pl.String)).alias("order")
    orders = pl.DataFrame({"order": order, "shop": shop, "late": index % 11, "due": due, "placed": due - 24 * HOUR})
    sales = pl.DataFrame(
        {"sale": "s" + index.cast(pl.String), "shop": shop, "amount": (index * 7 % 64).cast(pl.Float64), "sold": due,
         "told": due + timedelta(minutes=20)}
    )  # fmt: skip
    orders.write_parquet(root / "orders.parquet")
    sales.write_parquet(root / "sales.parquet")
    (root / "sales.yaml").write_text(CONTRACT)
    (root / "features.py").write_text(VIEWS)
    return root


def at(root: Path, hours: float) -> Workspace:
    """The workspace of the project as of some hours after the start; keys and audit heads lie beside it."""
    os.environ["LOOPLINE_KEYS"] = str(root.parent / "keys")
    if not (root / ".loopline").exists():
        return create_workspace(root / ".loopline", clock=ManualClock(START + hours * HOUR), actor="user:ada")
    return open_workspace(root / ".loopline", clock=ManualClock(START + hours * HOUR), actor="user:ada")


def ingest(root: Path, hours: float) -> None:
    ws = at(root, hours)
    if hours < 1 or (names := data.due(ws, TABLES, ws.clock())):
        data.ingest(ws, root, TABLES, names=None if hours < 1 else names)
    ws.close()


def publish(root: Path, hours: float) -> None:
    ws = at(root, hours)
    features.publish(ws, root, features=FEATURES, tables=TABLES)
    ws.close()


def compact(root: Path, hours: float) -> None:
    ws = at(root, hours)
    data.compact(ws, dry_run=False)
    ws.close()


def retain(root: Path, hours: float) -> None:
    ws = at(root, hours)
    data.retain(ws, older_than=timedelta(0), dry_run=False)
    ws.close()


def forget(root: Path, hours: float) -> None:
    ws = at(root, hours)
    erase(ws, root, FRAMING, FEATURES, TABLES, subject=WHO, column="shop", reason="asked")
    ws.close()


def prepare(root: Path, hours: float) -> None:
    ws = at(root, hours)
    made = features.training_set(
        ws, root, framing=FRAMING, features=FEATURES, training=TRAINING, tables=TABLES, at=ws.clock()
    )
    features.leaks(ws, root, framing=FRAMING, features=FEATURES, training=TRAINING, tables=TABLES, training_set=made)
    ws.close()


def state(root: Path, hours: float) -> dict[str, Any]:
    """Everything that must be as if nothing had happened."""
    ws = at(root, hours)
    found: dict[str, Any] = {"audit": ws.audit.verify().problems}
    for name in ws.tables.names():
        rows = ws.tables.scan(name).collect().select(pl.all().exclude("refused_at"))
        found[name] = sorted(map(str, rows.select(sorted(rows.columns)).rows()))
    for table in TABLES:
        pointer = ws.records.pointer("ingested", table)
        found[f"{table} is at"] = pointer and (pointer.doc["known_to"], pointer.doc["digest"])
        taken = [made for made in ws.records.find(Ingestion, table=table) if made.rows]
        found[f"{table} came"] = sum(made.rows for made in taken)
    names = [kept for some in spaces(ws.online).values() for kept in some]
    found["online"] = {kept: {key: ws.online.get(kept, key) for key in ws.online.keys(kept)} for kept in names}
    found["erased"] = bool(ws.records.find(ErasureProof))
    found["snapshots"] = {s: data.read(ws, s, "sales").collect().height for s in _snapshots(ws)}
    ws.close()
    return found


def _snapshots(ws: Workspace) -> list[str]:
    from loopline.data.nouns import Snapshot

    return sorted(one.id for one in ws.records.find(Snapshot))
