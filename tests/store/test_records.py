import itertools
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from loopline.base.errors import Conflict, Invalid, Unavailable
from loopline.store.records.migrate import FOLDER, known_revisions
from loopline.store.records.schema import REVISION, metadata
from loopline.store.records.sql import SqlRecords
from loopline.testing.stores import RecordsConformance


class TestSqliteRecords(RecordsConformance):
    @pytest.fixture
    def again(self, tmp_path):
        opened = []

        def open_():
            opened.append(SqlRecords.at(tmp_path / "records.db"))
            return opened[-1]

        yield open_
        for store in opened:
            store.close()

    @pytest.fixture
    def records(self, again):
        return again()


@pytest.fixture(scope="session")
def postgresql(require):
    """A PostgreSQL server of its own, from the `pgserver` wheel; it needs a folder that other users may enter."""
    require("psycopg")
    pgserver = require("pgserver")
    with tempfile.TemporaryDirectory(prefix="loopline-pg-") as folder:
        Path(folder).chmod(0o755)
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        server.psql("ALTER SYSTEM SET fsync = off;")
        server.psql("SELECT pg_reload_conf();")
        yield server
        server.cleanup()


class TestPostgresqlRecords(RecordsConformance):
    numbers = itertools.count()

    @pytest.fixture
    def again(self, postgresql):
        name = f"t{next(self.numbers)}"
        postgresql.psql(f"CREATE SCHEMA {name};")
        address = sa.make_url(postgresql.get_uri()).update_query_dict({"options": f"-csearch_path={name}"})
        opened = []

        def open_():
            opened.append(SqlRecords(address.render_as_string(hide_password=False)))
            return opened[-1]

        yield open_
        for store in opened:
            store.close()

    @pytest.fixture
    def records(self, again):
        return again()

    def test_a_lost_connection_is_one_clear_error_and_the_next_call_works(self, postgresql, records):
        with records.transaction() as tx:
            tx.set_meta("m", "1")
        postgresql.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid();"
        )
        with pytest.raises(Unavailable):
            records.meta("m")
        assert records.meta("m") == "1"

    def test_a_server_that_is_down_is_unavailable_and_no_password_is_shown(self):
        with pytest.raises(Unavailable) as raised:
            SqlRecords("postgresql://me:secret@127.0.0.1:1/none")
        assert "secret" not in str(raised.value)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "records.db"


def test_a_fresh_database_is_made_by_the_migrations_as_the_tables_say(file):
    SqlRecords.at(file).close()
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == REVISION
    engine.dispose()


def test_the_newest_migration_is_the_revision_that_opening_looks_for():
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [REVISION]
    assert {script.revision for script in scripts.walk_revisions()} == known_revisions()


def test_opening_an_up_to_date_database_imports_no_alembic(file):
    SqlRecords.at(file).close()
    code = f"import sys; from loopline.store.records.sql import SqlRecords; SqlRecords.at({str(file)!r}); "
    run = [sys.executable, "-c", code + "print('alembic' in sys.modules)"]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_a_database_of_a_newer_loopline_is_refused_and_left_as_it_is(file):
    SqlRecords.at(file).close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(Conflict, match="9999") as raised:
        SqlRecords.at(file)
    assert "upgrade loopline" in raised.value.fix
    assert file.read_bytes() == before


def test_threads_that_make_one_database_at_once_all_open_it(file):
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: SqlRecords.at(file), range(4)))
    for number, records in enumerate(opened):
        with records.transaction() as tx:
            tx.set_meta(str(number), "x")
        records.close()


def test_a_claim_of_nothing_waits_for_no_writer(file):
    records = SqlRecords.at(file, busy_s=0.05)
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert records.claim("t", "w", lease_s=1) == []
    blocker.execute("ROLLBACK")
    with records.transaction() as tx:
        tx.enqueue("e", "t", "train", {})
    assert records.claim("other", "w", lease_s=1) == []
    assert [effect.id for effect, _ in records.claim("t", "w", lease_s=0)] == ["e"]
    assert [effect.id for effect, _ in records.claim("t", "v", lease_s=60)] == ["e"]
    assert records.claim("t", "w", lease_s=1) == []


def test_a_locked_database_is_unavailable_and_works_once_it_is_free(file):
    records = SqlRecords.at(file, busy_s=0.05)
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    for act in (lambda: records.transaction().__enter__(), lambda: records.lease("l", "w", lease_s=1)):
        with pytest.raises(Unavailable, match="locked"):
            act()
    assert records.meta("m") is None
    blocker.execute("ROLLBACK")
    with records.transaction() as tx:
        tx.set_meta("m", "1")
    assert records.meta("m") == "1"


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_damaged_database_is_unavailable_and_says_what_to_restore(file, damage):
    file.write_bytes(damage)
    with pytest.raises(Unavailable, match=r"records\.db") as raised:
        SqlRecords.at(file)
    assert "backup" in raised.value.fix
    assert file.read_bytes() == damage


def test_a_path_with_spaces_and_signs_is_a_path(tmp_path):
    folder = tmp_path / "a b?c#d%20e@f:g"
    records = SqlRecords.at(folder / "records.db")
    records.close()
    assert (folder / "records.db").exists()


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", ""])
def test_other_databases_are_refused(url):
    with pytest.raises(Invalid, match="can hold records"):
        SqlRecords(url)


def test_a_durable_transaction_is_forced_to_disk_and_another_is_not(file, monkeypatch):
    records = SqlRecords.at(file)
    for durable, mode in ((True, 2), (False, 1), (True, 2)):
        with records.database.write(durable=durable) as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (mode,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_bug_in_a_statement_stays_a_bug(file):
    records = SqlRecords.at(file)
    with pytest.raises(sqlite3.OperationalError), records.database.connection() as connection:
        connection.execute("SELECT nonsense FROM nowhere")
