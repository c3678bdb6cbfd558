"""A command that starts warm says what one that starts cold says."""

from __future__ import annotations

import os
import subprocess

import pytest
from tests.warm import ENTRY


@pytest.mark.parametrize(
    "words", ["--version", "init churn", "init --json here two", "status --project churn", "nonsense"]
)
def test_a_command_that_starts_warm_does_what_it_does_when_it_starts_cold(programs, tmp_path, words):
    def ended(entry, folder):
        folder.mkdir()
        (folder / "churn").mkdir()
        environment = {**os.environ, "LOOPLINE_KEYS": str(folder / "keys"), "LOOPLINE_ACTOR": "user:ada"}
        done = subprocess.run([entry, *words.split()], cwd=folder, env=environment, capture_output=True, text=True)
        left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        return done.returncode, done.stdout, done.stderr.replace(str(folder), "here"), left

    assert ended(programs / "loopline", tmp_path / "warm") == ended(ENTRY, tmp_path / "cold")


def test_a_pipe_and_an_exit_code_go_through_a_shell(programs, tmp_path):
    path = f"{programs}:{os.environ['PATH']}"
    script = (
        "loopline nonsense | cat; echo ${PIPESTATUS[0]}; X=$(loopline --version); echo got $X; exec loopline status"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    version = subprocess.run([ENTRY, "--version"], capture_output=True, text=True, check=True).stdout
    assert done.stdout == f"2\ngot {version}" and done.returncode == 2 and "there is no loop.yaml" in done.stderr


def test_an_interpreter_with_other_settings_starts_cold(programs, tmp_path):
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run([programs / "loopline", "--version"], env=environment, capture_output=True, text=True)
    assert "import time:" in done.stderr and done.returncode == 0
