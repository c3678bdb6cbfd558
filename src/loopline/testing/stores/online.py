"""Laws of the latest value by key."""

from __future__ import annotations

from datetime import timedelta

import pytest

from loopline.base.errors import Invalid
from loopline.store.online.protocol import Online, place
from loopline.testing.stores.together import NOON, at_once


class OnlineConformance:
    """Laws of `Online`. Give a fixture `online`: an empty store."""

    def test_the_value_with_the_newest_event_wins_in_any_order(self, online: Online) -> None:
        for minutes in (3, 1, 5, 2):
            online.put_many("v", {"k": (NOON + timedelta(minutes=minutes), str(minutes).encode())})
        assert online.get("v", "k") == (NOON + timedelta(minutes=5), b"5")

    def test_a_correction_at_the_same_time_replaces(self, online: Online) -> None:
        online.put_many("v", {"k": (NOON, b"old")})
        online.put_many("v", {"k": (NOON, b"new")})
        assert online.get("v", "k") == (NOON, b"new")

    def test_microseconds_are_kept(self, online: Online) -> None:
        at = NOON + timedelta(microseconds=123_457)
        online.put_many("v", {"k": (at, b"")})
        assert online.get("v", "k") == (at, b"")

    def test_many_come_in_the_order_asked(self, online: Online) -> None:
        online.put_many("v", {str(n): (NOON, bytes([n])) for n in range(5)})
        assert online.get_many("v", ["3", "no", "1", "3"]) == [(NOON, b"\x03"), None, (NOON, b"\x01"), (NOON, b"\x03")]
        assert online.get_many("v", []) == []

    def test_views_do_not_share_keys(self, online: Online) -> None:
        online.put_many("v", {"k": (NOON, b"x")})
        assert online.get("w", "k") is None

    def test_forgotten_keys_are_gone(self, online: Online) -> None:
        online.put_many("v", {"k": (NOON, b"x"), "l": (NOON, b"y")})
        online.delete("v", "k")
        online.delete("v", "k")
        assert online.get("v", "k") is None
        assert online.get("v", "l") == (NOON, b"y")

    def test_a_bad_value_keeps_all_of_them_out(self, online: Online) -> None:
        with pytest.raises(Invalid):
            online.put_many("v", {"k": (NOON, b"x"), "l": (NOON.replace(tzinfo=None), b"y")})
        assert online.get("v", "k") is None

    def test_threads_may_writeat_once(self, online: Online) -> None:
        at_once(6, lambda n: online.put_many("v", {"k": (NOON + timedelta(seconds=n), bytes([n]))}))
        assert online.get("v", "k") == (NOON + timedelta(seconds=5), b"\x05")

    def test_what_is_written_stands_in_several_views_at_once(self, online: Online) -> None:
        online.put_many("v", {"old": (NOON, b"x")})
        assert online.write({place("v", "k"): b"1", place("w", "k"): b"2"}, NOON, gone=[place("v", "old")])
        asked = [place("w", "k"), place("v", "none"), place("v", "k"), place("v", "old"), place("w", "k")]
        assert online.read(asked) == [b"2", None, b"1", None, b"2"]
        assert online.read([]) == []
        assert online.get("v", "k") == (NOON, b"1")
        assert online.keys("v") == ["k"]

    def test_a_write_with_a_condition_happens_wholly_or_not_at_all(self, online: Online) -> None:
        mark, other = place("v", "mark"), place("v", "k")
        assert not online.write({other: b"x", mark: b"1"}, NOON, only_if=(mark, b"0"))
        assert online.read([other, mark]) == [None, None]
        assert online.write({other: b"x", mark: b"1"}, NOON, only_if=(mark, None))
        assert not online.write({other: b"y"}, NOON, gone=[mark], only_if=(mark, None))
        assert online.write({other: b"y", mark: b""}, NOON, only_if=(mark, b"1"))
        assert online.write({mark: b"2"}, NOON, only_if=(mark, b""))
        assert online.read([other, mark]) == [b"y", b"2"]

    def test_of_many_conditional_writes_one_wins(self, online: Online) -> None:
        mark = place("v", "mark")
        won = []
        at_once(6, lambda n: won.append(online.write({mark: bytes([n])}, NOON, only_if=(mark, None))))
        assert sorted(won) == [False] * 5 + [True]

    def test_all_bytes_and_all_text_come_back(self, online: Online) -> None:
        odd = [place("v", key) for key in ("", "é\n*?[a]", "a\x1eb", "k" * 500)]
        value = bytes(range(256)) * 300
        assert online.write(dict.fromkeys(odd, value), NOON)
        assert online.read(odd) == [value] * 4
        assert online.keys("v") == sorted(("", "é\n*?[a]", "a\x1eb", "k" * 500))
        assert online.keys("V") == []
        assert (online.count("v"), online.count("V")) == (4, 0)

    def test_many_places_are_read_at_once(self, online: Online) -> None:
        places = {place("v", str(n)): str(n).encode() for n in range(1200)}
        assert online.write(places, NOON)
        assert online.read(list(places)) == list(places.values())
