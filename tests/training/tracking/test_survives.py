"""Kills, dead servers, full disks: what was acknowledged is there, once; training goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from tests.protocols.tracking import served

import loopline
from loopline.base.errors import Invalid, Unavailable
from loopline.training.runs import series
from loopline.training.tracking.delivery import Here, Server, target_of
from loopline.training.tracking.frames import Begin, End, Facts, Points, cut, pack, require_whole
from loopline.training.tracking.left import left_behind
from loopline.training.tracking.receiving import take
from loopline.training.tracking.spool import Waiting, Writer, waiting
from loopline.training.tracking.syncing import sync
from loopline.workspace import Workspace, create_workspace

DEAD = "http://127.0.0.1:9"


def there_of(tmp_path: Path) -> Workspace:
    return create_workspace(tmp_path / "there")


def python(code: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("server", [None, DEAD])
def test_what_flush_acknowledged_survives_kill_9_and_is_delivered_once(ws, tmp_path, server):
    child = python(
        """
        import loopline, sys
        run = loopline.start_run("killed", capture=False)
        step = 0
        while True:
            for _ in range(500):
                run.log_metric("loss", step * 0.5, step)
                step += 1
            assert run.flush()
            print(run.id, step, flush=True)
        """,
        tmp_path,
        **({"LOOPLINE_TRACKING_URI": server} if server else {}),
    )
    assert child.stdout is not None
    said = ""
    for _ in range(20):
        said = child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    rest = child.communicate()[0].splitlines()
    id, acknowledged = ([line for line in rest if line.count(" ") == 1][-1:] or [said])[0].split()
    spool = ws.root / "spool"
    assert left_behind(ws) == {id: "BROKE_OFF"}
    first = sync(spool, Here(ws))
    assert (first.runs, first.broken_off, first.refused, first.damaged) == ([id], [id], [], [])
    points = series(ws, id, "loss")
    assert len(points) >= int(acknowledged)
    assert [(point.step, point.value) for point in points] == [(step, step * 0.5) for step in range(len(points))]
    assert ws.runs.run(id).status == "KILLED"
    assert sync(spool, Here(ws)).runs == []
    assert len(series(ws, id, "loss")) == len(points)


def test_a_dead_server_holds_nobody_up_and_what_waits_is_delivered_later_as_often_as_one_likes(ws, tmp_path, caplog):
    began = time.perf_counter()
    run = loopline.start_run("offline", to=DEAD, params={"a": 1}, capture=False)
    for step in range(1000):
        run.log_metric("loss", float(step), step)
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 4000)
    run.log_artifact("big.bin")
    assert run.flush()
    assert time.perf_counter() - began < 5
    run.settle(0.1)
    assert len([r for r in caplog.records if "does not answer" in r.message]) == 1
    began = time.perf_counter()
    assert not run.finish()
    assert time.perf_counter() - began < 5
    spool = tmp_path / ".loopline/spool"
    (file,) = waiting(spool)
    copy = file.path.read_bytes()
    with pytest.raises(Unavailable):
        sync(spool, Server(DEAD))
    with served(there_of(tmp_path)) as server:
        target = Server(f"http://127.0.0.1:{server.port}")
        assert sync(spool, target).runs == [run.id]
        assert waiting(spool) == []
        there = server.ws
        found = there.runs.run(run.id)
        assert (found.status, found.params, found.name) == ("FINISHED", {"a": "1"}, "offline")
        assert there.artifacts.read(run.id, "big.bin") == (tmp_path / "big.bin").read_bytes()
        file.path.write_bytes(copy)  # the acknowledgement was lost: all of it again
        again = sync(spool, target)
        target.close()
        assert len(series(there, run.id, "loss")) == 1000
        assert [one for one in again.refused if "big.bin" not in one] == []


def test_a_run_is_logged_to_a_server_as_it_happens(tmp_path):
    with served(there_of(tmp_path)) as server:
        with loopline.start_run("live", to=f"http://127.0.0.1:{server.port}", capture=False) as run:
            run.log_metric("loss", float("nan"))
            run.log_text("hello", "a b/ü.txt")
            assert run.settle()
            assert len(series(server.ws, run.id, "loss")) == 1
        assert server.ws.runs.run(run.id).status == "FINISHED"
        assert server.ws.artifacts.read(run.id, "a b/ü.txt") == b"hello"
        bad = server.send("POST", "/api/v1/runs/frames/send", b"LLF1 no frame at all, for sure")
        assert (bad.status, b"whole frame" in bad.body) == (400, True)


def test_frames_cut_off_or_damaged_anywhere_are_never_taken_for_others():
    frames = [
        Begin(run="r", experiment="e", start_ms=1),
        Points(run="r", columns={"k": (b"\0" * 8, b"\1" + b"\0" * 7, b"\0" * 8)}),
        Facts(run="r", params={"a": "1"}),
    ]
    data = b"".join(pack(at, frame) for at, frame in enumerate(frames))
    assert [frame for _, frame in cut(data).frames] == frames
    ends = [0]
    for at, frame in enumerate(frames):
        ends.append(ends[-1] + len(pack(at, frame)))
    for length in range(len(data)):
        whole = cut(data[:length])
        assert whole.end == max(end for end in ends if end <= length)
        assert not whole.damaged
    for at in range(len(data)):
        changed = cut(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
        assert all(frame in frames for _, frame in changed.frames)
        if not 12 <= at - max(end for end in ends if end <= at) < 20:  # the number is not under the checksum
            assert changed.end < len(data)
    with pytest.raises(Invalid):
        require_whole(data + b"x")


def test_damage_in_the_spool_costs_what_lies_behind_it_and_is_told(ws):
    spool = ws.root / "spool"
    writer = Writer(spool, "run1")
    writer.append([Begin(run="run1", experiment="e", start_ms=1), Facts(run="run1", params={"a": "1"})])
    size = writer.size
    writer.append([Facts(run="run1", params={"b": "1"})])
    writer.close()
    data = bytearray(writer.path.read_bytes())
    data[size + 25] ^= 1
    writer.path.write_bytes(bytes(data))
    done = sync(spool, Here(ws))
    assert done.damaged == [writer.path.name]
    assert ws.runs.run("run1").params == {"a": "1"}
    assert writer.path.with_suffix(".damaged").exists()
    assert waiting(spool) == []


def test_a_run_that_ended_and_was_delivered_is_not_said_to_be_killed(ws):
    spool = ws.root / "spool"
    writer = Writer(spool, "run1")
    writer.append([Begin(run="run1", experiment="e", start_ms=1), End(run="run1", status="FINISHED", end_ms=2)])
    Waiting(writer.path).mark(writer.size)
    take(ws.runs, ws.artifacts, [frame for _, frame in cut(writer.path.read_bytes()).frames])
    writer.append([Facts(run="run1", tags={"late": "1"})])
    writer.close()
    done = sync(spool, Here(ws))
    assert (done.runs, done.broken_off) == (["run1"], [])
    assert (ws.runs.run("run1").status, ws.runs.run("run1").end_ms, ws.runs.run("run1").tags["late"]) == (
        "FINISHED",
        2,
        "1",
    )


def test_a_file_that_is_being_written_is_left_to_its_writer(ws):
    with loopline.start_run(to=DEAD, capture=False) as run:
        run.flush()
        assert sync(ws.root / "spool", Here(ws)).running == [run.id]


def test_what_a_deleted_run_is_sent_is_refused_and_told(ws):
    run = loopline.start_run(to=DEAD, id="abc", params={"a": 1}, capture=False)
    run.finish()
    ws.runs.create_run("0", start_ms=0, id="abc")
    ws.runs.change_run("abc", stage="deleted", at_ms=1)
    done = sync(ws.root / "spool", Here(ws))
    assert "deleted" in done.refused[0]
    assert waiting(ws.root / "spool") == []


FULL = """
import logging, os, sys
logging.basicConfig(format="%(message)s")
import loopline
from loopline.training.tracking import recorder
recorder.RETRY_S = 0.1
os.environ["LOOPLINE_SPOOL"] = sys.argv[1] + "/spool"
run = loopline.start_run("full", to=sys.argv[2], capture=False)
acknowledged = step = 0
filled = False
while step < 60_000:
    for _ in range(2000):
        run.log_metric("loss", float(step), step)
        step += 1
    if run.flush():
        acknowledged = step
    else:
        filled = True
assert filled, "the disk was never full"
before = [file.path.read_bytes() for file in __import__("loopline.training.tracking.spool", fromlist=["x"]).waiting(
    __import__("pathlib").Path(sys.argv[1]) / "spool")]
from loopline.training.tracking.frames import cut
points = sum(len(f.columns["loss"][0]) // 8 for _, f in cut(before[0]).frames if type(f).__name__ == "Points")
assert not cut(before[0]).damaged and cut(before[0]).end == len(before[0])
assert points >= acknowledged, (points, acknowledged)
os.remove(sys.argv[1] + "/ballast")
assert run.flush()
print("trained", step, acknowledged)
run.finish()
"""


def test_on_a_full_disk_training_goes_on_with_one_warning_and_loses_nothing_once_there_is_room(ws, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    script = tmp_path / "full.py"
    script.write_text(FULL)
    probe = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True)
    if probe.returncode:
        pytest.skip("no small disk can be mounted here")
    mount = (
        f"mount -t tmpfs -o size=4m tmpfs {place} && head -c 3500000 /dev/zero > {place}/ballast && "
        f"exec {sys.executable} {script} {place} {ws.root}"
    )
    done = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("trained 60000")
    assert done.stderr.count("training goes on") == 1, done.stderr
    (run,) = ws.runs.search_runs([ws.runs.experiment_named("Default").id]).items
    import json

    id = json.loads(run)["info"]["run_id"]
    assert [point.step for point in series(ws, id, "loss")] == list(range(60_000))


def test_a_run_of_an_experiment_that_was_deleted_meanwhile_is_kept_in_the_default_one(ws):
    gone = ws.runs.create_experiment("gone", at_ms=0).id
    ws.runs.change_experiment(gone, at_ms=1, stage="deleted")
    with loopline.start_run(experiment="gone", params={"a": 1}, capture=False) as run:
        pass
    found = ws.runs.run(run.id)
    assert (found.experiment, found.params, found.tags["loopline.experiment"]) == ("0", {"a": "1"}, "gone")


def test_an_address_that_is_none_is_refused_at_once(tmp_path):
    with pytest.raises(Invalid, match="no address"):
        target_of("ftp://there", tmp_path)
    assert isinstance(target_of(f"file://{tmp_path}", Path("x")), Here)
    assert Waiting(tmp_path / "none.00000000.frames").left == 0
