from pathlib import Path

import pytest

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import digest
from loopline.store.blobs.local import LocalBlobs
from loopline.testing.stores import BlobsConformance


class TestLocalBlobs(BlobsConformance):
    @pytest.fixture
    def blobs(self, tmp_path):
        return LocalBlobs(tmp_path / "blobs")


def file_of(blobs: LocalBlobs, key: str) -> Path:
    return blobs.root / key[:2] / key


@pytest.mark.parametrize("damage", [b"", b"weightz", b"weights and more"])
def test_damaged_bytes_are_never_handed_out(tmp_path, damage):
    blobs = LocalBlobs(tmp_path)
    key = blobs.put(b"weights")
    file_of(blobs, key).chmod(0o644)
    file_of(blobs, key).write_bytes(damage)
    for read in (blobs.get, blobs.path):
        with pytest.raises(Invalid, match="damaged") as raised:
            read(key)
        assert str(file_of(blobs, key)) in raised.value.fix
    file_of(blobs, key).unlink()
    assert blobs.get(blobs.put(b"weights")) == b"weights"


def test_a_cut_off_blob_is_mended_by_putting_it_again(tmp_path):
    blobs = LocalBlobs(tmp_path)
    key = blobs.put(b"weights")
    file_of(blobs, key).chmod(0o644)
    file_of(blobs, key).write_bytes(b"wei")
    blobs.put(b"weights")
    assert blobs.get(key) == b"weights"


def test_a_blob_is_a_read_only_file_named_by_its_digest(tmp_path):
    blobs = LocalBlobs(tmp_path)
    path = blobs.path(blobs.put(b"x"))
    assert path.name == digest(b"x")
    assert path.stat().st_mode & 0o222 == 0


def test_nothing_but_blobs_stays_behind(tmp_path):
    blobs = LocalBlobs(tmp_path)
    blobs.put(b"x")
    blobs.put(b"x")
    source = tmp_path / "source"
    source.write_bytes(b"x")
    blobs.put_file(source)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != source]
    assert files == [file_of(blobs, digest(b"x"))]


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        LocalBlobs(tmp_path / "b").put_file(tmp_path / "none")
    assert list(LocalBlobs(tmp_path / "b")) == []


def test_a_leftover_of_a_dead_writer_is_no_blob(tmp_path):
    blobs = LocalBlobs(tmp_path)
    blobs.put(b"x")
    (tmp_path / "part-abc").write_bytes(b"half")
    assert list(blobs) == [digest(b"x")]
