"""Laws of bytes by digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import digest
from loopline.store.blobs.protocol import Blobs
from loopline.testing.stores.together import at_once


class BlobsConformance:
    """Laws of `Blobs`. Give a fixture `blobs`: an empty store."""

    @pytest.mark.parametrize("data", [b"", b"weights", bytes(range(256)) * 5000])
    def test_what_is_put_comes_back_under_its_digest(self, blobs: Blobs, data: bytes) -> None:
        key = blobs.put(data)
        assert key == digest(data)
        assert blobs.get(key) == data
        assert blobs.path(key).read_bytes() == data
        assert key in blobs

    def test_putting_twice_changes_nothing(self, blobs: Blobs) -> None:
        assert blobs.put(b"x") == blobs.put(b"x")
        assert list(blobs) == [digest(b"x")]

    def test_a_file_is_kept_as_its_bytes_are(self, blobs: Blobs, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"y" * 3_000_000)
        assert blobs.put_file(tmp_path / "file") == digest(b"y" * 3_000_000)
        (tmp_path / "file").write_bytes(b"changed")
        assert blobs.get(digest(b"y" * 3_000_000))[:3] == b"yyy"

    def test_every_digest_is_listed(self, blobs: Blobs) -> None:
        assert list(blobs) == []
        assert set(blobs) == set()
        keys = {blobs.put(bytes([n])) for n in range(40)}
        assert set(blobs) == keys

    def test_an_adopted_file_is_kept_although_its_first_name_goes(self, blobs: Blobs, tmp_path: Path) -> None:
        path = tmp_path / "part.parquet"
        path.write_bytes(b"rows")
        key = blobs.adopt(path)
        assert blobs.adopt(path) == key == digest(b"rows")
        path.unlink()
        assert blobs.get(key) == b"rows"
        with pytest.raises(NotFound):
            blobs.adopt(path)

    def test_what_is_absent_is_not_found(self, blobs: Blobs) -> None:
        with pytest.raises(NotFound):
            blobs.get("0" * 64)
        with pytest.raises(NotFound):
            blobs.path("0" * 64)
        assert "0" * 64 not in blobs
        assert 7 not in blobs

    @pytest.mark.parametrize("name", ["", "../../etc/passwd", "ABC", "g" * 64, "0" * 63])
    def test_only_a_digest_names_a_blob(self, blobs: Blobs, name: str) -> None:
        with pytest.raises(Invalid):
            blobs.get(name)
        assert name not in blobs

    def test_deleting_twice_changes_nothing(self, blobs: Blobs) -> None:
        key = blobs.put(b"x")
        blobs.delete(key)
        blobs.delete(key)
        assert key not in blobs
        assert blobs.put(b"x") == key

    def test_many_threads_may_put_the_same_bytes(self, blobs: Blobs) -> None:
        data = b"z" * 100_000
        assert set(at_once(8, lambda _: blobs.put(data))) == {digest(data)}
        assert blobs.get(digest(data)) == data
        assert list(blobs) == [digest(data)]
