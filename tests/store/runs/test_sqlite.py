import pytest

from loopline.store.runs.sqlite import SqliteRuns
from loopline.testing.stores import RunLogConformance


class TestSqliteRuns(RunLogConformance):
    @pytest.fixture
    def runs(self, tmp_path):
        log = SqliteRuns(tmp_path / "runs.db")
        yield log
        log.close()
