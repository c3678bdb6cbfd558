import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loopline.base.code import UserCodeError
from loopline.base.errors import FAMILIES, Invalid, Unavailable
from loopline.compute import Pool, StepFailed, StepSpec, run_step
from loopline.compute.process import Child

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE)


def step(name, **args):
    return StepSpec(f"steps:{name}", args)


def test_a_step_gets_the_workspace_and_its_arguments_and_runs_elsewhere(tmp_path):
    result = run_step(step("echo", number=1, text="ä\n", nested={"a": [None, True]}), workspace=tmp_path)
    assert result["args"] == {"number": 1, "text": "ä\n", "nested": {"a": [None, True]}}
    assert result["workspace"] == str(tmp_path)
    assert result["pid"] != os.getpid()


def test_large_arguments_and_results_pass(tmp_path):
    text = "x" * 3_000_000
    assert run_step(step("echo", text=text), workspace=tmp_path)["args"]["text"] == text


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps what was freed below something that is held")
def test_what_a_step_has_freed_does_not_weigh_on_the_next(tmp_path):
    with Child(tmp_path) as child:
        before = child.run(step("resident"))["bytes"]
        child.run(step("hoard", rows=10_000))
        assert child.run(step("resident"))["bytes"] - before < 30e6


def test_what_a_step_prints_goes_to_its_log_and_not_into_its_result(tmp_path, capfd):
    assert run_step(step("shout"), workspace=tmp_path, log=tmp_path / "logs" / "step.log") == {}
    text = (tmp_path / "logs" / "step.log").read_text()
    assert {"to the output", "below python", "to the errors"} <= set(text.splitlines())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_error_of_each_family_is_raised_here_as_it_was_there(tmp_path, family):
    with pytest.raises(FAMILIES[family]) as raised:
        run_step(step("refuse", family=family), workspace=tmp_path)
    assert (raised.value.what, raised.value.why, raised.value.fix) == ("what", "why", "fix")
    notes = "\n".join(raised.value.__notes__)
    assert "in refuse" in notes
    assert "about to refuse" in notes


def test_the_users_own_traceback_comes_along(tmp_path):
    with pytest.raises(UserCodeError, match="theirs") as raised:
        run_step(step("run_user_code"), workspace=tmp_path)
    assert 'raise ZeroDivisionError("theirs")' in raised.value.why


@pytest.mark.parametrize(
    ("name", "said"), [("bug", "KeyError: 'missing'"), ("give", "TypeError"), ("leave", "SystemExit")]
)
def test_a_bug_in_a_step_is_no_loopline_error_and_keeps_its_traceback(tmp_path, name, said):
    with pytest.raises(StepFailed, match=said) as raised:
        run_step(step(name), workspace=tmp_path)
    assert "Traceback" in str(raised.value)


@pytest.mark.parametrize("entrypoint", ["no_such_module:f", "steps:no_such_function"])
def test_a_step_that_does_not_exist_says_so(tmp_path, entrypoint):
    with pytest.raises(StepFailed, match="no_such"):
        run_step(StepSpec(entrypoint), workspace=tmp_path)


@pytest.mark.parametrize(("how", "said"), [("signal", "signal 9"), ("exit", "exit code 3")])
def test_a_process_that_vanishes_is_unavailable(tmp_path, how, said):
    with pytest.raises(Unavailable, match=said):
        run_step(step("vanish", how=how), workspace=tmp_path)


def gone(pid, within_s=10.0):
    limit = time.monotonic() + within_s
    while time.monotonic() < limit:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def written(path):
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        if path.exists() and path.read_text():
            return [int(pid) for pid in path.read_text().split()]
        time.sleep(0.02)
    raise AssertionError("the step did not begin")


def test_a_step_out_of_time_is_stopped_with_all_it_started(tmp_path):
    pids = tmp_path / "pids"
    for given in (1.5, 6.0, 20.0):  # a busy machine may not even begin in the first
        with pytest.raises(Unavailable, match=f"after {given:g} s"):
            run_step(step("sleep_with_a_child", pids=str(pids)), workspace=tmp_path, timeout_s=given)
        if pids.exists() and pids.read_text():
            break
    assert all(gone(pid) for pid in written(pids))


@pytest.mark.parametrize("name", ["sleep_with_a_child", "hold_the_interpreter"])
@pytest.mark.parametrize("pooled", [False, True])
def test_a_step_dies_with_a_caller_that_is_killed(tmp_path, name, pooled):
    pids = tmp_path / "pids"
    spec = f"StepSpec('steps:{name}', {{'pids': {str(pids)!r}}})"
    act = f"Pool('.', workers=1).map([{spec}])" if pooled else f"run_step({spec}, workspace='.')"
    caller = subprocess.Popen([sys.executable, "-c", f"from loopline.compute import *; {act}"])
    step_pid = written(pids)[0]
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    assert gone(step_pid)


def test_a_pool_runs_steps_side_by_side_and_keeps_its_processes(tmp_path):
    with Pool(tmp_path, workers=2) as pool:
        results = pool.map([step("echo", n=n) for n in range(6)])
        assert [result["args"]["n"] for result in results] == list(range(6))
        assert 1 <= len({result["pid"] for result in results}) <= 2
        with pytest.raises(Unavailable):
            pool.map([step("vanish", how="signal"), step("echo", n=1), step("echo", n=2)])
        with pytest.raises(FAMILIES["denied"]):
            pool.map([step("refuse", family="denied"), step("echo", n=1)])
        assert pool.map([step("echo", n=7)])[0]["args"] == {"n": 7}


@pytest.mark.parametrize("entrypoint", ["", "steps", "steps:", ":f", "a b:f", "steps:f()", "../x:f", "steps:os.system"])
def test_only_a_function_of_a_module_names_a_step(entrypoint):
    with pytest.raises(Invalid):
        StepSpec(entrypoint)


@pytest.mark.parametrize("value", [object(), float("nan"), b"bytes", {1, 2}])
def test_arguments_must_be_json(tmp_path, value):
    with pytest.raises(Invalid, match="not JSON"):
        run_step(step("echo", value=value), workspace=tmp_path)


def test_a_step_has_an_id_by_its_content():
    assert step("echo", a=1, b=2).id == step("echo", b=2, a=1).id
    assert step("echo", a=1).id != step("echo", a=2).id
    assert StepSpec.from_json(step("echo", a=1).to_json()) == step("echo", a=1)


def test_a_polite_process_stands_back_within_its_session_and_with_it(tmp_path):
    with Child(tmp_path) as child, Child(tmp_path, polite=True) as polite:
        ours, theirs = (one.run(step("standing")) for one in (child, polite))
    assert theirs["nice"] == 15
    if theirs["session"] is not None:
        assert theirs["session"].endswith("nice 15") and ours["session"].endswith("nice 0")
