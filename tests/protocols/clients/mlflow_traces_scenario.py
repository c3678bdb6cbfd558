"""What the stock mlflow client can do with traces and evaluation datasets here: run by a Python that has mlflow.

Prints one JSON line a feature: its name, and what went wrong, if anything. It imports nothing of Loopline.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"  # waiting for its queue takes two seconds each time

import mlflow
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, Feedback, SpanType
from mlflow_scenario import fresh, main, refused

FEATURES: list[Callable[[], None]] = []
BAD, NONE = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"


def feature(function: Callable[[], None]) -> Callable[[], None]:
    """Have `function` run in its turn."""
    FEATURES.append(function)
    return function


@mlflow.trace(span_type=SpanType.RETRIEVER, attributes={"k": 3})
def look_up(question: str) -> list[str]:
    """A step of the program that is traced."""
    return [question.upper(), "ünïcode"]


@mlflow.trace(name="answer", span_type=SpanType.CHAIN)
def answer(question: str) -> str:
    """The program that is traced."""
    if question == "fail":
        raise ValueError("no answer")
    mlflow.update_current_trace(tags={"team": "fraud"}, client_request_id=f"req-{question}")
    with mlflow.start_span("think", span_type=SpanType.LLM) as span:
        span.set_inputs({"prompt": question})
        span.set_attribute("model", "tiny")
        span.set_outputs({"text": "hm"})
    return " ".join(look_up(question))


def traced(*questions: str) -> tuple[str, list[str]]:
    """A new experiment, and the ids of the traces that the questions left in it."""
    experiment, ids = fresh(), []
    mlflow.set_experiment(experiment_id=experiment)
    for question in questions:
        with suppress(ValueError):
            answer(question)
        ids.append(str(mlflow.get_last_active_trace_id()))
        time.sleep(0.002)  # so that none begins in the same millisecond
    mlflow.flush_trace_async_logging()
    return experiment, ids


@feature
def a_decorated_function_leaves_a_trace_with_its_spans() -> None:
    experiment, (id,) = traced("why")
    found = mlflow.get_trace(id)
    assert found.info.experiment_id == experiment and str(found.info.state).endswith("OK"), found.info
    assert [span.name for span in found.data.spans] == ["answer", "think", "look_up"]
    root, think, look = found.data.spans
    assert (root.inputs, root.outputs) == ({"question": "why"}, "WHY ünïcode")
    assert (think.span_type, think.get_attribute("model"), think.outputs) == ("LLM", "tiny", {"text": "hm"})
    assert look.parent_id == root.span_id and look.get_attribute("k") == 3
    assert found.info.tags["team"] == "fraud" and found.info.client_request_id == "req-why"
    assert found.info.tags["mlflow.traceName"] == "answer" and found.info.execution_duration is not None
    assert "why" in found.info.request_preview and "WHY" in found.info.response_preview
    assert MlflowClient().get_trace(id).info.trace_id == id


@feature
def traces_are_sent_behind_the_program_s_back() -> None:
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "true"
    mlflow.tracing.reset()
    try:
        _, ids = traced("one", "two")
        assert [len(mlflow.get_trace(id).data.spans) for id in ids] == [3, 3]
    finally:
        os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"
        mlflow.tracing.reset()


@feature
def what_fails_is_told_with_its_exception() -> None:
    _, (id,) = traced("fail")
    found = mlflow.get_trace(id)
    assert str(found.info.state).endswith("ERROR")
    events = [event for span in found.data.spans for event in span.events]
    assert any("no answer" in str(event.attributes) for event in events), events


@feature
def spans_that_are_started_and_ended_by_hand() -> None:
    mlflow.set_experiment(experiment_id=fresh())
    root = mlflow.start_span_no_context("root", inputs={"x": 1})
    child = mlflow.start_span_no_context("child", parent_span=root, span_type=SpanType.TOOL)
    child.end(outputs={"y": 2})
    root.end(outputs={"z": 3})
    mlflow.flush_trace_async_logging()
    found = mlflow.get_trace(root.trace_id)
    assert {span.name: span.outputs for span in found.data.spans} == {"root": {"z": 3}, "child": {"y": 2}}


@feature
def traces_are_searched_as_frames_and_lists_in_pages_and_orders() -> None:
    experiment, ids = traced("a", "b", "fail", "c")
    frame = mlflow.search_traces(locations=[experiment]) if _locations() else mlflow.search_traces([experiment])
    assert set(frame["trace_id"]) == set(ids) and len(frame) == 4

    def names(filter: str, **more: object) -> list[str]:
        found = MlflowClient().search_traces(experiment_ids=[experiment], filter_string=filter, **more)
        return [trace.info.trace_id for trace in found]

    def of(*questions: str) -> set[str]:
        order = ["a", "b", "fail", "c"]
        return {ids[order.index(one)] for one in questions}

    ok = of("a", "b", "c")
    assert set(names("trace.status = 'ERROR'")) == of("fail")
    assert set(names("attributes.status = 'OK' AND tags.team = 'fraud'")) == ok
    assert set(names("attributes.name = 'answer'")) == set(ids)
    assert set(names("tags.`team` LIKE 'fr%'")) == ok and names("tags.team = 'other'") == []
    assert set(names("span.type = 'LLM'")) == ok and set(names("span.name ILIKE 'THINK'")) == ok
    assert set(names("span.attributes.model = 'tiny'")) == ok
    assert set(names("attributes.timestamp_ms > 0 AND attributes.execution_time_ms < 100000")) == set(ids)
    assert set(names("trace.client_request_id = 'req-b'")) == of("b")
    assert set(names("trace.text LIKE '%no answer%'")) == of("fail")
    assert names("", order_by=["timestamp_ms ASC"]) == ids and names("", order_by=["timestamp_ms DESC"]) == ids[::-1]
    first = MlflowClient().search_traces(experiment_ids=[experiment], max_results=3, order_by=["timestamp_ms ASC"])
    again = MlflowClient().search_traces(
        experiment_ids=[experiment], max_results=3, order_by=["timestamp_ms ASC"], page_token=first.token
    )
    assert [one.info.trace_id for one in [*first, *again]] == ids and not again.token
    refused(BAD, names, "tags.team RLIKE 'x'")
    refused(BAD, names, "nonsense = 'x'")


def _locations() -> bool:
    import inspect

    return "locations" in inspect.signature(mlflow.search_traces).parameters


@feature
def traces_of_a_run_are_found_by_it() -> None:
    experiment = fresh()
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_run() as run:
        answer("in a run")
    mlflow.flush_trace_async_logging()
    id = str(mlflow.get_last_active_trace_id())
    other, (outside,) = traced("outside")
    found = MlflowClient().search_traces(experiment_ids=[experiment], run_id=run.info.run_id)
    assert [one.info.trace_id for one in found] == [id]
    client, second = MlflowClient(), MlflowClient().create_run(other)
    client.link_traces_to_run([outside], second.info.run_id)
    found = client.search_traces(experiment_ids=[other], run_id=second.info.run_id)
    assert [one.info.trace_id for one in found] == [outside]


@feature
def tags_of_traces_are_set_and_deleted() -> None:
    _, (id,) = traced("tags")
    mlflow.set_trace_tag(id, "reviewed", "yes")
    assert mlflow.get_trace(id).info.tags["reviewed"] == "yes"
    mlflow.delete_trace_tag(id, "reviewed")
    assert "reviewed" not in mlflow.get_trace(id).info.tags
    refused(NONE, MlflowClient().delete_trace_tag, id, "reviewed")
    refused(NONE, MlflowClient().set_trace_tag, "tr-" + "0" * 32, "k", "v")
    assert mlflow.get_trace("tr-" + "0" * 32) is None


@feature
def feedback_and_expectations_are_kept_changed_and_taken_back() -> None:
    experiment, (id,) = traced("judged")
    human = AssessmentSource(source_type="HUMAN", source_id="ada")
    said = mlflow.log_feedback(trace_id=id, name="good", value=True, source=human, rationale="it is")
    mlflow.log_feedback(trace_id=id, name="score", value=4.5, source=human)
    mlflow.log_expectation(trace_id=id, name="expected", value={"answer": "WHY"}, source=human)
    found = {one.name: one for one in mlflow.get_trace(id).info.assessments}
    assert (
        found["good"].value is True and found["good"].rationale == "it is" and found["good"].source.source_id == "ada"
    )
    assert found["score"].value == 4.5 and found["expected"].value == {"answer": "WHY"}
    assert mlflow.get_assessment(id, said.assessment_id).name == "good"
    mlflow.update_assessment(id, said.assessment_id, Feedback(name="good", value=False, rationale="on reflection"))
    again = mlflow.get_assessment(id, said.assessment_id)
    assert again.value is False and again.rationale == "on reflection", again
    for filter in ("feedback.score > 4", "feedback.good = 'false'"):
        hits = MlflowClient().search_traces(experiment_ids=[experiment], filter_string=filter)
        assert [one.info.trace_id for one in hits] == [id], filter
    mlflow.delete_assessment(id, said.assessment_id)
    assert "good" not in {one.name for one in mlflow.get_trace(id).info.assessments}


@feature
def traces_are_deleted_by_id_and_by_age() -> None:
    experiment, ids = traced("a", "b", "c")
    client = MlflowClient()
    assert client.delete_traces(experiment, trace_ids=ids[:1]) == 1
    assert mlflow.get_trace(ids[0]) is None
    assert client.delete_traces(experiment, max_timestamp_millis=int(time.time() * 1000) + 1000, max_traces=1) == 1
    assert {one.info.trace_id for one in client.search_traces(experiment_ids=[experiment])} == {ids[2]}


@feature
def many_threads_trace_at_once() -> None:
    experiment = fresh()
    mlflow.set_experiment(experiment_id=experiment)

    def some(thread: int) -> None:
        for at in range(5):
            answer(f"{thread}-{at}")

    threads = [threading.Thread(target=some, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mlflow.flush_trace_async_logging()
    found = MlflowClient().search_traces(experiment_ids=[experiment], max_results=100)
    assert len(found) == 20 and all(len(one.data.spans) == 3 for one in found)


@feature
def a_function_of_a_library_is_wrapped() -> None:
    experiment = fresh()
    mlflow.set_experiment(experiment_id=experiment)
    wrapped = mlflow.trace(sorted, name="library")
    assert wrapped([2, 1]) == [1, 2]
    mlflow.flush_trace_async_logging()
    (found,) = MlflowClient().search_traces(experiment_ids=[experiment])
    assert found.data.spans[0].outputs == [1, 2]


@feature
def files_lie_beside_a_trace() -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    _, (id,) = traced("files")
    uri = mlflow.get_trace(id).info.tags["mlflow.artifactLocation"]
    with tempfile.TemporaryDirectory() as here:
        Path(here, "picture.txt").write_text("x")
        get_artifact_repository(uri).log_artifact(str(Path(here, "picture.txt")))
        assert Path(get_artifact_repository(uri).download_artifacts("picture.txt")).read_text() == "x"


@feature
def evaluation_datasets_are_made_merged_searched_and_deleted() -> None:
    from mlflow.genai import datasets

    experiment, (id,) = traced("an example")
    name = f"eval-{experiment}"
    made = datasets.create_dataset(name=name, experiment_id=[experiment], tags={"team": "fraud"})
    made.merge_records([
        {"inputs": {"question": "a"}, "expectations": {"answer": "A"}},
        {"inputs": {"question": "b"}, "tags": {"hard": "yes"}},
    ])  # fmt: skip
    made.merge_records([{"inputs": {"question": "a"}, "expectations": {"tone": "calm"}}])
    made.merge_records([mlflow.get_trace(id)])
    found = datasets.get_dataset(dataset_id=made.dataset_id)
    frame = found.to_df()
    rows = {str(inputs["question"]): told for inputs, told in zip(frame["inputs"], frame["expectations"], strict=True)}
    assert set(rows) == {"a", "b", "an example"} and rows["a"] == {"answer": "A", "tone": "calm"}, rows
    assert (found.name, found.tags["team"], list(found.experiment_ids)) == (name, "fraud", [experiment])
    datasets.set_dataset_tags(dataset_id=made.dataset_id, tags={"state": "ready"})
    datasets.delete_dataset_tag(dataset_id=made.dataset_id, key="team")
    for filter in (f"name = '{name}'", f"name LIKE '{name[:6]}%' AND tags.state = 'ready'"):
        hits = datasets.search_datasets(experiment_ids=experiment, filter_string=filter)
        assert [one.dataset_id for one in hits] == [made.dataset_id], filter
    assert not list(datasets.search_datasets(experiment_ids=experiment, filter_string="tags.team = 'fraud'"))
    other = fresh()
    datasets.add_dataset_to_experiments(dataset_id=made.dataset_id, experiment_ids=[other])
    datasets.remove_dataset_from_experiments(dataset_id=made.dataset_id, experiment_ids=[experiment])
    assert [one.dataset_id for one in datasets.search_datasets(experiment_ids=[other])] == [made.dataset_id]
    gone = frame["dataset_record_id"][0]
    assert datasets.get_dataset(dataset_id=made.dataset_id).delete_records([gone]) == 1
    assert len(datasets.get_dataset(dataset_id=made.dataset_id).to_df()) == 2
    datasets.delete_dataset(dataset_id=made.dataset_id)
    refused(NONE, MlflowClient().get_dataset, made.dataset_id)


@feature
def webhooks_are_refused_in_words() -> None:
    said = refused("NOT_IMPLEMENTED", MlflowClient().list_webhooks)
    assert "CloudEvent" in said, said


if __name__ == "__main__":
    main(FEATURES)
