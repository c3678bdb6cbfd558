"""A view of the online store that is late is told once, and again only after it has recovered."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
from tests.loop.shop import DAYS, HOUR, START, VIEWS, Shop, frames

from loopline import monitoring, registry
from loopline.loop import engine, facts
from loopline.loop.project import load
from loopline.monitoring.nouns import Alert

END = START + DAYS * timedelta(days=1)


def test_a_late_view_is_one_alert_until_it_recovers(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop", END - 2 * HOUR)
    (shop.root / "features.py").write_text(VIEWS.replace('refresh="1h"', 'refresh="1h", freshness="6h"'))
    shop.project = load(shop.root)
    engine.run(shop.ws, shop.project)
    cycle = facts.current_cycle(shop.ws, "shop")
    assert cycle is not None
    registry.approve(shop.ws.acting_as("user:ada"), cycle.changes["version"], reason="fine")
    assert shop.tick()[-1] == "PROMOTED"

    def alerts() -> list[Alert]:
        return shop.ws.records.find(Alert, cause="freshness")

    def more(at: timedelta) -> None:
        sales = frames()["sales"]
        new = sales.tail(6).with_columns(sold=END + at, told=END + at, sale=pl.col("sale") + f"-{at}")
        pl.concat([sales, new.cast(dict(sales.schema))]).write_parquet(shop.root / "sales.parquet")

    shop.tick()
    assert not alerts() and monitoring.late_views(shop.ws, "shop") == {}
    shop.clock.set(END + 7 * HOUR)
    for _ in range(3):
        shop.tick()
        shop.clock.advance(timedelta(minutes=70))
    asked = {"endpoint": "shop", "features": shop.project.spec.features}
    assert monitoring.check_freshness(shop.ws, shop.root, **asked) == []
    (alert,) = alerts()
    assert (alert.subject, alert.layer, alert.verdict) == ("view:recent", "system", "suspect")
    assert "newest event" in alert.evidence["why"] and engine.status(shop.ws, shop.project)["late"].keys() == {"recent"}

    more(10 * HOUR)
    shop.clock.set(END + 12 * HOUR)
    shop.tick()
    assert len(alerts()) == 1 and engine.status(shop.ws, shop.project)["late"] == {}
    shop.clock.set(END + 20 * HOUR)
    shop.tick()
    assert len(alerts()) == 2
    shop.ws.close()
