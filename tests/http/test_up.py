"""`loopline up` keeps a data plane beside it: one, on the port it says, for as long as it runs."""

from __future__ import annotations

import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from loopline import serving
from loopline.base.errors import Conflict, Invalid
from loopline.base.process import holder
from loopline.base.settings import child_environment
from loopline.interfaces.cli import main
from loopline.interfaces.cli.answer import FAILED
from loopline.interfaces.http.listening import require_free
from loopline.interfaces.http.seats import seated
from loopline.interfaces.serve import DataPlane
from loopline.loop.project import load
from loopline.testing.loops import small_project
from loopline.workspace import FOLDER, Workspace, create_workspace

NAME = "small"
PATIENCE_S = 30


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    project = small_project(tmp_path / "small", {})
    found = create_workspace(project.root / FOLDER, actor="service:loop")
    yield found
    if pid := serving.supervisor_pid(found, NAME):
        os.kill(pid, signal.SIGTERM)
        until(lambda: serving.supervisor_pid(found, NAME) is None)
    for left in (found.root / "run").glob("*.worker"):
        with suppress(ProcessLookupError):
            os.kill(int(left.stem.rpartition("-")[2]), signal.SIGKILL)
    found.close()


def free() -> int:
    """A port that is free, and so is the next."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answers(port: int) -> bool:
    door = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        door.request("GET", "/v2/health/live")
        return door.getresponse().status == 200
    except OSError:
        return False
    finally:
        door.close()


def test_a_supervisor_that_was_killed_is_started_again_on_its_port(ws: Workspace):
    port = free()
    plane = DataPlane(ws, NAME, port, 1)
    plane.start()
    first = serving.supervisor_pid(ws, NAME)
    assert first is not None
    until(lambda: answers(port))
    os.kill(first, signal.SIGKILL)
    until(lambda: serving.supervisor_pid(ws, NAME) not in (None, first))
    assert answers(port)
    plane.leave()
    plane.stop()
    assert serving.supervisor_pid(ws, NAME) is None


def test_the_workers_of_a_killed_supervisor_do_not_keep_its_port_from_the_next(ws: Workspace):
    port = free()
    plane = DataPlane(ws, NAME, port, 1)
    plane.start()
    until(lambda: answers(port))
    plane.leave()
    first = serving.supervisor_pid(ws, NAME)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: serving.supervisor_pid(ws, NAME) is None)
    assert serving.workers_left(ws, NAME)
    assert answers(port)
    again = DataPlane(ws, NAME, port, 1)
    again.start()
    assert answers(port)
    again.leave()
    again.stop()


def test_a_plane_on_another_port_is_refused_and_the_running_one_goes_on(ws: Workspace):
    port, other = free(), free()
    plane = DataPlane(ws, NAME, port, 1)
    plane.start()
    until(lambda: answers(port))
    second = DataPlane(ws, NAME, other, 1)
    with pytest.raises(Conflict, match=f"on port {port} already"):
        second.start()
    second.leave()
    second.stop()
    assert answers(port)
    plane.leave()
    plane.stop()


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_that_does_not_exist_is_refused_in_words(port: int):
    with pytest.raises(Invalid, match="does not exist"):
        require_free(port, "predictions")


def test_told_to_end_while_it_starts_up_leaves_no_data_plane_behind(ws: Workspace):
    folder = ws.root.parent
    assert load(folder).name == NAME
    command = [sys.executable, "-m", "loopline", "up", "--project", str(folder), "--port", str(free())]
    up = subprocess.Popen(command, env=child_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: serving.supervisor_pid(ws, NAME) or up.poll() is not None)
    up.send_signal(signal.SIGTERM)
    _, said = up.communicate(timeout=PATIENCE_S)
    assert up.returncode == 0, said
    assert serving.supervisor_pid(ws, NAME) is None


def test_addresses_are_told_once_they_answer_and_a_second_server_is_told_of_the_first(
    ws: Workspace, capsys: pytest.CaptureFixture[str]
):
    port = free()
    command = [sys.executable, "-m", "loopline", "up", "--project", str(ws.root.parent), "--port", str(port)]
    up = subprocess.Popen(command, env=child_environment(), stdout=subprocess.PIPE, text=True)
    assert up.stdout is not None
    try:
        for at, named in ((port, "pages"), (port + 1, "predictions")):
            line = up.stdout.readline()
            assert named in line
            assert f":{at}/" in line
            socket.create_connection(("127.0.0.1", at), timeout=5).close()
        for words in (("up", "--project", str(ws.root.parent)), ("track", "--workspace", str(ws.root))):
            assert main.run([*words, "--port", str(free())]) == FAILED
            said = capsys.readouterr().err
            assert f"process {up.pid} serves this workspace already, at http://127.0.0.1:{port}" in said
            assert "--beside" in said
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(PATIENCE_S)
    assert not list((ws.root / "run").glob("server-*.lock"))


def test_of_two_servers_the_second_knows_the_first_and_the_dead_keep_nobody_away(tmp_path: Path):
    told: list[str] = []
    with seated(tmp_path, "http://one"):
        with pytest.raises(Conflict, match=f"process {os.getpid()} serves this workspace already, at http://one"):
            seated(tmp_path, "http://two").__enter__()
        with seated(tmp_path, "http://two", beside=True, say=told.append):
            (lock,) = [one for one in (tmp_path / "run").glob("server-*.lock") if "http://two" in one.read_text()]
            killed = lock.with_name("server-1-dead.lock")
            killed.write_bytes(lock.read_bytes())
            held = lock.with_name("server-2-child.lock").open("w")  # as a child of a dead one holds it
            held.write(lock.read_text().replace(holder(), "/".join([*holder().split("/")[:2], "1", "1"])))
            held.flush()
            fcntl.flock(held, fcntl.LOCK_EX)
    assert told == [f"process {os.getpid()} serves this workspace too, at http://one"]
    with seated(tmp_path, "http://three"):
        assert not killed.exists()
    held.close()
