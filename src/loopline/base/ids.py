"""Identity: the same content has the same id on every machine."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rfc8785

from loopline.base.errors import Invalid


def digest(data: bytes) -> str:
    """SHA-256 of `data`, in hex."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex, without holding it in memory."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def canonical(doc: Any) -> bytes:
    """`doc` as RFC 8785 canonical JSON.

    Times must be given as text; integers beyond 2**53 - 1 and non-finite floats have
    no canonical form and are refused: see `is_safe`.
    """
    try:
        return rfc8785.dumps(doc)
    except rfc8785.CanonicalizationError as error:
        raise Invalid(
            f"a record has no canonical form: {error}",
            why="ids are hashes of RFC 8785 JSON",
            fix="store non-finite numbers as null and big integers as text",
        ) from error


def is_safe(whole: int) -> bool:
    """Whether a whole number has a canonical form: up to 2**53 - 1, which no float that is near reads as."""
    return -(2**53) < whole < 2**53


def content_id(doc: Any) -> str:
    """The id of a JSON document: SHA-256 of its canonical form."""
    return digest(canonical(doc))


def uuid7(now: datetime) -> str:
    """A UUIDv7 (RFC 9562) for the UTC moment `now`; ids sort by time."""
    millis = int(now.timestamp() * 1000) & (2**48 - 1)
    value = millis << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    value |= 0b10 << 62 | secrets.randbits(62)
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def iso(moment: datetime) -> str:
    """A UTC moment as RFC 3339 text with microseconds: sorts as time does.

    Raises
    ------
    Invalid
        If `moment` carries no zone.
    """
    if moment.tzinfo is None:
        raise Invalid(
            f"{moment} carries no time zone",
            why="Loopline never guesses a zone",
            fix="attach one, for example datetime(..., tzinfo=UTC)",
        )
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """The UTC moment that `iso` wrote."""
    return datetime.fromisoformat(text)
