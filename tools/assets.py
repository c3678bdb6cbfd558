"""Fetch the JavaScript of the pages from pinned, hashed distributions.

`requirements/assets.txt` pins two distributions that carry the minified files;
pip checks their hashes, and only the files named here are taken out. They land
in a folder that git ignores and a wheel contains. Doing it again does nothing.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "requirements" / "assets.txt"
VENDOR = Path("src/loopline/interfaces/ui/static/vendor")
FILES = {
    "htmx.min.js": ("django_htmx", "django_htmx/static/django_htmx/htmx-4.min.js"),
    "uPlot.min.js": ("youplot", "youplot/vendor/uplot.iife.min.js"),
    "uPlot.min.css": ("youplot", "youplot/vendor/uplot.min.css"),
}
STAMP = ".made-from"


def _mark(folder: Path) -> str:
    mark = hashlib.sha256(PINS.read_bytes() + Path(__file__).read_bytes())
    for name in FILES:
        path = folder / name
        mark.update(path.read_bytes() if path.exists() else b"")
    return mark.hexdigest()


def fetch(root: Path = ROOT) -> Path:
    """Put the files into the tree at `root`, unless they are there; returns their folder."""
    folder = root / VENDOR
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text() == _mark(folder):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        locked = ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
        subprocess.run([*pip, "download", "-q", *locked, "-d", scratch, "-r", str(PINS)], check=True)
        for name, (distribution, member) in FILES.items():
            (wheel,) = Path(scratch).glob(f"{distribution}-*.whl")
            part = folder / f"{name}.part"
            with zipfile.ZipFile(wheel) as archive:
                part.write_bytes(archive.read(member))
            os.replace(part, folder / name)
    stamp.write_text(_mark(folder))
    return folder


if __name__ == "__main__":
    try:
        fetch()
    except subprocess.CalledProcessError:
        sys.exit("The files of the pages could not be fetched; see pip's message above, then run make again.")
