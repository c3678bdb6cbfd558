"""The environment of a training beside the present one, and one made anew from the recorded list."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopline.base import settings
from loopline.base.code import PACKAGE
from loopline.base.errors import FAMILIES, Unavailable
from loopline.training import cache

OWN = "loopline"
STORES = ("deltalake", "polars")
INSTALL_S = 1800.0


def differences(recorded: Mapping[str, Any], deciding: set[str]) -> dict[str, Any]:
    """What of a recorded environment is not as it was, with both versions (`[then, now]`, null: not installed).

    Parameters
    ----------
    recorded : mapping
        `python`, `platform` and `distributions`, as `cache.environment` tells them.
    deciding : set of str
        Distributions that the model came from; of others only the number is told.
    """
    present = cache.environment()
    found: dict[str, Any] = {}
    for name in ("python", "platform"):
        if recorded.get(name) != present[name]:
            found[name] = [recorded.get(name), present[name]]
    then, now = recorded.get("distributions", {}), present["distributions"]
    changed = {
        name: [then.get(name), now.get(name)] for name in sorted({*then, *now}) if then.get(name) != now.get(name)
    }
    if named := {name: pair for name, pair in changed.items() if name in deciding}:
        found["distributions"] = named
    if others := len(changed) - len(named):
        found["other_distributions"] = others
    return found


def deciding(distributions: Mapping[str, str]) -> set[str]:
    """Those that a recipe imports, those that package its model, and what these need."""
    names = {name.lower() for name in (*distributions, *cache.PACKAGING)}
    return names | {name.lower() for name in cache.requirements(sorted(names))}


def installed(folder: Path, recorded: Mapping[str, Any], names: set[str]) -> Path:
    """A virtual environment with distributions as recorded, but Loopline's own code of now; its interpreter.

    Parameters
    ----------
    names : set of str
        Distributions that the model came from; what Loopline itself needs is added, all others are left out.

    Raises
    ------
    Unavailable
        If the recorded Python is another, or a distribution cannot be had (offline, yanked, built elsewhere).
    """
    python = str(recorded.get("python", ""))
    present = cache.environment()["python"]
    if python.split(".")[:2] != present.split(".")[:2]:
        raise Unavailable(
            f"the model was made with Python {python}, this is {present}",
            why="a fresh environment has the interpreter that makes it",
            fix=f"run it with Python {python}, or with --environment present",
        )
    needed = {_plain(name) for name in (*names, *cache.requirements([OWN, *STORES]))} - {OWN}
    wanted = [f"{name}=={version}" for name, version in recorded["distributions"].items() if _plain(name) in needed]
    listed = folder / "requirements.txt"
    listed.write_text("\n".join(wanted) + "\n")
    _run([sys.executable, "-m", "venv", str(folder / "venv")], "a virtual environment cannot be made")
    interpreter = folder / "venv" / "bin" / "python"
    _run(
        [str(interpreter), "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--retries", "1",
         "--disable-pip-version-check", "--requirement", str(listed)],
        "the recorded distributions cannot be installed",
    )  # fmt: skip
    return interpreter


def run_in(interpreter: Path, workspace: Path, args: Mapping[str, Any]) -> dict[str, Any]:
    """Rebuild with another interpreter, by Loopline's own code of now."""
    code = (
        "import json, sys; from pathlib import Path; from loopline.training.reproducing.rebuild import answer; "
        "print(json.dumps(answer(Path(sys.argv[1]), json.loads(sys.argv[2]))))"
    )
    done = subprocess.run(
        [str(interpreter), "-c", code, str(workspace), json.dumps(args)],
        capture_output=True,
        text=True,
        check=False,
        env=settings.child_environment(PYTHONPATH=str(PACKAGE.parent)),
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise Unavailable(
            "the training in the fresh environment ended without an answer",
            why=done.stderr.strip()[-1500:] or f"exit code {done.returncode}",
            fix="see what is missing there; or use --environment present",
        ) from error
    if "error" in found:
        told = found["error"]
        raise FAMILIES.get(told["code"], Unavailable)(told["what"], why=told["why"], fix=told["fix"])
    return found


def _plain(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)
        why = (done.stderr or done.stdout).strip()[-1500:]
        failed = done.returncode != 0
    except (OSError, subprocess.TimeoutExpired) as error:
        why, failed = str(error), True
    if failed:
        raise Unavailable(
            what,
            why=why or "the command ended with an error",
            fix="connect to the package index, or set PIP_INDEX_URL or PIP_FIND_LINKS to one that has them; "
            "else use --environment present",
        )
