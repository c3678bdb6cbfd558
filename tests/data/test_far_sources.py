"""Databases and object storage are read by the real clients, and their failures are told."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from loopline.base.clock import ManualClock
from loopline.base.errors import Invalid, NotFound, Unavailable
from loopline.data import TableSpec, ingest, load_source
from loopline.data import sources as sources_module
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


def test_a_host_that_does_not_answer_is_told(tmp_path, monkeypatch):
    pytest.importorskip("obstore")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Unavailable, match=r"s3://lake/a\.csv cannot be read"):
        load_source(tmp_path, TableSpec(source="s3://lake/a.csv"))
    with pytest.raises(Invalid, match="kind of host"):
        load_source(tmp_path, TableSpec(source="ftp://lake/a.csv"))
