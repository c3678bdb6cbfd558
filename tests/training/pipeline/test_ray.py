"""On two real Ray nodes of this machine; CI installs Ray with the test environment."""

from __future__ import annotations

import pytest
from tests.training.pipeline.world import CHAIN, HEAD, World

from loopline.base.code import UserCodeError
from loopline.base.errors import Unavailable
from loopline.compute import Place, open_executor
from loopline.compute.ray import packed


@pytest.fixture(scope="module")
def cluster(request):
    ray = request.getfixturevalue("require")("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made
    ray.shutdown()
    made.shutdown()


def test_the_same_project_runs_on_two_nodes_by_configuration_and_shares_its_answers(tmp_path, cluster, monkeypatch):
    flow = CHAIN["flow.py"] + (
        "\n\n@step\ndef where(n: int) -> list:\n    import os, time, numpy as np\n    time.sleep(1.5)\n"
        "    print('on', os.environ.get('RAY_NODE_ID', ''))\n    return [str(Path(__file__).parent), np.arange(n)]\n"
        "\n\n@step\ndef bad() -> int:\n    raise KeyError('theirs')\n"
        "\n\n@step(timeout=1)\ndef hang() -> int:\n    import time\n    time.sleep(60)\n"
        "\n\n@step\ndef read(file: Path) -> str:\n    return file.read_text()\n"
        "\n\n@pipeline\ndef wide():\n    both = where(1), where(2)\n"
        "    return both, total(scale(load(4)), less=0), bad(), hang(), read('in.txt')\n"
    )
    world = World(tmp_path, {**CHAIN, "flow.py": flow, "in.txt": "text"})
    place = f"ray:{cluster.address}"
    run = world.run("flow.py:wide", place=place)
    assert isinstance(world.errors["bad"], UserCodeError)
    assert "theirs" in str(world.errors["bad"])
    assert isinstance(world.errors["hang"], Unavailable)
    assert set(run.steps) == {"where", "where-2", "load", "scale", "total", "read"}
    assert world.step(run, "total").output == 36
    assert world.step(run, "read").output == "text"
    assert world.step(run, "where").output[0] != str(world.root)
    assert not [event for event in world.events if event.kind == "printed" and event.step == "bad"]
    here = world.run("flow.py:main", place="here")
    assert world.ran(here) == set()
    assert world.value(here) == 36
    monkeypatch.setenv("LOOPLINE_COMPUTE", place)
    world.edit("inner.py", "2", "5")
    again = world.run("flow.py:main", place=None)
    assert (world.value(again), again.executor) == (90, "ray")
    assert world.ran(again) == {"scale", "total"}


def test_a_gpu_that_no_node_has_is_not_waited_for(tmp_path, cluster):
    flow = (
        HEAD + "@step(gpus=1, memory='50MB')\ndef a() -> int:\n    return 1\n@pipeline\ndef main():\n    return a()\n"
    )
    world = World(tmp_path, {"flow.py": flow})
    run = world.run(place=f"ray:{cluster.address}")
    assert (world.value(run), world.step(run, "a").device) == (1, "cpu")


def test_a_cluster_that_does_not_answer_is_said(tmp_path, require):
    require("ray")
    with pytest.raises(Unavailable, match="no Ray cluster answers"):
        open_executor(Place.parse("ray:127.0.0.1:1"), tmp_path)


def test_code_travels_and_data_stays(tmp_path):
    (tmp_path / "big.csv").write_text("x")
    (tmp_path / ".loopline").mkdir()
    (tmp_path / ".loopline" / "a.py").write_text("x")
    (tmp_path / "flow.py").write_text("x = 1\n")
    assert b"flow.py" in packed(tmp_path)
    assert b"big.csv" not in packed(tmp_path)
    assert b".loopline" not in packed(tmp_path)
    assert packed(tmp_path) == packed(tmp_path)
