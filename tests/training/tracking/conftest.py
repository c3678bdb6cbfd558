from __future__ import annotations

import pytest

from loopline.workspace import create_workspace


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No server, no spool and no workspace but those of the test."""
    for name in ("LOOPLINE_TRACKING_URI", "LOOPLINE_SPOOL", "LOOPLINE_TOKEN", "LOOPLINE_PRICE_PER_HOUR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ws(tmp_path):
    """A workspace on this machine."""
    found = create_workspace(tmp_path / ".loopline")
    yield found
    found.close()
