"""The tutorial holds when it is followed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import DOCS, Shell, free_pair


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    if shutil.which("curl") is None:
        said = "curl is missing; type: sudo apt-get install curl"
        if os.environ.get("REQUIRE") == "all":
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    port = free_pair()
    made = Shell(tmp_path, words={"8400": str(port), "8401": str(port + 1)})
    yield made
    made.close()


def test_your_own_loop_runs_as_it_is_written(shell):
    shell.follow(DOCS / "tutorial" / "your-own-loop.md")
