"""What people who label are asked, in versions."""

from __future__ import annotations

from loopline.base.errors import Invalid
from loopline.base.ids import content_id
from loopline.data.nouns import Guideline
from loopline.workspace import Workspace, verb


@verb("data.write_guideline")
def write_guideline(
    ws: Workspace, name: str, *, question: str, answers: tuple[str, ...] = ("yes", "no"), text: str = ""
) -> Guideline:
    """Set what people are asked; the same words again change nothing, others are the next version.

    Parameters
    ----------
    name : str
        Of the labelling, for example the label it is for.
    answers : tuple of str
        Two or more; of two, the first is the true one. "It cannot be told" is always
        offered too.

    Raises
    ------
    Invalid
        If there is no question, or there are not at least two different answers.
    """
    if not name.isidentifier():
        raise Invalid(f"{name!r} cannot name a labelling", why="it becomes a file name", fix="letters, digits and `_`")
    if not question.strip() or len(answers) < 2 or len(set(answers)) != len(answers) or not all(answers):
        raise Invalid(
            "a guideline needs a question and two different answers",
            why="people choose between them",
            fix='question: "Was the parcel late?", answers: yes, no',
        )
    newest = guideline_of(ws, name)
    if newest and (newest.question, newest.answers, newest.text) == (question, tuple(answers), text):
        return newest
    number = newest.number + 1 if newest else 1
    doc = {"name": name, "number": number, "question": question, "answers": list(answers), "text": text}
    return Guideline(content_id(doc), name, number, question, tuple(answers), text, ws.actor, ws.clock())


def guideline_of(ws: Workspace, name: str) -> Guideline | None:
    """The newest guideline of a labelling; null without one."""
    found = ws.records.find(Guideline, name=name, limit=1)
    return found[0] if found else None


def names(ws: Workspace) -> list[str]:
    """Every labelling of the workspace."""
    return sorted({made.name for made in ws.records.find(Guideline)})
