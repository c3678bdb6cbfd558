"""The command that gives bytes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.session import ANYWHERE, Json, Where

if TYPE_CHECKING:
    from loopline.governance.reclaiming import Unneeded

SHOWN = 30
WORDS = {
    "run": "deleted run",
    "experiment": "deleted experiment",
    "files": "files of what is gone",
    "bytes": "bytes nobody names",
    "answer": "answer of a step",
    "traces": "traces of what is gone",
    "space": "space in a file",
    "leftover": "left by a killed process",
}


def gc(
    *,
    yes: Annotated[bool, Parameter(("--yes", "--apply"), negative="", help="Do it; else only show.")] = False,
    older_than: Annotated[str, Parameter(help="Runs that were deleted so long ago.")] = "7d",
    answers_older_than: Annotated[str, Parameter(help="Answers of steps that no run needed for so long.")] = "30d",
    answers_at_most: Annotated[str | None, Parameter(help="Size of all answers; beyond it the oldest go.")] = None,
    where: Where = ANYWHERE,
    json: Json = False,
) -> Answer:
    """Show bytes that nothing needs any more and whose they are; let go of them with --yes."""
    from loopline.base.sizes import size_text
    from loopline.governance import reclaiming
    from loopline.interfaces.cli.progress import Progress

    asked = _limits(older_than, answers_older_than, answers_at_most)
    ws = where.open()
    found = reclaiming.unneeded(ws, **asked)
    going = [one for one in found if not one.kept]
    if not yes or not going:
        text = "\n\n".join(part for part in (_listed(going), _staying(found)) if part)
        doc = {"unneeded": found, "bytes": sum(one.size for one in going)}
        again = ["loopline gc", *_given(older_than, answers_older_than, answers_at_most), "--yes"]
        hints = (" ".join(again),) if going else ("loopline runs list --deleted",)
        return Answer(text or "nothing is unneeded", doc, hints)
    with Progress(quiet=json) as progress:
        progress("letting go of what is unneeded", 0, len(going))
        done = reclaiming.gc(ws, **asked)
    counts = ", ".join(f"{count:,} {WORDS[kind]}{_several(kind, count)}" for kind, count in done.counts.items())
    lines = [f"freed {size_text(done.freed)}: {counts or 'nothing was left'}"]
    lines += [f"{count:,} stay{'s' if count == 1 else ''}: {why}" for why, count in done.kept.items()]
    return Answer("\n".join(lines), done, ("loopline audit verify",))


def _limits(older_than: str, answers_older_than: str, answers_at_most: str | None) -> dict[str, Any]:
    from loopline.base.errors import Invalid
    from loopline.base.sizes import size
    from loopline.base.spec import duration

    try:
        found: dict[str, Any] = {
            "older_than": duration(older_than),
            "answers_older_than": duration(answers_older_than),
            "answers_at_most": None if answers_at_most is None else size(answers_at_most),
        }
    except ValueError as error:
        raise Invalid(str(error), why="it limits what may go", fix="--older-than 7d --answers-at-most 10GB") from error
    return found


def _given(older_than: str, answers_older_than: str, answers_at_most: str | None) -> list[str]:
    words = [] if older_than == "7d" else ["--older-than", older_than]
    words += [] if answers_older_than == "30d" else ["--answers-older-than", answers_older_than]
    return words + ([] if answers_at_most is None else ["--answers-at-most", answers_at_most])


def _listed(going: list[Unneeded]) -> str:
    from loopline.base.sizes import size_text

    if not going:
        return ""
    largest = sorted(going, key=lambda one: -one.size)
    rows = [
        (
            WORDS[one.kind],
            one.id[:12],
            _plain(one.name)[:40],
            _plain(one.owner)[:28],
            size_text(one.size),
            f"{one.since:%Y-%m-%d %H:%M}",
        )
        for one in largest[:SHOWN]
    ]
    text = table(rows, head=("what", "id", "name", "whose", "size", "since"))
    if len(largest) > SHOWN:
        rest = largest[SHOWN:]
        text += f"\nand {len(rest):,} more, {size_text(sum(one.size for one in rest))}; --json lists all"
    return f"{text}\n{size_text(sum(one.size for one in going))} would be freed at most. Nothing was changed."


def _staying(found: list[Unneeded]) -> str:
    kept = [one for one in found if one.kept]
    rows = [(WORDS[one.kind], one.id[:12], _plain(one.name)[:40], one.kept) for one in kept[:SHOWN]]
    more = [f"and {len(kept) - SHOWN:,} more"] if len(kept) > SHOWN else []
    return "\n".join(["these stay:", table(rows), *more]) if rows else ""


def _several(kind: str, count: int) -> str:
    return "s" if count != 1 and kind in ("run", "experiment") else ""


def _plain(text: str) -> str:
    """Names come from anywhere: what would steer a terminal is left out."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
