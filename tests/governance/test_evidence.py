"""What `why` says of a version's data, of a project that really trained one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopline import governance, registry
from loopline.features.nouns import Mismatch, ParityReport
from loopline.governance.evidence import leaks_of, parity_of
from loopline.interfaces.cli import main
from loopline.registry.nouns import Version
from loopline.serving import log
from loopline.serving.nouns import DesiredState, Variant
from loopline.workspace import Workspace, open_workspace

AT = datetime(2026, 2, 3, 10, 40, tzinfo=UTC)
PAGE = """name: churn
framing: {label: {table: customers, value: left}, unit: id, decision_time: seen}
data:
  customers: {source: customers.csv, contract: customers.yaml, known_at: seen, key: id}
  calls: {source: calls.csv, event_time: at, known_at: at}
features: {spine: customers, views: views.py}
training:
  recipe: train.py:fit
  seed: 0
  transforms: [{columns: age, impute: median, scale: standard, flag_missing: true}, {columns: plan, encode: target}]
  leakage: {accept: [{kind: too_good, column: bought, reason: "a score that was bought before"}]}
"""
VIEWS = """
from loopline.features import col, count, view

@view()
def person():
    return {"age": col("age"), "bought": col("bought"), "plan": col("plan").category()}

@view(entity="id", source="calls", refresh="1h")
def calling():
    return {"calls": count("7d")}
"""
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: customers
version: 1.2.0
status: active
schema: [{name: customers, properties: [{name: id, logicalType: string, required: true}]}]
"""
RECIPE = """
from sklearn.linear_model import LogisticRegression

def fit(X, y):
    return LogisticRegression().fit(X.fill_nan(0).to_numpy(), y)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Version]]:
    """A workspace with one version, trained on an accepted leak."""
    root: Path = tmp_path_factory.mktemp("churn")
    seen = [f"2026-01-{1 + n % 28:02d}T06:00:00Z" for n in range(400)]
    left = [int((n * 7919) % 5 < 2) for n in range(400)]
    people = {
        "id": [f"c{n}" for n in range(400)],
        "seen": seen,
        "age": [None if n % 9 == 0 else 20 + (n * 31) % 50 for n in range(400)],
        "plan": [("small", "large", "family")[(n * 13) % 3] for n in range(400)],
        "bought": [gone + ((n * 37) % 100) / 90 for n, gone in enumerate(left)],
        "left": left,
    }
    pl.DataFrame(people).write_csv(root / "customers.csv")
    pl.DataFrame({"id": ["c1", "c2"], "at": seen[:2]}).write_csv(root / "calls.csv")
    files = {"loop.yaml": PAGE, "views.py": VIEWS, "train.py": RECIPE, "customers.yaml": CONTRACT}
    for name, text in files.items():
        (root / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPLINE_KEYS", str(root / "keys"))
        patch.setenv("LOOPLINE_ACTOR", "user:ada")
        patch.chdir(root)
        assert main.run(("run",)) in (0, 3)
        ws = open_workspace(root / ".loopline", actor="user:ada")
        yield ws, registry.resolve(ws, "churn", "1")
        ws.close()


def served(ws: Workspace, version: Version, *, online: bool, generation: int) -> None:
    variant = Variant(version.id, version.number, version.bundle, 10_000, "champion")
    state = DesiredState(
        f"state-{generation}", "churn", generation, (variant,), "salt", (), (), False, AT, online=online
    )
    with ws.records.transaction() as tx:
        tx.put(state)


def answered(
    ws: Workspace, version: Version, id: str, generation: int, broken: list[str], **more: object
) -> dict[str, Any]:
    row = dict.fromkeys(log.COLUMNS) | {
        "prediction_id": id, "endpoint": "churn", "version": version.id, "role": "champion", "generation": generation,
        "decision_time": AT, "score": 0.25, "decision": False, "broken": broken, "age": 31.0, "calls": 2.0,
    } | more  # fmt: skip
    schema = {**log.COLUMNS, "age": pl.Float32(), "calls": pl.Float32()}
    ws.tables.append(log.table("churn"), pl.DataFrame([row], schema=schema))
    told: dict[str, Any] = governance.why(ws, id)["prediction"]
    return told


def test_why_tells_which_leaks_were_looked_for_and_which_was_accepted_for_what_reason(world):
    ws, version = world
    told = governance.why(ws, version.id)["leaks"]
    accepted = [one for one in told["findings"] if one["accepted"]]
    assert [(one["kind"], one["column"], one["accepted"]) for one in accepted] == [
        ("too_good", "bought", "a score that was bought before")
    ]
    assert accepted[0]["score"] > 0.8 and not accepted[0]["blocks"]
    assert {"target_copy", "reads_future", "duplicate_rows"} <= set(told["searched"])
    assert "early_label" in told["not_searched"] and told["rows_recomputed"] > 0
    assert leaks_of(ws, "no such set") is None


def test_why_tells_the_contracts_that_rows_kept_and_the_transforms_that_were_fitted(world):
    ws, version = world
    told = governance.why(ws, version.id)
    assert told["contracts"]["customers"]["version"] == "1.2.0" and told["contracts"]["calls"] is None
    done = {one["input"]: one["done"] for one in told["transforms"]}
    assert set(done) == {"age", "plan"}
    assert "where missing" in done["age"] and "divided by" in done["age"] and "whether it is missing" in done["age"]
    assert done["plan"] == "a number for each of 3 categories"
    json.dumps(told)


def test_why_tells_the_newest_parity_of_the_versions_own_answers(world):
    ws, version = world
    assert governance.why(ws, version.id)["parity"] is None
    example = Mismatch("calls", "p1", "c1", AT, 3.0, 2.0)
    others = ParityReport("r0", "churn", "v", 9, 9, {}, (), {}, AT, AT, AT + timedelta(days=1), ("another",))
    mine = ParityReport("r1", "churn", "v", 1000, 4000, {"calls": 2}, (example,), {}, AT, AT, AT, (version.id,))
    with ws.records.transaction() as tx:
        tx.put(mine)
        tx.put(others)
    told = governance.why(ws, version.id)["parity"]
    assert (told["rows"], told["values"], told["holds"], told["differences"]) == (1000, 4000, False, {"calls": 2})
    assert told["examples"][0] == {
        "feature": "calls", "prediction": "p1", "entity": "c1", "served": 3.0, "recomputed": 2.0,
    }  # fmt: skip
    assert parity_of(ws, "churn", "nobody") is None


def test_an_answers_inputs_are_traced_to_the_request_or_to_a_view_its_table_and_a_refresh(world):
    ws, version = world
    assert governance.why(ws, version.id)["requests"]["carry"] is None
    served(ws, version, online=False, generation=1)
    assert governance.why(ws, version.id)["requests"]["carry"] == "features"
    sent = answered(ws, version, "sent", 1, [])["origins"]
    assert [(one["from"], one["inputs"]) for one in sent] == [("request", ["age", "calls"])]
    assert sent[0]["definitions"]["calls"] == "count('7d')"
    served(ws, version, online=True, generation=2)
    asked = governance.why(ws, version.id)["requests"]
    assert asked["carry"] == "keys" and set(asked["columns"]) >= {"id", "age", "plan"}
    own, calls = answered(ws, version, "read", 2, ["stale:calling"])["origins"]
    assert own["from"] == "request columns" and own["view"] == "person" and set(own["inputs"]) == {
        "age", "bought", "plan",
    }  # fmt: skip
    assert (calls["from"], calls["view"], calls["table"], calls["by"]) == ("online store", "calling", "calls", ["id"])
    assert calls["as_of"] == "2026-02-03T10:00:00.000000Z", "rows known until the full hour counted"
    assert calls["behind"], "the log says that the store stood at another refresh"
    constant = answered(ws, version, "constant", 2, ["unavailable:features"], fallback="baseline")["origins"]
    assert constant == [{"from": "training rows", "inputs": []}]
    other = answered(ws, version, "other", 2, ["stale:calling"], fallback="contract", routed="another")["origins"]
    assert "behind" not in other[1], "those rules are of the version that did not answer"
    assert governance.why(ws, "sent")["prediction"]["origins"] == sent, (
        "what an old answer read is told by its own time"
    )
