"""A ring wakes, a lost one harms nothing."""

from __future__ import annotations

import threading
import time

from loopline.loop.doorbell import Doorbell
from loopline.workspace import create_workspace


def test_a_sleeper_is_woken_by_the_workspace_and_rings_do_not_pile_up(tmp_path):
    ws = create_workspace(tmp_path / "w")
    with Doorbell(ws.root) as bell:
        assert not bell.wait(0)
        for _ in range(5):
            ws.wake()
        assert bell.wait(5)
        assert not bell.wait(0)
        threading.Timer(0.05, ws.wake).start()
        started = time.monotonic()
        assert bell.wait(20)
        assert time.monotonic() - started < 10


def test_nobody_hears_and_nobody_minds(tmp_path):
    ws = create_workspace(tmp_path / "w")
    ws.wake()
    with Doorbell(ws.root):
        pass
    ws.wake()
    assert not (ws.root / "run" / "wake.sock").exists()


def test_what_a_killed_process_left_is_replaced(tmp_path):
    ws = create_workspace(tmp_path / "w")
    left = Doorbell(ws.root)
    with Doorbell(ws.root) as bell:
        ws.wake()
        assert bell.wait(5)
    del left


def test_a_path_longer_than_the_kernel_allows_is_no_hindrance(tmp_path):
    ws = create_workspace(tmp_path / ("x" * 100) / ("y" * 100))
    with Doorbell(ws.root) as bell:
        ws.wake()
        assert bell.wait(0.5)
