"""The search before training, in a real workspace: recorded, refused by name, accepted with a reason."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import yaml

from loopline import data, features
from loopline.base.clock import ManualClock
from loopline.base.errors import Invalid
from loopline.data.spec import TableSpec
from loopline.framing.spec import FramingSpec
from loopline.interfaces.cli.answer import REFUSED
from loopline.interfaces.cli.leaks import answer
from loopline.training.spec import TrainingSpec
from loopline.workspace import create_workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = {
    "plan": TableSpec(source="plan.csv", event_time="starts", known_at="told", key=("job",)),
    "results": TableSpec(source="results.csv", event_time="ended", known_at="heard", key=("job",)),
}
FRAMING = FramingSpec(label={"table": "results", "value": "late > 5"}, unit="job", decision_time="starts - 2h")
SPEC = features.FeaturesSpec(spine="plan", views="views.py")
VIEWS = """
from loopline.features import view, col, mean
@view()
def own():
    return {"size": col("size"), "hint": col("hint")}
@view(entity="team", source="results")
def past():
    return {"late_3d": mean("late", "3d")}
"""


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "views.py").write_text(VIEWS)
    draw, n = random.Random(4), 900
    late = [draw.uniform(0, 10) for _ in range(n)]
    starts = [START + timedelta(hours=2 * k) for k in range(n)]
    plan = pl.DataFrame(
        {
            "job": [f"j{k:04d}" for k in range(n)],
            "team": [f"t{draw.randrange(4)}" for _ in range(n)],
            "size": [draw.random() for _ in range(n)],
            "hint": [value + draw.random() for value in late],
            "starts": starts,
            "told": [at - timedelta(days=1) for at in starts],
        }
    )
    ended = [at + timedelta(hours=1) for at in starts]
    results = plan.select("job", "team").with_columns(
        late=pl.Series(late), ended=pl.Series(ended), heard=pl.Series(ended) + timedelta(hours=6)
    )
    times = pl.col(pl.Datetime).dt.cast_time_unit("us")
    made = create_workspace(tmp_path / "ws", clock=ManualClock(START + timedelta(days=80)), actor="user:test")
    data.ingest(
        made, tmp_path, TABLES, frames={"plan": plan.with_columns(times), "results": results.with_columns(times)}
    )
    yield made
    made.close()


def searched(ws, folder, **leakage):
    training = TrainingSpec.model_validate({"recipe": "t.py:f", "split": {"test": "14d"}, "leakage": leakage})
    given = {"framing": FRAMING, "features": SPEC, "training": training, "tables": TABLES}
    made = features.training_set(ws, folder, **given)
    return features.leaks(ws, folder, training_set=made, **given)


def test_a_leak_is_recorded_and_refused_by_name_with_a_next_step(ws, tmp_path):
    report = searched(ws, tmp_path)
    assert [(leak.kind, leak.column) for leak in report.findings] == [("too_good", "hint")]
    assert report.refusing == report.findings
    assert report.recomputed_rows > 0 and "reads_future" in report.checked
    assert ws.records.get(features.LeakageReport, report.id) == report == searched(ws, tmp_path)
    with pytest.raises(Invalid) as caught:
        features.refuse_leaks(report)
    assert "hint" in caught.value.what and "AUC" in caught.value.why
    assert "kind: too_good, column: hint" in caught.value.fix
    shown = answer(report, "a few rows", ["note: so it is"])
    assert shown.code == REFUSED and shown.next == ("loopline features leaks --json",)
    pasted = shown.text[shown.text.index("training:") : shown.text.index("note: so it is")]
    (line,) = yaml.safe_load(pasted)["training"]["leakage"]["accept"]
    line["reason"] = "told a day before"
    assert not searched(ws, tmp_path, accept=[line]).refusing
    assert "\n".join([shown.text, *shown.next]).count(report.findings[0].fix) == 1


def test_an_accepted_finding_stays_in_the_report_with_its_reason(ws, tmp_path):
    accepted = {"kind": "too_good", "column": "hint", "reason": "told a day before the start"}
    report = searched(ws, tmp_path, accept=[accepted])
    assert [leak.accepted for leak in report.findings] == ["told a day before the start"] and not report.refusing
    features.refuse_leaks(report)
    other = searched(ws, tmp_path, accept=[{**accepted, "column": "size"}])
    assert other.id != report.id and len(other.refusing) == 1


def test_an_acceptance_needs_a_reason(ws, tmp_path):
    with pytest.raises(ValueError, match="reason"):
        searched(ws, tmp_path, accept=[{"kind": "too_good"}])


def test_views_that_go_by_a_time_of_their_own_are_searched(ws, tmp_path):
    page = tmp_path / "views.py"
    page.write_text(VIEWS.replace('"results")', '"results", available_at="ended")'))
    report = searched(ws, tmp_path)
    assert [(leak.kind, leak.column) for leak in report.findings] == [("too_good", "hint")]
    assert report.recomputed_rows > 0


@pytest.mark.parametrize("honest", [False, True])
def test_a_source_that_has_rows_of_some_units_only_is_refused_where_that_tells_the_answer(ws, tmp_path, honest):
    draw, plan = random.Random(6), ws.tables.scan("plan").collect()
    of = dict(ws.tables.scan("results").select("job", "late").collect().iter_rows())
    kept = [honest or draw.random() < (0.9 if of[job] > 5 else 0.1) for job in plan["job"]]
    calls = plan.filter(pl.Series(kept)).select("job", at=pl.col("starts") - timedelta(hours=3))
    tables = {**TABLES, "calls": TableSpec(source="calls.csv", event_time="at", known_at="at", key=("job",))}
    data.ingest(ws, tmp_path, {"calls": tables["calls"]}, frames={"calls": calls})
    (tmp_path / "views.py").write_text(
        "from loopline.features import count, view\n"
        '@view(entity="job", source="calls")\ndef own():\n    return {"calls": count("3d")}\n'
    )
    training = TrainingSpec.model_validate({"recipe": "t.py:f", "split": {"test": "14d"}})
    given = {"framing": FRAMING, "features": SPEC, "training": training, "tables": tables}
    made = features.training_set(ws, tmp_path, **given)
    report = features.leaks(ws, tmp_path, training_set=made, **given)
    found = [(leak.kind, leak.column, leak.refuses) for leak in report.findings if leak.kind == "own_outcome"]
    assert found == ([] if honest else [("own_outcome", "calls", True)])


def test_a_window_over_answers_that_say_no_time_of_their_own_is_refused(ws, tmp_path):
    told = ws.tables.scan("plan").join(ws.tables.scan("results").select("job", late="late"), on="job").collect()
    tables = {"plan": TableSpec(source="plan.csv", event_time="starts", known_at="told", key=("job",))}
    other = create_workspace(tmp_path / "other", clock=ws.clock, actor="user:test")
    data.ingest(other, tmp_path, tables, frames={"plan": told})
    page = 'from loopline.features import col, mean, view\n@view()\ndef own():\n    return {"size": col("size")}\n'
    page += '@view(entity="team", source="plan")\ndef past():\n    return {"n": mean(col("SEEN"), "3d")}\n'
    framing = FramingSpec(label="late > 5", unit="job", decision_time="starts")
    for seen, found in (("late", [("early_label", "n")]), ("size", [])):
        (tmp_path / "views.py").write_text(page.replace("SEEN", seen))
        training = TrainingSpec.model_validate({"recipe": "t.py:f", "split": {"test": "14d"}})
        given = {"framing": framing, "features": SPEC, "training": training, "tables": tables}
        made = features.training_set(other, tmp_path, **given)
        report = features.leaks(other, tmp_path, training_set=made, **given)
        assert [(leak.kind, leak.column) for leak in report.refusing] == found
        assert ("early_label" in report.skipped) is (seen == "size")
    other.close()
