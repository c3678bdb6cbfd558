"""A full disk and a read-only folder: one clear error, and the workspace opens afterwards."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PRELUDE = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
import polars as pl
from loopline.base.errors import Unavailable
from loopline.workspace import create_workspace, open_workspace, recorded

place = Path(sys.argv[1])
filler = place / "filler"

def ingest(ws, n):
    key = ws.blobs.put(os.urandom(200_000))
    ws.tables.append("t", pl.DataFrame({"n": list(range(3000)), "x": os.urandom(3000).hex()}), key=str(n))
    ws.online.put_many("v", {str(i): (ws.clock(), os.urandom(2000)) for i in range(40)})
    with recorded(ws, "data.ingest", key, {"n": n, "pad": "x" * 3000}):
        pass

def refused(act):
    try:
        act()
    except Unavailable as error:
        assert error.fix and error.why, error
        return str(error)
    raise SystemExit("nothing was refused")
"""


def in_a_namespace(tmp_path: Path, options: str, body: str) -> str:
    """Run Python with `place` on a small file system of its own (needs user namespaces)."""
    place, script = tmp_path / "place", tmp_path / "script.py"
    place.mkdir()
    script.write_text(PRELUDE + textwrap.dedent(body))
    mount = f"mount -t tmpfs -o {options} tmpfs {place} && exec {sys.executable} {script} {place}"
    probe = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True)
    if probe.returncode:
        if os.environ.get("REQUIRE") == "all":
            pytest.fail("user namespaces are off: unshare -rm", pytrace=False)
        pytest.skip("user namespaces are off: unshare -rm")
    run = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr + run.stdout
    assert not run.stderr, "beside the error there is nothing for a person to puzzle over: " + run.stderr
    return run.stdout


def test_a_full_disk_is_one_clear_error_and_all_goes_on_once_there_is_room(tmp_path):
    said = in_a_namespace(
        tmp_path,
        "size=6m",
        """
        ws = create_workspace(place / "w", actor="user:ada")
        ingest(ws, 0)
        ws.tables.append("t", pl.DataFrame({"n": [0]}), key="one")
        filler.write_bytes(b"")
        with filler.open("ab", buffering=0) as handle:
            try:
                while True:
                    handle.write(bytes(4096))
            except OSError:
                pass
        print(refused(lambda: ws.blobs.put(os.urandom(200_000))))
        print(refused(lambda: ws.tables.append("t", pl.DataFrame({"n": list(range(9000)), "x": "y"}), key="full")))
        print(refused(lambda: ws.tables.append("new", pl.DataFrame({"n": list(range(9000)), "x": "y"}))))
        more = pl.DataFrame({"n": list(range(90_000)), "x": "y", "z": 0.5})
        print(refused(lambda: ws.tables.append("t", more)))
        print(refused(lambda: ws.tables.append("t", more.lazy())))
        print(refused(lambda: ws.tables.append("new", more.lazy())))
        print(refused(lambda: ws.tables.compact("t")))
        assert ws.tables.names() == ["t"] and len(list((place / "w/tables/t").rglob("*.parquet"))) == 2
        print(refused(lambda: [ws.online.put_many("v", {f"{i}": (ws.clock(), bytes(100_000))}) for i in range(60)]))
        def record():
            for n in range(400):
                with ws.records.transaction() as tx:
                    tx.set_meta(f"m{n}", "x" * 20_000)
        print(refused(record))
        assert ws.tables.scan("t").collect().height == 3001
        assert len(ws.records.entries()) == 1
        ws.close()
        again = open_workspace(place / "w", actor="user:ada")
        assert again.records.entries()[0]["action"] == "data.ingest"
        filler.unlink()
        ingest(again, 1)
        again.tables.append("t", more.lazy(), key="full")
        again.tables.compact("t")
        assert again.tables.scan("t").collect().height == 96_001
        assert not list((place / "w" / "blobs").glob("part-*"))
        assert again.audit.verify().ok
        """,
    )
    assert "blobs" in said
    assert "the table t cannot be written: the disk is full" in said
    assert "records" in said


def test_a_read_only_folder_is_one_clear_error_and_stays_readable(tmp_path):
    said = in_a_namespace(
        tmp_path,
        "size=8m",
        """
        import subprocess
        ws = create_workspace(place / "w", actor="user:ada")
        ingest(ws, 0)
        (key,) = ws.blobs
        ws.close()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        print(refused(lambda: create_workspace(place / "other")))
        ws = open_workspace(place / "w", actor="user:ada")
        print(refused(lambda: ws.blobs.put(b"new")))
        print(refused(lambda: ws.tables.append("t", pl.DataFrame({"n": [1]}))))
        assert len(ws.blobs.get(key)) == 200_000
        assert ws.tables.scan("t").collect().height == 3000
        def write():
            with ws.records.transaction() as tx:
                tx.set_meta("m", "1")
        print(refused(write))
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        ws = open_workspace(place / "w", actor="user:ada")
        ingest(ws, 1)
        assert ws.audit.verify().ok
        """,
    )
    assert "read-only" in said.lower()
