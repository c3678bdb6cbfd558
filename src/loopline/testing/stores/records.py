"""Laws of facts, pointers, states, signals, leases and the outbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.base.nouns import noun
from loopline.store.records.chain import GENESIS, entry_hash
from loopline.store.records.protocol import Records, Row
from loopline.testing.stores.together import NOON, at_once


@noun("specimen")
@dataclass(frozen=True, slots=True)
class Specimen:
    """A noun for tests, with a field of every kind."""

    id: str
    name: str = "a"
    number: int = 1
    share: float = 0.5
    ready: bool = True
    parent: str | None = None
    at: datetime = NOON
    tags: tuple[str, ...] = ()


class RecordsConformance:
    """Laws of `Records`. Give a fixture `records` (empty) and `again`: opens the same records once more."""

    def test_a_noun_comes_back_as_it_was(self, records: Records) -> None:
        kept = Specimen("0123456789", "ä", 2**53 - 1, 0.1, False, None, NOON, ("x", "y"))
        with records.transaction() as tx:
            tx.put(kept)
        assert records.get(Specimen, kept.id) == kept

    def test_the_same_again_changes_nothing_and_another_content_is_a_conflict(self, records: Records) -> None:
        for _ in range(2):
            with records.transaction() as tx:
                tx.put(Specimen("a"))
                tx.put(Specimen("a"))
        with pytest.raises(Conflict), records.transaction() as tx:
            tx.put(Specimen("a", number=2))
        assert records.find(Specimen) == [Specimen("a")]

    def test_a_unique_prefix_of_eight_characters_names_a_noun(self, records: Records) -> None:
        with records.transaction() as tx:
            tx.put(Specimen("abcdefgh-1"))
            tx.put(Specimen("abcdefgh-2"))
            tx.put(Specimen("abcdefXX-3"))
        assert records.get(Specimen, "abcdefXX").id == "abcdefXX-3"
        assert records.get(Specimen, "abcdefgh-2").id == "abcdefgh-2"
        for name in ("abcdefgh", "abcdefX", "ABCDEFXX", "abcdef%%", "________", "", "nothing-at-all"):
            with pytest.raises(NotFound):
                records.get(Specimen, name)

    def test_an_exact_id_beats_a_longer_one(self, records: Records) -> None:
        with records.transaction() as tx:
            tx.put(Specimen("abcdefgh"))
            tx.put(Specimen("abcdefghi"))
        assert records.get(Specimen, "abcdefgh").id == "abcdefgh"

    def test_nouns_are_found_by_their_fields(self, records: Records) -> None:
        with records.transaction() as tx:
            tx.put(Specimen("a", name="x", number=1, ready=True))
            tx.put(Specimen("b", name="x", number=2, ready=False, parent="a"))
            tx.put(Specimen("c", name="1", number=2, share=2.0, at=NOON + timedelta(days=1)))

        def found(**where: Any) -> str:
            return "".join(item.id for item in records.find(Specimen, newest_first=False, **where))

        assert found() == "abc"
        assert found(name="x") == "ab"
        assert found(name="1") == "c"
        assert found(number=2) == "bc"
        assert found(number=2, name="x") == "b"
        assert found(ready=True) == "ac"
        assert found(ready=False) == "b"
        assert found(parent=None) == "ac"
        assert found(parent="a") == "b"
        assert found(share=2.0) == "c"
        assert found(share=0.5) == "ab"
        assert found(at=NOON) == "ab"
        assert found(name="'; DROP TABLE fact; --") == ""
        assert [item.id for item in records.find(Specimen, limit=2)] == ["c", "b"]
        with pytest.raises(Invalid):
            records.find(Specimen, no_such_field=1)
        with pytest.raises(Invalid):
            records.find(Specimen, tags=["x"])

    def test_a_transaction_happens_whole_or_not_at_all(self, records: Records) -> None:
        with pytest.raises(ZeroDivisionError), records.transaction() as tx:
            tx.put(Specimen("a"))
            tx.enqueue("e", "t", "k", {})
            tx.move("k", "n", "a", expect=0, at=NOON)
            tx.save(Row("k", "r", "new", 1, {}), expect=0)
            tx.signal("loop", "s", "k", NOON, {})
            tx.audit("do", "user:a", "a", {}, at=NOON)
            tx.set_meta("m", "1")
            raise ZeroDivisionError
        assert records.find(Specimen) == []
        assert records.effects() == []
        assert records.pointer("k", "n") is None
        assert records.row("k", "r") is None
        assert records.signals("loop") == []
        assert records.entries() == []
        assert records.meta("m") is None

    def test_a_reader_sees_only_what_was_committed(self, records: Records, again: Callable[[], Records]) -> None:
        other = again()
        with records.transaction() as tx:
            tx.set_meta("m", "1")
            assert records.meta("m") is None
            assert other.meta("m") is None
        assert other.meta("m") == "1"

    def test_a_transaction_inside_a_transaction_is_a_mistake(self, records: Records) -> None:
        with records.transaction(), pytest.raises(RuntimeError), records.transaction():
            pass
        with records.transaction() as tx:
            pass
        with pytest.raises(RuntimeError):
            tx.set_meta("m", "1")

    def test_pointers_move_only_from_where_they_were_seen(self, records: Records) -> None:
        with records.transaction() as tx:
            assert tx.move("alias", "n", "v1", expect=0, at=NOON, doc={"why": "first"}).generation == 1
        with pytest.raises(Conflict), records.transaction() as tx:
            tx.move("alias", "n", "v2", expect=0, at=NOON)
        with records.transaction() as tx:
            tx.move("alias", "n", "v2", expect=1, at=NOON)
            tx.move("alias", "n", "v3", expect=None, at=NOON)
            tx.move("alias", "a", "v1", expect=None, at=NOON)
            tx.move("other", "n", "v9", expect=None, at=NOON)
        kept = records.pointer("alias", "n")
        assert kept is not None
        assert (kept.target, kept.generation, kept.at, kept.doc) == ("v3", 3, NOON, {})
        assert [found.name for found in records.pointers("alias")] == ["a", "n"]

    def test_states_are_guarded_by_their_generation(self, records: Records) -> None:
        with records.transaction() as tx:
            tx.save(Row("cycle", "b", "IDLE", 1, {"n": 1}), expect=0)
            tx.save(Row("cycle", "a", "TRAIN", 1, {}), expect=0)
        for expect in (0, 2):
            with pytest.raises(Conflict), records.transaction() as tx:
                tx.save(Row("cycle", "b", "TRAIN", expect + 1, {}), expect=expect)
        with pytest.raises(Invalid), records.transaction() as tx:
            tx.save(Row("cycle", "b", "TRAIN", 5, {}), expect=1)
        with records.transaction() as tx:
            tx.save(Row("cycle", "b", "TRAIN", 2, {"n": 2}), expect=1)
        assert records.row("cycle", "b") == Row("cycle", "b", "TRAIN", 2, {"n": 2})
        assert [row.id for row in records.rows("cycle")] == ["a", "b"]
        assert [row.id for row in records.rows("cycle", state="IDLE")] == []
        assert records.rows("other") == []

    def test_the_last_states_come_first_and_only_those_whose_documents_say_so(self, records: Records) -> None:
        with records.transaction() as tx:
            for n in range(6):
                tx.save(Row("run", f"{n}", "done", 1, {"of": "ab"[n % 2], "n": n}), expect=0)
        assert [row.id for row in records.last_rows("run", limit=4)] == ["5", "4", "3", "2"]
        assert [row.id for row in records.last_rows("run", limit=2, of="a")] == ["4", "2"]
        assert records.last_rows("run", limit=2, of="c") == records.last_rows("other", limit=2) == []

    def test_of_writers_that_saw_the_same_generation_one_wins(self, records: Records) -> None:
        def save(number: int) -> bool:
            try:
                with records.transaction() as tx:
                    tx.save(Row("k", "r", str(number), 1, {}), expect=0)
            except Conflict:
                return False
            return True

        assert sum(at_once(6, save)) == 1

    def test_signals_are_taken_once_and_used_once(self, records: Records) -> None:
        with records.transaction() as tx:
            assert tx.signal("loop", "late", "drift", NOON + timedelta(hours=1), {"n": 2})
            assert tx.signal("loop", "early", "drift", NOON, {"n": 1})
            assert not tx.signal("loop", "early", "drift", NOON, {"n": 3})
            assert tx.signal("other", "early", "drift", NOON, {})
        assert [signal[0] for signal in records.signals("loop")] == ["early", "late"]
        assert records.signals("loop")[0] == ("early", "drift", NOON, {"n": 1})
        with records.transaction() as tx:
            tx.consume("loop", ["early", "unknown"], "cycle-1")
        assert [signal[0] for signal in records.signals("loop")] == ["late"]
        assert [signal[0] for signal in records.signals("loop", consumed=True)] == ["early", "late"]
        assert len(records.signals("other")) == 1

    def test_an_effect_is_enqueued_once_and_claimed_by_one(self, records: Records) -> None:
        with records.transaction() as tx:
            for n in range(8):
                tx.enqueue(f"e{n}", "train", "run", {"n": n})
                tx.enqueue(f"e{n}", "train", "run", {"n": 99})
            tx.enqueue("x", "other", "run", {})
        taken = at_once(4, lambda n: records.claim("train", f"w{n}", lease_s=60, limit=2))
        ids = [effect.id for found in taken for effect, _ in found]
        assert len(ids) == len(set(ids))
        rest = records.claim("train", "w", lease_s=60, limit=100)
        assert sorted(ids + [effect.id for effect, _ in rest]) == [f"e{n}" for n in range(8)]
        assert records.claim("train", "w", lease_s=60) == []
        assert records.effects(id="e3")[0].request == {"n": 3}

    def test_the_oldest_effect_is_claimed_first(self, records: Records) -> None:
        with records.transaction() as tx:
            for name in ("b", "a", "c"):
                tx.enqueue(name, "t", "k", {})
        assert [effect.id for effect, _ in records.claim("t", "w", lease_s=60, limit=2)] == ["b", "a"]

    def test_a_result_or_an_error_is_settled_by_the_holder_of_the_fence(self, records: Records) -> None:
        with records.transaction() as tx:
            for name in ("good", "bad"):
                tx.enqueue(name, "t", "k", {})
        (good, fence), (bad, other) = records.claim("t", "w", lease_s=60, limit=2)
        assert not records.settle(good.id, fence + 1, result={})
        assert records.settle(good.id, fence, result={"value": 1})
        assert not records.settle(good.id, fence, result={"value": 2})
        assert records.settle(bad.id, other, error="no")
        assert [(e.id, e.status, e.result, e.error) for e in records.effects()] == [
            ("good", "done", {"value": 1}, None),
            ("bad", "failed", None, "no"),
        ]
        assert [e.id for e in records.effects(status="failed", topic="t")] == ["bad"]

    def test_a_retry_waits_and_counts(self, records: Records) -> None:
        with records.transaction() as tx:
            tx.enqueue("e", "t", "k", {})
        ((_, fence),) = records.claim("t", "w", lease_s=60)
        assert records.settle("e", fence, error="busy", retry_in_s=60)
        assert records.claim("t", "w", lease_s=60) == []
        assert records.effects(id="e")[0].status == "pending"
        with records.transaction() as tx:
            tx.enqueue("f", "t", "k", {})
        ((_, fence),) = records.claim("t", "w", lease_s=60)
        records.settle("f", fence, error="busy", retry_in_s=0)
        ((found, newer),) = records.claim("t", "w", lease_s=60)
        assert (found.attempts, newer > fence) == (2, True)

    def test_a_dead_workers_effect_is_taken_over_and_its_fence_is_overtaken(self, records: Records) -> None:
        with records.transaction() as tx:
            tx.enqueue("e", "t", "k", {})
        ((_, old),) = records.claim("t", "dead", lease_s=0.0)
        ((found, new),) = records.claim("t", "alive", lease_s=60)
        assert found.id == "e"
        assert new > old
        assert not records.settle("e", old, result={"from": "dead"})
        assert not records.extend("e", old, lease_s=60)
        assert records.extend("e", new, lease_s=60)
        assert records.settle("e", new, result={"from": "alive"})

    def test_an_extended_lease_is_not_taken_over(self, records: Records) -> None:
        with records.transaction() as tx:
            tx.enqueue("e", "t", "k", {})
        ((_, fence),) = records.claim("t", "w", lease_s=0.0)
        assert records.extend("e", fence, lease_s=60)
        assert records.claim("t", "other", lease_s=60) == []

    def test_a_lease_has_one_owner_at_a_time(self, records: Records, again: Callable[[], Records]) -> None:
        taken = [lease for lease in at_once(4, lambda n: records.lease("l", f"w{n}", lease_s=60)) if lease]
        assert len(taken) == 1
        held = taken[0]
        other = again()
        assert other.lease("l", "stranger", lease_s=60) is None
        renewed = records.lease("l", held.owner, lease_s=60)
        assert renewed == held
        records.release(held)
        next_one = other.lease("l", "stranger", lease_s=60)
        assert next_one is not None
        assert next_one.fence > held.fence
        records.release(held)
        assert records.lease("l", held.owner, lease_s=60) is None

    def test_what_an_evicted_owner_held_is_free_at_once_and_nothing_else(self, records: Records) -> None:
        with records.transaction() as tx:
            for name in ("e", "f"):
                tx.enqueue(name, "t", "k", {})
        ((effect, old),) = records.claim("t", "dead", lease_s=60)
        records.claim("t", "alive", lease_s=60)
        assert records.lease("l", "dead", lease_s=60)
        assert records.lease("m", "alive", lease_s=60)
        assert records.owners() == ["alive", "dead"]
        records.evict("dead")
        assert records.owners() == ["alive"]
        assert records.lease("l", "next", lease_s=60)
        assert records.lease("m", "next", lease_s=60) is None
        assert [(found.id, fence > old) for found, fence in records.claim("t", "next", lease_s=60, limit=9)] == [
            (effect.id, True)
        ]

    def test_a_lease_that_ran_out_goes_to_the_next_with_a_higher_fence(self, records: Records) -> None:
        first = records.lease("l", "a", lease_s=0.0)
        second = records.lease("l", "b", lease_s=60)
        assert first is not None
        assert second is not None
        assert second.fence > first.fence

    def test_values_of_the_workspace_are_replaced(self, records: Records) -> None:
        assert records.meta("m") is None
        for value in ("1", "2"):
            with records.transaction() as tx:
                tx.set_meta("m", value)
        assert records.meta("m") == "2"

    def test_audit_entries_are_numbered_without_gap_and_chained(self, records: Records) -> None:
        def act(number: int) -> int:
            with records.transaction() as tx:
                return tx.audit("do", f"user:{number}", "s", {"n": number, "share": 0.1}, at=NOON)

        assert sorted(at_once(6, act)) == list(range(1, 7))
        with records.transaction() as tx:
            assert [tx.audit("do", "user:a", "s", {}, at=NOON) for _ in range(2)] == [7, 8]
        prev = GENESIS
        for number, entry in enumerate(records.entries(), start=1):
            assert entry["seq"] == number
            assert entry["prev"] == prev
            assert entry["hash"] == entry_hash(entry)
            prev = entry["hash"]
        assert [entry["seq"] for entry in records.entries(after=2, limit=3)] == [3, 4, 5]

    def test_audit_entries_need_a_durable_transaction(self, records: Records) -> None:
        with pytest.raises(RuntimeError), records.transaction(durable=False) as tx:
            tx.audit("do", "user:a", "s", {}, at=NOON)
        assert records.entries() == []

    def test_what_was_committed_is_there_after_opening_again(
        self, records: Records, again: Callable[[], Records]
    ) -> None:
        for durable in (True, False):
            with records.transaction(durable=durable) as tx:
                tx.put(Specimen(f"durable={durable}"))
        records.close()
        reopened = again()
        assert len(reopened.find(Specimen)) == 2
        assert len(records.find(Specimen)) == 2
