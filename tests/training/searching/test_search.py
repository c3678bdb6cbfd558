from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.world import FRAMING, project, rows, training_set, workspace

from loopline import training
from loopline.base.errors import Invalid
from loopline.base.ids import iso
from loopline.interfaces.cli.progress import Progress
from loopline.interfaces.cli.search import rows_now, searched_rows
from loopline.loop.project import load
from loopline.loop.steps import prepare
from loopline.training import Search, SearchSpec, TrainingSpec, Trial, load_bundle
from loopline.training.searching.choice import best, front
from loopline.training.searching.plots import KINDS, drawn
from loopline.training.searching.proposing import Proposals
from loopline.training.searching.space import possible
from loopline.training.searching.validation import cut
from loopline.training.spec import SplitSpec

pytest.importorskip("optuna", reason="the extra loopline[search] is not installed")

NOW = datetime(2030, 1, 1, tzinfo=UTC)
RECIPE = """
import time

import numpy as np


class Line:
    def __init__(self, slope):
        self.slope = slope

    def predict_proba(self, X):
        score = 1 / (1 + np.exp(-self.slope * np.nan_to_num(X.to_numpy()[:, 0])))
        return np.column_stack([1 - score, score])


def fit(X, y, slope=1.0, kind="plain", report=None):
    if kind == "broken":
        raise ValueError("no such kind")
    if kind == "slow":
        time.sleep(0.4)
    for step in range(3):
        report(slope * (step + 1), step)
    from lightgbm import LGBMClassifier

    rate = min(0.9, abs(slope) / 10 + 0.01)
    return LGBMClassifier(n_estimators=2, num_leaves=3, learning_rate=rate, n_jobs=1, verbose=-1).fit(X, y)
"""
SPACE = {"slope": {"low": -5.0, "high": 5.0}, "kind": ["plain", "slow"]}


def declared(**search) -> TrainingSpec:
    return TrainingSpec.model_validate({"recipe": "train.py:fit", "search": {"params": SPACE, **search}})


def small_world(folder: Path):
    ws = workspace(folder / "ws")
    held = training_set(ws, rows(400))
    with ws.records.transaction() as tx:
        tx.put(held)
    return ws, project(folder / "p", RECIPE), held


def searched(world, spec: TrainingSpec, **more):
    ws, folder, held = world
    return training.search(
        ws,
        folder,
        training=spec,
        training_set=held,
        framing=FRAMING,
        primary="log_loss",
        author="user:ada",
        tracked=False,
        **more,
    )


def trials(world, search: Search) -> list[tuple]:
    found = sorted(world[0].records.find(Trial, search=search.id), key=lambda one: one.number)
    return [(one.number, one.params, one.state, one.values, one.reported) for one in found]


@pytest.fixture
def world(tmp_path):
    found = small_world(tmp_path)
    yield found
    found[0].close()


def a_trial(number: int, values: tuple[float, ...] = (), state: str = "complete", **more) -> Trial:
    return Trial(f"t{number}", "s", number, more.pop("params", {}), state, values, {}, (), None, "r", 0.0, NOW, {})


def a_search(*objectives: tuple[str, str]) -> Search:
    return Search("s", "set", "problem", "a.py:f", objectives, {}, {}, 0, {}, "user:ada", "r", NOW)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=12))
def test_the_front_holds_whatever_no_trial_beats_and_the_pick_is_the_first_best_of_it(values):
    search = a_search(("roc_auc", "maximize"), ("brier", "minimize"))
    made = [a_trial(at, (float(one), float(other))) for at, (one, other) in enumerate(values)]
    made.append(a_trial(len(made), state="failed"))
    slow = [
        one.number
        for one, (a, b) in zip(made, values, strict=False)
        if not any(c >= a and d <= b and (c > a or d < b) for c, d in values)
    ]
    assert [one.number for one in front(search, made)] == slow
    top = max(a for a, _ in values)
    least = min(b for a, b in values if a == top)
    assert best(search, made).number == values.index((top, least))
    assert best(search, made, pick="balanced").number in slow


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=10), st.sampled_from(["maximize", "minimize"]))
def test_with_one_objective_the_best_is_the_argmax_of_the_recorded_trials(values, way):
    made = [a_trial(at, (value,)) for at, value in enumerate(values)]
    wanted = max(values) if way == "maximize" else min(values)
    assert best(a_search(("m", way)), list(reversed(made))).number == values.index(wanted)
    assert best(a_search(("m", way)), [a_trial(0, state="failed")]) is None


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "cmaes"])
def test_what_is_proposed_next_is_the_same_from_memory_and_from_records(sampler):
    pytest.importorskip("cmaes")
    space = {"a": {"low": 0.01, "high": 1, "log": True}, "b": {"low": 1, "high": 9, "int": True}}
    spec = SearchSpec.model_validate({"params": space, "sampler": sampler, "trials": 24})
    through = Proposals(spec, ["maximize"], [])
    for number in range(24):
        params, _ = through.propose(number)
        kept = through.kept(number)
        made = Trial(f"t{number}", "s", number, params, "complete", (-params["a"],), {}, (), None, "r", 0.0, NOW, kept)
        through.add(made)
    again = Proposals(spec, ["maximize"], [one for one in through.done.values() if one.number < 17])
    assert again.propose(17)[0] == through.propose(17)[0]
    assert all("optimizer" not in str(one.memory) for one in through.done.values()), "no pickle is recorded"


def test_a_grid_tries_every_point_once_whatever_the_seed():
    space = {"a": {"low": 0, "high": 1, "step": 0.5}, "b": ["x", "y"], "c": {"low": 1, "high": 2, "int": True}}
    orders = set()
    for seed in (0, 1):
        spec = SearchSpec.model_validate({"params": space, "sampler": "grid", "seed": seed, "trials": 100})
        proposals = Proposals(spec, ["maximize"], [])
        points = [tuple(proposals.propose(n)[0][name] for name in "abc") for n in range(possible(spec))]
        assert sorted(points) == sorted((a, b, c) for a in (0.0, 0.5, 1.0) for b in "xy" for c in (1, 2))
        orders.add(tuple(points))
    assert len(orders) == 2


@given(st.integers(10, 200), st.floats(0.05, 0.9), st.sampled_from(["time", "random"]))
def test_rows_to_judge_on_are_cut_from_the_training_rows_the_newest_by_time(count, share, by):
    frame = rows(count + 40, seed=count).filter(split="train")
    try:
        fit, judged, about = cut(frame, SplitSpec(by=by), share, seed=1)
    except Invalid:
        return
    assert fit.height + judged.height == frame.height
    assert (about["fitted"], about["rows"]) == (fit.height, judged.height)
    assert not set(fit["unit"]) & set(judged["unit"])
    if by == "time":
        assert fit["decision_time"].max() < judged["decision_time"].min()


def test_a_search_finds_the_same_alone_and_two_at_once_and_goes_on_when_more_is_asked(world, tmp_path):
    one, picked = searched(world, declared(sampler="random", trials=4, parallel=2))
    assert picked.values[0] == min(values[0] for _, _, state, values, _ in trials(world, one) if state == "complete")
    other = small_world(tmp_path / "other")
    two, _ = searched(other, declared(sampler="random", trials=3, parallel=1))
    assert two.id == one.id
    assert trials(other, two) == trials(world, one)[:3]
    more, _ = searched(other, declared(sampler="random", trials=4, parallel=1))
    assert (more.id, trials(other, more)) == (one.id, trials(world, one))
    other[0].close()


def test_the_best_trial_trains_the_candidate_and_stands_in_its_bundle(world):
    ws, folder, held = world
    spec = declared(trials=2, sampler="random", objectives=["roc_auc", "brier"])
    search, picked = searched(world, spec)
    more = {"training_set": held, "framing": FRAMING, "author": "user:ada", "tracked": False}
    run, model = training.train(ws, folder, training=spec, trial=picked, **more)
    told = load_bundle(ws.blobs.path(model.bundle)).manifest["search"]
    assert (told["id"], told["trial"], told["params"]) == (search.id, picked.number, picked.params)
    assert set(told["values"]) == {"roc_auc", "brier"} and told["space"]["params"].keys() == SPACE.keys()
    assert run.params == picked.params
    with pytest.raises(Invalid, match="a search for params is declared"):
        training.train(ws, folder, training=spec, **more)
    found = training.search_result(ws, search.id[:10])
    assert found["best"] == picked.number and picked.number in found["front"]
    for kind in KINDS:
        assert drawn(found, kind).startswith("<svg") and "nan" not in drawn(found, kind)


def test_a_trial_that_raises_is_failed_and_the_search_goes_on_and_pruned_ones_end_early(world):
    space = {"slope": [1.0, 2.0, 3.0, 4.0, 5.0, -3.0], "kind": ["plain", "broken"]}
    spec = declared(params=space, sampler="grid", trials=12, pruner="median", parallel=2, metric="roc_auc")
    search, _ = searched(world, spec)
    found = trials(world, search)
    assert [one[2] for one in found if one[1]["kind"] == "broken"] == ["failed"] * 6
    late = [one for one in found if one[2] == "pruned"]
    assert late and all(len(one[4]) < 3 and one[3] == () for one in late)
    errors = [one.error for one in world[0].records.find(Trial, state="failed")]
    assert all("no such kind" in error for error in errors)


def test_a_killed_search_goes_on_and_ends_with_the_same_trials(world, tmp_path):
    ws, folder, _ = world
    script = f"""
from pathlib import Path
from tests.training.searching.test_search import declared, searched
from tests.training.world import workspace
from loopline.features.nouns import TrainingSet
ws = workspace(Path({str(ws.root)!r}))
spec = declared(sampler="random", trials=4, parallel=2)
searched((ws, Path({str(folder)!r}), ws.records.find(TrainingSet)[0]), spec, tell=lambda *a: print(*a, flush=True))
"""
    root = Path(__file__).parents[3]
    going = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert going.stdout is not None and going.stdout.readline()
    going.send_signal(signal.SIGKILL)
    going.wait()
    before = {one.id: one.ended_at for one in ws.records.find(Trial)}
    assert 0 < len(before) < 4
    time.sleep(0.1)
    search, _ = searched(world, declared(sampler="random", trials=4, parallel=2))
    after = {one.id: one.ended_at for one in ws.records.find(Trial)}
    assert before.items() <= after.items() and len(after) == 4
    undisturbed = small_world(tmp_path / "undisturbed")
    other, _ = searched(undisturbed, declared(sampler="random", trials=4, parallel=1))
    assert trials(undisturbed, other) == trials(world, search)
    undisturbed[0].close()


@pytest.mark.parametrize(
    ("search", "what"),
    [
        ({"params": {"a": {"low": 3, "high": 1}}}, "nothing to search"),
        ({"params": {"a": {"low": 0, "high": 1, "log": True}}}, "above zero"),
        ({"params": {"a": {"low": 0.5, "high": 3, "int": True}}}, "whole numbers"),
        ({"params": {"a": []}}, "low and high"),
        ({"params": {"a": ["x", "x"]}}, "stands twice"),
        ({"params": {"a": {"low": 0, "high": 1}}, "sampler": "grid"}, "a grid needs steps"),
        ({"params": {"a": ["x", "y"]}, "sampler": "cmaes"}, "two ranges"),
        ({"params": {"a": ["x"]}, "objectives": ["brier", "roc_auc"], "pruner": "median"}, "cannot be pruned"),
        ({"params": {"a": ["x"]}, "metric": "brier", "direction": "maximize"}, "better smaller"),
    ],
)
def test_an_impossible_search_is_refused_with_the_reason(search, what):
    with pytest.raises(ValueError, match=what):
        TrainingSpec.model_validate({"recipe": "a.py:f", "search": search})


def test_specs_of_before_keep_their_ids():
    assert TrainingSpec(recipe="a.py:f").id == "1e51521233aba0d4c74dbb5498c464bf70159e63989dcff01f0630947f6137cc"
    assert TrainingSpec.model_validate({"recipe": "a.py:f", "search": "none"}).search is None


def test_without_optuna_the_search_says_what_to_install():
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "import loopline.training.searching.verbs\n"
        "try:\n    import loopline.training.searching.proposing\n"
        "except Exception as error:\n    print(error.fix)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    index, clone = done.stdout.strip().split("; in a clone: ")
    assert index == 'pip install "loopline[search]"'
    assert clone == '.venv/bin/python -m pip install -e ".[search]"'


def test_the_rows_searched_by_hand_are_those_that_the_loop_would_train_on_now_whatever_was_cut_before(tmp_path):
    def declare(table: str) -> None:
        (tmp_path / "loop.yaml").write_text(
            "name: churn\nframing: {label: churned, unit: id, decision_time: seen}\n"
            f"data: {{{table}: {{source: {table}.csv, known_at: seen, key: id}}}}\ntraining: train.py:fit\n"
        )

    for table, count in (("customers", 60), ("people", 40)):
        lines = [f"c{n},2021-01-{1 + n % 28:02d}T06:00:00Z,{n % 7},{n % 3 == 0:d}" for n in range(count)]
        (tmp_path / f"{table}.csv").write_text("\n".join(["id,seen,age,churned", *lines]) + "\n")
    project(tmp_path, RECIPE)
    ws = workspace(tmp_path / ".loopline")
    for table, count in (("customers", 60), ("people", 40)):
        declare(table)
        held = rows_now(ws, load(tmp_path), Progress(quiet=True))
        told = searched_rows(ws, held.id)
        assert (told["tables"], told["train_rows"] + told["test_rows"]) == ([table], count)
        args = {"project": tmp_path, "actor": "user:ada", "at": iso(ws.clock()), "search_leaks": False}
        assert prepare(ws.root, **args) == {"training_set": held.id}
    ws.close()
