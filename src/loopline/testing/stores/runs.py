"""Laws of the run log."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest

from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.store.runs.protocol import Dataset, LoggedModel, ModelUse, Point, RunLog
from loopline.testing.stores.together import at_once

MODEL = "m-" + "0" * 32


def ids(log: RunLog, *experiments: str, **asked: object) -> list[str]:
    """The ids that a search finds."""
    found = log.search_runs(list(experiments) or ["0"], **asked)  # type: ignore[arg-type]
    return [json.loads(document)["info"]["run_id"] for document in found.items]


class RunLogConformance:
    """Laws of `RunLog`. Give a fixture `runs`: an empty log."""

    def test_an_empty_log_has_the_experiment_default(self, runs: RunLog) -> None:
        assert [(found.id, found.name) for found in runs.search_experiments().items] == [("0", "Default")]

    def test_a_name_is_of_one_experiment_also_when_that_is_deleted(self, runs: RunLog) -> None:
        made = runs.create_experiment("a", at_ms=5, artifact_location="s3://there", tags={"k": "v"})
        assert runs.experiment(made.id) == runs.experiment_named("a") == made
        runs.change_experiment(made.id, at_ms=6, stage="deleted")
        for name in ("a", "Default"):
            with pytest.raises(Conflict):
                runs.create_experiment(name, at_ms=7)
        other = runs.create_experiment("b", at_ms=7)
        with pytest.raises(Conflict):
            runs.change_experiment(other.id, at_ms=8, name="a", tags={"half": "x"})
        assert runs.experiment(other.id) == other
        assert runs.experiment_named("none") is None
        for id in ("99", "x", "", "-1", "9" * 40):
            with pytest.raises(NotFound):
                runs.experiment(id)

    def test_an_experiment_is_renamed_tagged_and_found(self, runs: RunLog) -> None:
        made = runs.create_experiment("a", at_ms=5, tags={"k": "v", "l": "w"})
        changed = runs.change_experiment(made.id, at_ms=9, name="b", tags={"k": None, "m": "x"})
        assert (changed.name, changed.tags, changed.created_ms, changed.updated_ms) == ("b", {"l": "w", "m": "x"}, 5, 9)
        assert runs.search_experiments(filter="name ILIKE 'B%' AND tags.m = 'x'").items == [changed]
        assert runs.search_experiments(filter="tags.k IS NOT NULL").items == []
        with pytest.raises(NotFound):
            runs.change_experiment(made.id, at_ms=10, tags={"none": None})

    def test_experiments_come_page_by_page(self, runs: RunLog) -> None:
        names = [f"e{n}" for n in range(7)]
        for n, name in enumerate(names):
            runs.create_experiment(name, at_ms=n)
        seen, token = [], None
        while True:
            page = runs.search_experiments(order_by=["name DESC"], limit=3, token=token)
            seen += [found.name for found in page.items]
            if (token := page.token) is None:
                break
        assert seen == [*reversed(names), "Default"]

    def test_runs_go_with_their_experiment_and_come_back_with_it(self, runs: RunLog) -> None:
        made = runs.create_experiment("a", at_ms=1)
        stays, before = (runs.create_run(made.id, start_ms=n).id for n in (1, 2))
        runs.change_run(before, stage="deleted", at_ms=3)
        runs.change_experiment(made.id, at_ms=5, stage="deleted")
        assert ids(runs, made.id) == []
        assert [run.id for run in runs.deleted_before(4)] == [before]
        assert {run.id for run in runs.deleted_before(5)} == {before, stays}
        with pytest.raises(Conflict):
            runs.create_run(made.id, start_ms=1)
        with pytest.raises(Conflict):
            runs.log(stays, tags={"t": "x"})
        runs.change_experiment(made.id, at_ms=6, stage="active")
        assert ids(runs, made.id) == [stays]
        assert ids(runs, made.id, view="deleted") == [before]
        assert runs.deleted_before(10) == [runs.run(before)]

    def test_a_run_is_what_was_said_of_it(self, runs: RunLog) -> None:
        made = runs.create_run("0", start_ms=5, name="first", user="ada", tags={"t": "v"})
        assert (made.name, made.user, made.status, made.stage, made.start_ms, made.end_ms) == (
            "first", "ada", "RUNNING", "active", 5, None,
        )  # fmt: skip
        assert runs.run(made.id) == made
        ended = runs.change_run(made.id, status="FAILED", end_ms=9, name="last")
        assert (ended.status, ended.end_ms, ended.name, ended.tags["t"]) == ("FAILED", 9, "last", "v")
        assert runs.run(made.id) == ended
        runs.log(made.id, tags={"mlflow.runName": "by tag"})
        assert runs.run(made.id).name == "by tag"
        with pytest.raises(NotFound):
            runs.run("none")
        with pytest.raises(Invalid):
            runs.change_run(made.id, status="DONE")  # type: ignore[arg-type]

    def test_a_run_that_is_begun_again_is_the_same(self, runs: RunLog) -> None:
        made = runs.create_run("0", start_ms=5, id="mine", tags={"t": "v"})
        assert runs.create_run("0", start_ms=6, id="mine", tags={"u": "w"}) == made
        other = runs.create_experiment("a", at_ms=1)
        with pytest.raises(Conflict):
            runs.create_run(other.id, start_ms=6, id="mine")
        for bad in ("../x", "", "a b", "x" * 300):
            with pytest.raises(Invalid):
                runs.create_run("0", start_ms=1, id=bad)
        with pytest.raises(NotFound):
            runs.create_run("77", start_ms=1)

    def test_a_call_is_kept_whole_or_not_at_all(self, runs: RunLog) -> None:
        run = runs.create_run("0", start_ms=1).id
        runs.log(run, metrics=[Point("m", 1.0, 1, 1)], params={"p": "1"}, tags={"t": "1"})
        runs.log(run, params={"p": "1"})
        before = runs.run(run)
        with pytest.raises(Conflict):
            runs.log(run, metrics=[Point("m", 2.0, 2, 2)], params={"q": "1", "p": "2"}, tags={"t": "2"})
        with pytest.raises(NotFound):
            runs.log(run, metrics=[Point("m", 2.0, 2, 2)], params={"q": "1"}, tags={"t": "2", "none": None})
        assert runs.run(run) == before
        assert len(runs.history(run, "m").items) == 1
        runs.log(run, tags={"t": None})
        assert runs.run(run).tags == {}

    def test_the_latest_is_the_greatest_by_step_time_and_value(self, runs: RunLog) -> None:
        run = runs.create_run("0", start_ms=1).id
        for value, at, step in ((1.0, 9, -5), (2.0, 9, -3), (3.0, 8, -3), (math.nan, 9, -3), (1.5, 9, -3)):
            runs.log(run, metrics=[Point("m", value, at, step)])
        assert runs.run(run).metrics == (Point("m", 2.0, 9, -3),)
        runs.log(run, metrics=[Point("m", math.nan, 0, 4), Point("m", math.inf, 0, 3)])
        assert math.isnan(runs.run(run).metrics[0].value)
        assert len(runs.history(run, "m").items) == 7

    def test_a_document_tells_the_run_in_the_shape_of_the_protocol(self, runs: RunLog) -> None:
        run = runs.create_run("0", start_ms=1, name="n").id
        runs.log(run, metrics=[Point("a", math.nan, 1, 2), Point("b", -math.inf, 1, 2)], params={"p": "1"})
        runs.log_uses(run, datasets=[Dataset("d", "x", "s", "{}", tags={"c": "train"})], made=[ModelUse(MODEL, 3)])
        for _ in range(2):
            doc = json.loads(runs.document(run))
            assert doc["data"]["metrics"] == [
                {"key": "a", "value": "NaN", "timestamp": 1, "step": 2},
                {"key": "b", "value": "-Infinity", "timestamp": 1, "step": 2},
            ]
            assert doc["data"]["params"] == [{"key": "p", "value": "1"}]
            used = {"name": "d", "digest": "x", "source_type": "s", "source": "{}"}
            assert doc["inputs"]["dataset_inputs"] == [{"dataset": used, "tags": [{"key": "c", "value": "train"}]}]
            assert doc["outputs"]["model_outputs"] == [{"model_id": MODEL, "step": 3}]
            assert (doc["info"]["status"], doc["info"]["experiment_id"], "end_time" in doc["info"]) == (
                "RUNNING", "0", False,
            )  # fmt: skip
            assert [json.loads(item) for item in runs.search_runs(["0"]).items] == [doc]

    def test_a_document_follows_every_change(self, runs: RunLog) -> None:
        made = [runs.create_run("0", start_ms=n).id for n in range(20)]

        def told(run: str) -> object:
            found = {json.loads(item)["info"]["run_id"]: json.loads(item) for item in runs.search_runs(["0"]).items}
            assert found[run] == json.loads(runs.document(run))
            return found[run]

        one = made[3]
        seen = [told(one)]
        other = runs.create_experiment("a", at_ms=1)
        changes = (
            lambda: runs.log(one, metrics=[Point("m", 1.0, 1, 1)]),
            lambda: runs.log_columns(one, {"n": (bytes(8), bytes(8), bytes(8))}),
            lambda: runs.log(one, params={"p": "x"}),
            lambda: runs.log(one, tags={"t": "x"}),
            lambda: runs.log(one, tags={"t": None}),
            lambda: runs.log_uses(one, datasets=[Dataset("d", "x", "s", "{}")]),
            lambda: runs.log_uses(one, read=[ModelUse(MODEL)]),
            lambda: runs.change_run(one, status="FINISHED", end_ms=5),
        )
        for change in changes:
            change()
            seen.append(told(one))
        assert all(before != after for before, after in pairwise(seen))
        runs.move_runs([one], other.id)
        assert json.loads(runs.document(one))["info"]["experiment_id"] == other.id
        assert runs.move_runs(made, other.id) == len(made) - 1
        for stage in ("active", "deleted", "active"):
            runs.change_experiment(other.id, at_ms=2, stage=stage)
            for _ in range(2):
                found = [json.loads(item)["info"] for item in runs.search_runs([other.id], view="all").items]
                assert [info["lifecycle_stage"] for info in found] == [stage] * len(made)

    def test_runs_move_with_all_that_is_searched(self, runs: RunLog) -> None:
        run = runs.create_run("0", start_ms=1).id
        runs.log(run, metrics=[Point("m", 1.0, 1, 1)], params={"p": "x"}, tags={"t": "y"})
        runs.log_uses(run, datasets=[Dataset("d", "x", "s", "{}", tags={"c": "train"})])
        other = runs.create_experiment("a", at_ms=1).id
        before = runs.run(run)
        assert runs.move_runs([run], other) == 1
        assert runs.move_runs([run], other) == 0
        fits = "metrics.m >= 1 AND params.p = 'x' AND tags.t = 'y' AND datasets.name = 'd'"
        assert ids(runs, other, filter=fits, order_by=["metrics.m"]) == [run]
        assert ids(runs, "0") == []
        assert runs.columns(["0"]) == {"metrics": [], "params": [], "tags": []}
        assert runs.columns([other, "0"]) == {"metrics": ["m"], "params": ["p"], "tags": ["t"]}
        after = runs.run(run)
        assert (after.metrics, after.params, after.tags, after.datasets, after.artifacts) == (
            before.metrics, before.params, before.tags, before.datasets, before.artifacts,
        )  # fmt: skip

    def test_data_and_models_of_a_run_are_kept_once(self, runs: RunLog) -> None:
        run = runs.create_run("0", start_ms=1).id
        data = Dataset("d", "x", "s", "{}", schema="{}", tags={"a": "1"})
        for _ in range(2):
            runs.log_uses(run, datasets=[data], read=[ModelUse("m-1")], made=[ModelUse("m-2", 3), ModelUse("m-2", 4)])
        runs.log_uses(run, datasets=[Dataset("d", "x", "other", "{}", tags={"b": "2"})])
        found = runs.run(run)
        assert found.datasets == (Dataset("d", "x", "s", "{}", schema="{}", tags={"a": "1", "b": "2"}),)
        assert found.read == (ModelUse("m-1"),)
        assert found.made == (ModelUse("m-2", 3), ModelUse("m-2", 4))

    def test_a_logged_model_is_made_found_changed_and_deleted(self, runs: RunLog) -> None:
        run = runs.create_run("0", start_ms=1).id
        model = LoggedModel(MODEL, "0", "best", run, "", "PENDING", "", "clf", 5, 5, {"depth": "3"}, {"t": "v"})
        made = runs.create_model(model)
        assert made.artifacts
        with pytest.raises(Conflict):
            runs.create_model(model)
        runs.log(run, metrics=[Point("acc", 0.5, 1, 1, MODEL, ("d", "x")), Point("acc", 0.7, 2, 2, MODEL)])
        found = runs.change_model(MODEL, at_ms=9, status="READY", tags={"t": None, "u": "w"}, params={"k": "1"})
        assert (found.status, found.tags, found.params) == ("READY", {"u": "w"}, {"depth": "3", "k": "1"})
        assert [point[1:] for point in found.metrics] == [(0.5, 1, 1, MODEL, ("d", "x")), (0.7, 2, 2, MODEL, None)]
        assert runs.model(MODEL) == found
        assert [point.value for point in runs.run(run).metrics] == [0.7]
        with pytest.raises(Conflict):
            runs.change_model(MODEL, at_ms=10, params={"k": "2"})
        later = runs.create_model(LoggedModel("m-" + "1" * 32, "0", "new", None, "", "READY", "", "", 6, 6))
        assert [one.name for one in runs.search_models(["0"]).items] == ["new", "best"]
        fits = "metrics.acc > 0.4 AND params.depth = 3 AND status = 'READY' AND name LIKE 'b%'"
        assert runs.search_models(["0"], filter=fits).items == [found]
        assert runs.search_models(["0"], filter="metrics.acc > 0.6", datasets=[{"dataset_name": "d"}]).items == []
        by_metric = [{"field_name": "metrics.acc", "ascending": False}]
        first = runs.search_models(["0"], order_by=by_metric, limit=1)
        assert first.items == [found]
        assert runs.search_models(["0"], order_by=by_metric, limit=1, token=first.token).items == [later]
        runs.change_model(MODEL, at_ms=11, deleted=True)
        with pytest.raises(NotFound):
            runs.model(MODEL)
        assert runs.search_models(["0"]).items == [later]

    def test_compaction_in_the_back_changes_no_point(self, runs: RunLog) -> None:
        run = runs.create_run("0", start_ms=1).id
        runs.log(run, metrics=[Point("m", float(n), n, n) for n in range(1_000)])
        runs.change_run(run, status="FINISHED")
        runs.compact_later()
        runs.close()  # waits for it
        assert [point.step for point in runs.history(run, "m").items] == list(range(1_000))

    def test_what_is_forgotten_is_gone(self, runs: RunLog) -> None:
        gone, stays = (runs.create_run("0", start_ms=n).id for n in (1, 2))
        for run in (gone, stays):
            runs.log(
                run, metrics=[Point("m", float(n), n, n) for n in range(1_000)], params={"p": "x"}, tags={"t": "y"}
            )
            runs.log_uses(run, datasets=[Dataset("d", "x", "s", "{}")])
        runs.compact(gone)
        with pytest.raises(Conflict):
            runs.forget([gone])
        runs.change_run(gone, stage="deleted", at_ms=5)
        ((listed, at_ms, size),) = runs.deleted()
        assert (listed.id, at_ms) == (gone, 5)
        assert runs.forget([gone, "unknown"]) == size > 1_000
        assert runs.deleted() == []
        assert runs.forget([gone]) == 0
        for look in (runs.run, runs.require_owner):
            with pytest.raises(NotFound):
                look(gone)
        runs.require_owner(stays)
        assert ids(runs, view="all") == [stays]
        assert len(runs.run(stays).datasets) == 1
        assert len(runs.history(stays, "m").items) == 1_000
        again = runs.create_run("0", start_ms=1, id=gone)
        assert (again.metrics, again.params, runs.history(gone, "m").items) == ((), {}, [])

    def test_an_experiment_is_forgotten_once_its_runs_are(self, runs: RunLog) -> None:
        made = runs.create_experiment("a", at_ms=1, tags={"k": "v"})
        run = runs.create_run(made.id, start_ms=1).id
        for change in (lambda: None, lambda: runs.change_experiment(made.id, at_ms=2, stage="deleted")):
            change()
            with pytest.raises(Conflict):
                runs.forget_experiment(made.id)
        runs.forget([run])
        runs.forget_experiment(made.id)
        assert runs.experiment_named("a") is None
        assert runs.create_experiment("a", at_ms=3).id != made.id
        with pytest.raises(NotFound):
            runs.forget_experiment(made.id)

    def test_columns_come_out_as_they_went_in(self, runs: RunLog) -> None:
        one, two = (runs.create_run("0", start_ms=n).id for n in (1, 2))
        runs.log(one, metrics=[Point("m", n / 3, n * 10, n) for n in range(5_000)])
        runs.compact(one)
        runs.log(one, metrics=[Point("m", math.nan, 1, 9_999)])
        whole = runs.read_columns(one, "m")
        assert [len(part) for part in whole] == [5_001 * 8] * 3
        runs.log_columns(two, {"m": whole})
        assert runs.read_columns(two, "m") == whole
        assert runs.read_columns(two, "m", start=4_000, limit=2_000) == tuple(part[4_000 * 8 :] for part in whole)
        assert runs.read_columns(two, "none") == (b"", b"", b"")

    def test_threads_may_log_to_one_run(self, runs: RunLog) -> None:
        run = runs.create_run("0", start_ms=1).id

        def work(n: int) -> None:
            for step in range(20):
                runs.log(run, metrics=[Point("m", n, step, step)], tags={f"{n}-{step}": "x"})

        at_once(6, work)
        assert len(runs.history(run, "m").items) == len(runs.run(run).tags) == 120

    def test_texts_that_cannot_be_kept_are_refused(self, runs: RunLog) -> None:
        run = runs.create_run("0", start_ms=1).id
        for bad in ("\ud800", 7, "x" * 10_000_000):
            with pytest.raises(Invalid):
                runs.log(run, params={"p": bad})  # type: ignore[dict-item]
            with pytest.raises(Invalid):
                runs.log(run, tags={"t": bad})  # type: ignore[dict-item]
            with pytest.raises(Invalid):
                runs.create_experiment(bad, at_ms=1)  # type: ignore[arg-type]
        for key in ("", "\ud800", "x" * 10_000, "a\x01", "a\n", "\x1b[31m", "a\u202eb"):
            for kind in ("params", "tags"):
                with pytest.raises(Invalid):
                    runs.log(run, **{kind: {key: "x"}})  # type: ignore[arg-type]
            with pytest.raises(Invalid):
                runs.log(run, metrics=[Point(key, 1.0, 0, 0)])
        for good in ("", "a/b", "ü\x00\n", "x" * 6_000, "'; DROP TABLE runs"):
            key = f"key {good[:200]}".replace("\x00\n", "\u200d")  # a value may hold what a name may not
            runs.log(run, params={key: good}, tags={key: good})
            assert runs.run(run).params[key] == good
