"""The catalogue of features, of a project that ran."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from loopline.evaluation.nouns import Report
from loopline.features import col, latest, row_function, together, view, when
from loopline.features.expr import Expr, count, last_n, literal
from loopline.features.written import text_of, versions
from loopline.governance.features import shuffled
from loopline.governance.sensitive import sensitive_features
from loopline.governance.served_as import differences
from loopline.interfaces.cli import main
from loopline.loop.project import load
from loopline.registry.verbs import register
from loopline.testing.inference import linear_bundle
from loopline.training.bundle import read_bundle
from loopline.training.encoding import Input
from loopline.training.nouns import Model
from loopline.workspace import FOLDER, open_workspace

PAGE = """name: churn
framing: {label: {table: customers, value: left}, unit: id, decision_time: seen}
data:
  customers: {source: customers.csv, known_at: seen, key: id}
  calls: {source: calls.csv, event_time: at, known_at: at}
features: {spine: customers, views: views.py}
training: {recipe: train.py:fit, seed: 0}
"""
VIEWS = """
from loopline.features import col, count, view

@view()
def person():
    return {"age": col("age") / 10, "age_squared": col("age") * col("age")}

@view(entity="id", source="calls", freshness="1d")
def calling():
    return {"calls": count("7d")}
"""
RECIPE = """
from sklearn.linear_model import LogisticRegression

def fit(X, y):
    return LogisticRegression().fit(X.fill_nan(0).to_numpy(), y)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    days = [f"2026-01-{1 + n % 28:02d}T06:00:00Z" for n in range(200)]
    people = pl.DataFrame({"id": [f"c{n}" for n in range(200)], "seen": days, "age": [20 + n % 50 for n in range(200)]})
    noise = pl.int_range(200) % 7 < 3
    people.with_columns(left=((pl.col("age") > 50) ^ noise).cast(int)).write_csv(tmp_path / "customers.csv")
    pl.DataFrame({"id": ["c1", "c2"], "at": days[:2]}).write_csv(tmp_path / "calls.csv")
    for name, text in (("loop.yaml", PAGE), ("views.py", VIEWS), ("train.py", RECIPE)):
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "keys"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys, *words):
    capsys.readouterr()
    code = main.run((*words, "--json"))
    doc = json.loads(capsys.readouterr().out)
    return code, doc.get("items", doc)


def test_the_catalogue_tells_producers_consumers_worth_and_lateness_and_what_a_change_touches(project, capsys):
    assert main.run(("run",)) in (0, 3)
    _, items = told(capsys, "features", "list")
    found = {one["name"]: one for one in items}
    assert set(found) == {"age", "age_squared", "calls"}
    assert found["calls"]["producers"] == ["calls"] and found["age"]["producers"] == ["customers"]
    assert found["calls"]["late"] is True and found["age"]["late"] is None
    assert found["age_squared"]["importance"] > found["calls"]["importance"]
    assert found["age"]["definition"] == "(col('age') / 10)" and not found["age"]["unused"]
    assert told(capsys, "features", "impact")[1] == []

    changed = VIEWS.replace("/ 10", "/ 12").replace(
        '"age_squared": col("age") * col("age")', '"young": col("age") < 30'
    )
    (project / "views.py").write_text(changed)
    impact = {(one["feature"], one["change"]): one["models"] for one in told(capsys, "features", "impact")[1]}
    assert set(impact) == {("age", "changed"), ("age_squared", "gone"), ("young", "new")}
    assert len(impact["age", "changed"]) == 1 and impact["young", "new"] == []
    assert {one["name"] for one in told(capsys, "features", "list")[1] if one["unused"]} == {"young"}

    code, doc = told(capsys, "features", "show", "yuong")
    assert code != 0 and "young" in doc["error"]["fix"]


@row_function(inputs=("a",), returns="number")
def double(a):
    return a


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (col("a") + 1, "(col('a') + 1)"),
        (~(col("a") > 1) | col("b"), "(~(col('a') > 1) | col('b'))"),
        (when(col("a").is_null(), 0, col("a").fill(2)), "when(col('a').is_null(), 0, col('a').fill(2))"),
        (latest("v").category(), "latest(col('v')).category()"),
        (count("7d", where=col("x") == "y"), "count('7d', where=(col('x') == 'y'))"),
        (last_n("v", 3), "last_n(col('v'), 3, 'mean')"),
        (col("t").hour("UTC"), "col('t').hour('UTC')"),
        (col("s").is_in(["a", "b"]), "col('s').is_in(['a', 'b'])"),
        (col("s").cast("int"), "col('s').cast('int')"),
        (literal(None).fill(double), "None.fill(double(col('a')))"),
    ],
)
def test_a_tree_reads_as_it_was_written(tree: Expr, text):
    assert text_of(tree.doc()) == text


def test_every_operator_can_be_read():
    from tests.features.test_row import TREES

    for trees in TREES.values():
        for tree in trees:
            assert text_of(tree.doc())


def test_a_feature_has_a_version_of_its_own():
    def made(factor, ttl="1d"):
        one = view(entity="who", source="log", ttl=ttl)(lambda: {"a": latest("v"), "b": latest("v") * factor})
        return versions(together([one]).doc())

    assert made(2)["a"] == made(3)["a"] and made(2)["b"] != made(3)["b"]
    assert made(2)["a"] != made(2, "2d")["a"]


def test_a_feature_that_the_score_ignores_is_worth_nothing():
    numbers = [Input(name, "number", (), False, 0.0, -5.0, 5.0) for name in ("used", "ignored")]
    bundle = read_bundle(linear_bundle(numbers, [1.0, 0.0]))
    rows = pl.DataFrame({"used": [n / 10 for n in range(40)], "ignored": [n / 10 for n in range(40)]})
    worth = shuffled(bundle, rows)
    assert worth["used"] > 0.05 and worth["ignored"] == 0.0


def test_a_run_tells_which_features_read_what_people_must_not_be_judged_by(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["run"]) in (0, 2, 3)
    said = capsys.readouterr().out
    assert "note: column age of customers (protected, proposed) is read by features age, age_squared: people" in said
    main.run(["data", "pii", "customers", "--reject", "age"])
    ws = open_workspace(project / FOLDER)
    spec = load(project).spec
    assert sensitive_features(ws, project, spec.framing, spec.features, spec.data) == []


def test_an_approver_is_told_where_a_version_reads_requests_otherwise_than_declared_now(project: Path) -> None:
    main.run(["run"])
    ws = open_workspace(project / FOLDER)
    model, report = ws.records.find(Model, limit=1)[0], ws.records.find(Report, limit=1)[0]
    version = register(ws, name="churn", model=model, report=report, author="user:eve", risk="low", policy={})

    def differs() -> list[str]:
        spec = load(project).spec
        served = spec.serving.features
        return differences(ws, project, spec.framing, spec.features, spec.data, version, served)

    assert differs() == ["its features read tables, and serving.features is request: requests must carry the features"]
    (project / "loop.yaml").write_text(PAGE + "serving: {features: online}\n")
    assert differs() == []
    (project / "views.py").write_text(VIEWS.replace('col("age") / 10', 'col("age") / 12'))
    assert differs() == ["its features are not those that the project defines now"]
