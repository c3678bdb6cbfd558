"""Which version answers an entity: a keyed hash, the same in batch, stream and server."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from loopline.base.errors import Invalid
from loopline.serving.nouns import Variant

BUCKETS = 10_000
ANSWERING = ("canary", "champion")


def bucket(salt: str, entity: str) -> int:
    """The bucket of an entity, 0 to 9,999: a 64-bit BLAKE2b keyed by the release's salt.

    Notes
    -----
    2**64 is no multiple of 10,000; the bias is below 1e-15.
    """
    key = salt.encode()
    if len(key) > 64:
        key = blake2b(key, digest_size=32).digest()
    return int.from_bytes(blake2b(entity.encode(), digest_size=8, key=key).digest(), "big") % BUCKETS


def assign(variants: Sequence[Variant], salt: str, entity: str) -> Variant:
    """The variant that answers `entity`.

    Canaries hold the lowest buckets in their order and the champion all others,
    so raising the share of a canary only ever moves entities from the champion
    to it. Shadows and kept-warm versions answer nobody.
    """
    limit, place = 0, bucket(salt, entity)
    for variant in variants:
        if variant.role == "canary":
            limit += variant.share
            if place < limit:
                return variant
    return champion(variants)


def champion(variants: Sequence[Variant]) -> Variant:
    """The one champion among `variants`."""
    return next(v for v in variants if v.role == "champion")


def check(variants: Sequence[Variant]) -> None:
    """Refuse a split that is not one.

    Raises
    ------
    Invalid
        Without exactly one champion, with an unknown role, with a share on a
        version that answers nobody, or when the shares miss 10,000.
    """
    roles = [v.role for v in variants]
    if roles.count("champion") != 1 or not set(roles) <= {"champion", "canary", "shadow", "previous"}:
        raise Invalid(
            f"the roles are {', '.join(roles) or 'none'}",
            why="an endpoint has one champion, and canaries, shadows and a previous version beside it",
            fix="give exactly one variant the role champion",
        )
    if any(v.share and v.role not in ANSWERING for v in variants) or any(v.share < 0 for v in variants):
        raise Invalid(
            "a variant that answers nobody has a share",
            why="shadows and previous versions get no traffic of their own",
            fix="set their share to 0",
        )
    if (total := sum(v.share for v in variants)) != BUCKETS:
        raise Invalid(
            f"the shares add up to {total}",
            why=f"they are parts of {BUCKETS:,}",
            fix=f"give the champion {BUCKETS:,} less the shares of the canaries",
        )
