"""A version that reads the online store answers a request as training would have: same features, same rules."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.errors import Invalid
from loopline.base.ids import canonical
from loopline.data.spec import TableSpec
from loopline.features import OnlineFeatures, compute, history
from loopline.features.requests import request_doc, space_of
from loopline.features.views import load_views
from loopline.interfaces.inference.messages import Reader
from loopline.serving.assembled import AssembledInputs
from loopline.serving.calls import Call
from loopline.serving.engine import Engine
from loopline.serving.inputs import Inputs
from loopline.serving.log import Committer, input_columns, refused_table, table
from loopline.serving.nouns import DesiredState, Variant
from loopline.serving.route import Loaded, Route
from loopline.serving.state import Place
from loopline.store.online.sqlite import SqliteOnline
from loopline.testing.inference import linear_bundle
from loopline.training.bundle import Bundle, read_bundle
from loopline.training.encoding import Input
from loopline.workspace import create_workspace

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SALES = TableSpec.model_validate({"source": "s.parquet", "event_time": "sold", "known_at": "told", "key": ["sale"]})
FILE = """
from loopline.features import col, count, latest, mean, view

@view(entity="order")
def own():
    return {"size": col("size"), "minute": col("opened").minute_of_day("UTC"), "shop": col("shop").category()}

@view(entity="shop", source="sales", ttl="2h", refresh="1h")
def recent():
    return {"last": latest("amount"), "n": count("3h"), "mean": mean("amount", "3h").fill(latest("amount"))}
"""
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: orders
name: orders
version: 1.0.0
status: active
schema:
  - name: orders
    properties:
      - {name: order, logicalType: string, required: true}
      - {name: shop, logicalType: string, required: true, logicalTypeOptions: {pattern: '[a-z]+'}}
      - {name: size, logicalType: integer, logicalTypeOptions: {minimum: 0, maximum: 50}}
      - {name: opened, logicalType: timestamp, required: true}
"""
SCHEMA = {"order": pl.String, "shop": pl.String, "size": pl.Int64, "opened": pl.Datetime("us", "UTC")}
INPUTS = [
    Input("size", "number", (), True, 0.1, 0.0, 50.0),
    Input("minute", "number", (), False, 0.0, 0.0, 1440.0),
    Input("shop", "category", ("a", "b"), False, 0.0),
    Input("last", "number", (), True, 0.1, 0.0, 40.0),
    Input("n", "number", (), False, 0.0, 0.0, 100.0),
    Input("mean", "number", (), True, 0.1, 0.0, 90.0),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root: Path = tmp_path_factory.mktemp("project")
    (root / "views.py").write_text(FILE)
    (root / "orders.yaml").write_text(CONTRACT)
    return root


def bundle(project: Path, **more: object) -> Bundle:
    made = read_bundle(linear_bundle(INPUTS, [0.1, 0.001, 1.0, 0.02, 0.1, 0.02], **more))
    spine = TableSpec.model_validate({"source": "o.parquet", "contract": "orders.yaml"})
    doc = request_doc(project, ["views.py"], load_views(project, ["views.py"]), spine, SCHEMA, unit="order")
    made.manifest["request"] = json.loads(canonical(doc))
    return made


def store_with(project: Path, path: Path, sales: pl.DataFrame, upto: datetime) -> SqliteOnline:
    store, group = SqliteOnline(path / "online.db"), load_views(project, ["views.py"])
    OnlineFeatures(store, group, tables={"sales": SALES}, space=space_of(group)).apply_all({"sales": sales}, upto)
    return store


def sales_of(rows: list[tuple[str, float | None, int, int]]) -> pl.DataFrame:
    times = [(NOON - timedelta(minutes=ago), NOON - timedelta(minutes=ago - late)) for _, _, ago, late in rows]
    return pl.DataFrame(
        {
            "sale": [str(n) for n in range(len(rows))],
            "shop": [shop for shop, *_ in rows],
            "amount": [amount for _, amount, *_ in rows],
            "sold": [sold for sold, _ in times],
            "told": [told for _, told in times],
        },
        schema={
            "sale": pl.String,
            "shop": pl.String,
            "amount": pl.Float64,
            "sold": SCHEMA["opened"],
            "told": SCHEMA["opened"],
        },
    )


events = st.lists(
    st.tuples(st.sampled_from("ab"), st.none() | st.floats(0, 80), st.integers(0, 300), st.integers(0, 90)), max_size=12
)


@settings(max_examples=40, deadline=None)
@given(rows=events, shop=st.sampled_from("abz"), size=st.none() | st.integers(-3, 60), minute=st.integers(0, 59))
def test_a_request_is_judged_as_the_features_that_training_would_make_of_it(
    project, tmp_path_factory, rows, shop, size, minute
):
    sales, at = sales_of(rows), NOON + timedelta(minutes=minute)
    known = sales.filter(pl.col("told") <= NOON)
    store = store_with(project, tmp_path_factory.mktemp("store"), known, NOON)
    spine = pl.DataFrame(
        {"order": ["x"], "shop": [shop], "size": [size], "opened": [NOON], "decision_time": [at]},
        schema_overrides=SCHEMA,
    )
    views = load_views(project, ["views.py"])
    made = compute(views, spine, {"sales": history(sales, SALES)}, unit="order").select(views.names).row(0, named=True)
    request = {"shop": shop, "size": size, "opened": NOON.isoformat()}
    judged = AssembledInputs(bundle(project), store).judge(request, round(at.timestamp() * 1e6))
    expected = Inputs(INPUTS).judge(made)
    if size is not None and not 0 <= size <= 50:
        assert judged.hard and any(rule.startswith("size.") for rule in judged.broken)
    else:
        assert (judged.values, judged.hard) == (expected.values, expected.hard)
        assert set(judged.broken) >= set(expected.broken)
    store.close()


@pytest.mark.parametrize(
    ("request_row", "said"),
    [
        ({"shop": "a", "size": 3}, "opened.required"),
        ({"shop": "a", "size": 3, "opened": "2026-03-01T00:00:00"}, "opened.logicalType"),
        ({"shop": "a", "size": 3, "opened": "soon"}, "opened.logicalType"),
        ({"shop": "a", "size": 3, "opened": 12}, "opened.logicalType"),
        ({"shop": "A!", "size": 3, "opened": NOON.isoformat()}, "shop.pattern"),
        ({"size": 3, "opened": NOON.isoformat()}, "shop.required"),
        ({"shop": 7, "size": 3, "opened": NOON.isoformat()}, "shop.logicalType"),
    ],
)
def test_a_request_that_breaks_the_contract_of_the_spine_is_refused_by_its_rule(project, tmp_path, request_row, said):
    inputs = AssembledInputs(bundle(project), store_with(project, tmp_path, sales_of([]), NOON))
    judged = inputs.judge(request_row, round(NOON.timestamp() * 1e6))
    assert judged.hard and said in judged.broken, judged.broken


def answered(engine: Engine, route: Route) -> tuple[object, object]:
    body = {"rows": [{"shop": "a", "size": 3, "opened": NOON.isoformat()}], "decision_times": [NOON.isoformat()]}
    call = Reader(route).predict(json.dumps(body).encode())
    engine.answer([call])
    return call.refused, call.answers


def test_every_column_that_a_request_brings_is_judged_and_unknown_ones_are_named(tmp_path):
    (tmp_path / "views.py").write_text(FILE)
    (tmp_path / "orders.yaml").write_text(
        CONTRACT + "      - {name: weight, logicalType: number, logicalTypeOptions: {minimum: 0}}\n"
        "      - {name: packed, logicalType: timestamp}\n"
    )
    made = read_bundle(linear_bundle(INPUTS, [0.1, 0.001, 1.0, 0.02, 0.1, 0.02]))
    spine = TableSpec.model_validate(
        {
            "source": "o.parquet",
            "contract": "orders.yaml",
            "clean": [{"column": "weight", "fill": 1.0}],
        }
    )
    schema = {**SCHEMA, "weight": pl.Float64(), "packed": SCHEMA["opened"]}
    doc = request_doc(tmp_path, ["views.py"], load_views(tmp_path, ["views.py"]), spine, schema, unit="order")
    made.manifest["request"] = json.loads(canonical(doc))
    inputs = AssembledInputs(made, store_with(tmp_path, tmp_path, sales_of([]), NOON))
    due = int(NOON.timestamp() * 1e6)
    row = {"shop": "a", "size": 3, "opened": "2026-03-01T11:00:00Z"}
    assert inputs.judge(row, due).broken == inputs.judge({**row, "order": "o1"}, due).broken
    assert "weight.minimum" in inputs.judge({**row, "weight": -1.0}, due).broken
    assert inputs.judge({**row, "weight": -1.0}, due).hard
    good = inputs.judge({**row, "weight": None, "packed": "2026-03-01T11:30:00Z"}, due)
    assert not good.hard and not any("weight" in rule or "packed" in rule for rule in good.broken)
    assert "packed.logicalType" in inputs.judge({**row, "packed": "noon"}, due).broken
    odd = inputs.judge({**row, "weigth": 2.0, "shop\n": "a"}, due)
    assert not odd.hard and {"unknown:weigth", "unknown:shop\\n"} <= set(odd.broken)
    many = inputs.judge({**row, **{f"c{n}": n for n in range(90)}}, due).broken
    assert sum(rule.startswith("unknown:") for rule in many) == 6 and "unknown:and more" in many


def test_without_the_store_there_is_the_declared_fallback_or_a_clear_refusal(project, tmp_path):
    ws = create_workspace(tmp_path / ".loopline", actor="user:ada")
    place = Place(ws.root, "ep")
    place.segments.mkdir(parents=True)
    empty = SqliteOnline(tmp_path / "empty.db")
    for fallback in ((), ("baseline",)):
        loaded = Loaded.of(Variant("v", 1, "", 10_000, "champion"), bundle(project, base_rate=0.25), empty)
        state = DesiredState("d", "ep", 1, (loaded.variant,), "s", (), fallback, False, NOON, online=True)
        route, engine = Route(state, [loaded]), Engine("ep", place.segments, f"w{len(fallback)}")
        engine.swap(route)
        refused, answers = answered(engine, route)
        engine.close()
        if fallback:
            assert refused is None and answers[0].score == 0.25 and answers[0].fallback == "baseline"
        else:
            assert refused.status == 503 and "unavailable:features" in refused.text
    ws.close()


def test_a_bundle_that_does_not_say_what_requests_bring_cannot_be_served_online(project, tmp_path):
    made = bundle(project)
    del made.manifest["request"]
    with pytest.raises(Invalid, match="does not say"):
        AssembledInputs(made, SqliteOnline(tmp_path / "online.db"))


def test_metadata_names_what_a_request_brings(project, tmp_path):
    inputs = AssembledInputs(bundle(project), SqliteOnline(tmp_path / "online.db"))
    assert inputs.asked == {"size": "FP64", "opened": "BYTES", "shop": "BYTES"}


def test_a_request_that_nobody_answers_is_kept_among_the_refused_with_its_rules(project, tmp_path):
    ws = create_workspace(tmp_path / ".loopline", actor="user:ada")
    place = Place(ws.root, "ep")
    place.segments.mkdir(parents=True)
    store = store_with(project, tmp_path, sales_of([]), NOON)
    loaded = Loaded.of(Variant("v", 1, "", 10_000, "champion"), bundle(project), store)
    state = DesiredState("d", "ep", 1, (loaded.variant,), "s", (), (), False, NOON, online=True)
    route, engine = Route(state, [loaded]), Engine("ep", place.segments, "w")
    engine.swap(route)
    for n, size in enumerate((3, 99, 99)):
        body = {"rows": [{"shop": "a", "size": size, "opened": NOON.isoformat()}], "ids": [f"p{min(n, 1)}"]}
        call = Reader(route).predict(json.dumps({**body, "decision_times": [NOON.isoformat()]}).encode())
        engine.answer([call])
        assert (call.refused is None) == (size == 3)
    engine.close()
    assert Committer(ws.tables, place).commit().rows == 1
    assert ws.tables.scan(table("ep")).collect()["prediction_id"].to_list() == ["p0"]
    (row,) = ws.tables.scan(refused_table("ep")).collect().to_dicts()
    assert (row["prediction_id"], row["role"], row["routed"], row["broken"]) == ("p1", "refused", "v", ["size.maximum"])
    assert row["score"] is None and row["decision_time"] == NOON
    ws.close()


def test_a_request_due_before_what_the_store_stands_at_reads_nothing_of_it_and_says_so(project, tmp_path):
    inputs = AssembledInputs(bundle(project), store_with(project, tmp_path, sales_of([("a", 9.0, 30, 0)]), NOON))
    request = {"shop": "a", "size": 3, "opened": NOON.isoformat()}
    now, before = (inputs.judge(request, round((NOON - ago).timestamp() * 1e6)) for ago in (0 * HOUR, HOUR))
    assert now.values[3:] == (9.0, 1.0, 9.0) and not now.broken
    assert before.values[3:] == (None, None, None) and "ahead:recent" in before.broken


@pytest.fixture
def ask(project, tmp_path):
    """A request to a served version, as it was read and answered."""
    ws = create_workspace(tmp_path / ".loopline", actor="user:ada")
    place = Place(ws.root, "ep")
    place.segments.mkdir(parents=True)
    loaded = Loaded.of(
        Variant("v", 1, "", 10_000, "champion"), bundle(project), store_with(project, tmp_path, sales_of([]), NOON)
    )
    state = DesiredState("d", "ep", 1, (loaded.variant,), "s", (), (), False, NOON, online=True)
    route, engine = Route(state, [loaded]), Engine("ep", place.segments, "w")
    engine.swap(route)

    def go(*rows: dict[str, object], **more: object) -> Call:
        rows = tuple({"shop": "a", "size": 3, "opened": NOON.isoformat()} | row for row in rows)
        body = {"rows": rows, "decision_times": [NOON.isoformat()] * len(rows), **more}
        call = Reader(route).predict(json.dumps(body).encode())
        engine.answer([call])
        return call

    go.ws, go.place, go.engine = ws, place, engine  # type: ignore[attr-defined]
    yield go
    engine.close()
    ws.close()


def test_a_row_that_carries_the_unit_is_about_it_and_may_not_contradict_what_entities_says(ask):
    assert [one.entity for one in ask({"order": "o1"}, {"order": 7}).answers] == ["o1", "7"]
    assert [one.entity for one in ask({"order": "o1"}, {}, entities=["o1", "o2"]).answers] == ["o1", "o2"]
    (alone,) = ask({}, ids=["p"]).answers
    assert alone.entity == "p" and not alone.flags
    refused = ask({"order": "o1"}, entities=["o2"]).refused
    assert refused.status == 400 and "`entities` says 'o2', the row's own order is 'o1'" in refused.text


def test_the_log_keeps_what_a_request_brought_exactly(ask):
    brought = {"size": 3, "shop": "new"}
    refused = ask(brought | {"size": 51}).refused
    assert refused is not None
    for n, more in enumerate((brought, {"size": None, "note": "unread"}, {"shop": "a" * 70_000})):
        assert ask(more, ids=[f"p{n}"]).refused is None
    ask.engine.close()
    Committer(ask.ws.tables, ask.place).commit()
    rows = ask.ws.tables.scan(table("ep")).sort("prediction_id").collect()
    assert rows["shop"].to_list() == [None, "a", None], "the input does not tell what was sent"
    kept = [rows[name].to_list() for name in ("request_shop", "request_size", "request_opened")]
    assert kept == [["new", "a", None], ["3", None, None], ["2026-03-01T12:00:00Z"] * 2 + [None]]
    assert "request_shop" not in input_columns(rows.columns)
    assert ask.ws.tables.scan(refused_table("ep")).collect()["request_size"].to_list() == ["51"]


def test_an_id_that_a_request_gives_twice_is_refused(ask):
    refused = ask({}, {}, {}, ids=["p", None, "p"]).refused
    assert refused.status == 400 and "'p' twice" in refused.text
    assert ask({}, {}, ids=[None, None]).refused is None


def test_of_the_rules_that_a_refused_row_breaks_those_that_refuse_come_first(ask):
    refused = ask({"shop": "new", "size": 3, "opened": None}).refused
    assert refused.text.split(": ")[1].startswith("opened.")
    before = ask({}, decision_times=[(NOON - HOUR).isoformat()]).refused
    assert before.text.split(": ")[1].startswith("null:n") and "ahead:recent" in before.text
    refused = ask({"shop": "new", "size": "much"}).refused
    assert refused.text.split(": ")[1].startswith(("size.", "type:size")), refused.text


class Counted(SqliteOnline):
    """A store that counts how often it is read."""

    reads = 0

    def read(self, places):
        self.reads += 1
        return super().read(places)


def test_all_requests_of_a_turn_are_one_look_into_the_store_and_answered_as_each_alone(project, tmp_path):
    store_with(project, tmp_path, sales_of([("a", 3.0, 90, 0), ("b", 7.0, 80, 0), ("a", 9.0, 70, 0)]), NOON).close()
    store = Counted(tmp_path / "online.db")
    loaded = Loaded.of(Variant("v", 1, "", 10_000, "champion"), bundle(project), store)
    rows = [
        {"shop": shop, "size": size, "opened": NOON.isoformat()} for shop in ("a", "b", "z", None) for size in (3, 99)
    ]
    due = [round((NOON + timedelta(minutes=n)).timestamp() * 1e6) for n in range(len(rows))]
    together = loaded.inputs.judge_many(rows, due)
    assert store.reads == 1
    assert together == [loaded.inputs.judge(row, at) for row, at in zip(rows, due, strict=True)]
    assert {one.hard for one in together} == {True, False} and len({one.values for one in together}) > 3

    ws = create_workspace(tmp_path / ".loopline", actor="user:ada")
    place = Place(ws.root, "ep")
    place.segments.mkdir(parents=True)
    state = DesiredState("d", "ep", 1, (loaded.variant,), "s", (), (), False, NOON, online=True)
    route, engine = Route(state, [loaded]), Engine("ep", place.segments, "w")
    engine.swap(route)
    bodies = [{"rows": [row], "decision_times": [NOON.isoformat()]} for row in rows]
    calls = [Reader(route).predict(json.dumps(body).encode()) for body in bodies]
    store.reads = 0
    engine.answer(calls)
    engine.close()
    assert store.reads == 1
    assert [call.refused is None for call in calls] == [not one.hard for one in together]
    assert calls[0].answers[0].values == loaded.inputs.judge(rows[0], due[0]).values
    ws.close()
    store.close()


def test_an_entity_that_is_asked_for_again_is_answered_as_it_stands_now(project, tmp_path):
    sales, group = sales_of([("a", 3.0, 90, 0), ("a", 9.0, 30, 0)]), load_views(project, ["views.py"])
    store = SqliteOnline(tmp_path / "online.db")
    writer = OnlineFeatures(store, group, tables={"sales": SALES}, space=space_of(group))
    inputs, request = AssembledInputs(bundle(project), store), {"shop": "a", "size": 3, "opened": NOON.isoformat()}
    seen = []
    for upto in (NOON - timedelta(hours=1), NOON):
        writer.apply_all({"sales": sales.filter(pl.col("told") <= upto)}, upto)
        due = round(upto.timestamp() * 1e6)
        seen.append(
            [inputs.judge(request, due) for _ in range(2)]
            + [AssembledInputs(bundle(project), store).judge(request, due)]
        )
    assert all(one == same[0] for same in seen for one in same) and seen[0][0].values != seen[1][0].values
    store.close()
