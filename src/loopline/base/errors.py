"""Errors a person can act on, in five families."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar


class LooplineError(Exception):
    """An error a person can act on: what happened, why, and what to do.

    Parameters
    ----------
    what : str
        What happened, showing the value that was refused.
    why : str
        The rule or the circumstance behind it.
    fix : str
        The next step, as something to type or change.
    """

    code: ClassVar[str] = "loopline"

    def __init__(self, what: str, *, why: str, fix: str) -> None:
        super().__init__(f"{what}\n  why: {why}\n  fix: {fix}")
        self.what, self.why, self.fix = what, why, fix

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), self.what, why=self.why, fix=self.fix), ()

    def as_dict(self) -> dict[str, str]:
        """The error as every interface reports it."""
        return {"code": self.code, "what": self.what, "why": self.why, "fix": self.fix}


class Invalid(LooplineError):
    """The input is wrong, whoever sends it."""

    code = "invalid"


class NotFound(LooplineError):
    """The thing named does not exist here."""

    code = "not_found"


class Conflict(LooplineError):
    """The thing exists already, differently, or has moved meanwhile."""

    code = "conflict"


class Denied(LooplineError):
    """A policy, a permission or a gate says no."""

    code = "denied"


class Unavailable(LooplineError):
    """Something needed is missing or down; the same call may succeed later."""

    code = "unavailable"


FAMILIES: dict[str, type[LooplineError]] = {
    family.code: family for family in (Invalid, NotFound, Conflict, Denied, Unavailable)
}


def install(extras: str) -> str:
    """How an extra is installed: from an index, and in a clone, whose environment is not for an index to change."""
    return f'pip install "loopline[{extras}]"; in a clone: .venv/bin/python -m pip install -e ".[{extras}]"'


def missing_extra(module: str, extra: str) -> Unavailable:
    """The error for an import that an extra would have brought."""
    return Unavailable(
        f"{module} is not installed",
        why=f"this part of Loopline needs the extra `{extra}`",
        fix=install(extra),
    )
