"""What is logged arrives, as it was, from any thread, and stops nobody."""

from __future__ import annotations

import json
import math
import os
import random
import threading
from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loopline
from loopline.base.control import without
from loopline.base.errors import Conflict, Invalid
from loopline.training.runs import series
from loopline.training.tracking import client
from loopline.training.tracking import series as points_of_runs
from loopline.training.tracking.client import begin
from loopline.training.tracking.delivery import Here

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).map(without)
INT64 = st.integers(-(2**63), 2**63 - 1)


def quiet(**given):
    return loopline.start_run(capture=False, **given)


def values_of(ws, run, key):
    return [(point.value, point.step) for point in series(ws, run.id, key)]


def test_every_point_arrives_in_order_with_steps_counted_on(ws):
    with quiet(name="a", experiment="flights") as run:
        for value in (1, np.float32(0.5), True):
            run.log_metric("loss", value)
        run.log_metric("loss", 7.0, 10)
        run.log_metric("loss", 8.0)
        run.log_metrics({"x/y": 1.5, "z": -0.0}, step=-3)
    assert values_of(ws, run, "loss") == [(1.0, 0), (0.5, 1), (1.0, 2), (7.0, 10), (8.0, 11)]
    assert values_of(ws, run, "x/y") == [(1.5, -3)]
    found = ws.runs.run(run.id)
    assert (found.status, found.name) == ("FINISHED", "a")
    assert ws.runs.experiment(found.experiment).name == "flights"
    assert [path for path in (ws.root / "spool").iterdir() if path.is_file()] == []


def test_values_that_are_no_finite_number_are_kept(ws):
    with quiet() as run:
        for value in (math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308):
            run.log_metric("odd", value)
    found = [value for value, _ in values_of(ws, run, "odd")]
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, -math.inf, 5e-324, 1.7976931348623157e308]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(KEYS, st.floats(), INT64), max_size=30), st.dictionaries(KEYS, KEYS, max_size=5))
def test_any_name_any_float_and_any_whole_step_come_back_as_they_were(ws, logged, tags):
    run = begin(Here(ws), spool=ws.root / "spool")
    for key, value, step in logged:
        run.log_metric(key, value, step)
    run.set_tags({key: value for key, value in tags.items() if client.Scrubber().value(key, value) == value})
    assert run.finish()
    for key in {key for key, *_ in logged}:
        got = {(repr(value), step) for value, step in values_of(ws, run, key)}
        assert got == {(repr(value), step) for name, value, step in logged if name == key}


def test_threads_lose_nothing(ws):
    with quiet() as run:

        def work(mine: int) -> None:
            for step in range(20_000):
                run.log_metric("shared" if step % 2 else f"own/{mine}", float(mine), step)

        threads = [threading.Thread(target=work, args=(one,)) for one in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(values_of(ws, run, "shared")) == sorted((float(m), s) for m in range(4) for s in range(1, 20_000, 2))
    for mine in range(4):
        assert values_of(ws, run, f"own/{mine}") == [(float(mine), step) for step in range(0, 20_000, 2)]


def test_more_points_than_are_packed_at_a_time_all_arrive():
    taken = points_of_runs.Series("run", 0)
    sink = taken.sink("loss")
    for step in range(150_000):
        sink((float(step), step, 0))
    found = array("q")
    while (points := taken.take()) is not None:
        found.frombytes(points.columns["loss"][2])
    assert found.tolist() == list(range(150_000))


def test_a_clock_that_jumps_moves_no_point(ws, monkeypatch):
    at = [10**18]
    monkeypatch.setattr(points_of_runs, "ticks", lambda: 0)
    monkeypatch.setattr(client, "ticks", lambda: at[0])
    run = begin(Here(ws), spool=ws.root / "spool")
    start = ws_start = run._start_ns // 1_000_000
    for seconds in (1, 2, 3):  # whatever the machine's clock says meanwhile: it is asked once
        at[0] = seconds * 10**9
        run.log_metric("loss", 0.0)
    at[0] = 10**18
    run.finish()
    assert [point.at_ms - start for point in series(ws, run.id, "loss")] == [1000, 2000, 3000]
    assert ws_start == ws.runs.run(run.id).start_ms


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda run: run.log_metric("loss", "high"), "a metric is a number"),
        (lambda run: run.log_metric("loss", None), "a metric is a number"),
        (lambda run: run.log_metric("loss", 1.0, "one"), "whole number"),
        (lambda run: run.log_metric("loss", 1.0, 2**63), "whole number"),
        (lambda run: run.log_metric("", 1.0), "characters"),
        (lambda run: run.log_metric("x" * 1001, 1.0), "characters"),
        (lambda run: run.log_metric("\ud800", 1.0), "no text"),
        (lambda run: run.log_params({"big": "x" * 10_000_000}), "10,000,000 characters"),
        (lambda run: run.log_text("x", "../up.txt"), "no path of an artifact"),
        (lambda run: run.log_text("x", "a/\x00.txt"), "no path of an artifact"),
        (lambda run: run.log_artifact("nowhere.txt"), "no file"),
        (lambda run: run.log_dataset(object()), "digest"),
        (lambda run: run.log_figure(object(), "a.png"), "no figure"),
    ],
)
def test_what_cannot_be_kept_is_told_to_the_caller_and_the_rest_goes_on(ws, caplog, call, said):
    with quiet() as run:
        run.log_params({"before": 1})
        with pytest.raises(Invalid, match=said):
            call(run)
        run.log_metric("after", 1.0)
    found = ws.runs.run(run.id)
    assert found.params == {"before": "1"}
    assert [point.key for point in found.metrics] == ["after"]
    assert caplog.records == []


def test_a_whole_number_that_a_float_cannot_hold_is_rounded_with_one_warning(ws, caplog):
    with quiet() as run:
        run.log_metrics({"exact": 2**53, "far": 2**60, "float": 1e300, "numpy": np.int64(-(2**53))})
        assert caplog.records == []
        for value in (np.int64(2**53 + 1), 2**53 + 1, 2**60 + 1):
            run.log_metric("n", value)
    (told,) = caplog.messages
    assert "9007199254740993" in told and "9007199254740992" in told
    assert [point.value for point in ws.runs.history(run.id, "n").items] == [2**53, 2**53, 2**60]


def test_a_param_is_written_once(ws):
    with quiet(params={"lr": 0.1}) as run:
        run.log_params({"lr": 0.1})
        with pytest.raises(Conflict, match="written once"):
            run.log_params({"other": 1, "lr": 0.2})
    assert ws.runs.run(run.id).params == {"lr": "0.1"}


def test_a_run_that_has_ended_takes_nothing_more(ws):
    with quiet() as run:
        run.log_metric("loss", 1.0)
    for call in (lambda: run.log_metric("loss", 1.0), lambda: run.log_params({"a": 1}), lambda: run.log_text("", "a")):
        with pytest.raises(Conflict, match="ended"):
            call()
    assert run.finish()


def test_how_a_run_ends_is_told(ws):
    for error, status in ((ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "FINISHED")):
        try:
            with quiet() as run:
                raise error()
        except BaseException:
            pass
        assert ws.runs.run(run.id).status == status


def test_files_are_kept_as_they_were_when_they_were_logged(ws, tmp_path):
    small, large = tmp_path / "wörk 1.txt", tmp_path / "large.bin"
    small.write_text("first")
    large.write_bytes(random.Random(0).randbytes(1_000_000))
    was = large.read_bytes()
    (tmp_path / "tree/a").mkdir(parents=True)
    (tmp_path / "tree/a/b.txt").write_text("b")
    (tmp_path / "tree/link").symlink_to("/etc/passwd")
    with quiet() as run:
        with pytest.raises(Invalid, match="is a link"):
            run.log_artifact(tmp_path / "tree/link")
        run.log_artifact(small, "in")
        run.log_artifact(large)
        run.log_artifacts(tmp_path / "tree", "t")
        small.write_text("second")
        large.write_bytes(b"gone")
    files = {file.path: ws.artifacts.read(run.id, file.path) for file in ws.artifacts.files(run.id)}
    assert files == {"in/wörk 1.txt": b"first", "large.bin": was, "t/a/b.txt": b"b"}
    assert not any((ws.root / "spool").rglob("*.part")) and not any((ws.root / "spool/files").iterdir())


def test_data_are_noted_by_name_and_digest_of_their_content(ws, tmp_path):
    import pandas as pd
    import polars as pl

    (tmp_path / "rows.csv").write_text("a\n1\n")
    given = {"polars": pl.DataFrame({"a": [1]}), "pandas": pd.DataFrame({"a": [1]}), "array": np.ones(3)}
    with quiet() as run:
        for name, data in given.items():
            run.log_dataset(data, name=name, context="train")
            run.log_dataset(data.copy() if name != "polars" else data.clone(), name=name)
        run.log_dataset(tmp_path / "rows.csv")
        run.log_dataset(pl.DataFrame({"a": [2]}), name="polars")
    found = ws.runs.run(run.id).datasets
    assert sorted(one.name for one in found) == ["array", "pandas", "polars", "polars", "rows.csv"]
    assert {one.tags.get("mlflow.data.context") for one in found} == {"train", None}


def test_a_child_process_logs_nothing_into_the_run_of_its_parent(ws):
    with quiet() as run:
        run.log_metric("loss", 1.0)
        child = os.fork()
        if child == 0:
            run.log_metric("loss", 2.0)
            run.log_metric("new", 2.0)
            os._exit(0)
        os.waitpid(child, 0)
        run.log_metric("loss", 3.0)
    assert values_of(ws, run, "loss") == [(1.0, 0), (3.0, 1)]


def test_a_run_is_taken_up_again_by_its_id(ws):
    with quiet(name="a") as run:
        run.log_metric("loss", 1.0, 0)
    with quiet(id=run.id) as again:
        again.log_metric("loss", 2.0, 1)
    assert values_of(ws, run, "loss") == [(1.0, 0), (2.0, 1)]
    assert ws.runs.run(run.id).name == "a"


def test_origin_machine_output_and_cost_are_recorded_without_being_asked(ws, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOOPLINE_PRICE_PER_HOUR", "3600")
    random.seed(4)
    with loopline.start_run() as run:
        print("hello from the run")
    assert "hello from the run" in capsys.readouterr().out
    files = {
        one.path.removeprefix("loopline/"): ws.artifacts.read(run.id, one.path) for one in ws.artifacts.files(run.id)
    }
    assert b"hello from the run" in files["output.txt"]
    assert b"\npolars==" in files["environment.txt"]
    machine, process = json.loads(files["machine.json"]), json.loads(files["process.json"])
    assert machine["cores"] == os.cpu_count()
    assert process["seeds"]["python"] and process["python"] and process["arguments"]
    values = {point.key: point.value for point in ws.runs.run(run.id).metrics}
    assert values["system/process_memory_bytes"] > 1e6
    assert values["cost/price"] == pytest.approx(values["cost/wall_seconds"])
    assert Path.cwd() == tmp_path
