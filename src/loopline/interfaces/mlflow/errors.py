"""Errors in the shape that the stock client reads, with the status it acts on.

It tries again, for minutes, on 408, 429 and 5xx: a person's mistake must never be one of these.
"""

from __future__ import annotations

import errno

import msgspec

from loopline.base.errors import Conflict, Denied, Invalid, LooplineError, NotFound, Unavailable

INVALID, MISSING, TAKEN = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
NO_ENDPOINT, DENIED, UNKNOWN = "ENDPOINT_NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED"
AGAIN, FULL, BUG, ABSENT = "TEMPORARILY_UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL_ERROR", "NOT_IMPLEMENTED"

STATUS = {
    INVALID: 400, MISSING: 404, TAKEN: 400, NO_ENDPOINT: 404, DENIED: 403, UNKNOWN: 401, AGAIN: 503, FULL: 507,
    BUG: 500, ABSENT: 501,
}  # fmt: skip
"""A full disk is 507, which is not tried again: it is not over in a minute."""


class Refusal(Exception):
    """What a request is answered with instead."""

    def __init__(self, code: str, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.status = STATUS[code] if status is None else status

    def body(self) -> bytes:
        """The answer."""
        return msgspec.json.encode({"error_code": self.code, "message": self.message})


def invalid(message: str) -> Refusal:
    """A value that cannot be."""
    return Refusal(INVALID, message)


class Cut(Exception):
    """An answer that has begun and cannot be finished; the connection ends, so that nobody takes it for whole."""


_CODES: dict[type[LooplineError], str] = {Invalid: INVALID, NotFound: MISSING, Denied: DENIED}


class Shaped(Refusal):
    """One of the five families, as the client reads it."""

    def __init__(self, error: LooplineError, *, conflict: str = INVALID) -> None:
        code = next((code for family, code in _CODES.items() if isinstance(error, family)), BUG)
        if isinstance(error, Conflict):
            code = conflict
        elif isinstance(error, Unavailable):
            code = FULL if _full(error) else AGAIN
        super().__init__(code, f"{error.what}: {error.why}; {error.fix}")


def _full(error: BaseException) -> bool:
    """Whether the disk is full, or cannot be written to, underneath."""
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return True
        if "disk is full" in str(cause) or "readonly database" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def refused(status: int, what: str, why: str, fix: str) -> bytes:
    """The body with which the guard turns a request away before it comes here."""
    code = {401: UNKNOWN, 403: DENIED, 413: INVALID, 421: DENIED}.get(status, INVALID)
    return Refusal(code, f"{what}: {why}; {fix}").body()
