"""The command line without its cold start: most of what a short command costs is importing.

One process imports what commands import, once, and forks for each command: its own arguments, folder, environment and
standard streams, the real entry script from its first line to its exit code. What stays up (`up`, `demo`) and whatever
runs with other settings of the interpreter starts cold, as everywhere else.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

ENTRY = Path(sys.executable).parent / "loopline"
LASTING = ("up", "demo")
HEAVY = ("alembic.command", "deltalake", "lightgbm", "onnxruntime", "scipy.stats", "skl2onnx", "sklearn.linear_model")
"""What commands import besides the rooms."""
DOORS = ("http", "inference", "mlflow", "otlp", "ui")
LEFT = tuple(f"loopline.{room}" for room in ("testing", *(f"interfaces.{door}" for door in DOORS)))
"""Rooms that no short command imports."""
SETTINGS = (b"PYTHON", b"OMP_", b"OPENBLAS_", b"POLARS_")
"""Variables that are read when an interpreter starts or a library is loaded."""
CLIENT = """#!{python} -SI
import _signal, _socket, os, struct, sys

ENTRY, LASTING, words = {entry!r}, {lasting!r}, sys.argv[1:]
if words and words[0] in LASTING:
    os.execv(ENTRY, [ENTRY, *words])
fields = [os.getcwdb(), b"%d" % len(words), *map(os.fsencode, words)]
fields += [name + b"=" + value for name, value in os.environb.items()]
asked = b"\\0".join(fields)
line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
line.connect({place!r})
streams = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("3i", 0, 1, 2))]
line.sendmsg([struct.pack("q", len(asked))], streams)
line.sendall(asked)
told = line.recv(4)
if len(told) < 4:
    sys.exit("the warm process is gone")
[code] = struct.unpack("i", told)
if code == {cold}:
    os.execv(ENTRY, [ENTRY, *words])
if code < 0:
    _signal.signal(-code, _signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""
COLD = 1_000


@contextmanager
def warm() -> Iterator[Path]:
    """A folder for the head of PATH: its `loopline` is forked from one process, which ends with the block."""
    with tempfile.TemporaryDirectory(prefix="warm") as folder:
        door, client = Path(folder) / "door", Path(folder) / "bin" / "loopline"
        client.parent.mkdir()
        client.write_text(
            CLIENT.format(python=sys.executable, entry=str(ENTRY), lasting=LASTING, place=str(door), cold=COLD)
        )
        client.chmod(0o755)
        command = [sys.executable, __file__, str(door)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert process.stdin is not None and process.stdout is not None
        try:
            assert process.stdout.read(1), "the warm process did not start"
            yield client.parent
        finally:
            process.stdin.close()
            process.wait(timeout=30)
            process.stdout.close()


def _import() -> None:
    """Everything that a command may import, but the pages of a server."""
    settings = importlib.import_module("loopline.base.settings")
    settings.give_memory_back()
    importlib.import_module("loopline.interfaces.cli.main")
    rooms = importlib.import_module("loopline")
    for found in pkgutil.walk_packages(rooms.__path__, "loopline."):
        if not found.name.startswith(LEFT) and not found.name.endswith(("__main__", ".env")):
            with suppress(ImportError):
                importlib.import_module(found.name)
    for name in HEAVY:
        importlib.import_module(name)
    threads = {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    assert not {"polars-0", "tokio-rt-worker"} & threads, "a pool that was started is dead in a fork"
    gc.collect()
    gc.freeze()


def _commands(place: str) -> Iterator[socket.socket]:
    """In a fork for each, the line to whoever typed a command, until standard input ends."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(place)
        door.listen()
        os.write(1, b"+")
        while 0 not in select.select([0, door.fileno()], [], [])[0]:
            line, _ = door.accept()
            if os.fork() == 0:
                door.close()
                yield line
            line.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _asked(line: socket.socket) -> tuple[list[bytes], list[int]]:
    """Folder, number of words, words and environment of a command, and its three streams."""
    head, streams, _, _ = socket.recv_fds(line, 8, 3)
    rest = struct.unpack("q", head)[0]
    parts = []
    while rest:
        parts.append(line.recv(min(rest, 1 << 16)))
        rest -= len(parts[-1])
    return b"".join(parts).split(b"\0"), streams


def _watch(line: socket.socket, child: int) -> NoReturn:
    """Tell how the command ended; where whoever typed it is gone, end it."""
    ended = os.pidfd_open(child)
    if ended not in select.select([ended, line.fileno()], [], [])[0]:
        os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    with suppress(OSError):
        line.sendall(struct.pack("i", os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _read_at_start(environment: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    return {name: value for name, value in environment.items() if name.startswith(SETTINGS)}


def _become(line: socket.socket, started: Mapping[bytes, bytes]) -> None:
    """Go on as the command that `line` asks for, in a process of its own."""
    (folder, count, *rest), streams = _asked(line)
    words, variables = rest[: int(count)], dict(item.split(b"=", 1) for item in rest[int(count) :])
    if _read_at_start(variables) != started:
        line.sendall(struct.pack("i", COLD))
        os._exit(0)
    if child := os.fork():
        _watch(line, child)
    line.close()
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(folder)
    os.environb.clear()
    os.environb.update(variables)
    sys.argv = [str(ENTRY), *map(os.fsdecode, words)]
    sys.orig_argv = [sys.executable, *sys.argv]
    sys.path[0] = str(ENTRY.parent)


def _run() -> int:
    """The exit code of the entry script."""
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return (stop.code or 0) & 0xFF
        print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    else:
        return 0
    return 1


def _end(code: int) -> NoReturn:
    """End as an interpreter does, but for what libraries do last: theirs wait for threads that no fork has."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    at_start = _read_at_start(os.environb)
    _import()
    for asking in _commands(sys.argv[1]):
        _become(asking, at_start)
        _end(_run())
