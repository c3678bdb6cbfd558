"""What `loopline doctor` looks at."""

from __future__ import annotations

import ctypes.util
import importlib.util
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from loopline.base.errors import LooplineError, install
from loopline.base.settings import keys_folder

if TYPE_CHECKING:
    from loopline.workspace import Workspace

NEEDED = {
    "polars": "data",
    "deltalake": "data",
    "sklearn": "training",
    "lightgbm": "training",
    "onnxruntime": "serving",
}
LOW_DISK = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `ok`, `warn` or `fail`, and what to type."""

    name: str
    state: Literal["ok", "warn", "fail"]
    what: str
    fix: str = ""


def everything(folder: Path, port: int) -> list[Check]:
    """All checks; none of them changes anything."""
    found: list[Check] = []
    checks: tuple[Callable[[], Iterator[Check]], ...] = (
        _python,
        _packages,
        lambda: _disk(folder),
        _keys,
        lambda: _ports(port),
        lambda: _project(folder),
        lambda: _workspace(folder),
    )
    for check in checks:
        try:
            found += list(check())
        except LooplineError as error:
            found.append(Check(error.code, "fail", error.what, error.fix))
        except OSError as error:
            found.append(Check("files", "fail", str(error), "check the folder and its owner"))
    return found


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Check("python", "ok" if good else "fail", version, "" if good else "install Python 3.11 or newer")


def _packages() -> Iterator[Check]:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(sorted({NEEDED[name] for name in missing}))
        yield Check("packages", "warn", f"missing: {', '.join(missing)}", install(extras))
    else:
        yield Check("packages", "ok", "all there")
    if "lightgbm" not in missing and sys.platform == "linux":
        there = ctypes.util.find_library("gomp") is not None
        yield Check("libgomp", "ok" if there else "fail", "found" if there else "missing", "apt-get install libgomp1")


def _disk(folder: Path) -> Iterator[Check]:
    here = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(here).free
    said = f"{free / (1 << 30):.1f} GiB free"
    yield Check("disk", "warn" if free < LOW_DISK else "ok", said, "free some space" if free < LOW_DISK else "")


def _keys() -> Iterator[Check]:
    folder = keys_folder()
    open_ones = [p.name for p in folder.glob("*.pem") if p.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    if open_ones:
        yield Check("keys", "fail", f"others can read {', '.join(open_ones)}", f"chmod 600 {folder}/*.pem")
    else:
        yield Check("keys", "ok", f"{folder}" + ("" if folder.exists() else " (made when first used)"))


def _ports(first: int) -> Iterator[Check]:
    for port in (first, first + 1):
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                door.bind(("127.0.0.1", port))
                yield Check(f"port {port}", "ok", "free")
            except OSError:
                yield Check(f"port {port}", "warn", "in use", f"loopline up --port {first + 100}, or stop what uses it")


def _project(folder: Path) -> Iterator[Check]:
    from loopline.interfaces.cli.session import project

    found = project(folder).check()
    yield Check("project", "ok", f"{found.name} ({found.file})")
    for notice in found.spec.notices:
        yield Check("project", "warn", notice, "give framing.decision_time in loop.yaml")


def _workspace(folder: Path) -> Iterator[Check]:
    from loopline.interfaces.cli.session import project
    from loopline.workspace import FOLDER, open_workspace

    try:
        root = project(folder).root / FOLDER
    except LooplineError:
        return
    if not root.exists():
        yield Check("workspace", "ok", "none yet (loopline run makes it)")
        return
    with closing(open_workspace(root)) as ws:
        report = ws.audit.verify()
        yield Check("workspace", "ok", f"opens, {report.entries:,} audit entries")
        if not report.ok:
            yield Check("audit", "fail", "; ".join(report.problems), "loopline audit verify")
        yield from _tables(ws)
        yield from _endpoint(ws, project(folder).name)


def _tables(ws: Workspace) -> Iterator[Check]:
    from loopline import data

    for name in ws.tables.names():
        try:
            files = ws.tables.files(name)
        except LooplineError as error:
            yield Check(f"table {name}", "fail", error.what, error.fix)
            continue
        torn = [file.path.name for file in files if file.path.stat().st_size != file.bytes]
        if torn:
            what = (
                f"{len(torn)} of its {len(files)} data files have another size than was written: {', '.join(torn[:5])}"
            )
            yield Check(f"table {name}", "fail", what, f"restore the folder tables/{name} from a backup")
    for card in data.catalogue(ws):
        if card.gone:
            what = f"is gone: the records know {card.rows:,} rows of it"
            yield Check(f"table {card.name}", "fail", what, f"restore the folder tables/{card.name} from a backup")


def _endpoint(ws: Workspace, name: str) -> Iterator[Check]:
    from loopline import serving

    status = serving.status(ws, name)
    if status is None:
        return
    if status.error:
        fix = "restore what it names from a backup, or go back: loopline rollback --reason ..."
        yield Check("endpoint", "fail", status.error, fix)
    elif serving.supervisor_pid(ws, name) is None:
        yield Check("endpoint", "ok", "not running")
    else:
        yield Check("endpoint", "ok", f"serves generation {status.generation}")
