"""Somebody is erased while the endpoint answers and the loop publishes: nothing brings the subject back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from tests.loop.shop import HOUR, VIEWS, Shop, frames
from tests.loop.test_online import BEGIN, released

from loopline import features
from loopline.features.nouns import Published
from loopline.features.online import OnlineFeatures, spaces
from loopline.features.publishing import served
from loopline.features.requests import space_of
from loopline.governance.erasure import erase
from loopline.testing.inference import serving
from loopline.workspace import open_workspace

WHO = "c"


def keys(shop: Shop) -> dict[str, set[str]]:
    online = shop.ws.online
    return {kept: set(online.keys(kept)) for names in spaces(online).values() for kept in names}


def erased(shop: Shop) -> None:
    """By another process: a workspace of its own."""
    spec = shop.project.spec
    other = open_workspace(shop.ws.root, clock=shop.clock, actor="user:officer")
    proof, *_ = erase(
        other, shop.root, spec.framing, spec.features, spec.data, subject=WHO, column="shop", reason="asked"
    )
    assert proof.left == (), proof.left
    other.close()


def test_an_erased_entity_stays_away_whatever_the_writer_of_the_loop_remembers(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop", BEGIN)
    released(shop)
    shop.clock.advance(HOUR)
    shop.tick()
    (before,) = keys(shop).values()
    assert WHO in before
    with serving(shop.ws, "shop") as server:
        server.wait(1)
        shop.ask(server, 20)
        erased(shop)
        for _ in range(3):
            shop.clock.advance(HOUR)
            shop.tick()
            (now,) = keys(shop).values()
            assert now == before - {WHO}
        body = {"rows": [{"shop": WHO, "size": 3}], "ids": ["new"], "decision_times": [shop.clock().isoformat()]}
        status, _, text = server.call("POST", "/predict/shop", body)
        assert status == 200, text
    log = shop.ws.tables.scan("predictions/shop").collect()
    assert set(log.filter(pl.col("shop") == WHO)["prediction_id"]) <= {"new"}, "what was answered before is gone"
    group = served(shop.ws, shop.root, shop.project.spec.features.views)[0]
    read = OnlineFeatures(shop.ws.online, group, space=space_of(group)).read({"shop": WHO}, shop.clock())
    assert read.leaves[1:] == [0, None], "as of somebody who was never seen"
    shop.ws.close()


def test_what_comes_of_a_key_after_its_erasure_begins_from_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop", BEGIN)
    released(shop)
    erased(shop)
    new = frames()["sales"].head(1).with_columns(
        sale=pl.lit("new"), shop=pl.lit(WHO), amount=pl.lit(5.0), sold=BEGIN, told=BEGIN + HOUR / 2
    )  # fmt: skip
    shop.ws.tables.append("sales", new)
    shop.clock.advance(HOUR)
    shop.tick()
    group = served(shop.ws, shop.root, shop.project.spec.features.views)[0]
    read = OnlineFeatures(shop.ws.online, group, space=space_of(group)).read({"shop": WHO}, shop.clock())
    assert read.leaves == [5.0, 1, 5.0]
    shop.ws.close()


def test_values_of_views_that_nobody_defines_any_more_are_erased_too(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop", BEGIN)
    released(shop)
    (shop.root / "features.py").write_text(VIEWS.replace('count("6h")', 'count("5h")'))
    spec = shop.project.spec
    features.publish(shop.ws, shop.root, features=spec.features, tables=spec.data)
    (shop.root / "features.py").write_text(VIEWS.replace('count("6h")', 'count("4h")'))
    assert len(keys(shop)) == 2 and all(WHO in some for some in keys(shop).values())
    erased(shop)
    assert len(keys(shop)) == 2 and not any(WHO in some for some in keys(shop).values())
    files = [path for path in shop.ws.root.glob("online.db*") if path.is_file()]
    assert files
    shop.ws.close()


def test_a_publisher_that_had_read_the_rows_before_they_were_erased_is_refused(tmp_path: Path, monkeypatch) -> None:
    shop = Shop(tmp_path / "shop", BEGIN)
    released(shop)
    shop.clock.advance(HOUR)
    spec = shop.project.spec
    written = OnlineFeatures.write

    def late(self: OnlineFeatures, *args: object) -> int:
        monkeypatch.setattr(OnlineFeatures, "write", written)
        erased(shop)
        return written(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(OnlineFeatures, "write", late)
    with pytest.raises(Exception, match="another writer went on"):
        features.publish(shop.ws, shop.root, features=spec.features, tables=spec.data)
    (now,) = keys(shop).values()
    assert WHO not in now
    features.publish(shop.ws, shop.root, features=spec.features, tables=spec.data)
    (now,) = keys(shop).values()
    assert WHO not in now and len(shop.ws.records.find(Published)) == 2
    assert timedelta(0) <= shop.clock() - shop.ws.records.find(Published, limit=1)[0].upto <= 2 * HOUR
    shop.ws.close()
