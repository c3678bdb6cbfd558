from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from tests.training.pipeline.world import HEAD, World

from loopline.base.code import UserCodeError
from loopline.base.errors import Invalid, NotFound, Unavailable
from loopline.training.pipeline.declare import step
from loopline.training.pipeline.runner import RUNS
from loopline.training.pipeline.task import FOLDER
from loopline.training.pipeline.typed import fits
from loopline.training.pipeline.verbs import find, pipeline_log, pipeline_run, pipeline_runs, pipeline_step
from loopline.workspace import create_workspace

BRANCHES = (
    HEAD
    + """
import time
from pathlib import Path

@step
def meet(name: str, other: str, where: str, patience: float) -> bool:
    (Path(where) / name).touch()
    until = time.monotonic() + patience
    while not (Path(where) / other).exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True

@step
def both(a: bool, b: bool) -> bool:
    return a and b

@pipeline
def main(where: str, patience: float):
    return both(meet("a", "b", where, patience), meet("b", "a", where, patience))
"""
)


def flow(body: str, returned: str = "a()") -> dict[str, str]:
    """One file with the step `a` and a pipeline of it."""
    return {"flow.py": f"{HEAD}{body}\n@pipeline\ndef main():\n    return {returned}\n"}


@pytest.mark.parametrize("place", ["threads:2", "processes:2"])
def test_branches_run_at_the_same_time(tmp_path, place):
    world = World(tmp_path, {"flow.py": BRANCHES})

    def met(place: str, patience: float) -> object:
        where = tmp_path / place
        where.mkdir()
        return world.value(world.run(params={"where": str(where), "patience": patience}, place=place))

    assert met(place, 60.0) is True
    assert met("here", 0.1) is False


def test_what_a_step_prints_is_passed_on_as_it_runs_and_kept(tmp_path):
    body = "import os\n@step\ndef a() -> int:\n    print('one')\n    os.write(1, b'below python\\n')\n    return 1\n"
    world = World(tmp_path, flow(body))
    run = world.run(place="processes:1")
    assert [e.text for e in world.events if e.kind == "printed"] == ["one", "below python"]
    assert pipeline_log(world.ws, run=run.id, step="a") == "one\nbelow python\n"
    found = world.run()
    assert pipeline_log(world.ws, run=found.id, step="a") == "one\nbelow python\n"
    assert not list((world.ws.root / FOLDER / "logs").rglob("*.log"))


def test_a_step_that_fails_is_tried_again_after_growing_waits_and_the_attempts_are_told(tmp_path):
    body = (
        "@step(retries=2, backoff=0.05)\ndef a() -> int:\n    seen = Path(__file__).with_name('seen')\n"
        "    tries = len(seen.read_text()) if seen.exists() else 0\n    seen.write_text('x' * (tries + 1))\n"
        "    print('try', tries)\n    if tries < 2:\n        raise ConnectionError('later')\n    return tries\n"
    )
    world = World(tmp_path, flow(body))
    run = world.run()
    assert world.value(run) == 2
    assert world.step(run, "a").attempts == 3
    assert [e.text.rpartition("; ")[2] for e in world.events if e.kind == "again"] == [
        "again in 0.05 s",
        "again in 0.1 s",
    ]
    assert pipeline_log(world.ws, run=run.id, step="a") == "try 0\ntry 1\ntry 2\n"


def test_a_failed_step_holds_back_only_the_steps_that_read_it(tmp_path):
    body = (
        "@step\ndef bad() -> int:\n    return {}['missing']\n@step\ndef good() -> int:\n    return 1\n"
        "@step\ndef after(x: int) -> int:\n    return x\n"
    )
    world = World(tmp_path, flow(body, "after(bad()), after(good())"))
    run = world.run()
    assert run.state == "failed"
    assert set(run.steps) == {"good", "after-2"}
    assert isinstance(world.errors["bad"], UserCodeError)
    assert "flow.py" in world.errors["bad"].why
    states = {item["step"]: item["state"] for item in pipeline_run(world.ws, run=run.id)["steps"]}
    assert states == {"bad": "failed", "good": "done", "after": "not run", "after-2": "done"}


@pytest.mark.parametrize("place", ["here", "processes:1"])
def test_a_step_that_hangs_is_killed_with_all_it_started(tmp_path, place):
    body = (
        "import os, subprocess, sys, time\n@step(timeout=1.5)\ndef a() -> int:\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "    Path(__file__).with_name('pids').write_text(f'{os.getpid()} {child.pid}')\n"
        "    time.sleep(60)\n    return 1\n"
    )
    world = World(tmp_path, flow(body))
    assert world.run(place=place).state == "failed"
    assert isinstance(world.errors["a"], Unavailable)
    assert "1.5 s" in world.errors["a"].what
    pids = (world.root / "pids").read_text().split()
    assert not any(_lives(int(pid)) for pid in pids)


def _lives(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_step_whose_process_dies_leaves_the_run_whole(tmp_path):
    body = (
        "import os\n@step\ndef a() -> int:\n    os.kill(os.getpid(), 9)\n    return 1\n"
        "@step\ndef b() -> int:\n    return 1\n"
    )
    world = World(tmp_path, flow(body, "a(), b()"))
    run = world.run(place="processes:1")
    assert (run.state, set(run.steps)) == ("failed", {"b"})
    assert "SIGKILL" in world.errors["a"].what


STEPS = 4
LINE = (
    HEAD
    + f"""
import os, sys

def note(name):
    with open(Path(__file__).with_name("ran"), "a") as out:
        out.write(name + " ")

@step
def begin() -> int:
    note("begin")
    return 0

@step(volatile=True)
def more(x: int, at: int) -> int:
    note(f"more{{at}}")
    kill = Path(__file__).with_name("kill")
    if kill.exists() and kill.read_text() == str(at):
        kill.unlink()
        os.kill(os.getpid(), 9)
    return x + 1

@pipeline
def main():
    x = begin()
    for at in range({STEPS}):
        x = more(x, at)
    return x
"""
)
GO = """
import sys
from dataclasses import replace
from pathlib import Path
from loopline.training.pipeline.verbs import find, run_pipeline
from loopline.workspace import create_workspace
root = Path(sys.argv[1])
ws = create_workspace(root / ".loopline")
run_pipeline(ws, root, find(root, "flow.py:main"))
"""


@pytest.mark.parametrize("at", range(STEPS))
def test_a_run_killed_in_any_step_goes_on_there_and_runs_no_finished_step_twice(tmp_path, at):
    world = World(tmp_path, {"flow.py": LINE})
    (world.root / "kill").write_text(str(at))
    killed = subprocess.run([sys.executable, "-c", GO, str(world.root)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (before,) = pipeline_runs(world.ws)
    assert before["state"] == "killed"
    run = world.run()
    assert world.value(run) == STEPS
    assert run.resumes == before["id"]
    told = (world.root / "ran").read_text().split()
    assert told == ["begin", *(f"more{n}" for n in range(at + 1)), *(f"more{n}" for n in range(at, STEPS))]
    assert world.ws.records.row(RUNS, before["id"]).state == "killed"
    assert world.ran(world.run()) == {f"more-{n}" if n > 1 else "more" for n in range(1, STEPS + 1)}


def test_two_runs_of_one_pipeline_at_once_run_each_step_once(tmp_path):
    body = (
        "import time\n@step\ndef a() -> int:\n    with open(Path(__file__).with_name('ran'), 'a') as out:\n"
        "        out.write('x')\n    time.sleep(0.5)\n    return 1\n"
    )
    world = World(tmp_path, flow(body))
    others = [create_workspace(world.ws.root) for _ in range(2)]
    seen: list[list[str]] = [[], []]

    def go(at):
        from loopline.training.pipeline.verbs import run_pipeline

        run_pipeline(others[at], world.root, find(world.root, "flow.py:main"), watch=lambda e: seen[at].append(e.kind))

    threads = [threading.Thread(target=go, args=(at,)) for at in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (world.root / "ran").read_text() == "x"
    assert sorted(tuple(kinds) for kinds in seen) == [("started", "done"), ("waiting", "found")]


def test_a_run_that_waits_takes_over_at_once_from_one_that_was_killed(tmp_path):
    world = World(tmp_path, {"flow.py": LINE})
    (world.root / "kill").write_text("2")
    subprocess.run([sys.executable, "-c", GO, str(world.root)], capture_output=True)
    began = time.monotonic()
    world.run()
    assert time.monotonic() - began < 10  # the lease itself would hold for 30 s


FULL = """
import resource, signal, sys
from dataclasses import replace
from pathlib import Path
from loopline.training.pipeline.verbs import find, run_pipeline
from loopline.workspace import create_workspace
root = Path(sys.argv[1])
ws = create_workspace(root / ".loopline")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
run = run_pipeline(ws, root, find(root, "flow.py:main"))
print(run.state, sorted(run.steps), run.failed)
"""


def test_a_full_disk_fails_the_step_that_meets_it_and_nothing_else(tmp_path):
    body = "@step\ndef a() -> bytes:\n    return b'x' * 9_000_000\n@step\ndef b() -> int:\n    return 1\n"
    world = World(tmp_path, flow(body, "a(), b()"))
    ended = subprocess.run([sys.executable, "-c", FULL, str(world.root)], capture_output=True, text=True)
    assert ended.stdout.startswith("failed ['b'] {'a': 'the blobs in"), ended.stderr
    run = world.run()
    assert world.ran(run) == {"a"}
    assert world.value(run) == (b"x" * 9_000_000, 1)


def test_a_disk_that_is_full_for_the_records_stops_the_run_and_it_goes_on_later(tmp_path):
    world = World(tmp_path, {"flow.py": LINE})
    world.ws.records.meta("any")
    ended = subprocess.run(
        [sys.executable, "-c", FULL.replace("8 << 20, 8 << 20", "4096, 4096"), str(world.root)],
        capture_output=True,
        text=True,
    )
    assert "the disk is full" in ended.stderr
    assert world.value(world.run()) == STEPS


def test_a_pipeline_that_looks_at_an_answer_is_told_why_it_cannot(tmp_path):
    def refused(body, fits):
        world.write(
            flow("@step\ndef a() -> dict:\n    return {'n': [1, 2]}\n@step\ndef b(x) -> int:\n    return x\n", body)
        )
        with pytest.raises(Invalid, match=fits):
            world.run()

    world = World(tmp_path, flow(""))
    refused("1 if a() else 2", "whether to go by")
    refused("[x for x in a()]", "how many parts")
    refused("a().keys()", ".keys of")
    refused("b()", "missing a required argument")
    refused("1", "calls no step")
    world.write(
        flow(
            "@step\ndef a() -> dict:\n    return {'n': [1, 2]}\n@step\ndef b(x) -> int:\n    return x\n",
            "b(a()['n'][1])",
        )
    )
    assert world.value(world.run()) == 2
    world.write(
        flow(
            "@step\ndef a() -> dict:\n    return {'n': [1, 2]}\n@step\ndef b(x) -> int:\n    return x\n", "b(a()['m'])"
        )
    )
    world.run()
    assert "has no part ['m']" in str(world.errors["b"])


def test_what_a_step_is_given_and_answers_is_what_its_annotations_say(tmp_path):
    steps = """
@step
def typed(a: int, b: float = 1, c: list[int] | None = None, d: int = None, **more) -> str:
    return f"{a}{b}" if a else a
@step
def text(x) -> str:
    return x
"""
    world = World(tmp_path, flow(""))
    for call, due in {
        'typed("x")': r"a of the step typed is 'x' \(str\), not int",
        'typed(1, c={"one": 1})': r"c of the step typed is of type dict, not list\[int\] \| None",
        "text(typed(1, None))": r"b of the step typed is None, not float",
    }.items():
        world.write(flow(steps, call))
        with pytest.raises(Invalid, match=due):
            world.run()
    world.write(flow(steps, 'typed(text("x"))'))
    world.run()
    assert "a of the step typed is 'x' (str), not int" in str(world.errors["typed"])
    world.write(flow(steps, "typed(0), typed(1, 2, [1.5], None, e=3)"))
    world.run()
    assert "typed answered 0 (int), not str" in str(world.errors["typed"]) and list(world.errors) == ["typed"]


@pytest.mark.parametrize(
    ("value", "asked", "fit"),
    [
        (True, int, True),
        (1, bool, False),
        (1, float, True),
        (1.0, int, False),
        (np.int64(1), int, True),
        (np.float32(1), float, True),
        (np.bool_(True), bool, True),
        (np.float64(1), bool, False),
        (np.zeros(2), npt.NDArray[np.float64], True),
        (np.zeros(2), list, False),
        (pl.DataFrame(), pl.DataFrame, True),
        (pl.DataFrame(), pl.LazyFrame, False),
        ((1,), tuple[str, str], True),
        ([1], tuple, False),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        (None, None, True),
        (0, None, False),
        (None, int | None, True),
        ("x", Optional[int], False),  # noqa: UP045
        ("x", Any, True),
        ("x", Sequence[int], True),
        (1, Sequence[int], False),
        (Path("x"), Path, True),
        ("x", Path, False),
        (1, Annotated[str, "note"], False),
        (1, TypeVar("T"), True),
        (1, NewType("Id", str), False),
        ("x", npt.ArrayLike, True),
    ],
)
def test_annotations_are_looked_at_by_class_and_by_that_of_their_container(value, asked, fit):
    assert fits(value, asked) is fit


def test_answers_of_two_pipelines_do_not_mix_so_no_step_can_wait_for_itself(tmp_path):
    body = "kept = []\n@step\ndef a(x: int = 0) -> int:\n    return x\n"
    world = World(tmp_path, flow(body, "(kept.append(a(a())), a(kept[0]))[1]"))
    assert world.value(world.run()) == 0
    with pytest.raises(Invalid, match="another pipeline"):
        World(
            tmp_path / "two",
            flow(
                body + "@pipeline\ndef other():\n    kept.append(a.named('z')(1))\n    return kept[0]\nother.graph()\n",
                "a(kept[0])",
            ),
        ).run()


def test_only_plain_functions_can_be_steps():
    def inner():
        captured = 1

        @step
        def uses() -> int:
            return captured

    with pytest.raises(Invalid, match="uses"):
        inner()
    with pytest.raises(Invalid, match="retries=-1"):
        step(retries=-1)
    with pytest.raises(Invalid, match="timeout='soon'"):
        step(timeout="soon")


def test_a_file_that_runs_its_pipeline_when_imported_is_refused(tmp_path):
    files = flow("@step\ndef a() -> int:\n    return 1\n")
    world = World(tmp_path, {"flow.py": files["flow.py"] + "main.run()\n"})
    with pytest.raises(Invalid, match="__main__"):
        world.run()


def test_a_script_runs_its_pipeline_itself_and_gets_values(tmp_path):
    files = flow("@step\ndef a() -> list:\n    print('hi')\n    return [1, 2.0]\n")
    world = World(tmp_path, {"flow.py": files["flow.py"] + "if __name__ == '__main__':\n    print(main.run())\n"})
    for told in ("a: started: it has not run before\na | hi\n", ""):
        ended = subprocess.run([sys.executable, "flow.py"], cwd=world.root, capture_output=True, text=True)
        assert (ended.stdout, ended.stderr) == ("[1, 2.0]\n", told)


def test_runs_are_listed_and_unknown_names_refused(tmp_path):
    world = World(tmp_path)
    run = world.run()
    (listed,) = pipeline_runs(world.ws)
    assert (listed["id"], listed["state"], listed["finished"], listed["total"]) == (run.id, "done", 3, 3)
    assert pipeline_runs(world.ws, pipeline="no.py:main") == []
    shown = pipeline_run(world.ws, run=run.id[:14])
    assert [(s["step"], s["state"], s["after"]) for s in shown["steps"]] == [
        ("load", "done", []),
        ("scale", "done", ["load"]),
        ("total", "done", ["scale"]),
    ]
    with pytest.raises(NotFound):
        pipeline_run(world.ws, run="zzzz")
    with pytest.raises(NotFound, match="load, scale, total"):
        pipeline_log(world.ws, run=run.id, step="nothing")
    with pytest.raises(NotFound):
        world.run(again=["nothing"])
    assert world.ran(world.run(again=["scale"])) == {"scale"}
    with pytest.raises(Invalid, match="no param 'm'"):
        world.run(params={"m": 1})
    with pytest.raises(Invalid, match="n='many'"):
        world.run(params={"n": "many"})
    with pytest.raises(Invalid, match="is no pipeline"):
        world.run("flow.py:load")


def test_a_gpu_is_asked_for_where_there_is_one_and_the_device_is_recorded(tmp_path):
    from loopline.compute.devices import devices

    body = "import os\n@step(gpus=1)\ndef a() -> str:\n    return os.environ.get('CUDA_VISIBLE_DEVICES', '')\n"
    world = World(tmp_path, flow(body))
    run = world.run()
    if devices():
        assert world.step(run, "a").device.startswith("cuda:0")
        assert world.value(run) == "0"
    else:
        assert world.step(run, "a").device == "cpu"
    driver = tmp_path / "driver"
    for number, name in enumerate(("H200", "L4")):
        (driver / str(number)).mkdir(parents=True)
        (driver / str(number) / "information").write_text(f"Model: \t\t NVIDIA {name}\nIRQ: 1\n")
    assert [(d.number, d.name) for d in devices(driver)] == [(0, "NVIDIA H200"), (1, "NVIDIA L4")]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") in (None, os.environ.get("CUDA_VISIBLE_DEVICES"))


def test_a_run_says_of_each_step_what_it_reads_asks_for_and_of_a_failed_one_why_it_ran_and_what_it_printed(tmp_path):
    body = (
        "@step(cpus=2, memory='1GiB', retries=1, backoff=0.01)\ndef a(n: int) -> list:\n    return [n]\n"
        "@step\ndef b(rows: list, more: list) -> int:\n    print('before it broke')\n    raise ValueError('no')\n"
    )
    world = World(tmp_path, flow(body, "b(a(1), more=[a.named('other')(2)])"))
    run = world.run()
    found = {step["step"]: step for step in pipeline_run(world.ws, run=run.id)["steps"]}
    assert found["a"]["needs"] == {"cpus": 2, "memory": 2**30, "retries": 1, "backoff_s": 0.01}
    assert found["b"]["needs"] == {} and found["b"]["reads"] == {"rows": ["a"], "more": ["other"]}
    assert (found["b"]["state"], found["b"]["why"], found["b"]["attempts"]) == ("failed", ["it has not run before"], 1)
    assert pipeline_log(world.ws, run=run.id, step="b") == "before it broke\n"


def test_a_run_whose_process_has_ended_is_called_killed_before_anybody_takes_it_up(tmp_path):
    world = World(tmp_path)
    run = world.run()
    ended = subprocess.run(
        [sys.executable, "-c", "from loopline.base.process import holder; print(holder())"], capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    row = world.ws.records.row(RUNS, run.id)
    with world.ws.records.transaction() as tx:
        doc = {**row.doc, "steps": {}, "running": ["load"], "holder": ended.stdout.strip()}
        tx.save(replace(row, state="running", generation=row.generation + 1, doc=doc), expect=row.generation)
    found = pipeline_run(world.ws, run=run.id)
    assert found["state"] == pipeline_runs(world.ws)[0]["state"] == "killed"
    assert [step["state"] for step in found["steps"]] == ["killed", "not run", "not run"]
    assert "holder" not in found


def test_one_step_is_told_whole_with_what_it_answered_and_the_run_that_its_answer_was_found_in(tmp_path):
    body = (
        "import polars as pl\n@step\ndef a() -> dict:\n    rows = pl.DataFrame({'x': [1, 2]})\n"
        "    return {'rows': rows, 'names': ['Ada'], 'auc': 0.75}\n"
        "@step\ndef b(one: dict) -> int:\n    raise ValueError('one line\\nand another')\n"
    )
    world = World(tmp_path, flow(body, "b(a())"))
    first, second = world.run(), world.run()
    told = pipeline_step(world.ws, run=second.id, step="a")
    assert (told["state"], told["found_in"]) == ("found", first.id)
    parts = dict(told["answer"]["parts"])
    assert parts["rows"]["kind"] == "frame, 2 × 1" and parts["rows"]["bytes"] > 0
    assert parts["auc"] == {"kind": "number", "text": "0.75"} and parts["names"] == {"kind": "list of 1"}
    failed = pipeline_step(world.ws, run=first.id, step="b")
    assert failed["answer"] is None and "and another" in failed["error"]
    assert "and another" not in pipeline_run(world.ws, run=first.id)["steps"][1]["error"]
    shutil.rmtree(world.ws.root / FOLDER)
    assert dict(pipeline_step(world.ws, run=first.id, step="a")["answer"]["parts"])["rows"]["bytes"] is None
