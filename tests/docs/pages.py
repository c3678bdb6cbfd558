"""Pages of the documentation, read as a reader would follow them.

A fenced block is one of four things:

- `bash`: commands, run in one shell from the top of the page to its end;
  `bash exit=3` says that the last command ends with 3;
- `python`: a program, run in the shell's folder;
- a block of any language whose first line is a comment that names a file
  (`# loop.yaml`): that file, written into the shell's folder;
- `text` after commands: lines of what they print (`text ignore` is no output).
  Lines must come in this order; others may stand between. `...` stands for anything, and numbers and ids
  need not be the same.
"""

from __future__ import annotations

import fcntl
import os
import queue
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```\s*$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"^# (?P<name>[\w./-]+\.\w+)$")
NUMBER = re.compile(r"\d[\d.,:eE+-]*")
ID = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b")
LONGEST_S = 240.0


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is that of its fence."""

    page: str
    line: int
    language: str
    options: Mapping[str, str]
    body: str

    @property
    def file(self) -> str | None:
        """The file that the block is, if its first line names one."""
        found = FILE.match(self.body.split("\n", 1)[0])
        return found["name"] if found and self.language != "text" else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text, found = path.read_text(), []
    for match in FENCE.finditer(text):
        language, *options = match["info"].split() or [""]
        if "ignore" in options:
            continue
        line = text.count("\n", 0, match.start()) + 1
        told = dict(option.split("=", 1) for option in options)
        found.append(Block(str(path.relative_to(ROOT)), line, language, told, match["body"]))
    return found


def missing(expected: str, printed: str) -> str | None:
    """The first expected line that does not follow in what was printed; null when all do."""
    lines: Iterator[str] = (_plain(line) for line in printed.splitlines())
    for wanted in filter(None, map(_plain, expected.splitlines())):
        pattern = re.compile(".*".join(map(re.escape, wanted.split("..."))))
        if not any(pattern.fullmatch(line) for line in lines):
            return wanted
    return None


def free_pair() -> int:
    """A port that is free together with the next, below those that outgoing connections take."""
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as one, socket.socket() as two, suppress(OSError):
            one.bind(("127.0.0.1", port))
            two.bind(("127.0.0.1", port + 1))
            return port


def _plain(line: str) -> str:
    """A line without what changes from run to run: spacing, ids, numbers."""
    return NUMBER.sub("0", ID.sub("0", " ".join(line.split()).replace("...", "\0"))).replace("\0", "...")


def end_holder(lock: Path) -> None:
    """End the data plane that holds `lock`, if one does: it outlives whoever started it."""
    with lock.open("r+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.kill(int(held.read()), signal.SIGTERM)


class Shell:
    """One shell in one folder, in which a page is followed.

    Parameters
    ----------
    folder : Path
        Where it starts.
    words : mapping
        Words of the page to be replaced, such as ports that are taken here.
    programs : Path, optional
        Where programs are looked for first.
    """

    def __init__(self, folder: Path, *, words: Mapping[str, str] | None = None, programs: Path | None = None) -> None:
        self._folder = folder
        self._words = dict(words or {})
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._marks = 0
        first = [str(programs)] if programs else []
        path = os.pathsep.join((*first, str(Path(sys.executable).parent), os.environ["PATH"]))
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**os.environ, "PATH": path, "LOOPLINE_ACTOR": "user:ada", "NO_UI": "1", "COLUMNS": "120"},
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def follow(self, page: Path) -> None:
        """Do what a page says, block by block."""
        printed = ""
        for block in blocks(page):
            if block.language == "text":
                gone = missing(self._here(block.body), printed)
                assert gone is None, f"{block}: not printed: {gone!r}\n--- printed:\n{printed}"
            elif block.file is not None:
                self.run(f"cat > {shlex.quote(block.file)} <<'END_OF_FILE'\n{block.body}END_OF_FILE", 0, str(block))
            elif block.language in ("bash", "python"):
                code = block.body if block.language == "bash" else f"python - <<'END_OF_FILE'\n{block.body}END_OF_FILE"
                printed = self.run(code, int(block.options.get("exit", "0")), str(block))

    def run(self, code: str, wanted: int = 0, what: str = "") -> str:
        """What the commands print.

        Raises
        ------
        AssertionError
            If the last of them ends otherwise than wanted, or they take too long.
        """
        self._marks += 1
        mark = f"__done_{self._marks}__"
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._here(code)}\nprintf '\\n%s %s\\n' {mark} $?\n")
        self._process.stdin.flush()
        printed, until = [], time.monotonic() + LONGEST_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{what}: not done after {LONGEST_S:.0f} s\n{''.join(printed)}") from None
            if line is None:
                raise AssertionError(f"{what}: the shell ended\n{''.join(printed)}")
            if line.startswith(mark):
                break
            printed.append(line)
        text = "".join(printed)
        assert int(line.split()[1]) == wanted, f"{what}: ended with {line.split()[1]}, not {wanted}\n{text}"
        return text

    def close(self) -> None:
        """End the shell and what it started."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.write("kill $(jobs -p) 2>/dev/null; wait; exit\n")
            self._process.stdin.close()
            try:
                self._process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

        for lock in self._folder.rglob("supervisor.lock"):
            end_holder(lock)

    def _here(self, text: str) -> str:
        for word, instead in self._words.items():
            text = text.replace(word, instead)
        return text

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)
