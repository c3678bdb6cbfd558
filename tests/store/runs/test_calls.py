"""Whatever is called in whatever order, the log says what dictionaries say."""

import json
import math
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.store.runs.slow import SlowRun, bits

from loopline.base.errors import Conflict, NotFound
from loopline.store.runs.protocol import Dataset, ModelUse, Point
from loopline.store.runs.sqlite import SqliteRuns
from loopline.testing.crash import killed_at_every_line

RUNS = st.sampled_from(["r1", "r2", "r3"])
EXPERIMENTS = st.sampled_from(["0", "1"])
KEYS = st.sampled_from(["a", "b"])
TEXTS = st.sampled_from(["", "x", "1"])
POINTS = st.lists(
    st.tuples(KEYS, st.sampled_from([0.0, 1.5, math.nan, -math.inf]), st.integers(0, 2), st.integers(-1, 2)), max_size=5
)


class Calls(RuleBasedStateMachine):
    """Random calls to a log, and the same to dictionaries."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.log = SqliteRuns(Path(self.folder.name) / "runs.db")
        self.log.create_experiment("other", at_ms=1)
        self.runs = {}
        self.now = 1
        self.deleted = {}

    def teardown(self):
        self.log.close()
        self.folder.cleanup()

    def attempt(self, id, call):
        """What the call of a run does where the run is active; elsewhere it is refused."""
        if id not in self.runs:
            expected = NotFound
        elif self.runs[id].stage == "deleted":
            expected = Conflict
        else:
            call()
            return True
        try:
            call()
        except expected:
            return False
        raise AssertionError(f"{id} was written")

    @rule(id=RUNS, experiment=EXPERIMENTS, tags=st.dictionaries(KEYS, TEXTS))
    def begin(self, id, experiment, tags):
        self.now += 1
        known = self.runs.get(id)
        try:
            self.log.create_run(experiment, start_ms=self.now, id=id, tags=tags, name=f"name {self.now}")
        except Conflict:
            assert known is not None and known.experiment != experiment
            return
        if known is None:
            self.runs[id] = SlowRun(id, experiment, self.now, f"name {self.now}", tags=dict(tags))
            self.runs[id].tags["mlflow.runName"] = f"name {self.now}"
        else:
            assert known.experiment == experiment

    @rule(id=RUNS, points=POINTS, params=st.dictionaries(KEYS, TEXTS), tags=st.dictionaries(KEYS, TEXTS | st.none()))
    def say(self, id, points, params, tags):
        def call():
            self.log.log(id, metrics=[Point(*point) for point in points], params=params, tags=tags)

        run = self.runs.get(id)
        if run is not None and run.stage == "active":
            other = any(run.params.get(key, value) != value for key, value in params.items())
            absent = any(value is None and key not in run.tags for key, value in tags.items())
            if other or absent:
                try:
                    call()
                except (Conflict, NotFound):
                    return
                raise AssertionError("a param was changed, or a tag that is not there taken away")
        if self.attempt(id, call):
            for key, *point in points:
                run.log(key, *point)
            run.params |= params
            run.tags = {key: value for key, value in (run.tags | tags).items() if value is not None}

    @rule(id=RUNS, key=KEYS, context=TEXTS)
    def use(self, id, key, context):
        data = Dataset(key, "digest", "local", "here", tags={"mlflow.data.context": context})
        if self.attempt(id, lambda: self.log.log_uses(id, datasets=[data], made=[ModelUse(key, 1)])):
            self.runs[id].datasets[key] = (key, "digest", context)

    @rule(id=RUNS, status=st.sampled_from(["RUNNING", "FINISHED"]), end=st.none() | st.integers(0, 9))
    def end(self, id, status, end):
        if self.attempt(id, lambda: self.log.change_run(id, status=status, end_ms=end)):
            self.runs[id].status = status
            self.runs[id].end = end if end is not None else self.runs[id].end

    @rule(id=RUNS, stage=st.sampled_from(["active", "deleted"]))
    def change_stage(self, id, stage):
        if id in self.runs:
            self.now += 1
            self.log.change_run(id, stage=stage, at_ms=self.now)
            if stage == "deleted":
                self.deleted.setdefault(id, self.now)
            else:
                self.deleted.pop(id, None)
            self.runs[id].stage = stage

    @rule(id=RUNS, experiment=EXPERIMENTS)
    def move(self, id, experiment):
        if self.attempt(id, lambda: self.log.move_runs([id], experiment)):
            self.runs[id].experiment = experiment

    @rule(id=RUNS)
    def forget(self, id):
        if id in self.runs and self.runs[id].stage == "active":
            return
        self.log.forget([id])
        self.runs.pop(id, None)
        self.deleted.pop(id, None)

    @rule(id=RUNS)
    def compact(self, id):
        if id in self.runs:
            self.log.compact(id)

    @rule()
    def compact_where_due(self):
        self.log.compact()

    @rule()
    def look(self):
        """So that documents are kept, and have to be given up again."""
        for run in self.runs.values():
            with self.log.db.read() as connection:
                row = connection.execute("SELECT id FROM runs WHERE uuid = ?", (run.id,)).fetchone()
            self.log._keep([row[0]])

    @invariant()
    def it_says_the_same(self):
        for run in self.runs.values():
            found = self.log.run(run.id)
            assert (found.experiment, found.status, found.stage, found.name, found.start_ms, found.end_ms) == (
                run.experiment, run.status, run.stage, run.name, run.start, run.end,
            )  # fmt: skip
            assert (found.params, found.tags) == (run.params, run.tags)
            assert {used.name: used.tags for used in found.datasets} == {
                key: {"mlflow.data.context": row[2]} for key, row in run.datasets.items()
            }
            assert {point.key: bits(abs(point.value)) for point in found.metrics} == {
                key: bits(abs(run.latest(key))) for key in run.points
            }
            for key, points in run.points.items():
                items = self.log.history(run.id, key).items
                assert [(bits(p.value), p.at_ms, p.step) for p in items] == [(bits(v), t, s) for v, t, s in points]
            doc = json.loads(self.log.document(run.id))
            assert {tag["key"]: tag["value"] for tag in doc["data"]["tags"]} == run.tags
            assert len(doc["data"]["metrics"]) == len(run.points)
        for experiment in ("0", "1"):
            for view in ("active", "deleted"):
                page = self.log.search_runs([experiment], view=view)
                assert {json.loads(item)["info"]["run_id"] for item in page.items} == {
                    run.id for run in self.runs.values() if (run.experiment, run.stage) == (experiment, view)
                }
        assert {run.id for run in self.log.deleted_before(self.now - 1)} == {
            id for id, at in self.deleted.items() if at < self.now
        }


Calls.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestCalls = Calls.TestCase


def test_no_line_of_logging_and_compacting_leaves_half_a_call(tmp_path):
    path = tmp_path / "runs.db"
    log = SqliteRuns(path)
    log.create_run("0", start_ms=1, id="run")
    log.close()

    def action():
        mine = SqliteRuns(path)
        n = len(mine.history("run", "a").items)
        if n < 6:
            pair = [Point("a", n, n, n), Point("b", -n, n, n)]
            mine.log("run", metrics=pair, params={f"p{n}": "x"}, tags={"last": str(n)})
        mine.compact("run")

    for _ in killed_at_every_line(action, every=17):
        check = SqliteRuns(path)
        found = [point.value for point in check.history("run", "a").items]
        assert found == list(range(len(found)))
        assert [-point.value for point in check.history("run", "b").items] == found
        run = check.run("run")
        assert run.params == {f"p{n:.0f}": "x" for n in found}
        assert not found or run.tags == {"last": str(len(found) - 1)}
        check.close()
    assert len(log.history("run", "a").items) == 6
