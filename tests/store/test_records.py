import itertools
import os
import uuid

import pytest

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
def postgresql(tmp_path_factory):
    """Address of a PostgreSQL server of its own, from the `pgserver` wheel."""
    pgserver = pytest.importorskip("pgserver", reason="PostgreSQL: pip install pgserver 'psycopg[binary]'")
    pytest.importorskip("psycopg", reason="PostgreSQL: pip install pgserver 'psycopg[binary]'")
    server = pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
    yield server
    server.cleanup()


class TestPostgresqlRecords(RecordsConformance):
    numbers = itertools.count()

    @pytest.fixture
    def again(self, postgresql):
        name = f"t{next(self.numbers)}_{os.getpid()}_{uuid.uuid4().hex[:6]}"
        postgresql.psql(f"CREATE DATABASE {name};")
        opened = []

        def open_():
            opened.append(SqlRecords(postgresql.get_uri(name)))
            return opened[-1]

        yield open_
        for store in opened:
            store.close()

    @pytest.fixture
    def records(self, again):
        return again()
