"""A request that lacks its entity, or whose entity has no events, is told so by name: the store is not to blame."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from tests.serving.test_assembled import INPUTS, NOON, SALES, SCHEMA, sales_of

from loopline.base.ids import canonical
from loopline.data.spec import TableSpec
from loopline.features import OnlineFeatures
from loopline.features.requests import request_doc, space_of
from loopline.features.views import load_views
from loopline.interfaces.inference import oip
from loopline.interfaces.inference.messages import Reader
from loopline.serving.assembled import AssembledInputs
from loopline.serving.engine import Engine
from loopline.serving.nouns import DesiredState, Variant
from loopline.serving.route import Loaded, Route
from loopline.serving.state import Place
from loopline.store.online.sqlite import SqliteOnline
from loopline.testing.inference import linear_bundle
from loopline.training.bundle import Bundle, read_bundle
from loopline.workspace import create_workspace

VIEWS = """
from loopline.features import col, count, latest, view

@view()
def own():
    return {{"size": col("size")}}

@view(entity="shop", source="sales", ttl="2h", refresh="1h"{level})
def recent():
    return {{"last": latest("amount"), "n": count("3h")}}
"""
LEVELS = ["", *(f', freshness="2h", on_stale="{how}"' for how in ("serve", "default", "refuse"))]
CHOSEN = [one for one in INPUTS if one.name in ("size", "last")]
DUE = round(NOON.timestamp() * 1e6)


def bundle(root: Path, level: str, unnamed: tuple[str, ...] | None = ()) -> Bundle:
    (root / "views.py").write_text(VIEWS.format(level=level))
    spine = TableSpec.model_validate({"source": "o.parquet"})
    views = load_views(root, ["views.py"])
    made = read_bundle(linear_bundle(CHOSEN, [0.1, 0.2]))
    doc = request_doc(root, ["views.py"], views, spine, SCHEMA, unit="shop", unnamed=unnamed)
    made.manifest["request"] = json.loads(canonical(doc))
    return made


def published(root: Path) -> SqliteOnline:
    group, store = load_views(root, ["views.py"]), SqliteOnline(root / "online.db")
    writer = OnlineFeatures(store, group, tables={"sales": SALES}, space=space_of(group))
    writer.apply_all({"sales": sales_of([("a", 9.0, 30, 0)])}, NOON)
    return store


@pytest.mark.parametrize("level", LEVELS)
def test_a_request_without_its_entity_is_refused_by_name_whatever_the_view_says_of_staleness(tmp_path, level):
    made = bundle(tmp_path, level)
    inputs = AssembledInputs(made, published(tmp_path))
    rows = [{"shop": "a", "size": 3}, {"shop": None, "size": 3}, {"size": 3}, {"shop": float("nan"), "size": 3}]
    together = inputs.judge_many(rows, [DUE] * len(rows))
    assert together == [inputs.judge(row, DUE) for row in rows]
    assert [one.hard for one in together] == [False, True, True, True]
    assert [one.broken for one in together] == [(), ("null:shop",), ("missing:shop",), ("null:shop",)]


@pytest.mark.parametrize("unnamed", [("shop",), None])
def test_a_key_that_training_saw_null_may_be_null_and_one_of_which_nothing_is_told_may_not(tmp_path, unnamed):
    inputs = AssembledInputs(bundle(tmp_path, "", unnamed), published(tmp_path))
    assert inputs.judge({"shop": None, "size": 3}, DUE).hard == (unnamed is None)


def test_an_entity_that_the_store_does_not_know_is_absent_by_name_and_without_a_level_counts_nothing(
    tmp_path,
):
    for level in LEVELS:
        (root := tmp_path / str(LEVELS.index(level))).mkdir()
        inputs = AssembledInputs(bundle(root, level), published(root))
        unknown, behind = (inputs.judge({"shop": "z", "size": 3}, DUE + n * 3_600_000_000) for n in (0, 9))
        if "refuse" in level:
            assert (unknown.broken, unknown.hard) == (("absent:recent",), True)
            assert (behind.broken, behind.hard) == (("unavailable:features",), True), "its writer stands still"
        else:
            assert not unknown.hard and unknown.values == (3.0, None)
            assert unknown.broken == (("absent:recent",) if level else ())


def test_every_way_in_says_422_and_why_and_keeps_503_for_a_store_that_is_gone(tmp_path):
    made, ws = bundle(tmp_path, LEVELS[-1]), create_workspace(tmp_path / ".loopline", actor="user:ada")
    place = Place(ws.root, "ep")
    place.segments.mkdir(parents=True)
    loaded = Loaded.of(Variant("v", 1, "", 10_000, "champion"), made, published(tmp_path))
    state = DesiredState("d", "ep", 1, (loaded.variant,), "s", (), (), False, NOON, online=True)
    route, engine = Route(state, [loaded]), Engine("ep", place.segments, "w")
    engine.swap(route)
    reader = Reader(route)

    def said(call):
        engine.answer([call])
        return None if call.refused is None else (call.refused.status, call.refused.text.split(": ")[-1])

    def each(shop, at=NOON):
        times = {"decision_times": [at.isoformat()]}
        body = json.dumps({"rows": [{"shop": shop, "size": 3}], **times}).encode()
        tensors = {"size": ("FP64", 3.0), "shop": ("BYTES", shop)}
        inputs = [{"name": n, "shape": [1], "datatype": t, "data": [v]} for n, (t, v) in tensors.items()]
        asked = json.dumps({"inputs": inputs, "parameters": {"decision_times": [at.isoformat()]}}).encode()
        rows = reader.rows([{"shop": shop, "size": 3}], decision_times=[at])
        return [said(reader.predict(body)), said(oip.read(reader, asked).call), said(rows)]

    assert each("a") == [None] * 3
    assert each(None) == [(422, "null:shop")] * 3
    assert each("z") == [(422, "absent:recent")] * 3
    assert each("a", NOON + timedelta(hours=9)) == [(503, "unavailable:features")] * 3
    engine.close()
    ws.close()


def test_a_store_that_is_lost_is_told_once_in_the_log_and_so_is_its_end(tmp_path, caplog):
    made = bundle(tmp_path, LEVELS[-1])
    store = SqliteOnline(tmp_path / "empty.db")
    inputs, row = AssembledInputs(made, store), {"shop": "a", "size": 3}
    for _ in range(3):
        assert inputs.judge(row, DUE).broken == ("unavailable:features",)
    group = load_views(tmp_path, ["views.py"])
    writer = OnlineFeatures(store, group, tables={"sales": SALES}, space=space_of(group))
    writer.apply_all({"sales": sales_of([("a", 9.0, 30, 0)])}, NOON)
    assert inputs.judge(row | {"shop": "z"}, DUE).broken == ("absent:recent",)
    assert inputs.judge(row, DUE).values == (3.0, 9.0)
    said = [one.getMessage() for one in caplog.records]
    assert (
        len(said) == 2
        and "holds nothing of view recent; the store is empty" in said[0]
        and said[1] == "features can be read again"
    )
