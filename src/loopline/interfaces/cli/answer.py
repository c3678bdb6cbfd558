"""What a command answers, and how it is printed: words for people, one object for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from loopline.base.control import shown

OK, FAILED, USAGE, REFUSED = 0, 1, 2, 3
LINES = "\n\t"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a command.

    `text` is for people; `doc` (a noun, a list of nouns or plain data) is what
    `--json` prints; `next` are commands to type now.
    """

    text: str
    doc: Any = None
    next: tuple[str, ...] = ()
    code: int = OK
    raw: str | None = field(default=None)
    """Printed as it is, for output that goes into a file."""


def document(answer: Answer) -> dict[str, Any]:
    """The one object of `--json`."""
    from loopline.base.nouns import to_doc

    doc = to_doc(answer.doc)
    if doc is None:
        doc = {"text": answer.text}
    elif isinstance(doc, list):
        doc = {"items": doc}
    elif not isinstance(doc, dict):
        doc = {"value": doc}
    return {**doc, "next": list(answer.next)} if answer.next and "next" not in doc else doc


def show(answer: Answer, *, as_json: bool, out: TextIO | None = None) -> None:
    """Print `answer` on standard output."""
    out = out or sys.stdout
    if as_json:
        out.write(json.dumps(document(answer), ensure_ascii=False, default=str) + "\n")
        return
    if answer.raw is not None:
        out.write(answer.raw if answer.raw.endswith("\n") else answer.raw + "\n")
        return
    out.write(shown(answer.text.rstrip("\n"), keep=LINES) + "\n")
    for at, command in enumerate(answer.next):
        out.write(("\nnext: " if at == 0 else "  or: ") + shown(command) + "\n")


def complain(code: str, what: str, why: str, fix: str, *, as_json: bool) -> None:
    """Print an error: an object on standard output for programs, sentences on standard error for people."""
    if as_json:
        error = {"code": code, "what": what, "why": why, "fix": fix}
        sys.stdout.write(json.dumps({"error": error}, ensure_ascii=False) + "\n")
        return
    sys.stderr.write(f"{shown(what, keep=LINES)}\n")
    for name, text in (("why", why), ("fix", fix)):
        if text:
            first, *rest = shown(text, keep=LINES).split("\n")
            sys.stderr.write(f"  {name}: {first}\n")
            for line in rest:
                sys.stderr.write(f"       {line}\n")


def note(text: str) -> None:
    """Say on standard error what people should know, while the command goes on."""
    sys.stderr.write(f"note: {shown(text)}\n")
    sys.stderr.flush()


def table(rows: Sequence[tuple[str, ...]], *, head: tuple[str, ...] | None = None) -> str:
    """Columns side by side, as wide as they need to be."""
    every = [head, *rows] if head else rows
    if not every:
        return ""
    widths = [max(len(row[at]) for row in every) for at in range(len(every[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every
    )
