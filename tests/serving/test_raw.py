"""A version that carries its features' expressions answers raw columns as it answers the features."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.features import col, compute, minutes_since, together, view, when
from loopline.features.program import to_doc
from loopline.interfaces.inference.messages import Reader
from loopline.serving.assembled import AssembledInputs, inputs_of
from loopline.serving.engine import Engine
from loopline.serving.inputs import Inputs
from loopline.serving.nouns import DesiredState, Variant
from loopline.serving.route import Loaded, Route
from loopline.serving.state import Place
from loopline.testing.inference import linear_bundle
from loopline.training.bundle import read_bundle
from loopline.training.encoding import Input
from loopline.workspace import create_workspace

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
VIEWS = together(
    [
        view()(
            lambda: {
                "ratio": col("amount") / col("limit"),
                "hours": minutes_since(col("opened")) / 60,
                "home": when(col("country").lower() == "at", "home", "away").category(),
            }
        )
    ]
)
INPUTS = [
    Input("ratio", "number", (), True, 0.1, 0.0, 5.0),
    Input("hours", "number", (), True, 0.1, 0.0, 1e4),
    Input("home", "category", ("away", "home"), False, 0.0),
]


def bundle(program=True):
    made = read_bundle(linear_bundle(INPUTS, [1.0, 0.001, 2.0]))
    made.manifest["request"] = (
        {"format": 1, "groups": [to_doc(VIEWS)], "columns": {}, "contract": None} if program else None
    )
    return made


raws = st.fixed_dictionaries(
    {
        "amount": st.none() | st.floats(0, 900) | st.integers(0, 900),
        "limit": st.none() | st.sampled_from([0, 100, 200.0]),
        "opened": st.none() | st.integers(0, 10_000).map(lambda h: (AT - timedelta(hours=h)).isoformat()),
        "country": st.none() | st.sampled_from(["AT", "at", "DE"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(raw=raws)
def test_a_raw_row_is_judged_as_the_features_that_training_made_of_it(raw):
    opened = None if raw["opened"] is None else datetime.fromisoformat(raw["opened"])
    spine = pl.DataFrame(
        {"unit": ["1"], "decision_time": [AT], **{k: [v] for k, v in {**raw, "opened": opened}.items()}},
        schema_overrides={
            "amount": pl.Float64,
            "limit": pl.Float64,
            "country": pl.String,
            "opened": pl.Datetime("us", "UTC"),
        },
    )
    made = compute(VIEWS, spine, {}).select(VIEWS.names).row(0, named=True)
    due = round(AT.timestamp() * 1e6)
    assert inputs_of(bundle()).judge(raw, due) == Inputs(INPUTS).judge(made)


def test_a_row_of_features_is_taken_as_it_is():
    row = {"ratio": 0.5, "hours": 3, "home": "away"}
    assert isinstance(inputs_of(bundle()), AssembledInputs)
    assert inputs_of(bundle()).judge(row) == Inputs(INPUTS).judge(row)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"amount": "much"}, "type:amount"),
        ({"opened": "2026-03-01T00:00:00"}, "type:opened"),
        ({"country": 4}, "type:country"),
    ],
)
def test_a_raw_column_of_another_kind_breaks_the_contract_by_its_name(row, said):
    judged = inputs_of(bundle()).judge(row)
    assert judged.broken == (said,) and judged.hard


def test_a_request_of_raw_columns_gets_the_score_of_its_features(tmp_path):
    ws = create_workspace(tmp_path / ".loopline", actor="user:ada")
    place = Place(ws.root, "ep")
    place.segments.mkdir(parents=True)
    scores = []
    for made, rows in (
        (bundle(), {"amount": 50, "limit": 100, "country": "AT"}),
        (bundle(False), {"ratio": 0.5, "home": "home"}),
    ):
        loaded = Loaded.of(Variant("v", 1, "", 10_000, "champion"), made)
        state = DesiredState("d", "ep", 1, (loaded.variant,), "s", (), (), False, AT)
        route = Route(state, [loaded])
        engine = Engine("ep", place.segments, f"w{len(scores)}")
        engine.swap(route)
        call = Reader(route).predict(json.dumps({"rows": [rows]}).encode())
        engine.answer([call])
        engine.close()
        assert call.refused is None
        scores.append(call.answers[0].score)
    ws.close()
    assert scores[0] == scores[1]
