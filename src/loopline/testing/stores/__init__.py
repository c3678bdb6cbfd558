"""What every backend of a store must keep: pytest classes to inherit from.

A backend's test module says how to make an empty store, and inherits the rest:

    class TestMyBlobs(BlobsConformance):
        @pytest.fixture
        def blobs(self, tmp_path):
            return MyBlobs(tmp_path)
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "BlobsConformance": "blobs",
    "OnlineConformance": "online",
    "RecordsConformance": "records",
    "TablesConformance": "tables",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
