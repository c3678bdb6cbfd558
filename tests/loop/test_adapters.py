"""Effects by shell command and by signed webhook."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from loopline.base.errors import Invalid, Unavailable
from loopline.base.keys import SigningKey, verify
from loopline.loop.adapters import shell, webhook
from loopline.testing.loops import Receiver


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.load("workspace-test", create=True)


def test_a_command_gets_the_effect_and_its_last_line_is_the_result(tmp_path):
    command = 'cat > got; echo "$LOOPLINE_EFFECT_ID $LOOPLINE_EFFECT" > env; echo talk; echo \'{"model": "m"}\''
    result = shell(command, cwd=tmp_path, timeout_s=10)("l/1/TRAIN/0/0/train", "train", {"step": 1})
    assert result == {"model": "m"}
    assert json.loads((tmp_path / "got").read_text()) == {
        "id": "l/1/TRAIN/0/0/train",
        "kind": "train",
        "args": {"step": 1},
    }
    assert (tmp_path / "env").read_text() == "l/1/TRAIN/0/0/train train\n"


@pytest.mark.parametrize(
    ("command", "result"),
    [("true", {}), ("echo done", {"said": "done"}), ("echo 3", {"said": 3}), (r"printf '\377'", {"said": "�"})],
)
def test_what_is_no_object_is_kept_as_said(tmp_path, command, result):
    assert shell(command, cwd=tmp_path, timeout_s=10)("e", "notify", {}) == result


def test_an_exit_code_is_an_error_with_what_was_printed(tmp_path):
    with pytest.raises(Unavailable, match="exit code 3") as caught:
        shell("echo broken >&2; exit 3", cwd=tmp_path, timeout_s=10)("e", "notify", {})
    assert caught.value.why == "broken"


def test_past_its_time_the_command_is_killed_with_all_it_started(tmp_path):
    command = "(sleep 1.5; touch late) & echo $! > child; sleep 60"
    started = time.monotonic()
    with pytest.raises(Unavailable, match="did not end within"):
        shell(command, cwd=tmp_path, timeout_s=0.5)("e", "train", {})
    assert time.monotonic() - started < 20
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not (tmp_path / "late").exists()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_webhook_is_signed_over_its_body_and_carries_the_id(key):
    with Receiver({"train": {"model": "m"}}) as receiver:
        assert webhook(receiver.url, key=key, timeout_s=10)("e1", "train", {"n": 1}) == {"model": "m"}
    (got,) = receiver.deliveries
    assert (got.id, got.kind, got.args) == ("e1", "train", {"n": 1})
    assert got.headers["Loopline-Effect-Id"] == "e1"
    assert got.headers["Loopline-Key"] == key.public
    assert verify(key.public, got.headers["Loopline-Signature"], got.body)
    assert not verify(key.public, got.headers["Loopline-Signature"], got.body.replace(b"1", b"2"))


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 500])
def test_a_redirect_is_not_followed_and_only_2xx_is_done(key, status):
    with Receiver({"train": status}) as receiver, pytest.raises(Unavailable, match=f"answered {status}"):
        webhook(receiver.url, key=key, timeout_s=10)("e", "train", {})
    assert len(receiver.deliveries) == 1


def test_nobody_there_and_nonsense_are_unavailable(key):
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{door.getsockname()[1]}/"
        with pytest.raises(Unavailable, match="does not answer"):
            webhook(url, key=key, timeout_s=5)("e", "train", {})
        door.listen()

        def babble() -> None:
            line, _ = door.accept()
            with line:
                line.recv(100_000)
                line.sendall(b"what?\r\n\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(Unavailable, match="does not answer"):
            webhook(url, key=key, timeout_s=5)("e", "train", {})
        thread.join()


def test_a_receiver_that_never_answers_is_given_up(key):
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        with pytest.raises(Unavailable, match="does not answer"):
            webhook(f"http://127.0.0.1:{door.getsockname()[1]}/", key=key, timeout_s=0.3)("e", "train", {})


@pytest.mark.parametrize("url", ["ftp://host/", "http:///path", "nonsense", "file:///etc/passwd"])
def test_what_is_no_webhook_is_refused_at_once(key, url):
    with pytest.raises(Invalid):
        webhook(url, key=key, timeout_s=1)
