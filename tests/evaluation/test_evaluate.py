from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from tests.training.world import FRAMING, project, rows, training_set, workspace

from loopline import governance, registry
from loopline.base.code import UserCodeError
from loopline.base.errors import Invalid
from loopline.evaluation import EvaluationSpec, GateSpec, Report, evaluate
from loopline.framing.metrics import roc_auc
from loopline.registry.nouns import Version
from loopline.training import TrainingSpec, load_bundle, train

RECIPE = TrainingSpec(recipe="train.py:fit")
SPEC = EvaluationSpec(
    slices=("place", "kind"),
    gates=(
        GateSpec(metric="roc_auc", against="champion", no_worse_by=0.02),
        GateSpec(metric="value", against="baseline", better_by=0.0),
    ),
)
BASELINES = """
import polars as pl

def by_kind(train, rows):
    rate = train.group_by("kind").agg(pl.col("label").mean().alias("score"))
    assert "label" not in rows.columns
    joined = rows.join(rate, on="kind", how="left", nulls_equal=True, maintain_order="left")
    return joined["score"].fill_null(train["label"].mean())

def short(train, rows):
    return rows["a"].head(3)

def wild(train, rows):
    return rows["a"]

def broken(train, rows):
    return rows["gone"]
"""


@pytest.fixture
def ws(tmp_path):
    found = workspace(tmp_path / "ws")
    yield found
    found.close()


@pytest.fixture
def folder(tmp_path):
    return project(tmp_path / "p", baselines=BASELINES)


def trained(ws, folder, frame=None, features=("a", "b", "c", "kind"), **params):
    given = training_set(ws, rows() if frame is None else frame, features)
    spec = RECIPE.model_copy(update={"params": params})
    _, model = train(ws, folder, training=spec, training_set=given, framing=FRAMING, author="user:ada")
    return model, given


def report(ws, folder, model, given, *, champion=None, spec=SPEC, framing=FRAMING):
    return evaluate(ws, folder, evaluation=spec, framing=framing, model=model, champion=champion, training_set=given)


def test_a_report_holds_the_figures_of_the_held_out_rows_for_candidate_champion_and_baseline(ws, folder):
    weak, given = trained(ws, folder, leaves=2)
    model, _ = trained(ws, folder)
    found = report(
        ws, folder, model, given, champion=weak, framing=FRAMING.model_copy(update={"baseline": "baselines.py:by_kind"})
    )
    held_out = rows().filter(split="test")
    y = held_out["label"].to_numpy().astype(int)
    scores = {m.id: load_bundle(ws.blobs.path(m.bundle)).predict(held_out) for m in (model, weak)}
    assert found.rows == held_out.height
    assert found.metrics["roc_auc"].value == pytest.approx(roc_auc(y, scores[model.id]))
    assert found.champion_metrics["roc_auc"].value == pytest.approx(roc_auc(y, scores[weak.id]))
    for name, gap in found.differences.items():
        assert gap.value == pytest.approx(found.metrics[name].value - found.champion_metrics[name].value)
        assert gap.low <= gap.value <= gap.high
    assert found.baseline_metrics["roc_auc"].value > 0.5
    assert sum(line["rows"] for line in found.calibration) == found.rows
    assert (found.test_from, found.test_to) == (held_out["decision_time"].min(), held_out["decision_time"].max())
    assert found.threshold == model.threshold
    assert ws.records.get(Report, found.id) == found


def test_the_same_question_has_the_same_report(ws, folder):
    model, given = trained(ws, folder)
    first = report(ws, folder, model, given)
    ws.clock.advance(timedelta(days=1))
    assert report(ws, folder, model, given) == first
    assert report(ws, folder, model, given, champion=model).id != first.id
    assert len(ws.records.find(Report)) == 2


def test_a_report_and_what_is_registered_with_it_lead_with_the_primary_metric(ws, folder):
    model, given = trained(ws, folder)
    found = report(ws, folder, model, given, spec=SPEC.model_copy(update={"primary": "value"}))
    usual = report(ws, folder, model, given)
    assert (next(iter(usual.metrics)), next(iter(found.metrics))) == ("roc_auc", "value")
    assert found.metrics == usual.metrics
    version = registry.register(
        ws, name="small", model=model, report=found, author="user:ada", risk="limited", policy={}
    )
    assert list(ws.records.get(Version, version.id).released) == list(found.metrics)
    assert next(iter(governance.why(ws, version.id)["report"]["metrics"])) == "value"


def test_without_a_champion_its_gates_are_judged_against_the_baseline(ws, folder):
    model, given = trained(ws, folder)
    found = report(ws, folder, model, given)
    assert [v.against for v in found.verdicts] == ["baseline", "baseline"]
    assert found.verdicts[0].passed
    assert found.passed == all(v.passed for v in found.verdicts)
    assert found.champion is None
    assert found.differences == {}
    beaten = report(ws, folder, model, given, champion=model)
    assert [v.against for v in beaten.verdicts] == ["champion", "baseline"]


def test_a_worse_candidate_does_not_pass(ws, folder):
    champion, given = trained(ws, folder)
    noise = rows().with_columns(pl.col("a").shuffle(seed=1), pl.col("c").shuffle(seed=2)).filter(split="train")
    careless, _ = trained(ws, folder, pl.concat([noise, rows().filter(split="test")]))
    found = report(ws, folder, careless, given, champion=champion)
    assert not found.passed
    assert not found.verdicts[0].passed
    assert found.differences["roc_auc"].high < 0


def test_slices_cover_their_rows_and_small_ones_state_no_interval(ws, folder):
    model, given = trained(ws, folder)
    found = report(ws, folder, model, given)
    places = {line["value"]: line for line in found.slices if line["column"] == "place"}
    assert set(places) == {"north", "south", "rare"}
    assert sum(line["n"] for line in places.values()) == found.rows
    assert places["rare"]["roc_auc_low"] is None
    assert places["north"]["roc_auc_low"] < places["north"]["roc_auc"] < places["north"]["roc_auc_high"]
    assert {line["value"] for line in found.slices if line["column"] == "kind"} == {"x", "y", "z", "null"}


def test_a_gate_on_a_column_asks_each_of_its_values_and_on_a_value_that_one(ws, folder):
    model, given = trained(ws, folder)

    def verdicts(where):
        spec = EvaluationSpec(slices=("place",), gates=(GateSpec(metric="brier", at_most=0.5, slice=where),))
        return [(v.slice, v.passed) for v in report(ws, folder, model, given, spec=spec).verdicts]

    assert verdicts("place=north") == [("place=north", True)]
    assert verdicts("place") == [("place=north", True), ("place=south", True), ("place=rare", False)]
    with pytest.raises(Invalid, match="place=nowhere"):
        verdicts("place=nowhere")
    with pytest.raises(Invalid, match="'planet'"):
        verdicts("planet")


def test_rows_without_a_time_are_judged_as_independent(ws, folder):
    model, given = trained(ws, folder, rows(timed=False))
    found = report(ws, folder, model, given)
    assert found.metrics["roc_auc"].low is not None
    assert (found.test_from, found.test_to) == (given.train_to, given.test_to)


def test_a_champion_of_unknown_definitions_is_not_scored_and_its_gate_says_so(ws, folder):
    champion, _ = trained(ws, folder)
    model, given = trained(ws, folder, rows().drop("c"), features=("a", "b", "kind"))
    found = report(ws, folder, model, given, champion=champion)
    assert set(found.uncompared) == {"a", "b", "c", "kind"} and not found.passed
    assert found.champion_metrics == found.differences == {} and found.champion == champion.id
    gate = found.verdicts[0]
    assert (gate.passed, gate.against, gate.observed, gate.threshold) == (False, "champion", None, -0.02)
    assert "a, b, c, kind: what it was made of is not kept" in gate.why and "against: baseline" in gate.why
    assert found.verdicts[1].against == "baseline" and found.verdicts[1].observed is not None


def test_rows_that_lack_an_input_are_refused(ws, folder):
    champion, whole = trained(ws, folder)
    with ws.records.transaction() as tx:
        tx.put(whole)
    model, given = trained(ws, folder, rows().drop("c"), features=("a", "b", "kind"))
    with pytest.raises(Invalid, match="lack c, inputs of the champion"):
        report(ws, folder, model, given, champion=champion)


def test_a_gate_on_value_needs_a_framing_that_states_it(ws, folder):
    model, given = trained(ws, folder)
    bare = FRAMING.model_copy(update={"value": None})
    with pytest.raises(Invalid, match=r"framing\.value is not stated"):
        report(ws, folder, model, given, framing=bare)
    plain = EvaluationSpec(gates=(GateSpec(metric="roc_auc", at_least=0.5),))
    assert "value" not in report(ws, folder, model, given, framing=bare, spec=plain).metrics


@pytest.mark.parametrize(
    ("function", "message"), [("short", "3 scores for"), ("wild", "between 0 and 1"), ("broken", "ColumnNotFoundError")]
)
def test_a_baseline_that_does_not_score_every_row_is_refused(ws, folder, function, message):
    model, given = trained(ws, folder)
    framing = FRAMING.model_copy(update={"baseline": f"baselines.py:{function}"})
    with pytest.raises(UserCodeError if function == "broken" else Invalid, match=message):
        report(ws, folder, model, given, framing=framing)
    assert ws.records.find(Report) == []


def test_the_constant_baseline_scores_every_row_with_the_share_of_training_positives(ws, folder):
    model, given = trained(ws, folder)
    found = report(ws, folder, model, given)
    train_rate = rows().filter(split="train")["label"].mean()
    y = rows().filter(split="test")["label"].to_numpy()
    assert found.baseline_metrics["brier"].value == pytest.approx(np.mean((train_rate - y) ** 2))
    assert found.baseline_metrics["roc_auc"].value == 0.5
