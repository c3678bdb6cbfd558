from __future__ import annotations

import io
import stat
import warnings
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.base.errors import Invalid
from loopline.training.archive import MAX_ENTRIES, pack, unpack

names = st.from_regex(r"[a-z]{1,4}(/[a-z]{1,4})?\.[a-z]{1,3}", fullmatch=True)


@given(st.dictionaries(names, st.binary(max_size=50), max_size=8), st.randoms())
def test_an_archive_gives_back_its_files_and_its_bytes_ignore_their_order(files, random):
    mixed = list(files.items())
    random.shuffle(mixed)
    assert pack(files) == pack(dict(mixed))
    assert unpack(pack(files)) == files


def crafted(*entries: tuple[str, bytes], mode: int = stat.S_IFREG | 0o644, kind: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(out, "w", kind) as archive:
        for name, data in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, data, compress_type=kind)
    return out.getvalue()


@pytest.mark.parametrize(
    "hostile",
    [
        crafted(("../escape", b"x")),
        crafted(("a/../../escape", b"x")),
        crafted(("/etc/passwd", b"x")),
        crafted(("a\\..\\b", b"x")),
        crafted(("C:drive", b"x")),
        crafted(("folder/", b"")),
        crafted((".hidden", b"x")),
        crafted(("link", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777),
        crafted(("twice", b"x"), ("twice", b"y")),
        crafted(("bomb", b"0" * 100_000), kind=zipfile.ZIP_DEFLATED),
        crafted(*((f"f{i}", b"") for i in range(MAX_ENTRIES + 1))),
        b"no zip at all",
        b"",
    ],
)
def test_an_archive_that_could_do_harm_is_refused(hostile):
    with pytest.raises(Invalid, match="not a model bundle"):
        unpack(hostile)


def test_an_archive_beyond_its_size_is_refused_before_it_is_read():
    with pytest.raises(Invalid, match="larger than"):
        unpack(pack({"a": b"0" * 2000}), max_bytes=1000)


def test_no_cut_or_changed_byte_of_an_archive_goes_through_as_other_content():
    files = {"a.txt": b"one", "b.txt": b"two"}
    whole = pack(files)
    for i in range(len(whole)):
        for broken in (whole[:i], whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :]):
            try:
                found = unpack(broken)
            except Invalid:
                continue
            assert all(data in files.values() for data in found.values())


def test_entries_that_share_their_bytes_cannot_make_more_than_the_archive_holds():
    whole = pack({f"f{i}": b"0" * 1000 for i in range(8)})
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        offsets = [entry.header_offset for entry in archive.infolist()]
    first = whole[: offsets[1]]
    central = whole[whole.index(b"PK\x01\x02") : whole.index(b"PK\x05\x06")]
    for n in range(1, 8):
        central = central.replace(offsets[n].to_bytes(4, "little") + f"f{n}".encode(), bytes(4) + f"f{n}".encode())
    end = bytearray(whole[whole.index(b"PK\x05\x06") :])
    end[16:20] = len(first).to_bytes(4, "little")
    with pytest.raises(Invalid, match="overlap"):
        unpack(first + central + bytes(end))
