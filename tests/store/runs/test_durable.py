"""What a call has returned from is there: after a death, beside other processes, when the disk is full."""

import multiprocessing
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from loopline.base.errors import Conflict, NotFound, Unavailable
from loopline.store.runs import schema
from loopline.store.runs.database import Database
from loopline.store.runs.protocol import Point
from loopline.store.runs.sqlite import SqliteRuns

LOGGING = """
import sys
from pathlib import Path
from loopline.store.runs.protocol import Point
from loopline.store.runs.sqlite import SqliteRuns

log = SqliteRuns(Path(sys.argv[1]))
run, first = sys.argv[2], int(sys.argv[3])
log.create_run("0", start_ms=1, id=run)
print("ready", flush=True)
for n in range(first, first + 1_000_000):
    pair = [Point("a", n, n, n), Point("b", -n, n, n)] + [Point(f"more{k}", n, n, n) for k in range(60)]
    log.log(run, metrics=pair, params={f"p{n}": str(n)}, tags={"last": str(n)})
    print(n, flush=True)
    if n % 500 == 0:
        log.compact(run)
"""


def started(path, run, first=0):
    command = [sys.executable, "-c", LOGGING, str(path), run, str(first)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def series(log, run, key):
    return [point.value for point in log.history(run, key, limit=1_000_000).items]


def test_a_killed_process_loses_nothing_acknowledged_and_leaves_no_half_call(tmp_path):
    first = 0
    for round in range(4):
        process = started(tmp_path / "runs.db", "run", first)
        lines = iter(process.stdout)
        assert next(lines) == "ready\n"
        killer = threading.Timer(0.25 + round * 0.13, process.kill)
        killer.start()
        said = [int(line) for line in lines if line.endswith("\n")]
        process.wait()
        assert process.returncode == -signal.SIGKILL
        log = SqliteRuns(tmp_path / "runs.db")
        found = series(log, "run", "a")
        assert found == list(range(len(found)))
        assert len(found) in (said[-1] + 1, said[-1] + 2)
        assert series(log, "run", "b") == [-n for n in range(len(found))]
        run = log.run("run")
        assert run.params == {f"p{n}": str(n) for n in range(len(found))}
        assert run.tags == {"last": str(len(found) - 1)}
        assert {point.key: point.value for point in run.metrics}["b"] == 1 - len(found)
        log.close()
        first = len(found)
    assert sqlite3.connect(tmp_path / "runs.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)


def logging(path, name, n):
    log = SqliteRuns(path)
    run = log.create_run("0", start_ms=1, id=name)
    for step in range(n):
        log.log(run.id, metrics=[Point("m", step, step, step), Point(f"key{step}", 1.0, 1, 1)])
        log.log("shared", metrics=[Point("m", step, step, step)], tags={f"{name}-{step}": "x"})
    log.compact("shared")
    log.close()


def test_several_processes_log_to_one_file(tmp_path):
    """Also into one run: what two of them send alike is kept once; all of them open the file at the same moment."""
    path = tmp_path / "runs.db"
    context = multiprocessing.get_context("spawn")
    log = SqliteRuns(path)
    log.create_run("0", start_ms=1, id="shared")
    others = [context.Process(target=logging, args=(path, f"run{n}", 60)) for n in range(3)]
    for process in others:
        process.start()
    for process in others:
        process.join(60)
        assert process.exitcode == 0
    for n in range(3):
        assert series(log, f"run{n}", "m") == list(range(60))
        assert len(log.run(f"run{n}").metrics) == 61
    assert sorted(series(log, "shared", "m")) == list(range(60))
    assert len(log.run("shared").tags) == 180
    log.close()


def opening(path, go, done):
    go.wait(10)
    log = SqliteRuns(path)
    done.put(len(log.search_experiments().items))
    log.close()


def test_processes_that_make_the_file_at_the_same_moment_do_not_race(tmp_path):
    context = multiprocessing.get_context("fork")
    for n in range(5):
        go, done = context.Event(), context.Queue()
        processes = [context.Process(target=opening, args=(tmp_path / f"{n}.db", go, done)) for _ in range(6)]
        for process in processes:
            process.start()
        go.set()
        assert [done.get(timeout=20) for _ in processes] == [1] * 6
        for process in processes:
            process.join(10)


def test_threads_share_commits_and_each_gets_its_own_answer(tmp_path):
    log = SqliteRuns(tmp_path / "runs.db")
    run = log.create_run("0", start_ms=1).id
    log.log(run, params={"taken": "x"})
    wrong, right = [], []

    def work(n):
        for step in range(100):
            try:
                log.log(run, metrics=[Point(f"m{n}", step, step, step)], params={"taken": "xy"[(n + step) % 2]})
            except Conflict:
                wrong.append((n, step))
            else:
                right.append((n, step))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wrong) == [(n, step) for n in range(8) for step in range(100) if (n + step) % 2]
    for n in range(8):
        assert series(log, run, f"m{n}") == [step for step in range(100) if not (n + step) % 2]
    log.close()


def test_calls_that_wait_while_another_process_writes_share_its_turn_afterwards(tmp_path):
    log = SqliteRuns(tmp_path / "runs.db")
    run = log.create_run("0", start_ms=1).id
    other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    threads = [threading.Thread(target=log.log, args=(run,), kwargs={"tags": {f"t{n}": "x"}}) for n in range(20)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert log.run(run).tags == {}
    other.execute("COMMIT")
    for thread in threads:
        thread.join(10)
    assert len(log.run(run).tags) == 20
    log.close()


def test_a_file_that_stays_locked_is_told_and_nothing_is_kept(tmp_path):
    log = SqliteRuns(tmp_path / "runs.db", busy_s=0.1)
    run = log.create_run("0", start_ms=1).id
    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            log.log(run, tags={"t": "x"})
        assert log.run(run).tags == {}
    log.log(run, tags={"t": "y"})
    assert log.run(run).tags == {"t": "y"}
    log.close()


def test_a_search_does_not_wait_for_another_process_that_writes(tmp_path):
    log = SqliteRuns(tmp_path / "runs.db")
    for n in range(30):
        log.create_run("0", start_ms=n)
    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writer = threading.Thread(target=log.create_run, args=("0",), kwargs={"start_ms": 99})
        writer.start()
        began = time.perf_counter()
        for _ in range(3):
            assert len(log.search_runs(["0"]).items) == 30
        assert time.perf_counter() - began < 10
        other.execute("COMMIT")
    writer.join(10)
    assert len(log.search_runs(["0"]).items) == 31
    log.close()


def test_a_bug_in_one_call_of_a_group_is_raised_there_alone(tmp_path):
    db = Database(tmp_path / "runs.db")
    gate, said = threading.Event(), {}

    def hold(tx):
        gate.wait(5)

    def good(tx):
        return tx.key("good")

    def bad(tx):
        tx.key("half")
        tx.execute("SELECT nonsense")

    def ask(name, work):
        try:
            said[name] = db.write(work)
        except sqlite3.Error as error:
            said[name] = type(error)

    threads = [threading.Thread(target=ask, args=(work.__name__, work)) for work in (hold, good, bad)]
    threads[0].start()
    time.sleep(0.05)
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.05)
    gate.set()
    for thread in threads:
        thread.join(10)
    assert said["bad"] is sqlite3.OperationalError
    assert said["good"] >= 1
    with db.read() as connection:
        assert connection.execute("SELECT name FROM keys").fetchall() == [("good",)]
    db.close()


@pytest.fixture
def small_files():
    """Files of this process may grow to a few MB only, while asked to: as if the disk were full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_keeps_nothing_of_the_call_and_later_calls_work_again(tmp_path, small_files):
    log = SqliteRuns(tmp_path / "runs.db")
    run = log.create_run("0", start_ms=1).id
    for n in range(20):
        log.log(run, metrics=[Point("m", n, n, n)], tags={f"t{n}": "x" * 10_000})
    small_files((tmp_path / "runs.db-wal").stat().st_size + 50_000)
    kept = 20
    with pytest.raises(Unavailable, match="disk"):
        while True:
            log.log(run, metrics=[Point("m", kept, kept, kept)], tags={f"t{kept}": "x" * 10_000})
            kept += 1
    with pytest.raises(Unavailable):
        log.log(run, tags={f"t{kept}": "x" * 900_000})
    assert 20 < kept < 30
    assert series(log, run, "m") == list(range(kept))
    assert len(log.search_runs(["0"]).items) == 1
    found = log.run(run)
    assert len(found.tags) == kept and found.metrics[0].value == kept - 1
    small_files(None)
    log.log(run, metrics=[Point("m", kept, kept, kept)], tags={f"t{kept}": "x"})
    assert series(log, run, "m") == list(range(kept + 1))
    log.close()
    again = SqliteRuns(tmp_path / "runs.db")
    assert series(again, run, "m") == list(range(kept + 1))
    again.close()


def test_of_a_group_the_calls_that_have_room_are_kept(tmp_path, small_files):
    log = SqliteRuns(tmp_path / "runs.db")
    run = log.create_run("0", start_ms=1).id
    small_files((tmp_path / "runs.db-wal").stat().st_size + 500_000)
    other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    wrong = []

    def work(n):
        try:
            log.log(run, tags={f"t{n}": "x" * (900_000 if n == 3 else 10)})
        except Unavailable:
            wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    other.execute("COMMIT")
    for thread in threads:
        thread.join(10)
    assert wrong == [3]
    assert sorted(log.run(run).tags) == [f"t{n}" for n in range(8) if n != 3]
    log.close()


def test_a_newer_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "runs.db"
    SqliteRuns(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version=99")
    before = path.read_bytes()
    with pytest.raises(Conflict, match="version 99"):
        SqliteRuns(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("made", ["CREATE TABLE other (x)", "PRAGMA application_id=7"])
def test_the_file_of_another_program_is_refused_and_left_alone(tmp_path, made):
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute(made)
        other.execute("PRAGMA user_version=0")
    before = path.read_bytes()
    with pytest.raises(Conflict, match="another program"):
        SqliteRuns(path)
    assert path.read_bytes() == before


def test_a_file_that_is_none_is_told(tmp_path):
    (tmp_path / "runs.db").write_bytes(b"not a database at all" * 1_000)
    with pytest.raises(Unavailable, match="not a database"):
        SqliteRuns(tmp_path / "runs.db")


def test_an_older_file_is_copied_and_brought_up_to_date_in_one_piece(tmp_path):
    path = tmp_path / "runs.db"
    log = SqliteRuns(path)
    log.create_run("0", start_ms=1, id="run")
    log.close()
    for script in ("CREATE TABLE half (x); SELECT nonsense", "CREATE TABLE more (x)"):
        connection = sqlite3.connect(path, isolation_level=None)
        wanted = (*schema.MIGRATIONS, script)
        if "nonsense" in script:
            with pytest.raises(sqlite3.OperationalError):
                schema.bring_up_to_date(connection, path, migrations=wanted)
        else:
            schema.bring_up_to_date(connection, path, migrations=wanted)
            schema.bring_up_to_date(connection, path, migrations=wanted)
        connection.close()
    with closing(sqlite3.connect(path)) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        assert "more" in names and "half" not in names
        assert connection.execute("SELECT uuid FROM runs").fetchone() == ("run",)
    known = len(schema.MIGRATIONS)
    with closing(sqlite3.connect(tmp_path / f"runs.db.v{known}")) as copy:
        assert copy.execute("SELECT uuid FROM runs").fetchone() == ("run",)
        assert copy.execute("PRAGMA user_version").fetchone() == (known,)


def test_a_run_log_of_the_first_version_opens_and_remembers_what_is_taken_out(tmp_path):
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.bring_up_to_date(connection, path, migrations=schema.MIGRATIONS[:1])
    with closing(SqliteRuns(path)) as log:
        for id in ("one", "two"):
            log.create_run("0", start_ms=1, id=id)
            log.change_run(id, stage="deleted", at_ms=2)
        log.forget(["one", "two"], again=["two"])
        assert log.gone() == ["one"] and (tmp_path / "runs.db.v1").exists()


def test_a_child_that_was_forked_logs_too(tmp_path):
    log = SqliteRuns(tmp_path / "runs.db")
    run = log.create_run("0", start_ms=1).id
    child = os.fork()
    if child == 0:
        try:
            log.log(run, tags={"child": "x"})
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    log.log(run, tags={"parent": "x"})
    assert sorted(log.run(run).tags) == ["child", "parent"]
    log.close()


def test_full_durability_syncs_each_commit(tmp_path):
    for durability, level in (("normal", 1), ("full", 2)):
        db = Database(tmp_path / f"{durability}.db", durability=durability)
        assert db.write(lambda tx: tx.execute("PRAGMA synchronous").fetchone()) == (level,)
        db.close()


def test_a_file_that_is_deleted_underneath_is_not_written_to_any_more(tmp_path):
    log = SqliteRuns(tmp_path / "runs.db")
    run = log.create_run("0", start_ms=1).id
    log.log(run, metrics=[Point("m", 1.0, 1, 1)])
    for end in ("", "-wal", "-shm"):
        (tmp_path / f"runs.db{end}").unlink()
    time.sleep(1.1)
    with pytest.raises(NotFound):
        log.log(run, tags={"t": "x"})
    again = log.create_run("0", start_ms=1).id
    log.log(again, metrics=[Point("n", 1.0, 1, 1)], tags={"t": "x"})
    assert [metric.key for metric in log.run(again).metrics] == ["n"]
    log.close()
