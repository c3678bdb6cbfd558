"""Where a run comes from: its code, its environment, its seeds."""

from __future__ import annotations

import json
import os
import platform
import random
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from loopline.base import settings
from loopline.base.errors import LooplineError
from loopline.base.ids import content_id, digest, file_digest
from loopline.training.cache import closure
from loopline.training.tracking.scrubbing import Scrubber

_BARE = Scrubber()
LARGEST_DIFF = 2 << 20
MOST_UNTRACKED, LARGEST_UNTRACKED = 2_000, 64 << 20


def code(folder: Path, scrub: Scrubber, *, recipe: str | None = None) -> tuple[dict[str, Any], str | None]:
    """What code of `folder` runs, and what of it is not committed.

    Parameters
    ----------
    recipe : str, optional
        `file.py:function` whose closure is told; by default the files of `folder` that this process has imported.

    Returns
    -------
    dict
        `commit`, `branch` and `remote` (null outside a repository), `dirty` (digest of the diff, null where there is
        none), `untracked` (path to SHA-256, null for large files), `files` (path to SHA-256).
    str or None
        The diff against the commit, without secrets; null where there is none.
    """
    found: dict[str, Any] = {"commit": None, "branch": None, "remote": None, "dirty": None, "untracked": {}}
    found["files"] = _files(folder, recipe)
    shown = None
    inside = _git(folder, "rev-parse", "--is-inside-work-tree", "HEAD", "--abbrev-ref", "HEAD")
    if inside is not None:
        _, found["commit"], branch = (*inside.decode(errors="replace").split(), "", "")[:3]
        found["branch"] = branch if branch != "HEAD" else None
        remote = _git(folder, "config", "--get", "remote.origin.url")
        found["remote"] = scrub(remote.decode(errors="replace").strip()) if remote else None
        if diff := _git(folder, "diff", "HEAD", "--", "."):
            text = diff[:LARGEST_DIFF].decode(errors="replace")
            shown = scrub(text) + ("\n[cut off here]\n" if len(diff) > LARGEST_DIFF else "")
            found["dirty"] = digest(shown.encode())
        found["untracked"] = _untracked(folder)
    return found, shown


def _untracked(folder: Path) -> dict[str, str | None]:
    listed = _git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", ".") or b""
    found: dict[str, str | None] = {}
    for name in sorted(listed.decode(errors="replace").split("\0"))[: MOST_UNTRACKED + 1]:
        path = folder / name
        if not name or name.startswith(".loopline/"):
            continue
        try:
            small = path.is_file() and path.stat().st_size <= LARGEST_UNTRACKED
            found[name] = file_digest(path) if small else None
        except OSError:
            found[name] = None
    return found


def _files(folder: Path, recipe: str | None) -> dict[str, str]:
    if recipe is not None:
        try:
            return closure(folder, recipe).files
        except LooplineError:
            return {}
    top, found = folder.resolve(), {}
    for module in sys.modules.copy().values():
        name = getattr(module, "__file__", None)
        if not isinstance(name, str) or not name.endswith(".py"):
            continue
        path = Path(name).resolve()
        if top in path.parents and not {"site-packages", "dist-packages"} & set(path.parts):
            try:
                found[path.relative_to(top).as_posix()] = file_digest(path)
            except OSError:
                continue
    return dict(sorted(found.items()))


def lock(kept: Path | None = None) -> str:
    """The installed distributions as pip reads them, each with the digest of its list of files.

    `pip install -r` takes it. The digest is that of `RECORD` (what was installed), which is not that of the archive
    it came in; it stands in a comment.

    Parameters
    ----------
    kept : Path, optional
        Folder where the answer is kept for later processes, until a folder of packages changes.
    """
    folders = tuple(dict.fromkeys(one for one in sys.path if Path(one).name in ("site-packages", "dist-packages")))
    stamps = tuple((one, str(Path(one).stat().st_mtime_ns)) for one in folders if Path(one).is_dir())
    if kept is None:
        return _listed(stamps)
    file = kept / f"{content_id([platform.python_version(), *map(list, stamps)])[:16]}.lock"
    try:
        return file.read_text()
    except OSError:
        text = _listed(stamps)
    try:
        kept.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        part.write_text(text)
        part.replace(file)
    except OSError:
        pass  # it is read anew next time
    return text


@lru_cache(1)
def _listed(stamps: tuple[tuple[str, str], ...]) -> str:
    lines: dict[str, str] = {}
    for folder, _ in stamps:
        for item in sorted(Path(folder).glob("*.dist-info")):
            about = _content(item / "METADATA").decode(errors="replace").partition("\n\n")[0]
            name, version = (re.search(rf"^{field}: *(\S+)", about, re.MULTILINE) for field in ("Name", "Version"))
            if name is None or version is None or name[1].lower() in lines:
                continue
            came, record = _direct(item), _content(item / "RECORD")
            said = f"{name[1]} @ {_BARE(came)}" if came else f"{name[1]}=={version[1]}"
            lines[name[1].lower()] = said + (f"  # RECORD sha256:{digest(record)}" if record else "")
    head = f"# Python {platform.python_version()}, {platform.system()}-{platform.machine()}\n"
    return head + "\n".join(lines[name] for name in sorted(lines)) + "\n"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _direct(item: Path) -> str | None:
    """Where a distribution came from that no index has: the address with its commit; null for all others."""
    try:
        doc = json.loads(_content(item / "direct_url.json") or b"null")
        vcs = doc["vcs_info"]
        return f"{vcs['vcs']}+{doc['url']}@{vcs['commit_id']}"
    except (ValueError, KeyError, TypeError):
        return None


def versions(text: str) -> dict[str, str]:
    """Name to version of the distributions in a lock."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"([A-Za-z0-9._\-]+)\s*(?:==|@)\s*(\S+)", line)
        if match is not None:
            found[match[1].lower()] = match[2]
    return found


def seeds(given: int | None = None) -> dict[str, Any]:
    """Seeds and states of the generators that libraries share, as they are now.

    A state is told by its digest; NumPy's first word is its seed right after seeding.
    """
    found: dict[str, Any] = {
        "given": given,
        "python_hash": settings.recorded_environment().get("PYTHONHASHSEED"),
        "python": digest(repr(random.getstate()).encode()),
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        state = numpy.random.get_state()
        found["numpy"] = digest(state[1].tobytes() + str(state[2]).encode())
        found["numpy_first"] = int(state[1][0])
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "initial_seed"):
        found["torch"] = str(torch.initial_seed())
    return found


def is_notebook() -> bool:
    """Whether an IPython kernel runs this code: its cells may have run in any order."""
    shell = sys.modules.get("IPython")
    found = getattr(shell, "get_ipython", lambda: None)() if shell is not None else None
    return found is not None and type(found).__name__ == "ZMQInteractiveShell"


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
