"""What requests break is counted by rule, compared with the windows before, and told once it is news."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.monitoring.world import DAY, ENDPOINT, FRAMING, OUTCOMES, START, answers

from loopline import monitoring
from loopline.base.clock import ManualClock
from loopline.data.spec import TableSpec
from loopline.monitoring.contract import Known, broken_rules, unexpected
from loopline.monitoring.drift import Summary, summarise
from loopline.monitoring.finding import Budget
from loopline.monitoring.requests import Requests, count_requests
from loopline.monitoring.spec import MonitoringSpec
from loopline.monitoring.windows import profile_parts
from loopline.serving.log import refused_table
from loopline.workspace import create_workspace

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
      - {name: load, logicalType: number, logicalTypeOptions: {maximum: 50}}
      - name: queue
        logicalType: number
        logicalTypeOptions: {maximum: 9}
        customProperties: [{property: severity, value: warning}]
"""
BUDGET = Budget(2.0, 365.25 * 3)
KNOWN = Known({"load.maximum": "error", "queue.maximum": "warning"}, {})
QUIET = [Requests(200) for _ in range(28)]


def log(day: int, broken: dict[int, list[str]], version: str = "v1") -> pl.DataFrame:
    rows = answers(day, version=version)
    told = [broken.get(n, []) for n in range(rows.height)]
    return rows.with_columns(pl.Series("broken", told, dtype=pl.List(pl.String)), routed=pl.col("version"))


def found(window: Requests, reference: list[Requests], rows: pl.DataFrame) -> list[tuple[str, str]]:
    return [(f.evidence["rule"], f.verdict) for f in broken_rules(window, reference, BUDGET, KNOWN, rows)]


def test_a_grave_rule_that_suddenly_breaks_is_a_bug_and_another_a_suspect():
    rows = log(0, {n: ["load.maximum", "queue.maximum"] for n in range(20)})
    window = count_requests(rows)
    assert window == Requests(200, 0, {"load.maximum": 20, "queue.maximum": 20})
    assert found(window, QUIET, rows) == [("load.maximum", "bug"), ("queue.maximum", "suspect")]


def test_a_request_or_two_are_no_alarm_and_neither_is_a_rate_that_was_always_there():
    rows = log(0, {n: ["load.maximum"] for n in range(2)})
    assert found(count_requests(rows), QUIET, rows) == []
    usual = [Requests(200, 0, {"load.maximum": 18 + n % 7}) for n in range(28)]
    rows = log(0, {n: ["load.maximum"] for n in range(27)})
    assert found(count_requests(rows), usual, rows) == []
    rows = log(0, {n: ["load.maximum"] for n in range(120)})
    assert found(count_requests(rows), usual, rows) == [("load.maximum", "bug")]


def test_a_rule_that_one_of_two_versions_shows_belongs_to_that_version():
    rows = pl.concat([log(0, {n: ["load.maximum"] for n in range(60)}, "v2"), log(1, {})])
    (one,) = broken_rules(count_requests(rows), QUIET, BUDGET, KNOWN, rows)
    assert (one.verdict, one.evidence["only_version"]) == ("suspect", "v2")


def test_what_the_store_lacks_is_not_laid_at_the_door_of_requests():
    rows = log(0, {n: ["stale:recent", "unavailable:features"] for n in range(60)})
    assert found(count_requests(rows), QUIET, rows) == []


@settings(max_examples=60, deadline=None)
@given(k=st.integers(1, 40), before=st.integers(0, 60), asked=st.integers(40, 400))
def test_the_chance_is_that_of_a_negative_binomial_law(k, before, asked):
    total = 28 * 200
    reference = [Requests(total // 2, 0, {"r": before}), Requests(total // 2, 0, {"r": before})]
    before, total = 2 * before, total // 2 * 2  # both windows alike: no spread between them
    r, q = before + 0.5, asked / (asked + total)
    logs = [math.lgamma(n + r) - math.lgamma(n + 1) + n * math.log(q) for n in range(k)]
    slow = 1 - sum(math.exp(one - math.lgamma(r) + r * math.log1p(-q)) for one in logs)
    p, _ = unexpected(k, asked, "r", reference)
    if k > r * q / (1 - q):
        assert p == pytest.approx(slow, rel=1e-6, abs=1e-12)
    else:
        assert p == 1.0


def test_windows_of_requests_are_kept_compared_and_told_as_an_incident(tmp_path: Path) -> None:
    (tmp_path / "orders.yaml").write_text(CONTRACT)
    clock = ManualClock(START)
    ws = create_workspace(tmp_path / ".loopline", clock=clock, actor="service:loop")
    spine = TableSpec.model_validate({"source": "o.parquet", "contract": "orders.yaml"})

    def day(n: int, broken: dict[int, list[str]], refused: int = 0) -> monitoring.Checked:
        ws.tables.append(f"predictions/{ENDPOINT}", log(n, broken))
        if refused:
            away = log(n, {i: ["load.maximum"] for i in range(refused)}).head(refused)
            ws.tables.append(refused_table(ENDPOINT), away.with_columns(role=pl.lit("refused")))
        clock.set(START + (n + 1) * DAY)
        return monitoring.check(
            ws, project=tmp_path, endpoint=ENDPOINT, framing=FRAMING, tables={"orders": spine, "outcomes": OUTCOMES},
            monitoring=MonitoringSpec(), over=timedelta(days=28), since=START + n * DAY, until=START + (n + 1) * DAY,
            spine="orders",
        )  # fmt: skip

    for n in range(15):
        assert not [a for a in day(n, {5: ["queue.maximum"]}).alerts if a.cause == "contract"]
    checked = day(
        15, {n: ["load.maximum", "load.logicalType", "queue.maximum", "null:load"] for n in range(30)}, refused=12
    )
    told = {a.evidence["rule"]: a for a in checked.alerts if a.cause == "contract"}
    assert {rule: (a.verdict, a.column) for rule, a in told.items()} == {
        "load.maximum": ("bug", "load"),
        "load.logicalType": ("bug", "load"),
        "queue.maximum": ("suspect", "queue"),
        "null:load": ("suspect", "load"),
    }
    assert told["load.maximum"].evidence["broken"] == 42 and told["load.maximum"].evidence["requests"] == 212
    assert len(told["load.maximum"].evidence["predictions"]) == 5 and told["load.maximum"].evidence["values"]
    assert len({a.id for a in told.values()}) == 4
    (incident,) = checked.opened
    assert incident.subject == f"endpoint:{ENDPOINT}" and "load.maximum broken by" in incident.title
    again = day(16, {n: ["load.maximum"] for n in range(30)})
    assert not again.opened and [a.evidence["incident"] for a in again.alerts if a.verdict == "bug"] == [incident.id]
    ws.close()


def test_values_of_a_personal_column_are_not_shown(tmp_path: Path) -> None:
    text = CONTRACT.replace("{name: load, ", "{name: load, customProperties: [{property: pii, value: personal}], ")
    (tmp_path / "orders.yaml").write_text(text)
    known = Known.of(tmp_path, TableSpec.model_validate({"source": "o.parquet", "contract": "orders.yaml"}))
    rows = log(0, {n: ["load.maximum", "queue.maximum"] for n in range(30)})
    told = {f.evidence["rule"]: f.evidence for f in broken_rules(count_requests(rows), QUIET, BUDGET, known, rows)}
    assert "values" not in told["load.maximum"] and "values" in told["queue.maximum"]


@given(
    st.builds(Requests, st.integers(0, 9), st.integers(0, 9), st.dictionaries(st.text(max_size=4), st.integers(1, 9)))
)
def test_a_summary_keeps_what_requests_broke(requests):
    rows = pl.DataFrame({"x": [1.0, 2.0], "at": [START, START]})
    made = summarise(profile_parts(rows, "at", START, START + DAY, ["x"]), None, requests)
    assert Summary.from_bytes(made.to_bytes()).requests == requests
