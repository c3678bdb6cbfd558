"""A candidate whose features are others than the champion's, judged on the same rows as it."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from loopline import data, features
from loopline.base.clock import ManualClock
from loopline.data.spec import TableSpec
from loopline.evaluation import EvaluationSpec, GateSpec, evaluate
from loopline.framing.spec import FramingSpec
from loopline.training import TrainingSpec, train
from loopline.workspace import create_workspace

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 60
TABLES = {
    "plan": TableSpec(source="plan.csv", event_time="starts", known_at="told", key=("job",)),
    "results": TableSpec(source="results.csv", event_time="ended", known_at="heard", key=("job",)),
    "scores": TableSpec(source="scores.csv", event_time="day", known_at="said"),
}
FRAMING = FramingSpec(label={"table": "results", "value": "late > 5"}, unit="job", decision_time="starts - 2h")
SPEC = features.FeaturesSpec(spine="plan", views=("views.py",))
TRAINING = TrainingSpec(recipe="train.py:fit", split={"test": "20d"})
GATED = EvaluationSpec(gates=(GateSpec(metric="roc_auc", against="champion", no_worse_by=0.9),), slices=("size",))
RECIPE = """
from lightgbm import LGBMClassifier
def fit(X, y, seed=0):
    return LGBMClassifier(n_estimators=8, num_leaves=5, verbose=-1, n_jobs=1, random_state=seed).fit(X, y)
"""
HEAD = "from loopline.features import view, col, mean, count, external_view, row_function\n"
OWN = "@view()\ndef own():\n    return {'size': col('size'), 'team_': col('team').category()}\n"
PAST = "@view(entity='team', source='results')\ndef past():\n    return {'late_3d': mean('late', '3d')}\n"
RISK = "risk = external_view('risk', source='scores', entity='team', columns=['score'], ttl='9d')\n"
CALLED = """
@row_function(inputs=['size'], returns='number')
def doubled(size):
    return size * 2
@view()
def called():
    return {'doubled': doubled}
"""
OLD = HEAD + OWN + PAST + RISK


def frames():
    rng = np.random.default_rng(3)
    n = pl.int_range(DAYS * 8, eager=True)
    starts = pl.select(pl.lit(START) + pl.duration(hours=3) * n).to_series().dt.cast_time_unit("us")
    plan = pl.DataFrame(
        {"job": n.cast(pl.String), "team": n % 3, "size": rng.integers(0, 9, n.len()), "starts": starts}
    )
    plan = plan.with_columns(pl.col("team").cast(pl.String), told=pl.col("starts") - DAY)
    slow = rng.normal(plan["size"].to_numpy() + 2 * n.to_numpy() % 3, 2.0)
    results = plan.select("job", "team", late=slow, ended=pl.col("starts") + timedelta(hours=1))
    scores = pl.DataFrame(
        {"team": ["0", "1", "2"] * DAYS, "day": [START + k * DAY for k in range(DAYS) for _ in "012"]}
    )
    scores = scores.with_columns(score=pl.Series(rng.random(scores.height)), said=pl.col("day") + timedelta(hours=3))
    return {"plan": plan, "results": results.with_columns(heard=pl.col("ended") + DAY), "scores": scores}


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "views.py").write_text(OLD)
    (folder / "train.py").write_text(RECIPE)
    return folder


@pytest.fixture
def ws(tmp_path, project):
    made = create_workspace(tmp_path / "ws", clock=ManualClock(START + DAYS * DAY), actor="user:test")
    data.ingest(made, project, TABLES, frames=frames())
    yield made
    made.close()


def cut(ws, project, **options):
    given = {"framing": FRAMING, "features": SPEC, "training": TRAINING, "tables": TABLES, **options}
    return features.training_set(ws, project, evaluation_slices=("size",), **given)


def fitted(ws, project, given):
    _, model = train(ws, project, training=TRAINING, training_set=given, framing=FRAMING, author="user:ada")
    return model


def judged(ws, project, model, given, champion=None, spec=GATED):
    return evaluate(ws, project, evaluation=spec, framing=FRAMING, model=model, champion=champion, training_set=given)


def frame_of(ws, made):
    return pl.read_ipc(ws.blobs.path(made.frame))


def world(ws, project):
    """A champion of some days ago, and what its own evaluation says on the rows of today, under the views of then."""
    champion = fitted(ws, project, cut(ws, project, at=START + (DAYS - 9) * DAY))
    today = cut(ws, project)
    return champion, frame_of(ws, today), judged(ws, project, champion, today)


def compared(ws, project, new, champion, **options):
    """The report of a candidate of the views `new`, and its set."""
    (project / "views.py").write_text(HEAD + new)
    made = cut(ws, project, beside=champion.training_set, **options)
    return judged(ws, project, fitted(ws, project, made), made, champion), made


def columns_beside(ws, made):
    return {name: column for name in frame_of(ws, made).columns if (column := name.removeprefix("champion:")) != name}


@pytest.mark.parametrize(
    ("new", "otherwise"),
    [
        (PAST + RISK, {"size", "team_"}),
        (OWN + PAST, {"score"}),
        (OWN + RISK + PAST.replace("'3d'", "'1d'"), {"late_3d"}),
        (OWN.replace("col('size')", "0 - col('size')") + PAST + RISK, {"size"}),
        (OWN.replace("col('size')", "0 - col('size')").replace("col('team')", "col('job')"), None),
        (OWN + PAST.replace("results')", "results', refresh='1d')") + RISK, {"late_3d"}),
    ],
)
def test_a_champion_is_judged_by_its_own_definitions_to_the_bit(ws, project, new, otherwise):
    champion, rows, alone = world(ws, project)
    otherwise = otherwise or {"size", "team_", "late_3d", "score"}
    found, made = compared(ws, project, new, champion)
    assert set(found.beside) == otherwise == set(columns_beside(ws, made).values()) and not found.uncompared
    assert found.champion_metrics == alone.metrics and found.champion == champion.id
    assert [v.against for v in found.verdicts] == ["champion"] and found.verdicts[0].observed is not None
    for column, name in columns_beside(ws, made).items():
        held = frame_of(ws, made).filter(pl.col("split") == "test")
        assert held[column].equals(rows.filter(pl.col("split") == "test")[name], null_equal=True)
        assert frame_of(ws, made).filter(pl.col("split") == "train")[column].null_count() == made.train_rows


def test_what_the_candidate_makes_as_the_champion_did_is_computed_once(ws, project):
    champion, _, alone = world(ws, project)
    more = "@view()\ndef more():\n    return {'double': col('size') * 2}\n"
    found, made = compared(ws, project, RISK + PAST + OWN + more, champion)
    assert made.beside is None and found.beside == () and not columns_beside(ws, made)
    assert found.champion_metrics == alone.metrics and set(made.features) > set(champion.features)
    assert made.id == cut(ws, project).id


def test_the_raw_column_of_a_slice_is_not_taken_for_a_dropped_feature(ws, project):
    champion, _, _ = world(ws, project)
    (project / "views.py").write_text(HEAD + PAST)
    made = cut(ws, project)
    assert "size" in frame_of(ws, made).columns and "size" in champion.features
    found = judged(ws, project, fitted(ws, project, made), made, champion)
    assert set(found.uncompared) == {"size", "team_", "score"} and not found.champion_metrics


def test_rows_prepared_beside_another_champion_are_told(ws, project):
    champion, _, _ = world(ws, project)
    (project / "views.py").write_text(HEAD + OWN.replace("col('size')", "col('size') + 1"))
    between = fitted(ws, project, cut(ws, project))
    (project / "views.py").write_text(HEAD + PAST)
    made = cut(ws, project, beside=champion.training_set)
    found = judged(ws, project, fitted(ws, project, made), made, between)
    assert set(found.uncompared) == {"size", "team_"} and "another champion" in found.verdicts[0].why


def test_an_external_view_that_is_gone_is_looked_up_again_while_its_table_is_declared(ws, project):
    champion, _, alone = world(ws, project)
    found, _ = compared(ws, project, OWN + PAST, champion)
    assert found.beside == ("score",) and found.champion_metrics == alone.metrics


def test_a_champion_whose_external_table_is_gone_is_not_scored_and_the_gate_says_what_to_do(ws, project):
    champion, _, _ = world(ws, project)
    left = {name: spec for name, spec in TABLES.items() if name != "scores"}
    found, made = compared(ws, project, OWN + PAST.replace("'3d'", "'1d'"), champion, tables=left)
    assert made.missing == found.uncompared and set(made.missing) == {"score"} and found.beside == ("late_3d",)
    assert not found.passed and found.champion_metrics == found.differences == {}
    said = found.verdicts[0].why
    assert "score: it reads table scores, which loop.yaml no longer declares" in said and "against: baseline" in said
    instead = EvaluationSpec(gates=(GateSpec(metric="roc_auc", against="baseline", no_worse_by=0.9),))
    model = fitted(ws, project, made)
    assert judged(ws, project, model, made, champion, instead).verdicts[0].observed is not None


def test_a_function_of_a_row_is_called_while_its_text_is_in_the_project_and_told_once_it_is_not(ws, project):
    (project / "views.py").write_text(OLD + CALLED)
    champion, _, alone = world(ws, project)
    kept = CALLED.replace("doubled': doubled", "four': doubled + doubled")
    found, _ = compared(ws, project, OWN + PAST + RISK + kept, champion)
    assert found.beside == ("doubled",) and found.champion_metrics == alone.metrics
    found, _ = compared(ws, project, OWN + RISK + CALLED.replace("* 2", "* 3"), champion)
    assert set(found.uncompared) == {"doubled"} and set(found.beside) == {"late_3d"}
    assert "doubled: it calls doubled, whose code of then is no longer in views.py" in found.verdicts[0].why


def test_a_column_that_is_gone_or_is_of_another_kind_is_told_with_its_features(ws, project):
    (project / "views.py").write_text(OLD.replace("'late', '3d'", "'cost', '3d'"))
    priced = frames()["results"].with_columns(cost=pl.col("late") * 2)
    other = create_workspace(project.parent / "other", clock=ws.clock, actor="user:test")
    data.ingest(other, project, TABLES, frames={**frames(), "results": priced})
    champion = fitted(other, project, cut(other, project))
    blobs = (other.records.get(features.TrainingSet, champion.training_set), champion)
    with ws.records.transaction() as tx:
        for one in blobs:
            tx.put(one)
    for digest in (blobs[0].views, champion.bundle):
        ws.blobs.put(other.blobs.get(digest))
    other.close()
    found, _ = compared(ws, project, OWN + RISK, champion)
    assert found.uncompared == {"late_3d": "it reads column cost of table results, which is no longer there"}


def test_a_split_at_random_holds_its_champion_too(ws, project):
    wish = TrainingSpec(recipe="train.py:fit", split={"by": "random", "test": 0.3})
    champion = fitted(ws, project, cut(ws, project, training=wish))
    alone = judged(ws, project, champion, cut(ws, project, training=wish))
    found, _ = compared(ws, project, PAST + RISK, champion, training=wish)
    assert set(found.beside) == {"size", "team_"} and found.champion_metrics == alone.metrics


def test_baselines_see_the_rows_without_the_champions_columns(ws, project):
    champion, _, _ = world(ws, project)
    text = "def seen(train, rows):\n    assert not [c for c in [*rows.columns, *train.columns] if ':' in c]\n"
    (project / "base.py").write_text(text + "    return rows['late_3d'].fill_null(0.0) * 0.0 + 0.5\n")
    (project / "views.py").write_text(HEAD + PAST + RISK)
    made = cut(ws, project, beside=champion.training_set)
    framing = FRAMING.model_copy(update={"baseline": "base.py:seen"})
    model = fitted(ws, project, made)
    found = evaluate(ws, project, evaluation=GATED, framing=framing, model=model, champion=champion, training_set=made)
    assert found.beside and found.baseline_metrics["roc_auc"].value == 0.5
