"""Files of runs: there as a whole or not at all, under a path that leads nowhere else."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.errors import Conflict, Invalid, NotFound, Unavailable
from loopline.store.blobs.local import LocalBlobs
from loopline.store.runs.artifacts import Artifacts, Entry, clean

BAD = (
    "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\\b", "C:/a", "a\x00b", "a\nb", "a\x7fb",
    "%2e%2e/a", "a/%2e%2e", "%252e%252e/a", "%2Fetc", "a%5cb", "a%00b", "a/%2e", "\ud800", "\ufffd", "a%ff", "x" * 256,
    "a/" * 1200 + "a",
    "%25" * 400 + "2e",
)  # fmt: skip
GOOD = ("a", "a/b.txt", "two words", "ü/日本", "100%", "a%20b", "...", "..a", "a.tar.gz", "x" * 255)


@pytest.fixture
def artifacts(tmp_path):
    found = Artifacts(tmp_path / "artifacts", LocalBlobs(tmp_path / "artifacts"))
    yield found
    found.close()


def everything(folder: Path) -> list[str]:
    """Files of a store besides its index."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.startswith("index.db"))


@pytest.mark.parametrize("path", BAD)
def test_a_path_that_leads_elsewhere_or_cannot_be_is_refused(artifacts, path):
    for call in (lambda: clean(path), lambda: artifacts.put("r", path, b"x", at_ms=0)):
        with pytest.raises(Invalid):
            call()
    assert artifacts.files("r") == []


@pytest.mark.parametrize("path", GOOD)
def test_any_other_name_is_kept_as_it_is(artifacts, path):
    artifacts.put("r", path, b"x", at_ms=0)
    assert [kept.path for kept in artifacts.files("r")] == [path] and artifacts.read("r", path) == b"x"


NAMES = st.sampled_from(["a", "b", "a-", "a.", "a0", "ab", "ü", "z z"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@settings(max_examples=150, deadline=None)
@given(paths=st.lists(PATHS, max_size=12), under=st.one_of(st.just(""), PATHS), gone=PATHS)
def test_listings_and_deletions_are_those_of_a_folder(tmp_path_factory, paths, under, gone):
    folder = tmp_path_factory.mktemp("a")
    artifacts, kept = Artifacts(folder, LocalBlobs(folder)), dict[str, bytes]()
    for at, path in enumerate(paths):
        above = {path.rsplit("/", n)[0] for n in range(1, path.count("/") + 1)}
        if above & set(kept) or any(other.startswith(path + "/") for other in kept):
            with pytest.raises(Conflict):
                artifacts.put("r", path, b"", at_ms=0)
        else:
            kept[path] = bytes(at)
            artifacts.put("r", path, bytes(at), at_ms=at)
    artifacts.put("other", "a/b", b"", at_ms=0)

    def listed(start: str) -> list[Entry]:
        below = {p[len(start) :]: data for p, data in kept.items() if p.startswith(start)}
        folders = {p.partition("/")[0] for p in below if "/" in p}
        return sorted(
            [Entry(name, None) for name in folders] + [Entry(p, len(d)) for p, d in below.items() if "/" not in p],
            key=lambda entry: entry.name,
        )

    assert artifacts.entries("r", under) == listed(under + "/" if under else "")
    left = {p: d for p, d in kept.items() if p != gone and not p.startswith(gone + "/")}
    assert artifacts.delete("r", gone) == len(kept) - len(left)
    kept = left
    assert artifacts.entries("r") == listed("")
    assert {file.path: artifacts.read("r", file.path) for file in artifacts.files("r")} == kept
    assert artifacts.owners() == (["other", "r"] if kept else ["other"])
    artifacts.close()


def test_the_same_bytes_are_kept_once_and_let_go_of_with_their_last_owner(artifacts):
    for owner in ("one", "two"):
        artifacts.put(owner, "model.bin", b"weights" * 100, at_ms=0)
    artifacts.put("one", "model.bin", b"others", at_ms=1)
    folder = artifacts.blobs.root
    assert len(everything(folder)) == 2
    assert artifacts.unused() == [] and artifacts.sweep() == 0
    artifacts.delete("one")
    assert [size for _, size in artifacts.unused()] == [6]
    assert artifacts.sweep() == 6 and artifacts.read("two", "model.bin") == b"weights" * 100
    with pytest.raises(NotFound):
        artifacts.find("one", "model.bin")


def test_bytes_that_are_kept_while_others_are_let_go_of_stay(artifacts):
    stop, wrong = threading.Event(), list[BaseException]()

    def sweeping() -> None:
        while not stop.is_set():
            artifacts.sweep()

    thread = threading.Thread(target=sweeping)
    thread.start()
    try:
        for at in range(150):
            artifacts.put("r", "f", b"%d" % (at % 3), at_ms=at)
            assert artifacts.read("r", "f") == b"%d" % (at % 3)
    except BaseException as error:
        wrong.append(error)
    finally:
        stop.set()
        thread.join()
    assert wrong == []


def test_what_was_not_kept_leaves_nothing(artifacts):
    with artifacts.blobs.incoming() as file:
        file.write(b"half")
    assert everything(artifacts.blobs.root) == []


def test_a_process_that_is_killed_while_it_writes_leaves_nothing(tmp_path):
    program = (
        "import sys, pathlib, time\n"
        "from loopline.store.blobs.local import LocalBlobs\n"
        "with LocalBlobs(pathlib.Path(sys.argv[1])).incoming() as file:\n"
        "    file.write(b'x' * 1_000_000)\n"
        "    print('half', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "b")], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert everything(tmp_path / "b") == []


def test_a_file_system_without_nameless_files_does_as_well(artifacts, monkeypatch):
    plain = os.open

    def refusing(path, flags, *more, **others):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        return plain(path, flags, *more, **others)

    monkeypatch.setattr(os, "open", refusing)
    artifacts.put("r", "f", b"bytes", at_ms=0)
    assert artifacts.read("r", "f") == b"bytes" and len(everything(artifacts.blobs.root)) == 1


def test_a_full_disk_is_told_and_nothing_is_listed(artifacts, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unavailable) as told:
        artifacts.put("r", "f", b"bytes", at_ms=0)
    monkeypatch.undo()
    assert "space" in told.value.fix
    assert artifacts.files("r") == [] and everything(artifacts.blobs.root) == []


def test_damaged_bytes_are_mended_by_keeping_them_again(artifacts):
    kept = artifacts.put("r", "f", b"bytes", at_ms=0)
    path = artifacts.blobs.where(kept.digest)
    path.chmod(0o644)
    path.write_bytes(b"by")
    with pytest.raises(Invalid, match="damaged"):
        artifacts.read("r", "f")
    artifacts.put("r", "f", b"bytes", at_ms=1)
    assert artifacts.read("r", "f") == b"bytes"


def test_two_processes_may_hold_one_folder(tmp_path):
    first, second = (Artifacts(tmp_path, LocalBlobs(tmp_path)) for _ in range(2))
    threads = [
        threading.Thread(target=lambda who=who, at=at: who.put("r", f"{at}", b"%d" % at, at_ms=at))
        for at in range(20)
        for who in (first, second)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(kept.path) for kept in first.files("r")) == list(range(20))
    first.close()
    second.close()
