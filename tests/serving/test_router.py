from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.base.errors import Invalid
from loopline.serving.nouns import Variant
from loopline.serving.router import BUCKETS, assign, bucket, check


def split(canary: int) -> tuple[Variant, ...]:
    return (
        Variant("a", 1, "d1", BUCKETS - canary, "champion"),
        Variant("b", 2, "d2", canary, "canary"),
        Variant("s", 3, "d3", 0, "shadow"),
    )


@given(st.text(max_size=80), st.text())
def test_the_bucket_is_the_keyed_64_bit_hash_modulo_ten_thousand(salt, entity):
    key = salt.encode()
    key = key if len(key) <= 64 else hashlib.blake2b(key, digest_size=32).digest()
    slow = int(hashlib.blake2b(entity.encode(), digest_size=8, key=key).hexdigest(), 16) % 10_000
    assert bucket(salt, entity) == slow


@given(st.text(), st.text(), st.integers(0, BUCKETS), st.integers(0, BUCKETS))
def test_raising_a_split_only_moves_entities_towards_the_canary(salt, entity, one, other):
    low, high = sorted((one, other))
    before, after = assign(split(low), salt, entity), assign(split(high), salt, entity)
    assert before.role == "champion" or after.role == "canary"


@given(st.text(), st.text())
def test_shadows_answer_nobody_and_all_or_nothing_holds_at_the_ends(salt, entity):
    assert assign(split(0), salt, entity).version == "a"
    assert assign(split(BUCKETS), salt, entity).version == "b"


@given(st.integers(0, 6_000), st.integers(0, 4_000), st.integers(0, 10**6))
def test_canaries_hold_the_lowest_buckets_in_their_order(one, two, seed):
    variants = (Variant("a", 1, "d", BUCKETS - one - two, "champion"), *split(one)[1:2])
    variants += (Variant("c", 3, "d", two, "canary"),)
    for entity in (f"{seed}-{n}" for n in range(20)):
        place = bucket("s", entity)
        owners = ["b"] * one + ["c"] * two + ["a"] * (BUCKETS - one - two)
        assert assign(variants, "s", entity).version == owners[place]


@given(st.text(max_size=9))
def test_a_split_may_end_at_any_bucket(entity):
    place = bucket("s", entity)
    assert assign(split(place), "s", entity).role == "champion"
    assert assign(split(min(place + 1, BUCKETS)), "s", entity).role == "canary"


def test_the_canary_gets_its_share():
    seen = Counter(assign(split(500), "r1", f"e{n}").role for n in range(40_000))
    assert abs(seen["canary"] - 2_000) < 5 * (40_000 * 0.05 * 0.95) ** 0.5


def test_another_salt_draws_other_entities():
    first = {n for n in range(4_000) if assign(split(1_000), "r1", str(n)).role == "canary"}
    second = {n for n in range(4_000) if assign(split(1_000), "r2", str(n)).role == "canary"}
    assert len(first & second) < 80  # 40 by chance, 400 if they were the same


@pytest.mark.parametrize(
    "variants",
    [
        (),
        (Variant("a", 1, "d", BUCKETS, "canary"),),
        (Variant("a", 1, "d", 9_000, "champion"),),
        (Variant("a", 1, "d", 9_000, "champion"), Variant("b", 2, "d", 1_000, "shadow")),
        (Variant("a", 1, "d", BUCKETS, "champion"), Variant("b", 2, "d", 0, "king")),
    ],
)
def test_a_split_that_is_none_is_refused(variants):
    with pytest.raises(Invalid):
        check(variants)
