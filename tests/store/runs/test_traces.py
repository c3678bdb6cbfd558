"""The trace log: whatever order spans come in, the trace is the same; search finds what its slow definition finds."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.store.runs.traces.protocol import NAME, RUN, Span, Trace
from loopline.store.runs.traces.sqlite import SqliteTraces


@pytest.fixture
def log(tmp_path) -> Iterator[SqliteTraces]:
    found = SqliteTraces(tmp_path / "traces.db")
    yield found
    found.close()


def span(at: int, *, trace: str = "tr-1", parent: int | None = 0, end: int | None = None, **more) -> Span:
    body = {"spanId": f"{at:016x}", "attributes": more.pop("attributes", [])}
    fields = {"name": f"step {at}", "type": "LLM", "status": "UNSET", **more}
    begun = 10**9 + at * 10**6
    return Span(
        trace, f"{at:016x}", None if parent is None else f"{parent:016x}", fields["name"], fields["type"],
        fields["status"], begun, begun + 5 * 10**6 if end is None else end, json.dumps(body),
    )  # fmt: skip


ROOT = span(0, parent=None, status="OK", name="answer")._replace(given="why", made="so", end_ns=10**9 + 50 * 10**6)
TOLD = Trace("tr-1", "0", 1_000, 7, "OK", "given", "made", "req", {RUN: "r"}, {"team": "fraud"})


@settings(max_examples=30, deadline=None)
@given(order=st.permutations([ROOT, span(1), span(2), span(3)]), cuts=st.sets(st.integers(1, 3)), again=st.booleans())
def test_a_trace_is_the_same_in_whatever_order_and_batches_its_spans_come(tmp_path_factory, order, cuts, again):
    log = SqliteTraces(tmp_path_factory.mktemp("t") / "traces.db")
    edges = [0, *sorted(cuts), len(order)]
    for low, high in pairwise(edges):
        for _ in range(1 + again):
            log.add_spans("0", order[low:high])
    assert log.trace("tr-1") == Trace("tr-1", "0", 1000, 50, "OK", "why", "so", None, {}, {NAME: "answer"}, (), 4)
    assert [json.loads(body)["spanId"] for body in log.spans("tr-1")] == [f"{n:016x}" for n in range(4)]
    log.close()


@pytest.mark.parametrize("first", ["spans", "summary"])
def test_what_the_summary_says_stands_whenever_it_comes(log, first):
    log.add_spans("0", [span(1)])
    assert log.trace("tr-1").state == "IN_PROGRESS"
    calls = [lambda: log.add_spans("0", [ROOT, span(2)]), lambda: log.put(TOLD)]
    for call in calls if first == "spans" else calls[::-1]:
        call()
    found = log.trace("tr-1")
    assert (found.start_ms, found.duration_ms, found.given, found.made, found.request) == (
        1000,
        7,
        "given",
        "made",
        "req",
    )
    assert found.tags == {"team": "fraud", NAME: "answer"} and found.metadata == {RUN: "r"} and found.spans == 3


FILTERS = {
    "status = 'ERROR'": lambda t: t.state == "ERROR",
    "trace.status != 'ERROR' AND tags.team = 'a'": lambda t: t.state != "ERROR" and t.tags.get("team") == "a",
    "tags.team IS NULL OR tags.team LIKE 'b%'": lambda t: "team" not in t.tags or t.tags["team"].startswith("b"),
    "metadata.`m` = 'x'": lambda t: t.metadata.get("m") == "x",
    "timestamp_ms >= 3": lambda t: t.start_ms >= 3,
    "execution_time < 3": lambda t: t.duration_ms is not None and t.duration_ms < 3,
    "end_time > 5": lambda t: t.duration_ms is not None and t.start_ms + t.duration_ms > 5,
    "request_id IN ('tr-1', 'tr-2')": lambda t: t.id in ("tr-1", "tr-2"),
    "execution_time IS NULL": lambda t: t.duration_ms is None,
}
ORDERS = {
    (): lambda t: (-t.start_ms, t.id),
    ("timestamp_ms",): lambda t: (t.start_ms, t.id),
    ("execution_time DESC",): lambda t: (t.duration_ms is None, -(t.duration_ms or 0), -t.start_ms, t.id),
    ("status", "timestamp DESC"): lambda t: (t.state, -t.start_ms, t.id),
}
TRACES = st.lists(
    st.builds(
        Trace,
        id=st.integers(0, 30).map(lambda n: f"tr-{n}"),
        experiment=st.sampled_from("01"),
        start_ms=st.integers(0, 6),
        duration_ms=st.none() | st.integers(0, 5),
        state=st.sampled_from(["OK", "ERROR"]),
        metadata=st.dictionaries(st.just("m"), st.sampled_from("xy")),
        tags=st.dictionaries(st.just("team"), st.sampled_from(["a", "b", "bb"])),
    ),
    max_size=15,
    unique_by=lambda t: t.id,
)


@settings(max_examples=40, deadline=None)
@given(
    traces=TRACES, filter=st.sampled_from(list(FILTERS)), order=st.sampled_from(list(ORDERS)), page=st.integers(1, 6)
)
def test_search_finds_what_its_slow_definition_finds_in_pages(tmp_path_factory, traces, filter, order, page):
    log = SqliteTraces(tmp_path_factory.mktemp("t") / "traces.db")
    for one in traces:
        log.put(one)
    wanted = sorted((one for one in traces if one.experiment == "0" and FILTERS[filter](one)), key=ORDERS[order])
    found, token = [], None
    while True:
        some = log.search(["0"], filter=filter, order_by=order, limit=page, token=token)
        found += some.items
        if (token := some.token) is None:
            break
    assert found == wanted
    log.close()


def attribute(key: str, **value) -> dict:
    return {"key": key, "value": value}


def test_spans_judgements_runs_and_prompts_are_searched_too(log):
    told = [attribute("model", stringValue="tiny"), attribute("n", intValue="3")]
    log.add_spans("0", [ROOT, span(1, attributes=told, type="RETRIEVER")])
    log.add_spans("0", [ROOT._replace(trace="tr-2", name="other")])
    log.put(TOLD)
    log.judge("tr-1", "a-1", {"assessment_name": "score", "feedback": {"value": 4.5}})
    log.judge("tr-1", "a-2", {"assessment_name": "good", "expectation": {"value": "yes"}})
    log.link(["tr-2"], "linked")
    log.set_tags("tr-2", {"mlflow.linkedPrompts": json.dumps([{"name": "p", "version": "3"}])})
    for filter, ids in {
        "span.type = 'RETRIEVER'": ["tr-1"],
        "span.attributes.model = 'tiny' AND span.attributes.`n` = '3'": ["tr-1"],
        "span.content LIKE '%tiny%'": ["tr-1"],
        "name = 'other'": ["tr-2"],
        "feedback.score > 4": ["tr-1"],
        "feedback.score < 4": [],
        "expectation.good = 'yes'": ["tr-1"],
        "expectation.good IS NULL": ["tr-2"],
        "run_id = 'r'": ["tr-1"],
        "run_id = 'linked'": ["tr-2"],
        "prompt = 'p/3'": ["tr-2"],
        "prompt = 'p/4'": [],
    }.items():
        assert [one.id for one in log.search(["0"], filter=filter).items] == ids, filter


@pytest.mark.parametrize(
    "filter",
    ["x", "nonsense = 'x'", "status > 3", "timestamp_ms LIKE 'a'", "timestamp_ms = 'x'", "span.colour = 'x'",
     "span.content = 'x'", "metrics.a > 1", "name = 'a'; DROP TABLE traces", "prompt LIKE 'x'",
     "tags.a RLIKE '(a+)+$'"],
)  # fmt: skip
def test_a_filter_that_cannot_be_is_refused_in_words(log, filter):
    with pytest.raises(Invalid) as refused:
        log.search(["0"], filter=filter)
    assert refused.value.why


@pytest.mark.parametrize("how", [{"limit": 0}, {"limit": True}, {"order_by": ["tags.a"]}, {"token": "WzAsIDFd"}])
def test_a_page_that_cannot_be_is_refused(log, how):
    with pytest.raises(Invalid):
        log.search(["0"], **how)


def test_deleting_takes_spans_tags_and_judgements_along(log):
    for n in range(4):
        log.add_spans("0", [ROOT._replace(trace=f"tr-{n}", start_ns=n * 10**6, end_ns=n * 10**6 + 1)])
        log.judge(f"tr-{n}", "a-1", {"assessment_name": "x", "feedback": {"value": 1}})
    assert log.delete("1", ids=["tr-0"]) == 0
    assert log.delete("0", ids=["tr-0", "unknown"]) == 1
    assert log.delete("0", until_ms=2, most=1) == 1
    assert [one.id for one in log.search(["0"]).items] == ["tr-3", "tr-2"]
    with pytest.raises(NotFound):
        log.spans("tr-0")
    with log.db.read() as connection:
        for table in ("spans", "trace_tags", "judgements"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (2,)
    for wrong in ({}, {"ids": ["tr-2"], "until_ms": 1}, {"until_ms": 1, "most": 0}):
        with pytest.raises(Invalid):
            log.delete("0", **wrong)


def test_a_trace_stays_in_its_experiment(log):
    log.add_spans("0", [ROOT])
    with pytest.raises(Conflict):
        log.add_spans("1", [span(1), span(2, trace="tr-9")])
    with pytest.raises(NotFound):
        log.trace("tr-9")
    with pytest.raises(Conflict):
        log.put(Trace("tr-1", "1", 0, 0, "OK"))


def test_many_threads_keep_all_of_their_spans_and_the_file_is_open_to_others(log, tmp_path):
    import sqlite3

    def some(thread: int) -> None:
        for n in range(20):
            log.add_spans("0", [span(thread * 100 + n + 1, trace=f"tr-{n % 5}")], origin=f'{{"t": {thread}}}')

    threads = [threading.Thread(target=some, args=(n,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(one.spans for one in log.search(["0"]).items) == 80
    with sqlite3.connect(Path(tmp_path, "traces.db")) as other:
        told = other.execute(
            "SELECT json_extract(o.json, '$.t'), count(*) FROM spans s JOIN origins o ON o.id = s.origin GROUP BY 1"
        )
        assert told.fetchall() == [(n, 20) for n in range(4)]


ROWS = st.lists(
    st.fixed_dictionaries(
        {"inputs": st.dictionaries(st.sampled_from("pq"), st.integers(0, 2), min_size=1)},
        optional={
            "expectations": st.dictionaries(st.sampled_from("xy"), st.integers(0, 3)),
            "outputs": st.integers(1, 3),
        },
    ),
    max_size=6,
)


@settings(max_examples=30, deadline=None)
@given(batches=st.lists(ROWS, max_size=3))
def test_examples_with_the_same_inputs_are_one_whatever_they_expect(tmp_path_factory, batches):
    log = SqliteTraces(tmp_path_factory.mktemp("t") / "traces.db")
    made = log.examples.create("set", at_ms=1, by="ada", tags={"team": "fraud"}, experiments=["0"])
    slow: dict[str, dict] = {}
    for batch in batches:
        new = len({json.dumps(row["inputs"], sort_keys=True) for row in batch} - set(slow))
        assert log.examples.put(made.id, batch, at_ms=2, by="bob") == (new, len(batch) - new)
        for row in batch:
            before = slow.setdefault(json.dumps(row["inputs"], sort_keys=True), {"inputs": row["inputs"]})
            if "outputs" in row:
                before["outputs"] = row["outputs"]
            if row.get("expectations") is not None:
                before["expectations"] = {**before.get("expectations", {}), **row["expectations"]}
    found, after = [], ""
    while after is not None:
        rows, after = log.examples.rows(made.id, limit=2, after=after)
        found += rows
    kept = {json.dumps(row["inputs"], sort_keys=True): row for row in found}
    assert {
        key: {n: row[n] for n in ("inputs", "outputs", "expectations") if n in row} for key, row in kept.items()
    } == slow
    assert log.examples.get(made.id).examples == len(slow) == len(found)
    assert log.examples.remove(made.id, [row["dataset_record_id"] for row in found], at_ms=3, by="bob") == len(slow)
    log.close()


def test_sets_of_examples_say_what_is_wrong_with_an_example(log):
    made = log.examples.create("set", at_ms=1, by="ada")
    for wrong in ({}, {"inputs": 5}, {"inputs": {}, "tags": "x"}):
        with pytest.raises(Invalid, match="no object"):
            log.examples.put(made.id, [{"inputs": {"a": 1}}, wrong], at_ms=1, by="ada")
    assert log.examples.rows(made.id) == ([], None)
    first = log.examples.get(made.id).digest
    log.examples.put(made.id, [{"inputs": {"a": 1}}], at_ms=2, by="bob")
    found = log.examples.change(made.id, at_ms=3, by="bob", tags={"a": "b"}, join=["0", "1"], leave=["1"])
    assert found.digest != first and (found.tags, found.experiments, found.last) == ({"a": "b"}, ("0",), "bob")
    assert [one.id for one in log.examples.every(["0"])] == [made.id] and log.examples.every(["7"]) == []
    log.examples.delete(made.id)
    with pytest.raises(NotFound):
        log.examples.get(made.id)
