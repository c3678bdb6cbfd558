"""Artifacts through the server: up and down in streams, cut off, damaged, refused."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
import tarfile
import tempfile
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from tests.protocols.test_mlflow_door import refused
from tests.protocols.tracking import API, FILES, Served, served, until

from loopline.interfaces.mlflow.requests import Request
from loopline.workspace import create_workspace


@pytest.fixture(scope="module")
def door(tmp_path_factory) -> Iterator[Served]:
    ws = create_workspace(tmp_path_factory.mktemp("files") / "ws", actor="user:ada")
    with served(ws) as found:
        yield found
    ws.close()


@pytest.fixture
def run(door) -> str:
    return door.run()


def at(run: str, path: str) -> str:
    return f"{FILES}/0/{run}/artifacts/{quote(path)}"


def listed(door: Served, run: str, path: str = "") -> list[dict[str, object]]:
    asked = quote(f"0/{run}/artifacts/{path}".rstrip("/"), safe="")
    found: list[dict[str, object]] = door.send("GET", f"{FILES}?path={asked}").json["files"]
    return found


@pytest.mark.parametrize("size", [0, 1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000])
def test_what_goes_up_comes_down(door, run, size):
    data = os.urandom(size)
    assert door.send("PUT", at(run, "dir/two words.bin"), data).status == 200
    reply = door.send("GET", at(run, "dir/two words.bin"))
    assert reply.body == data and reply.headers["content-length"] == str(size)
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["content-disposition"].startswith("attachment")
    assert reply.headers["etag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    assert listed(door, run) == [{"path": "dir", "is_dir": True}]
    assert listed(door, run, "dir") == [{"path": "two words.bin", "is_dir": False, "file_size": size}]


def test_files_of_a_training_come_down_though_its_id_has_dashes(door):
    trained = door.ws.runs.create_run("0", start_ms=1, id="0199d1c2-7b7a-7c3e-8f00-0123456789ab").id
    door.send("PUT", at(trained, "report.json"), b"{}")
    assert door.send("GET", at(trained, "report.json")).body == b"{}"
    assert [one["path"] for one in listed(door, trained)] == ["report.json"]
    assert door.send("GET", f"{FILES}/0/0199d1c2-7b7a/artifacts/report.json").status == 400


def test_no_file_is_kept_for_a_run_that_was_forgotten_since(door, run):
    assert door.send("PUT", at(run, "a.txt"), b"x").status == 200
    door.call("runs/delete", run_id=run)
    door.ws.runs.forget([run])
    assert door.send("PUT", at(run, "b.txt"), b"x").status == 404
    assert door.send("PUT", at("m-" + run, "b.txt"), b"x").status == 404


def test_a_listing_for_pages_names_paths_from_the_top(door, run):
    door.send("PUT", at(run, "a/b/c.txt"), b"x")
    reply = door.send("GET", f"{API}artifacts/list?run_id={run}&path=a").json
    assert reply["files"] == [{"path": "a/b", "is_dir": True}] and reply["root_uri"].endswith(f"/{run}/artifacts")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("0-0", 0, 1),
        ("5-9", 5, 10),
        ("2999990-", 2_999_990, 3_000_000),
        ("-7", 2_999_993, 3_000_000),
        ("1000000-2500000", 1_000_000, 2_500_001),
        ("10-99999999", 10, 3_000_000),
    ],
)
def test_a_range_is_what_was_asked_for(door, run, asked, start, end):
    data = os.urandom(3_000_000)
    door.send("PUT", at(run, "f"), data)
    reply = door.send("GET", at(run, "f"), headers={"range": f"bytes={asked}"})
    assert (reply.status, reply.body) == (206, data[start:end])
    assert reply.headers["content-range"] == f"bytes {start}-{end - 1}/3000000"


@pytest.mark.parametrize("asked", ["bytes=a-b", "bytes=0-1,5-6", "lines=0-1", "bytes=-"])
def test_a_range_that_is_not_understood_is_the_whole(door, run, asked):
    door.send("PUT", at(run, "f"), b"0123456789")
    reply = door.send("GET", at(run, "f"), headers={"range": asked})
    assert (reply.status, reply.body) == (200, b"0123456789")


def test_a_range_beyond_the_end_is_refused(door, run):
    door.send("PUT", at(run, "f"), b"0123456789")
    assert door.send("GET", at(run, "f"), headers={"range": "bytes=10-"}).status == 416


WRONG = (
    "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/x", "a/%2e%2e/b", "%252e%252e/x", "a//b", "%2fabs", "a%00b", "a%0ab",
    "a%5cb", "a%ff", "C:/x", "./a", "a/%2e/b", "x" * 300,
)  # fmt: skip


@pytest.mark.parametrize("path", WRONG)
def test_a_path_that_leads_elsewhere_is_refused_up_down_and_for_deletion(door, run, path):
    for method, body in (("PUT", b"x"), ("GET", None), ("DELETE", None)):
        address = f"{FILES}/0/{run}/artifacts/{path}"
        head = f"{method} {address} HTTP/1.1\r\nhost: 127.0.0.1:{door.port}\r\nconnection: close\r\n"
        length = f"content-length: {len(body)}\r\n" if body is not None else ""
        with door.raw(f"{head}{length}\r\n".encode() + (body or b"")) as connection:
            reply = b"".join(iter(lambda c=connection: c.recv(65536), b""))
        assert reply.startswith(b"HTTP/1.1 400") and b"INVALID_PARAMETER_VALUE" in reply, reply
    refused(door.send("GET", f"{FILES}?path={quote(f'0/{run}/artifacts/', safe='')}{path}"))
    assert listed(door, run) == []


def test_files_are_kept_for_what_exists_alone(door):
    refused(door.send("PUT", at("f" * 32, "a"), b"x"), "RESOURCE_DOES_NOT_EXIST", 404)
    refused(door.send("PUT", f"{FILES}/elsewhere/a", b"x"))
    refused(door.send("PUT", f"{FILES}/0/models/m-{'f' * 32}/artifacts/a", b"x"), "RESOURCE_DOES_NOT_EXIST", 404)


def test_a_path_that_looks_like_another_run_stays_with_its_own(door, run):
    other = door.run()
    assert door.send("PUT", at(run, f"{other}/artifacts/a"), b"x").status == 200
    assert listed(door, other) == [] and listed(door, run) == [{"path": other, "is_dir": True}]
    assert door.send("GET", at(run, f"{other}/artifacts/a")).body == b"x"


def test_a_file_is_no_folder_and_a_folder_no_file(door, run):
    door.send("PUT", at(run, "a/b"), b"x")
    assert "folder" in refused(door.send("PUT", at(run, "a"), b"x"))
    assert "file" in refused(door.send("PUT", at(run, "a/b/c"), b"x"))
    refused(door.send("GET", at(run, "a")), "RESOURCE_DOES_NOT_EXIST", 404)
    refused(door.send("DELETE", at(run, "none")), "RESOURCE_DOES_NOT_EXIST", 404)


def test_files_stay_with_a_run_that_moves_to_another_experiment(door, run):
    door.send("PUT", at(run, "a"), b"x")
    other = door.call("experiments/create", name=f"other-{run}").json["experiment_id"]
    assert door.ws.runs.move_runs([run], other) == 1
    assert door.send("GET", f"{FILES}/{other}/{run}/artifacts/a").body == b"x"


def test_an_upload_that_is_cut_off_leaves_nothing(door, run):
    head = f"PUT {at(run, 'half')} HTTP/1.1\r\nhost: 127.0.0.1:{door.port}\r\ncontent-length: 10000000\r\n\r\n"
    connection = door.raw(head.encode() + b"x" * 3_000_000)
    connection.close()
    until(lambda: door.send("GET", "/health").status == 200)
    assert listed(door, run) == []
    refused(door.send("GET", at(run, "half")), "RESOURCE_DOES_NOT_EXIST", 404)


def test_a_download_that_nobody_waits_for_ends(door, run, monkeypatch):
    door.send("PUT", at(run, "f"), bytes(30_000_000))
    read: list[int] = []
    plain = Request.aside

    async def counted(self, work):
        read.append(1)
        return await plain(self, work)

    monkeypatch.setattr(Request, "aside", counted)
    connection = door.raw(f"GET {at(run, 'f')} HTTP/1.1\r\nhost: 127.0.0.1:{door.port}\r\n\r\n".encode())
    connection.recv(1000)
    connection.close()
    seen = -1
    while seen != len(read):
        seen = len(read)
        time.sleep(0.3)
    assert len(read) < 29


def test_a_body_in_pieces_of_unknown_length_is_taken(door, run):
    head = f"PUT {at(run, 'f')} HTTP/1.1\r\nhost: 127.0.0.1:{door.port}\r\ntransfer-encoding: chunked\r\n\r\n"
    with door.raw(head.encode()) as connection:
        for piece in (b"a" * 70_000, b"b" * 5):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert door.send("GET", at(run, "f")).body == b"a" * 70_000 + b"b" * 5


def test_a_full_disk_is_told_at_once_and_nothing_is_listed(door, run, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    reply = door.send("PUT", at(run, "f"), b"x" * 3_000_000)
    monkeypatch.undo()
    assert reply.status == 507  # none of those that the client tries again for minutes
    assert "space" in reply.json["message"]
    assert listed(door, run) == []


@pytest.mark.parametrize("size", [100, 5_000_000])
def test_damaged_bytes_are_not_handed_out_as_whole(door, run, size):
    data = os.urandom(size)
    door.send("PUT", at(run, "f"), data)
    path = door.ws.artifacts.blobs.where(hashlib.sha256(data).hexdigest())
    path.chmod(0o644)
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    head = f"GET {at(run, 'f')} HTTP/1.1\r\nhost: 127.0.0.1:{door.port}\r\nconnection: close\r\n\r\n"
    with door.raw(head.encode()) as connection:
        reply = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    assert reply.startswith(b"HTTP/1.1 400") or len(reply) < size


def test_an_archive_is_bytes_and_is_never_unpacked(door, run, tmp_path):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        link = tarfile.TarInfo("escape")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert door.send("PUT", at(run, "links.tar"), made.getvalue()).status == 200
    assert door.send("GET", at(run, "links.tar")).body == made.getvalue()
    assert not any(p.is_symlink() for p in door.ws.root.rglob("*"))


def test_parts_and_addresses_are_declined_in_the_words_that_clients_know(door, run):
    reply = door.send("POST", f"/api/2.0/mlflow-artifacts/mpu/create/0/{run}/artifacts", b"{}")
    assert reply.status == 501
    assert reply.json["message"].startswith("Multipart upload is not supported for the current artifact repository")
    assert door.send("GET", f"/api/2.0/mlflow-artifacts/presigned/0/{run}/artifacts/a").status == 501


def test_memory_does_not_grow_with_a_file(door, run):
    import psutil

    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryFile() as big:
        big.truncate(300_000_000)
        with socket.create_connection(("127.0.0.1", door.port)) as connection:
            head = f"PUT {at(run, 'big')} HTTP/1.1\r\nhost: 127.0.0.1:{door.port}\r\ncontent-length: 300000000\r\n\r\n"
            connection.sendall(head.encode())
            connection.sendfile(big)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert psutil.Process().memory_info().rss - before < 60_000_000
    door.send("DELETE", at(run, "big"))
    door.ws.artifacts.sweep()
