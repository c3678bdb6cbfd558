"""Who answers when the champion cannot: every chain, against the slow definition."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from math import exp, inf

import pytest

from loopline import serving
from loopline.interfaces.inference.messages import Reader, predict_reply
from loopline.serving.calls import Call, Refused
from loopline.serving.engine import Engine
from loopline.serving.nouns import DesiredState, Variant
from loopline.serving.route import Loaded, Route
from loopline.serving.state import Place
from loopline.testing.inference import linear_bundle
from loopline.training.bundle import read_bundle
from loopline.training.encoding import Input
from loopline.workspace import create_workspace

STRICT, LAX = Input("a", "number", (), False, 0.0, -5.0, 5.0), Input("a", "number", (), True, 0.5, -5.0, 5.0)
B = Input("b", "number", (), True, 0.3, -5.0, 5.0)
RATE = 0.625
ROWS = {"good": {"a": 1.0, "b": 0.0}, "null": {"a": None, "b": 0.0}, "text": {"a": "?", "b": 0.0}, "empty": {}}
READS = {"champion": {"good"}, "previous": {"good", "null", "empty"}}
BROKEN = {"good": [], "null": ["null:a"], "text": ["type:a"], "empty": ["missing:a"]}
CHAINS = [c for n in range(3) for c in itertools.permutations(("previous", "baseline"), n)]


def loaded(role, a, *, works=True, rate=None, share=0):
    """A version; one that does not work answers every row with no number."""
    data = linear_bundle([a, B], [1.0 if role == "champion" else -1.0, 0.0 if works else inf], base_rate=rate)
    return Loaded.of(Variant(role, 1, "", share, role), read_bundle(data))


VERSIONS = {
    (role, works, rate): loaded(role, a, works=works, rate=rate)
    for role, a in (("champion", STRICT), ("previous", LAX))
    for works in (True, False)
    for rate in (RATE, None)
}


def route(fallback, *versions, salt="s"):
    state = DesiredState(
        "d", "ep", 1, tuple(v.variant for v in versions), salt, (), tuple(fallback), False, datetime.now(UTC)
    )
    return Route(state, versions)


@pytest.fixture
def ws(tmp_path):
    return create_workspace(tmp_path / ".loopline", actor="user:ada")


@pytest.fixture
def engine(ws):
    place = Place(ws.root, "ep")
    place.segments.mkdir(parents=True)
    made = Engine("ep", place.segments, "w")
    yield made
    made.close()


def ask(engine, row, **more) -> Call:
    call = Reader(engine.route).predict(json.dumps({"rows": [row], **more}).encode())
    engine.answer([call])
    return call


def expected(chain, row, works, rate):
    """Who answers and why, or the status, by the words of the specification."""
    why, status = ("error", 503) if row in READS["champion"] else ("contract", 422)
    if row in READS["champion"] and works["champion"]:
        return "champion", ""
    for name in chain:
        if name == "previous" and row in READS["previous"]:
            if works["previous"]:
                return "previous", why
            why, status = "error", 503
        if name == "baseline" and rate is not None:
            return "champion", "baseline"
    return status


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
def test_the_chain_is_tried_in_its_order_and_nobody_outside_it(engine, chain):
    seen = set()
    for row, champion, previous, rate in itertools.product(ROWS, (True, False), (True, False), (RATE, None)):
        works = {"champion": champion, "previous": previous}
        engine.swap(route(chain, VERSIONS["champion", champion, rate], VERSIONS["previous", previous, RATE]))
        call = ask(engine, ROWS[row])
        wanted = expected(chain, row, works, rate)
        if isinstance(wanted, int):
            assert call.refused is not None
            assert call.refused.status == wanted
        else:
            assert call.refused is None
            (answer,) = call.answers
            assert (answer.by.variant.role, answer.fallback) == wanted
            z = 1.0 if wanted[0] == "champion" else -(ROWS[row].get("a") or 0.0)
            assert answer.score == (RATE if wanted[1] == "baseline" else pytest.approx(1 / (1 + exp(-z)), abs=1e-6))
        seen.add(wanted)
    assert (("champion", "baseline") in seen) == ("baseline" in chain)


def test_a_version_before_that_is_not_there_is_passed_over(engine):
    engine.swap(route(("previous", "baseline"), VERSIONS["champion", True, RATE]))
    assert ask(engine, ROWS["null"]).answers[0].fallback == "baseline"


def test_the_constant_is_answered_and_logged_with_the_broken_rules_as_the_champions(ws, engine):
    engine.swap(route(("baseline",), VERSIONS["champion", True, RATE]))
    calls = [ask(engine, ROWS[row], ids=[row]) for row in ROWS]
    reply = json.loads(predict_reply(calls[1]))
    assert reply == {"predictions": [RATE], "ids": ["null"], "version": "champion", "fallbacks": ["baseline"]}
    assert (engine.counts.fallbacks, engine.counts.refused, engine.counts.failed) == (3, 0, 0)
    engine.swap(None)
    serving.flush(ws, "ep")
    rows = {r["prediction_id"]: r for r in serving.predictions(ws, "ep").collect().to_dicts()}
    assert {id: r["broken"] for id, r in rows.items()} == BROKEN
    for id in ("null", "text", "empty"):
        row = rows[id]
        assert (row["score"], row["decision"], row["fallback"]) == (RATE, True, "baseline")
        assert (row["version"], row["routed"], row["role"]) == ("champion", "champion", "champion")
        assert row["a"] is None
    assert rows["good"]["fallback"] is None


def test_rows_of_one_request_get_the_constant_only_where_they_need_it(engine):
    engine.swap(route(("baseline",), VERSIONS["champion", True, RATE]))
    call = Reader(engine.route).predict(json.dumps({"rows": [ROWS["good"], ROWS["null"]]}).encode())
    engine.answer([call])
    assert [a.score for a in call.answers] == [pytest.approx(1 / (1 + exp(-1)), abs=1e-6), RATE]
    assert json.loads(predict_reply(call))["fallbacks"] == [None, "baseline"]


def test_a_row_that_gets_the_constant_still_counts_against_the_version_it_was_sent_to(engine):
    canary = loaded("canary", STRICT, share=9_999)
    engine.swap(route(("baseline",), VERSIONS["champion", True, RATE], canary))
    call = ask(engine, ROWS["null"])
    assert call.answers[0].routed is canary
    assert call.answers[0].by.variant.role == "champion"
    (block,) = engine.report().blocks
    assert (block[0], block[2]) == (1, 0)
    assert block[1] == [0, 1, 1, 0]


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_row_that_fails_the_canary_and_breaks_the_champions_contract_gets_the_constant(engine):
    canary = loaded("canary", LAX, works=False, share=9_999)
    engine.swap(route(("baseline",), VERSIONS["champion", True, RATE], canary))
    (answer,) = ask(engine, ROWS["null"]).answers
    assert (answer.score, answer.fallback, answer.by.variant.role) == (RATE, "baseline", "champion")
    assert engine.report().blocks[0][1][0] == 1


@pytest.mark.parametrize("body", [b'{"rows": [1]}', b'{"rows": [null]}', b'{"rows": {}}', b"{"])
def test_what_is_no_row_gets_no_constant(engine, body):
    engine.swap(route(("baseline",), VERSIONS["champion", True, RATE]))
    with pytest.raises(Refused) as refused:
        Reader(engine.route).predict(body)
    assert refused.value.status == 400
