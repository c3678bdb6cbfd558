import json
import shutil
import sqlite3
from datetime import UTC, datetime

import pytest

from loopline.base import settings
from loopline.base.keys import SigningKey
from loopline.store.audit import Audit
from loopline.store.records.chain import GENESIS, entry_hash
from loopline.store.records.sql import SqlRecords

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
COUNT = 9


class Trail:
    """A workspace's trail, and ways to tamper with it."""

    def __init__(self, root):
        self.root = root
        root.mkdir(exist_ok=True)
        (root / "workspace.json").write_text('{"format": 1, "id": "w1"}')
        self.open()

    def open(self):
        self.records = SqlRecords.at(self.root / "records.db")
        self.audit = Audit(self.records, self.root / "audit")

    def act(self, times=1, *, seal=True):
        for _ in range(times):
            with self.records.transaction() as tx:
                tx.audit("data.ingest", "user:ada", "s1", {"share": 0.5, "nouns": ["a:b"]}, at=NOON)
            if seal:
                self.audit.seal()

    def sql(self, *statements):
        with sqlite3.connect(self.root / "records.db") as connection:
            for statement in statements:
                connection.execute(statement)

    def rewrite_from(self, seq):
        """Compute the chain anew from `seq` on, as one who can only write the database would."""
        entries = self.records.entries()
        prev = entries[seq - 2]["hash"] if seq > 1 else GENESIS
        with sqlite3.connect(self.root / "records.db") as connection:
            for entry in entries[seq - 1 :]:
                entry["prev"] = prev
                prev = entry_hash(entry)
                connection.execute(
                    "UPDATE audit SET prev = ?, hash = ? WHERE seq = ?", (entry["prev"], prev, entry["seq"])
                )

    @property
    def problems(self):
        report = self.audit.verify()
        assert report.ok == (not report.problems)
        return " | ".join(report.problems)


@pytest.fixture
def trail(tmp_path):
    trail = Trail(tmp_path / "w")
    trail.act(COUNT)
    yield trail
    trail.records.close()


def test_an_untouched_trail_is_whole(trail):
    report = trail.audit.verify()
    assert (report.ok, report.entries, report.problems, report.notes) == (True, COUNT, (), ())


def test_no_entries_are_no_problem(tmp_path):
    trail = Trail(tmp_path)
    trail.audit.seal()
    assert trail.audit.verify().ok


@pytest.mark.parametrize("seq", [1, 5, COUNT])
@pytest.mark.parametrize(
    "change",
    ["actor = 'user:eve'", "doc = '{}'", "at = '2020-01-01T00:00:00.000000Z'", "subject = ''", f"hash = '{'f' * 64}'"],
)
def test_an_edited_entry_is_named(trail, seq, change):
    trail.sql(f"UPDATE audit SET {change} WHERE seq = {seq}")
    assert f"entry {seq} was edited" in trail.problems


@pytest.mark.parametrize("seq", [1, 5, COUNT])
def test_an_edited_entry_is_named_even_when_its_own_hash_was_mended(trail, seq):
    trail.sql(f"UPDATE audit SET actor = 'user:eve' WHERE seq = {seq}")
    entry = trail.records.entries()[seq - 1]
    trail.sql(f"UPDATE audit SET hash = '{entry_hash(entry)}' WHERE seq = {seq}")
    assert f"entry {seq} was edited" in trail.problems


@pytest.mark.parametrize("seq", [1, 5, COUNT])
def test_an_edited_entry_is_named_even_when_the_chain_was_computed_anew(trail, seq):
    trail.sql(f"UPDATE audit SET actor = 'user:eve' WHERE seq = {seq}")
    trail.rewrite_from(seq)
    assert f"entry {seq} was edited, and the chain from there on" in trail.problems
    trail.act(2)
    assert f"entry {seq} was edited, and the chain from there on" in trail.problems


def test_a_copy_that_wrote_on_is_told_as_another_way_to_the_same_trace(trail, tmp_path):
    shutil.copytree(trail.root, tmp_path / "copy")
    Trail(tmp_path / "copy").act()
    trail.act()
    assert not trail.audit.verify().ok
    assert any("a copy of this workspace" in note for note in trail.audit.verify().notes)


def test_a_copy_whose_original_wrote_on_is_told_to_fork(trail, tmp_path):
    shutil.copytree(trail.root, tmp_path / "copy")
    trail.act()
    copy = Trail(tmp_path / "copy")
    report = copy.audit.verify()
    assert not report.ok
    assert any("loopline fork" in note for note in report.notes)


@pytest.mark.parametrize("seq", [1, 5])
def test_a_removed_entry_is_named(trail, seq):
    trail.sql(f"DELETE FROM audit WHERE seq = {seq}")
    assert f"entry {seq} was removed" in trail.problems


def test_entries_removed_side_by_side_are_named_together(trail):
    trail.sql("DELETE FROM audit WHERE seq IN (3, 4, 5)")
    assert "entries 3 to 5 were removed" in trail.problems


def test_a_removed_entry_is_named_even_when_the_rest_moved_up(trail):
    trail.sql(
        "DELETE FROM audit WHERE seq = 5", *(f"UPDATE audit SET seq = {n} WHERE seq = {n + 1}" for n in (5, 6, 7, 8))
    )
    trail.rewrite_from(5)
    assert "entry 5 was edited" in trail.problems
    assert f"entry {COUNT} was cut off" in trail.problems


@pytest.mark.parametrize("first", [1, 6, COUNT])
def test_a_cut_off_tail_is_named(trail, first):
    trail.sql(f"DELETE FROM audit WHERE seq >= {first}")
    expected = f"entry {COUNT} was cut off" if first == COUNT else f"entries {first} to {COUNT} were cut off"
    assert expected in trail.problems


def test_a_cut_off_tail_is_found_behind_an_old_head_and_stays_found(trail):
    head = (trail.root / "audit" / "head.json").read_text()
    trail.act(2)
    trail.sql(f"DELETE FROM audit WHERE seq > {COUNT}")
    (trail.root / "audit" / "head.json").write_text(head)
    assert f"entries {COUNT + 1} to {COUNT + 2} were cut off" in trail.problems
    trail.act(1)
    assert f"entry {COUNT + 1} was edited" in trail.problems


@pytest.mark.parametrize("text", [None, "", "{}", '{"seq": 1}'])
def test_a_head_that_is_gone_or_broken_is_named_and_made_again(trail, text):
    head = trail.root / "audit" / "head.json"
    head.unlink() if text is None else head.write_text(text)
    assert "head.json" in trail.problems
    trail.act()
    assert trail.problems == ""


def test_a_head_that_says_something_else_is_named(trail):
    head = trail.root / "audit" / "head.json"
    doc = json.loads(head.read_text())
    head.write_text(json.dumps({**doc, "seq": 3}))
    assert "its signature does not hold" in trail.problems


def test_a_head_of_another_key_is_named(trail, monkeypatch, tmp_path):
    keys = settings.keys_folder()
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "others"))
    stranger = Trail(tmp_path / "stranger")
    stranger.act(COUNT)
    monkeypatch.setenv("LOOPLINE_KEYS", str(keys))
    shutil.copy(stranger.root / "audit" / "head.json", trail.root / "audit" / "head.json")
    assert "signed by another key" in trail.problems


def test_entries_that_were_never_sealed_are_noted_and_sealed_by_the_next(trail):
    trail.act(3, seal=False)
    report = trail.audit.verify()
    assert report.ok
    assert "3 entries follow the sealed head" in report.notes[0]
    trail.act()
    assert trail.audit.verify().notes == ()


def test_a_trail_that_was_moved_to_another_machine_goes_on_there(trail, monkeypatch, tmp_path):
    trail.records.close()
    shutil.move(trail.root, tmp_path / "moved")
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "new-machine"))
    moved = Trail(tmp_path / "moved")
    assert moved.problems == ""
    moved.act(2)
    report = moved.audit.verify()
    assert (report.ok, report.entries) == (True, COUNT + 2 + 1), "two acts, and that the key is another"
    told = [e for e in moved.records.entries() if e["action"] == "workspace.new_key"]
    assert [(e["seq"], e["doc"]["sealed"]) for e in told] == [(COUNT + 2, COUNT)]
    (note,) = report.notes
    assert f"entry {COUNT + 2}: the workspace came here without its key {told[0]['doc']['before']}" in note
    assert told[0]["doc"]["key"] == SigningKey.load("workspace-w1").fingerprint != told[0]["doc"]["before"]


def test_a_trail_that_was_moved_with_its_key_says_nothing_of_keys(trail, monkeypatch, tmp_path):
    trail.records.close()
    shutil.move(trail.root, tmp_path / "moved")
    there = tmp_path / "new-machine"
    there.mkdir()
    shutil.copy(settings.keys_folder() / "workspace-w1.pem", there)
    monkeypatch.setenv("LOOPLINE_KEYS", str(there))
    moved = Trail(tmp_path / "moved")
    moved.act(2)
    assert "workspace.new_key" not in {e["action"] for e in moved.records.entries()}
    assert moved.audit.verify().ok


def test_a_chain_cut_off_before_it_came_to_this_machine_is_not_sealed_over(trail, monkeypatch, tmp_path):
    trail.sql(f"DELETE FROM audit WHERE seq = {COUNT}")
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "new-machine"))
    trail.audit.seal()
    assert f"entry {COUNT} was cut off" in trail.problems


def test_the_head_never_goes_back(trail):
    other = Trail(trail.root)
    other.act(2)
    trail.audit.seal()
    assert json.loads((trail.root / "audit" / "head.json").read_text())["seq"] == COUNT + 2


def test_private_keys_stay_outside_the_workspace(trail):
    keys = settings.keys_folder()
    assert not list(trail.root.rglob("*.pem"))
    (key,) = keys.glob("*.pem")
    assert key.stat().st_mode & 0o077 == 0
    assert b"PRIVATE" not in b"".join(path.read_bytes() for path in trail.root.rglob("*") if path.is_file())
