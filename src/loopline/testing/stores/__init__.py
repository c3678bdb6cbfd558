"""What every backend of a store must keep: pytest classes to inherit from.

A backend's test module says how to make an empty store, and inherits the rest:

    class TestMyBlobs(BlobsConformance):
        @pytest.fixture
        def blobs(self, tmp_path):
            return MyBlobs(tmp_path)
"""

from loopline.base.lazy import exports

_HOMES = {
    "BlobsConformance": "blobs",
    "OnlineConformance": "online",
    "RecordsConformance": "records",
    "RunLogConformance": "runs",
    "TablesConformance": "tables",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
