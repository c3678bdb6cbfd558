"""Names, numbers and aliases of registered models: a slow model of them beside the real one."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline import registry
from loopline.base.errors import Conflict, Denied, Invalid, LooplineError, NotFound
from loopline.registry.names import PROTECTED, check_free_alias, check_shelf, guarded
from loopline.registry.nouns import Version
from loopline.workspace import create_workspace, open_workspace


def put(ws, name: str):
    return registry.deposit(ws, name, source="s3://bucket/model")


class Slow:
    """What should be there, kept in dictionaries."""

    def __init__(self) -> None:
        self.versions: dict[str, set[int]] = {}
        self.last: dict[str, int] = {}
        self.aliases: dict[str, dict[str, int]] = {}

    def create(self, name):
        if name in self.versions:
            return Conflict
        self.versions[name], self.aliases[name] = set(), {}

    def deposit(self, name):
        if name not in self.versions:
            return NotFound
        self.last[name] = self.last.get(name, 0) + 1
        self.versions[name].add(self.last[name])

    def point(self, name, alias, number):
        if number not in self.versions.get(name, ()):
            return NotFound
        if alias in PROTECTED:
            return Denied
        self.aliases[name][alias] = number

    def unpoint(self, name, alias):
        if name not in self.versions:
            return NotFound
        if alias in PROTECTED:
            return Denied
        self.aliases[name].pop(alias, None)

    def withdraw(self, name, number):
        if number not in self.versions.get(name, ()):
            return NotFound
        self.versions[name].remove(number)
        self.aliases[name] = {a: n for a, n in self.aliases[name].items() if n != number}

    def remove(self, name):
        if name not in self.versions:
            return NotFound
        del self.versions[name], self.aliases[name]

    def rename(self, name, to):
        if name not in self.versions:
            return NotFound
        if name == to:
            return None
        if to in self.versions:
            return Conflict
        self.versions[to], self.aliases[to] = self.versions.pop(name), self.aliases.pop(name)
        self.last[to] = max(self.last.get(to, 0), self.last.get(name, 0))


NAMES, ALIASES = (
    st.sampled_from(["one", "two x", "drei ü"]),
    st.sampled_from(["best", "next", "production", "champion"]),
)
NUMBERS = st.integers(1, 6)
STEPS = st.one_of(
    st.tuples(st.just("create"), NAMES),
    st.tuples(st.just("deposit"), NAMES),
    st.tuples(st.just("deposit"), NAMES),
    st.tuples(st.just("point"), NAMES, ALIASES, NUMBERS),
    st.tuples(st.just("unpoint"), NAMES, ALIASES),
    st.tuples(st.just("withdraw"), NAMES, NUMBERS),
    st.tuples(st.just("remove"), NAMES),
    st.tuples(st.just("rename"), NAMES, NAMES),
)


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEPS, max_size=25))
def test_any_history_leaves_what_the_slow_model_says(tmp_path_factory, steps):
    ws = create_workspace(tmp_path_factory.mktemp("shelf") / "ws", actor="user:ada")
    slow = Slow()
    for what, *asked in [("create", "one"), ("deposit", "one"), *steps]:
        wanted = getattr(slow, what)(*asked)
        try:
            if what == "deposit":
                put(ws, *asked)
            else:
                getattr(registry, what)(ws, *asked)
            got = None
        except LooplineError as error:
            got = type(error)
        assert got is wanted, (what, asked, got, wanted)
    assert {on.name for on in registry.models(ws)} == set(slow.versions)
    for on in registry.models(ws):
        found = registry.entries(ws, on.name)
        numbers = {id: one.number for one in found for id in one.ids}
        assert {one.number for one in found} == slow.versions[on.name]
        assert {alias: numbers[target] for alias, target in on.aliases.items()} == slow.aliases[on.name]
    assert [one.number for one in registry.entries(ws)] == [
        one.number for on in registry.models(ws) for one in registry.entries(ws, on.name)
    ]
    ws.close()


@given(name=st.text(max_size=40))
def test_a_name_that_is_let_through_stands_in_addresses(name):
    try:
        check_shelf(name)
    except Invalid:
        return
    assert name.strip() == name and not set(name) & set("/:@%\\") and name.isprintable() and name not in (".", "..")


@given(alias=st.text(max_size=20) | st.from_regex(r"v?\d{1,4}|[0-9a-f]{8,12}|latest", fullmatch=True))
def test_an_alias_is_never_taken_for_a_number_an_id_or_the_newest(alias):
    try:
        check_free_alias(alias)
    except Invalid:
        return
    plain = alias.lower()
    assert not plain.isdigit() and plain != "latest" and not (plain[0] == "v" and plain[1:].isdecimal())
    assert not (len(plain) >= 8 and set(plain) <= set("0123456789abcdef"))
    assert not set(alias) & set("/@:. \t\n")


@given(upper=st.sets(st.integers(0, 9)), wide=st.booleans())
def test_no_spelling_of_a_protected_alias_moves_freely(upper, wide):
    word = "".join(letter.upper() if at in upper else letter for at, letter in enumerate("production"))
    if wide:
        word = "".join(chr(ord(letter) + 0xFEE0) for letter in word)
    assert guarded(word) == "production"


def test_aliases_that_are_declared_are_protected_too(ws, registered):
    version = registered("one")
    registry.point(ws, "claims", "blessed", version.number)
    registry.protect(ws, ["blessed", "gold"])
    assert registry.protected(ws) == ("production", "champion", "blessed", "gold")
    with pytest.raises(Denied, match="is protected"):
        registry.point(ws, "claims", "gold", version.number)
    with pytest.raises(Denied, match="is protected"):
        registry.unpoint(ws, "claims", "blessed")
    registry.protect(ws, [])
    registry.unpoint(ws, "claims", "blessed")
    with pytest.raises(Denied, match="is protected"):
        registry.unpoint(ws, "claims", "production")


def test_an_alias_that_a_client_pointed_can_be_promoted_to_afterwards(ws, registered):
    version = registered("one")
    registry.point(ws, "claims", "gold", version.number)
    registry.approve(ws.acting_as("user:bob"), version, reason="fine")
    release = registry.promote(ws, version, alias="gold", reason="now with its conditions")
    assert release.version == version.id and registry.promote(ws, version, alias="gold", reason="again") == release
    assert registry.resolve(ws, "claims", "gold") == version


def test_a_version_that_an_alias_points_at_is_not_retired(ws, released, clock):
    from datetime import timedelta

    from loopline.registry.spec import KeepSpec

    first = released("one")
    for mark in ("two", "three", "four"):
        released(mark)
    registry.point(ws, "claims", "golden", first.number)
    clock.advance(timedelta(days=400))
    keep = KeepSpec(versions=2, at_least=timedelta(days=1))
    assert [one.version for one in registry.retire(ws, "claims", keep=keep)] == [
        ws.records.find(Version, number=2)[0].id
    ]


def test_threads_and_loops_that_register_at_once_leave_no_gap(ws, registered):
    registered("one")
    wrong: list[Exception] = []
    root, actor = ws.root, ws.actor

    def some(seed: int) -> None:
        mine = open_workspace(root, actor=actor)  # a process of its own has its own stores
        chance = random.Random(seed)
        for _ in range(6):
            while True:
                try:
                    put(mine, "claims")
                    break
                except Conflict:
                    continue
                except Exception as error:
                    wrong.append(error)
                    return
            if chance.random() < 0.2:
                threading.Event().wait(0.002)
        mine.close()

    threads = [threading.Thread(target=some, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
    registered("two")
    assert [one.number for one in registry.entries(ws, "claims")] == list(range(1, 21))


def test_every_change_is_in_the_audit_trail(ws):
    registry.create(ws, "models")
    put(ws, "models")
    registry.point(ws, "models", "best", 1)
    registry.label(ws, "models", 1, tags={"k": "v"})
    registry.unpoint(ws, "models", "best")
    registry.withdraw(ws, "models", 1)
    done = [entry["action"] for entry in ws.records.entries()]
    assert [one.removeprefix("registry.") for one in done] == [
        "create", "deposit", "point", "label", "unpoint", "withdraw",
    ]  # fmt: skip
    assert all(entry["actor"] == "user:ada" for entry in ws.records.entries())


def test_a_withdrawn_version_leaves_its_number_its_files_go_and_it_is_not_asked_to_be_adopted(ws):
    owner = "m-" + "c" * 32
    ws.artifacts.put(owner, "MLmodel", b"{}", at_ms=0)
    registry.create(ws, "models")
    found = registry.deposit(ws, "models", source="x", owner=owner)
    with pytest.raises(NotFound, match="not judged yet"):
        registry.resolve(ws, "models", "1")
    registry.withdraw(ws, "models", 1)
    with pytest.raises(NotFound, match="has no version 1"):
        registry.resolve(ws, "models", "1")
    assert ws.artifacts.files(found.id[:32]) == [] and len(ws.artifacts.files(owner)) == 1
    assert put(ws, "models").number == 2


def test_one_of_two_changes_that_were_made_at_once_is_refused_whole(ws):
    owner = "m-" + "d" * 32
    ws.artifacts.put(owner, "MLmodel", b"{}", at_ms=0)
    registry.create(ws, "models")
    found = registry.deposit(ws, "models", source="x", owner=owner)
    registry.label(ws, "models", 1, tags={"a": "1"})
    plain, reads = ws.records.row, []

    def row(kind, id):
        seen = plain(kind, id)
        reads.append(kind)
        if reads.count("version label") == 2:  # the last look before the change is written
            reads.append("version label")
            registry.label(ws, "models", 1, tags={"b": "2"})
        return seen

    ws.records.row = row
    try:
        with pytest.raises(Conflict, match="has moved"):
            registry.withdraw(ws, "models", 1)
    finally:
        del ws.records.row
    (one,) = registry.entries(ws, "models")
    assert one.tags == {"a": "1", "b": "2"} and len(ws.artifacts.files(found.id[:32])) == 1


def test_numbers_go_along_when_a_model_is_renamed_and_stay_behind_too(ws):
    registry.create(ws, "one")
    assert [put(ws, "one").number for _ in range(3)] == [1, 2, 3]
    registry.rename(ws, "one", "two")
    assert put(ws, "two").number == 4
    registry.create(ws, "one")
    assert put(ws, "one").number == 4
