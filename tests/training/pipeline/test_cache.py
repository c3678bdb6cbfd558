from __future__ import annotations

import shutil
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.training.pipeline.world import CHAIN, HEAD, World

from loopline.base.errors import Invalid, NotFound
from loopline.training.pipeline.task import store
from loopline.training.pipeline.verbs import find, why_rerun


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_pipeline_answers_as_the_plain_functions_do_and_runs_no_step_twice(world):
    first = world.run()
    assert world.value(first) == sum(2 * 3 * n for n in range(4))
    assert world.ran(first) == {"load", "scale", "total"}
    again = world.run()
    assert world.ran(again) == set()
    assert world.value(again) == world.value(first)


def test_a_step_runs_again_for_what_it_reads_and_says_so(world):
    world.run()
    second = world.run(params={"n": "5"})
    assert world.ran(second) == {"load", "scale", "total"}
    assert world.why(second, "load") == ("param n was 4, is 5",)
    assert world.why(second, "scale") == ("input rows: load answered something else",)
    third = world.run(params={"n": 5, "less": 1})
    assert world.ran(third) == {"total"}
    fourth = world.run(params={"n": 5}, seed=7)
    assert world.why(fourth, "load") == ("the seed was 0, is 7",)


def test_a_changed_helper_of_a_helper_runs_a_step_again_in_the_same_process(world):
    world.run()
    world.edit("inner.py", "2", "5")
    run = world.run()
    assert world.ran(run) == {"scale", "total"}
    assert world.why(run, "scale") == ("inner.py changed",)
    assert world.value(run) == sum(5 * 3 * n for n in range(4))
    for name in ("helper", "inner"):  # flow.py still holds what they gave it
        sys.modules.pop(name, None)
    world.edit("inner.py", "5", "7")
    assert world.value(world.run()) == sum(7 * 3 * n for n in range(4))


def test_comments_docstrings_other_files_and_other_steps_run_nothing_again(world):
    world.run()
    world.edit("helper.py", "def double(x):\n", 'def double(x):\n    """Twice."""  # said\n')
    world.edit("other.py", "1", "2")
    world.edit("flow.py", "UNUSED = 1", "UNUSED = 2")
    world.edit("flow.py", "@step\ndef load", "@step(retries=3)\ndef load")
    assert world.ran(world.run()) == set()
    world.edit("flow.py", "sum(rows) - less", "sum(rows) + less")
    assert world.ran(world.run()) == {"total"}


def test_a_step_that_answers_the_same_again_stops_the_change_there(world):
    world.run()
    world.edit("flow.py", "list(range(n))", "[*range(n)]")
    assert world.ran(world.run()) == {"load"}


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_an_answer_that_is_gone_or_damaged_is_made_again(tmp_path, harm):
    world = World(
        tmp_path,
        {
            "flow.py": HEAD
            + "@step\ndef a() -> bytes:\n    return b'x' * 9000\n@pipeline\ndef main():\n    return a()\n"
        },
    )
    made = world.step(world.run(), "a")
    path = store(world.ws.root).where(made.blobs[0])
    if harm == "gone":
        path.unlink()
    else:
        path.chmod(0o644)
        path.write_bytes(b"y" * 9000)
    run = world.run()
    assert world.ran(run) == {"a"}
    assert harm in world.why(run, "a")[0]
    assert world.value(run) == b"x" * 9000


def test_the_content_of_a_path_is_an_input(tmp_path):
    flow = HEAD + (
        "@step\ndef read(file: Path) -> str:\n    return file.read_text()\n"
        "@pipeline\ndef main(file: str = 'in.txt'):\n    return read(file)\n"
    )
    world = World(tmp_path, {"flow.py": flow, "in.txt": "one"})
    assert world.value(world.run()) == "one"
    assert world.ran(world.run()) == set()
    world.write({"in.txt": "two"})
    run = world.run()
    assert world.value(run) == "two"
    assert world.why(run, "read") == ("input file: its content changed",)
    (world.root / "in.txt").unlink()
    assert world.run().state == "failed"
    assert isinstance(world.errors["read"], Invalid)


def test_extra_files_variables_and_volatile_count(tmp_path, monkeypatch):
    flow = HEAD + (
        "@step(extra_files='*.sql', env='FLAVOUR')\ndef a() -> int:\n    return 1\n"
        "@step(volatile=True)\ndef b() -> int:\n    return 2\n"
        "@pipeline\ndef main():\n    return a(), b()\n"
    )
    world = World(tmp_path, {"flow.py": flow, "q.sql": "select 1"})
    assert world.ran(world.run()) == {"a", "b"}
    assert world.ran(world.run()) == {"b"}
    monkeypatch.setenv("FLAVOUR", "sweet")
    assert world.why(world.run(), "a") == ("environment variable FLAVOUR changed",)
    world.write({"q.sql": "select 2"})
    assert world.why(world.run(), "a") == ("q.sql changed",)
    assert "sweet" not in str(world.step(world.run(), "a").parts)
    (world.root / "q.sql").unlink()
    world.run()
    assert isinstance(world.errors["a"], NotFound)


def test_verify_names_modules_that_reading_the_code_does_not_find(world):
    world.edit(
        "flow.py",
        "    return sum(rows)",
        "    import importlib\n    importlib.import_module('other')\n    return sum(rows)",
    )
    assert world.step(world.run(verify=True), "total").missed == ("other.py",)
    world.edit("flow.py", "@step\ndef total", "@step(extra_files='other.py')\ndef total")
    assert world.step(world.run(verify=True), "total").missed == ()


def test_why_rerun_tells_without_running(world):
    def asked(step, **params):
        return why_rerun(world.ws, world.root, find(world.root, "flow.py:main"), step=step, params=params)

    assert asked("load") == {"step": "load", "would_run": True, "why": ["it has not run before"], "last": None}
    world.run()
    assert asked("scale")["would_run"] is False
    world.edit("inner.py", "2", "5")
    told = asked("scale")
    assert (told["would_run"], told["why"], told["last"]["why"]) == (
        True,
        ["inner.py changed"],
        ["it has not run before"],
    )
    assert asked("total")["would_run"] is None
    assert asked("total")["why"][0].startswith("scale would run first")
    with pytest.raises(NotFound, match="load, scale, total"):
        asked("nothing")


EDITS = {
    "comment": ("flow.py", "FACTOR = 3", "FACTOR = 3  # {n}", set()),
    "docstring": ("helper.py", "def double(x):\n", 'def double(x):\n    "says {n}"\n', set()),
    "inner": ("inner.py", "TWO = 2", "TWO = 2 * {n}", {"scale"}),
    "helper": ("helper.py", "return x * TWO", "return x * TWO * {n}", {"scale"}),
    "value": ("flow.py", "FACTOR = 3", "FACTOR = 3 * {n}", {"scale"}),
    "load": ("flow.py", "list(range(n))", "list(range(n)) + [{n}]", {"load"}),
    "total": ("flow.py", "sum(rows)", "sum(rows) * {n}", {"total"}),
    "unreached": ("flow.py", "UNUSED = 1", "UNUSED = {n}", set()),
    "other": ("other.py", "LONELY = 1", "LONELY = {n}", set()),
    "space": ("inner.py", "TWO = 2", "\n\nTWO  =  2\n" + "\n" * 2, set()),
}


def _slowly(files, n, less):
    """The pipeline by its definition: the files, run as plain Python."""
    inner, helper, scope = {}, {}, {}
    exec(files["inner.py"], inner)
    exec(files["helper.py"].replace("from inner import TWO", f"TWO = {inner['TWO']}"), helper)
    body = files["flow.py"].replace("from helper import double", "").replace("@step\n", "").replace("@pipeline\n", "")
    scope["double"] = helper["double"]
    exec(body, scope)
    return scope["main"](n, less)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moves=st.lists(
        st.tuples(st.sampled_from(sorted(EDITS)), st.integers(2, 4), st.integers(3, 4), st.integers(0, 1)),
        min_size=2,
        max_size=5,
    )
)
def test_a_step_runs_if_and_only_if_its_code_or_an_input_is_new_and_no_answer_is_ever_stale(tmp_path_factory, moves):
    folder = tmp_path_factory.mktemp("law")
    world = World(folder)
    seen: dict[str, set] = {"load": set(), "scale": set(), "total": set()}
    try:
        for at, (edit, number, n, less) in enumerate(moves):
            file, old, new, touched = EDITS[edit]
            files = dict(CHAIN)
            files[file] = files[file].replace(old, new.replace("{n}", str(number)))
            world.root = folder / str(at)  # a copy that no module was loaded from, as in a process that begins now
            world.write(files)
            for name in ("helper", "inner"):
                sys.modules.pop(name, None)
            run = world.run(params={"n": n, "less": less})
            assert world.value(run) == _slowly(files, n, less)
            code = (edit, number) if touched else None
            inputs = {
                "load": (n,),
                "scale": (str(world.step(run, "load").output),),
                "total": (str(world.step(run, "scale").output), less),
            }
            for name, given_to in inputs.items():
                mark = (code if name in touched else None, given_to)
                assert (name in world.ran(run)) == (mark not in seen[name]), (name, edit, world.why(run, name))
                seen[name].add(mark)
    finally:
        world.ws.close()
        sys.path[:] = [path for path in sys.path if not path.startswith(str(folder))]
        shutil.rmtree(folder)
