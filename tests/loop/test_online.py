"""The loop keeps the online store of a real endpoint up to date, and lets no canary through that disagrees with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from tests.loop.shop import HOUR, PAGE, START, VIEWS, Shop, frames

from loopline import features, registry
from loopline.base.clock import monotonic
from loopline.data.history.known import known
from loopline.features.nouns import ParityReport, Published
from loopline.features.online import OnlineFeatures, spaces
from loopline.features.publishing import served
from loopline.features.requests import groups_of, space_of
from loopline.features.sources import version_of
from loopline.loop import engine, facts
from loopline.loop.project import load
from loopline.registry.nouns import Release
from loopline.testing.inference import Server, serving
from loopline.training.nouns import Model

BEGIN = START + timedelta(days=10, minutes=10)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "shop", BEGIN)
    yield made
    made.ws.close()


def stands_at(shop: Shop) -> datetime | None:
    (late,) = features.freshness(shop.ws, shop.root, features=shop.project.spec.features)
    return late.stands_at


def released(shop: Shop) -> None:
    """The first model serves everyone."""
    assert [t.after for t in engine.run(shop.ws, shop.project)][-1] == "AWAIT_APPROVAL"
    assert stands_at(shop) is None
    cycle = facts.current_cycle(shop.ws, "shop")
    assert cycle is not None
    registry.approve(shop.ws.acting_as("user:ada"), cycle.changes["version"], reason="fine")
    assert shop.tick() == ["WATCH", "PROMOTED"], engine.history(shop.ws, shop.project)[1].why


def answered(shop: Shop, server: Server, many: int = 70) -> None:
    """Requests that name orders, all answered."""
    generation = engine.status(shop.ws, shop.project)["cycle"]["changes"].get("generation", 1)
    server.wait(generation)
    answers = shop.ask(server, many)
    assert {status for status, _ in answers} == {200}, answers[0]
    assert len({json.loads(text)["predictions"][0] for _, text in answers}) > many / 3


def test_requests_name_orders_and_a_canary_that_agrees_with_the_tables_serves_everyone(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop", BEGIN, PAGE.replace("parity: 25", "parity: 50"))
    released(shop)
    assert stands_at(shop) == BEGIN - timedelta(minutes=10), "published before the first model was deployed"
    with serving(shop.ws, "shop") as server:
        assert shop.candidate(0.1) == ["ROLLOUT"]
        answered(shop, server)
        assert engine.next_due(shop.ws, shop.project) == BEGIN + timedelta(minutes=50)
        shop.clock.advance(timedelta(minutes=50))
        assert shop.tick() == []
        assert stands_at(shop) == shop.clock(), "rows of the hour came in, and the store moved on"
        answered(shop, server)
        shop.clock.advance(3 * HOUR)
        assert shop.tick() == ["WATCH", "PROMOTED"], engine.history(shop.ws, shop.project)[1].why
    (report,) = shop.ws.records.find(ParityReport, limit=1)
    assert report.holds and report.rows >= 50 and report.values == report.rows * 5
    (guard,) = [g for t in engine.history(shop.ws, shop.project) for g in t.guards if g.name == "parity"]
    assert guard.passed and guard.evidence == report.id
    assert len(shop.ws.records.find(Release)) == 2
    shop.ws.close()


def lie_in_the_store(shop: Shop) -> None:
    """What reads the stream doubles what was sold."""
    tables = {"sales": shop.project.spec.data["sales"]}
    cycle = facts.current_cycle(shop.ws, "shop")
    assert cycle is not None
    model = shop.ws.records.get(Model, cycle.changes["model"])
    (group,) = [one for one in groups_of(shop.ws, model.training_set) or () if one.tables]
    rows = known(shop.ws, "sales", tables["sales"], shop.clock()).collect().with_columns(pl.col("amount") * 2)
    writer = OnlineFeatures(shop.ws.online, group, tables=tables, space=space_of(group))
    writer.rebuild({"sales": rows}, shop.clock(), {"sales": version_of(shop.ws, "sales")})


def lie_about_the_time(shop: Shop) -> None:
    """Rows arrive after the answers, and say that they were known before."""
    late = frames()["sales"].head(6).with_columns(
        sale=pl.lit("late"), shop=pl.Series(list("abcdef")), amount=pl.lit(7_000.0),
        sold=BEGIN - 2 * HOUR, told=BEGIN - HOUR,
    )  # fmt: skip
    shop.ws.tables.append("sales", late)


@pytest.mark.parametrize("lie", [lie_in_the_store, lie_about_the_time])
def test_when_a_producer_lies_the_canary_is_taken_back_and_the_feature_named(shop: Shop, lie) -> None:
    released(shop)
    with serving(shop.ws, "shop") as server:
        assert shop.candidate(0.1) == ["ROLLOUT"]
        if lie is lie_in_the_store:
            lie(shop)
        answered(shop, server)
        if lie is lie_about_the_time:
            lie(shop)
        assert shop.tick() == ["ROLLING_BACK", "ROLLED_BACK"], "at once, not at the end of its step"
    why = engine.history(shop.ws, shop.project)[1].why
    assert why.startswith("training and serving disagree: ") and "amount_1d in " in why, why
    assert len(shop.ws.records.find(Release)) == 1


def test_a_canary_whose_view_is_dead_is_taken_back_though_each_of_its_values_is_null_alike(shop: Shop) -> None:
    (shop.root / "features.py").write_text(VIEWS.replace('"sales_6h": count("6h"), ', ""))
    shop.project = load(shop.root)
    released(shop)
    with serving(shop.ws, "shop") as server:
        assert shop.candidate(0.1) == ["ROLLOUT"]
        for name in [name for names in spaces(shop.ws.online).values() for name in names]:
            for key in shop.ws.online.keys(name):  # it says how far it goes, and holds nobody any more
                shop.ws.online.delete(name, key)
        answered(shop, server)
        assert shop.tick() == ["ROLLING_BACK", "ROLLED_BACK"], engine.history(shop.ws, shop.project)[0].why
    why = engine.history(shop.ws, shop.project)[1].why
    assert why.startswith("training and serving disagree: ") and "amount_1d in " in why and "last in " in why, why
    (late,) = features.freshness(shop.ws, shop.root, features=shop.project.spec.features, count=True)
    assert late.late == "lost entities: 0 of the 6 that were published are left"


def test_with_too_few_requests_parity_is_recorded_as_unproven(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop", BEGIN, PAGE.replace("parity: 25", "parity: 1000"))
    released(shop)
    with serving(shop.ws, "shop") as server:
        assert shop.candidate(0.1) == ["ROLLOUT"]
        answered(shop, server)
        assert shop.tick() == []
        shop.clock.advance(3 * HOUR)
        assert shop.tick() == ["WATCH", "PROMOTED"], engine.history(shop.ws, shop.project)[1].why
    rollout = engine.history(shop.ws, shop.project)[1]
    assert "parity unproven" in rollout.why
    (guard,) = [g for g in rollout.guards if g.name == "parity"]
    assert not guard.passed and 0 < guard.observed < 1000 and guard.threshold == 1000
    shop.ws.close()


def test_a_file_of_views_that_is_being_worked_on_changes_nothing_for_the_model_that_serves(shop: Shop) -> None:
    released(shop)
    before = shop.ws.records.find(Published, limit=1)[0]
    for text in (VIEWS.replace('count("6h")', 'count("5h")'), "this is no Python"):
        (shop.root / "features.py").write_text(text)
        shop.clock.advance(HOUR)
        shop.tick()
        now = shop.ws.records.find(Published, limit=1)[0]
        assert (now.views, now.upto) == (before.views, shop.clock())


def test_an_online_store_that_is_away_keeps_neither_rows_out_nor_a_canary_in(shop: Shop) -> None:
    released(shop)
    assert shop.candidate(0.1) == ["ROLLOUT"]
    engine.command(shop.ws.acting_as("user:ada"), shop.project, do="cancel")
    shop.ws.online.close()
    for file in shop.ws.root.glob("online.db*"):
        file.unlink()
    (shop.ws.root / "online.db").mkdir()
    shop.ws.stores._open.pop("online")
    before = version_of(shop.ws, "sales")
    shop.clock.advance(HOUR)
    with pytest.raises(Exception, match="online values"):
        shop.tick()
    assert version_of(shop.ws, "sales") > before
    assert facts.current_cycle(shop.ws, "shop") is None
    assert shop.last.after == "ROLLED_BACK"
    (shop.ws.root / "online.db").rmdir()
    shop.tick()
    assert stands_at(shop) == shop.clock() - timedelta(minutes=10)


def test_the_views_of_a_training_set_are_those_of_its_files(shop: Shop) -> None:
    released(shop)
    (held,) = shop.ws.records.find(Model)
    now = load(shop.root).spec.features.views
    of_files, of_set = served(shop.ws, shop.root, now), served(shop.ws, shop.root, (), [held.training_set])
    assert [one.id for one in of_files] == [one.id for one in of_set]


def test_a_data_plane_whose_online_file_is_lost_refuses_clearly_and_answers_again_once_it_is_filled(shop: Shop) -> None:
    released(shop)

    def until(server: Server, status: int) -> bytes:
        end = monotonic() + 10
        while monotonic() < end:
            ((found, text),) = shop.ask(server, 1)
            if found == status:
                return text
        raise AssertionError((found, text))

    with serving(shop.ws, "shop") as server:
        server.wait(1)
        (workers, before) = (server.workers, until(server, 200))
        for file in shop.ws.root.glob("online.db*"):
            file.unlink()
        assert b"unavailable:features" in until(server, 503)
        shop.tick()
        assert until(server, 200) == before
        for file in shop.ws.root.glob("online.db*"):
            file.unlink()
        (shop.ws.root / "online.db").write_bytes(b"no database " * 999)
        assert b"unavailable:features" in until(server, 503)
        spec = shop.project.spec
        features.publish(shop.ws, shop.root, features=spec.features, tables=spec.data, backfill=True)
        assert until(server, 200) == before
        assert server.workers == workers, "no process died of it"
