import polars as pl
import pytest

from loopline.store.tables.delta import DeltaTables
from loopline.testing.stores import TablesConformance


class TestDeltaTables(TablesConformance):
    @pytest.fixture
    def tables(self, tmp_path):
        return DeltaTables(tmp_path / "tables")


def test_placeholder(tmp_path):
    assert pl and tmp_path
