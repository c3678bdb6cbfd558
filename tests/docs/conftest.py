"""Commands that start warm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.warm import warm


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    """Where `loopline` starts warm; the tutorial starts it cold, as its reader does."""
    with warm() as folder:
        yield folder
