"""Why, and where from: told from the records of a real workspace."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from loopline import governance, registry
from loopline.base.clock import ManualClock
from loopline.base.errors import NotFound
from loopline.base.ids import canonical
from loopline.data.nouns import Snapshot
from loopline.evaluation.nouns import Estimate, Report, Verdict
from loopline.features.nouns import TrainingSet
from loopline.registry.nouns import Version
from loopline.serving import log
from loopline.training.nouns import Model, Run
from loopline.workspace import Workspace, create_workspace

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    made = create_workspace(tmp_path / ".loopline", clock=ManualClock(START), actor="user:ada")
    yield made
    made.close()


def trained(ws: Workspace, n: int, *, features: tuple[str, ...], champion: str | None = None) -> Version:
    """Version `n`, with records behind it of which some differ from number to number."""
    packages = {"python": "3.11", "platform": "any", "distributions": {"numpy": f"2.{n}", "polars": "2.1"}}
    snapshot = Snapshot(f"snapshot-{n}", {"claims": f"content-{n}"}, {"claims": 100 * n}, START, "manifest")
    rows = TrainingSet(
        f"set-{n}", snapshot.id, "frame", features, (), f"views-{n}", 80 * n, 20, START, START, {"void": n}
    )
    run = Run(
        f"run-{n}",
        "key",
        "train.py:fit",
        {"commit": f"commit-{n}", "closure": f"closure-{n}", "files": {"train.py": f"digest-{n}", "same.py": "same"}},
        ws.blobs.put(canonical(packages)),
        {"trees": 100 * n},
        7,
        START,
        1.0,
        1.0,
        False,
    )
    bundle = ws.blobs.put(f"bundle {n}".encode())
    model = Model(f"model-{n:04}", run.id, rows.id, "problem", bundle, features, "lightgbm", "user:ada", 0.5, {}, START)
    verdict = Verdict("roc_auc on all", True, "roc_auc", "all", 0.7, 0.69, 0.68, "baseline", "0.69 against 0.68")
    report = Report(
        f"report-{n}",
        model.id,
        champion,
        1000,
        START - timedelta(days=28),
        START,
        {"roc_auc": Estimate(0.70 + n / 100, 0.6, 0.8)},
        {},
        {},
        {},
        {},
        (),
        (),
        (verdict,),
        True,
        0.5,
        START,
    )
    with ws.records.transaction() as tx:
        for noun in (snapshot, rows, run, model, report):
            tx.put(noun)
    version = registry.register(
        ws, name="claims", model=model, report=report, author="user:ada", risk="limited", policy={"canary": n}
    )
    registry.approve(ws.acting_as("user:bob"), version, reason="looks right")
    registry.promote(ws, version, reason="approved")
    return version


@pytest.fixture
def two(ws: Workspace) -> tuple[Version, Version]:
    first = trained(ws, 1, features=("age", "amount"))
    return first, trained(ws, 2, features=("amount", "region"), champion="model-0001")


def test_why_tells_rows_features_code_report_gates_approver_and_what_changed(ws, two):
    told = governance.why(ws, two[1].id)
    assert told["rows"]["snapshot"] == "snapshot-2"
    assert told["rows"]["tables"] == {"claims": 200}
    assert told["features"]["names"] == ["amount", "region"]
    assert told["code"]["commit"] == "commit-2"
    assert told["report"]["metrics"]["roc_auc"]["candidate"] == [0.72, 0.6, 0.8]
    assert [gate["passed"] for gate in told["gates"]] == [True]
    assert [(word["by"], word["void"]) for word in told["approvals"]] == [("user:bob", False)]
    assert [release["alias"] for release in told["releases"]] == ["production"]
    assert all(check["passed"] for check in told["checks"])
    assert told["previous"] == {"id": two[0].id, "number": 1}
    changed = told["changed"]
    assert changed["features"] == {"added": ["region"], "removed": ["age"], "definitions": ["views-1", "views-2"]}
    assert changed["rows"]["train_rows"] == [80, 160]
    assert changed["code"] == {"changed": ["train.py"]}
    assert changed["params"] == {"changed": {"trees": [100, 200]}}
    assert changed["packages"] == {"changed": {"numpy": ["2.1", "2.2"]}}
    assert changed["metrics"] == {"roc_auc": [0.71, 0.72]}
    assert changed["policy"] == {"changed": {"canary": [1, 2]}}


def test_a_version_is_compared_with_the_one_it_replaced_not_with_the_number_below(ws, two):
    registry.rollback(ws, "claims", reason="complaints")
    third = trained(ws, 3, features=("amount",))
    assert governance.why(ws, third.id)["previous"]["number"] == 1


def test_the_first_version_has_nothing_before_it(ws, two):
    told = governance.why(ws, two[0].id)
    assert (told["previous"], told["changed"]) == (None, {})


@pytest.mark.parametrize("name", ["claims", "claims/2", "claims/production", "model-0002"])
def test_a_version_is_found_by_each_of_its_names(ws, two, name):
    assert governance.why(ws, name)["version"]["id"] == two[1].id


def test_an_answer_is_explained_by_its_inputs_and_the_version_that_gave_it(ws, two):
    row = dict.fromkeys(log.COLUMNS) | {
        "prediction_id": "order-17",
        "endpoint": "claims",
        "version": two[0].id,
        "role": "champion",
        "decision_time": START,
        "score": 0.25,
        "decision": False,
        "broken": [],
    }
    shadow = row | {"role": "shadow", "version": two[1].id, "score": 0.5}
    columns = {**log.COLUMNS, "amount": pl.Float32()}
    rows = [shadow | {"amount": 12.5}, row | {"amount": 12.5}]
    ws.tables.append(log.table("claims"), pl.DataFrame(rows, schema=columns))
    told = governance.why(ws, "order-17")
    assert told["version"]["id"] == two[0].id
    assert told["prediction"]["inputs"] == {"amount": 12.5}
    assert told["prediction"]["score"] == 0.25
    assert told["prediction"]["decision_time"] == "2026-03-01T00:00:00.000000Z"


def test_nothing_is_explained_that_does_not_exist(ws, two):
    for name in ("order-99", "claims/9", "nobody", "0" * 64):
        with pytest.raises(NotFound, match="nothing is called"):
            governance.why(ws, name)


def test_what_the_records_do_not_hold_is_null_and_stands_as_missing_in_the_graph(ws, two):
    model = Model("model-lone", "run-gone", "set-gone", "p", two[0].bundle, ("a",), "onnx", "user:x", 0.5, {}, START)
    report = Report("report-lone", model.id, None, 1, START, START, {}, {}, {}, {}, {}, (), (), (), True, 0.5, START)
    with ws.records.transaction() as tx:
        tx.put(model)
        tx.put(report)
    version = registry.register(
        ws, name="alone", model=model, report=report, author="user:x", risk="limited", policy={}
    )
    told = governance.why(ws, version.id)
    assert (told["rows"], told["code"], told["features"]) == (None, None, {"names": ["a"]})
    missing = {node.kind for node in governance.lineage(ws, version).nodes if node.missing}
    assert missing == {"run", "training_set"}


def test_the_graph_leads_from_tables_to_releases_without_a_cycle(ws, two):
    graph = governance.lineage(ws, two[1].id)
    level = {node.id: node.level for node in graph.nodes}
    assert {node.kind for node in graph.nodes} == {
        *("table", "snapshot", "views", "code", "training_set", "run", "model"),
        *("report", "version", "approval", "release"),
    }
    assert all(level[edge.source] < level[edge.target] for edge in graph.edges)
    reached, edges = {"table:claims"}, list(graph.edges)
    for _ in edges:
        reached |= {edge.target for edge in edges if edge.source in reached}
    assert any(name.startswith("release:") for name in reached)
    assert "model:model-0001" in level


def test_queries_write_nothing(ws, two):
    before = len(ws.records.entries())
    governance.why(ws, "claims")
    governance.lineage(ws, two[0])
    assert len(ws.records.entries()) == before
