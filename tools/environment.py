"""Make `.venv`: `python3 tools/environment.py demo|test`. Standard library only.

`client mlflow` makes `.clients/mlflow`: a foreign client of the tests, in an environment of its own.
`client mlflow 3.16` makes `.clients/mlflow-3.16` of that version, unpinned; a client without pins, such as wandb, is
made so alone: `client wandb 0.31`.

First what only the system can bring, then the pinned packages, then Loopline
itself, then the files of the pages. A stamp in the environment names what it was
made from, so doing it again takes no time.

pip brings uv, and uv the rest: the same pins and hashes for a tenth of the work.
Where uv cannot, pip does it all. Only what is imported is compiled ahead, a small
part of what is installed.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
INSTALLER = ROOT / "requirements" / "installer.txt"
OLDEST = (3, 11)
KINDS = {"demo": ("demo",), "test": ("demo", "test")}
"""What an environment is also good for."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


LOCKED = ("--require-hashes", "--no-deps")
BUILT = ("--only-binary", ":all:", "--no-binary", "jsonpath-rw")
"""All comes as wheels but what is published as source alone."""
OWN_INDEX = ("index-url", "no-index")
"""What pip can be told that uv does not read: then pip installs all."""
LOADED = {"demo": (), "test": ("_pytest.assertion.rewrite", "httpx", "hypothesis", "moto.server", "pytest", "xgboost")}
"""What is imported besides Loopline's own modules and what they ask for."""
IMPORT = """
import contextlib, importlib, pkgutil, sys, loopline
own = [found.name for found in pkgutil.walk_packages(loopline.__path__, "loopline.")]
for name in [*own, *sys.argv[1:]]:
    if not name.endswith((".__main__", ".migrations.env")) and ".versions." not in name:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
"""


@dataclass(frozen=True)
class Need:
    """Something that pip cannot bring."""

    what: str
    package: str
    present: Callable[[], bool]
    optional: bool = False


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _venv_works() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip"))


def needs(kind: str, *, strict: bool) -> list[Need]:
    """What an environment of this kind needs of the system."""
    found = [
        Need("the venv module of Python", "python3-venv", _venv_works),
        Need("libgomp.so.1, which LightGBM loads", "libgomp1", lambda: _loads("libgomp.so.1")),
    ]
    if kind == "test":
        found.append(
            Need("Chromium, for the page tests", "chromium", lambda: any(map(shutil.which, BROWSERS)), not strict)
        )
    return found


def check_system(kind: str, *, strict: bool) -> None:
    """See to what the system must bring: install it as root on Debian, else say the line to type."""
    if sys.version_info < OLDEST:
        sys.exit(
            f"Loopline needs Python 3.11 or newer; this is {sys.version.split()[0]}.\n"
            "Name another one, for example: make PYTHON=python3.11 demo"
        )
    missing = [need for need in needs(kind, strict=strict) if not need.present()]
    if not missing:
        return
    packages = [need.package for need in missing]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing {' '.join(packages)} with apt-get", flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)  # type: ignore[call-overload]
        for package in packages:
            subprocess.run(  # type: ignore[call-overload]
                ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], check=False, **quiet
            )
        importlib.invalidate_caches()
        missing = [need for need in missing if not need.present()]
    for need in missing:
        print(f"{'Without' if need.optional else 'Missing'}: {need.what}", file=sys.stderr)
    if missing:
        print(f"Type: sudo apt-get install {' '.join(need.package for need in missing)}", file=sys.stderr)
    if any(not need.optional for need in missing):
        sys.exit(1)


def fingerprint(kind: str) -> str:
    """Names everything that the environment is made from."""
    mark = hashlib.sha256(f"{sys.version}\n{ROOT}\n".encode())
    files = ["pyproject.toml", "tools/assets.py", "tools/environment.py", "requirements/assets.txt"]
    files += [f"requirements/{name}.txt" for name in ("installer", "build", "example", kind)]
    for name in files:
        mark.update(name.encode() + b"\0" + (ROOT / name).read_bytes())
    return mark.hexdigest()


def _stamp(kind: str) -> Path:
    return VENV / f"{kind}.stamp"


def is_made(kind: str) -> bool:
    """Whether the environment is what the files ask for."""
    stamp = _stamp(kind)
    return stamp.exists() and stamp.read_text() == fingerprint(kind) and (VENV / "bin" / "loopline").exists()


def _usable() -> bool:
    python = VENV / "bin" / "python"
    if not python.exists():
        return False
    told = subprocess.run(
        [python, "-c", "import pip, sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False
    )
    return told.stdout.split() == [str(part) for part in sys.version_info[:2]]


class Installer:
    """`install("-r", file)` into the environment of `python`: with uv, else with pip.

    uv is taken from beside this file's `.venv` where it is there, so that one serves all environments.
    """

    def __init__(self, python: Path) -> None:
        self.python = python
        self.uv: Path | None = VENV / "bin" / "uv"
        if any(f".{option}=" in self._pip("config", "list", told=True) for option in OWN_INDEX):
            self.uv = None
        elif python.is_relative_to(VENV):
            try:
                self._pip("install", *self._quiet(), *LOCKED, "--only-binary", ":all:", "-r", str(INSTALLER))
            except subprocess.CalledProcessError:
                self.uv = None
        if self.uv and not self.uv.exists():
            self.uv = None

    def __call__(self, *arguments: str) -> None:
        if self.uv:
            command = [self.uv, "pip", "install", *self._quiet(), "--python", self.python, *arguments]
            if subprocess.run(command, cwd=ROOT, check=False).returncode == 0:
                return
            print("uv could not; pip tries the same", flush=True)
        self._pip("install", *self._quiet(), *arguments)

    def _pip(self, *arguments: str, told: bool = False) -> str:
        done = subprocess.run(
            [self.python, "-m", "pip", "--disable-pip-version-check", *arguments],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE if told else None,
            text=True,
            env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"},
        )
        return done.stdout or ""

    def _quiet(self) -> tuple[str, ...]:
        return () if os.environ.get("VERBOSE") else ("-q",)


def make(kind: str) -> None:
    """Create or complete `.venv`."""
    started = time.monotonic()
    for name in KINDS:
        _stamp(name).unlink(missing_ok=True)
    if not _usable():
        print("Creating .venv", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    print(f"Installing the pinned packages of requirements/{kind}.txt (a minute or two the first time)", flush=True)
    install = Installer(VENV / "bin" / "python")
    install(*LOCKED, "-r", "requirements/build.txt")
    install(*LOCKED, *BUILT, "--no-build-isolation", "-r", f"requirements/{kind}.txt")
    install(*LOCKED, "--no-build-isolation", "-r", "requirements/example.txt")
    install("--no-deps", "--no-build-isolation", "-e", ".")
    subprocess.run([VENV / "bin" / "python", "tools/assets.py"], cwd=ROOT, check=True)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([VENV / "bin" / "python", "-c", IMPORT, *LOADED[kind]], cwd=ROOT, check=False, env=kept)
    for name in KINDS[kind]:
        _stamp(name).write_text(fingerprint(name))
    print(f"The environment is ready after {time.monotonic() - started:.0f} s", flush=True)


def make_client(name: str, version: str = "") -> None:
    """Create `.clients/<name>`, pinned; or, of another version, one beside it."""
    pins = ROOT / "requirements" / f"{name}.txt"
    folder = ROOT / ".clients" / (f"{name}-{version}" if version else name)
    mark = hashlib.sha256(
        f"{sys.version}\n{folder}\n{version}\n".encode() + (b"" if version else pins.read_bytes())
    ).hexdigest()
    stamp = folder / "stamp"
    if stamp.exists() and stamp.read_text() == mark:
        return
    print(f"Creating {folder.relative_to(ROOT)} (some seconds)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    install = Installer(folder / "bin" / "python")
    if version:
        install(f"{name}=={version}.*")  # with its own server, which benchmarks stand beside
    else:
        install(*LOCKED, "--only-binary", ":all:", "-r", str(pins))
    stamp.write_text(mark)


def main() -> None:
    if sys.argv[1:2] == ["client"] and len(sys.argv) in (3, 4):
        make_client(*sys.argv[2:])
        return
    kind = sys.argv[1] if len(sys.argv) == 2 else ""
    if kind not in KINDS:
        sys.exit("usage: python3 tools/environment.py demo|test, or client NAME [VERSION]")
    check_system(kind, strict=os.environ.get("REQUIRE") == "all")
    if not is_made(kind):
        try:
            make(kind)
        except subprocess.CalledProcessError as error:
            failed = " ".join(map(str, error.cmd[1:5]))
            sys.exit(
                f"The environment is not complete: {failed} ... failed; see its message above.\n"
                "Mend it and run make again; what is installed stays."
            )


if __name__ == "__main__":
    main()
