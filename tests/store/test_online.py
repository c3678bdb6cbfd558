import pytest

from loopline.store.online.sqlite import SqliteOnline
from loopline.testing.stores import OnlineConformance


class TestSqliteOnline(OnlineConformance):
    @pytest.fixture
    def online(self, tmp_path):
        store = SqliteOnline(tmp_path / "online.db")
        yield store
        store.close()
