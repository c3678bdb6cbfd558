import pytest

from loopline.store.runs.sqlite import SqliteRuns
from loopline.testing.stores import RunLogConformance
from loopline.workspace import create_workspace


class TestSqliteRuns(RunLogConformance):
    @pytest.fixture
    def runs(self, tmp_path):
        log = SqliteRuns(tmp_path / "runs.db")
        yield log
        log.close()


def test_a_workspace_opens_its_run_log_when_first_used(tmp_path, monkeypatch):
    ws = create_workspace(tmp_path / ".loopline")
    assert not (tmp_path / ".loopline" / "runs.db").exists()
    made = ws.runs.create_run("0", start_ms=1)
    assert ws.acting_as("user:ada").runs is ws.runs
    ws.close()
    assert not (tmp_path / ".loopline" / "runs.db-wal").exists()
    monkeypatch.setenv("LOOPLINE_DURABILITY", "full")
    assert ws.runs.run(made.id) == made
    assert ws.runs.db.write(lambda tx: tx.execute("PRAGMA synchronous").fetchone()) == (2,)
    ws.close()


def test_a_log_that_was_closed_goes_on_when_it_is_used_again(tmp_path):
    log = SqliteRuns(tmp_path / "runs.db")
    run = log.create_run("0", start_ms=1).id
    log.close()
    log.log(run, tags={"t": "x"})
    assert log.run(run).tags == {"t": "x"}
    log.close()
