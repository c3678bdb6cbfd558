"""`push` and `pull` between folders, files and servers, killed or not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.docs.pages import free_pair

from loopline.interfaces.cli import main
from loopline.store.runs.protocol import Point
from loopline.workspace import FOLDER, Workspace, create_workspace


def a_run(ws: Workspace, id: str, points: int = 20) -> str:
    run = ws.runs.create_run("0", start_ms=1, name="one", user="bob", id=id).id
    ws.runs.log(run, metrics=[Point("m", float(n), n, n) for n in range(points)], params={"p": "x"})
    ws.artifacts.put(run, "a.txt", b"of it" * 1000, at_ms=1)
    ws.runs.change_run(run, status="FINISHED", end_ms=9)
    return run


@pytest.fixture
def both(tmp_path):
    made = [create_workspace(tmp_path / name / FOLDER, actor="user:ada") for name in ("here", "there")]
    a_run(made[1], "a" * 32)
    yield made
    for ws in made:
        ws.close()


def ran(capsys, *words: str) -> tuple[int, dict]:
    code = main.run([*words, "--json"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_folder_is_pulled_from_and_pushed_to(both, capsys):
    here, there = both
    code, told = ran(capsys, "pull", str(there.root.parent), "--workspace", str(here.root))
    assert code == 0 and told["added"]["runs"] == 1 and told["workspace"] == there.id
    a_run(here, "b" * 32)
    code, told = ran(capsys, "push", str(there.root), "--workspace", str(here.root))
    assert code == 0 and told["added"]["runs"] == 1
    assert there.runs.run("b" * 32).params == {"p": "x"} and there.artifacts.read("b" * 32, "a.txt") == b"of it" * 1000
    assert list((here.root / "run").glob("parcel-*")) == []


def test_a_file_carries_what_no_network_does_and_a_wrong_one_changes_nothing(both, capsys, tmp_path):
    here, there = both
    parcel = tmp_path / "team.zip"
    assert ran(capsys, "push", str(parcel), "--workspace", str(there.root))[1]["sent"]["runs"] == 1
    assert ran(capsys, "pull", str(parcel), "--at-most", "1kB", "--workspace", str(here.root))[0] == 2
    (tmp_path / "bad.zip").write_bytes(parcel.read_bytes()[:-30])
    assert ran(capsys, "pull", str(tmp_path / "bad.zip"), "--workspace", str(here.root))[0] == 2
    assert ran(capsys, "pull", str(tmp_path / "none.zip"), "--workspace", str(here.root))[0] == 2
    assert here.runs.count_runs(["0"]) == 0
    assert ran(capsys, "pull", str(parcel), "--workspace", str(here.root))[1]["added"]["runs"] == 1
    here.runs.log("a" * 32, metrics=[Point("m", 70.0, 7, 7)])
    code, told = ran(capsys, "pull", str(parcel), "--workspace", str(here.root))
    assert code == 1 and len(told["refused"]) == 1


def test_a_server_gives_and_takes_what_either_side_lacks_and_asks_for_its_token(both, capsys, monkeypatch):
    here, there = both
    a_run(here, "b" * 32)
    port = free_pair()
    env = {**os.environ, "LOOPLINE_TOKEN": "secret-of-the-test"}
    command = [sys.executable, "-m", "loopline", "track", "--port", str(port), "--workspace", str(there.root)]
    server = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None and "http" in server.stdout.readline()
        address = f"http://127.0.0.1:{port}"
        monkeypatch.delenv("LOOPLINE_TOKEN", raising=False)
        assert ran(capsys, "pull", address, "--workspace", str(here.root))[0] == 3
        monkeypatch.setenv("LOOPLINE_TOKEN", "secret-of-the-test")
        assert ran(capsys, "pull", address, "--workspace", str(here.root))[1]["added"]["runs"] == 1
        assert ran(capsys, "push", address, "--workspace", str(here.root))[1]["added"]["runs"] == 1
        assert set(ran(capsys, "push", address, "--workspace", str(here.root))[1]["added"].values()) == {0}
        assert there.runs.count_runs(["0"]) == here.runs.count_runs(["0"]) == 2
    finally:
        server.terminate()
        server.wait(20)
    assert ran(capsys, "pull", address, "--workspace", str(here.root))[0] == 1


def test_two_pulls_at_once_and_one_that_is_killed_end_with_all_of_it(both, tmp_path, capsys):
    here, there = both
    for n in range(12):
        a_run(there, f"{n:032x}", points=3_000)
    parcel = tmp_path / "team.zip"
    ran(capsys, "push", str(parcel), "--workspace", str(there.root))
    command = [sys.executable, "-m", "loopline", "pull", str(parcel), "--workspace", str(here.root), "--json"]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while here.runs.count_runs(["0"]) < 3 and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    codes: list[int] = []
    others = [threading.Thread(target=lambda: codes.append(subprocess.run(command, capture_output=True).returncode))]
    others[0].start()
    codes.append(main.run(command[3:]))
    others[0].join()
    assert codes == [0, 0]
    assert here.runs.count_runs(["0"], filter="attributes.status = 'FINISHED'") == 13
    assert all(len(here.runs.history(f"{n:032x}", "m").items) == 3_000 for n in range(12))
    assert Path(parcel).exists()
