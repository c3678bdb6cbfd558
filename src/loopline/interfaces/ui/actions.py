"""What a page may do: few things, each a verb with its permission and its audit entry, by a person.

The guard in front lets in only requests from these pages (Host, Origin, Sec-Fetch-Site). Who acts is whoever runs the
server; for labels, which two people give on one machine, the name that they write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qs, quote, urlencode

from loopline import data
from loopline.base.errors import Invalid
from loopline.data.labelling.answers import replaced
from loopline.interfaces.ui.context import Here
from loopline.interfaces.ui.people import person
from loopline.workspace import Workspace

Form = Mapping[str, list[str]]
Act = Callable[[Here, Mapping[str, str], Form], str]
"""From where it stands, the parts of the address and the form, to the page that is shown next."""


def form_of(body: bytes, content_type: str) -> Form:
    """The fields of a form that a browser sent.

    Raises
    ------
    Invalid
        If it is not one.
    """
    if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise Invalid("this is no form", why="pages send forms", fix="use the button on the page, or the API")
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=200)
    except (UnicodeDecodeError, ValueError) as error:
        raise Invalid("the form cannot be read", why=str(error), fix="send it again from the page") from error


def propose(here: Here, path: Mapping[str, str], form: Form) -> str:
    """Propose that refused values be good, and show the change for review."""
    made = data.propose_contract(
        _person(here),
        here.project.root,
        here.project.spec.data,
        table=path["name"],
        rule=_one(form, "rule"),
        values=tuple(form.get("value", ())),
        reason=_one(form, "reason", "seen among the refused rows"),
    )
    return f"/data/proposals/{made.id[:16]}"


def settle(here: Here, path: Mapping[str, str], form: Form) -> str:
    """Say yes or no to a proposed change."""
    from loopline.data.contracts.verbs import ContractProposal

    found = here.ws.records.get(ContractProposal, path["id"])
    answer = _one(form, "answer")
    if answer not in ("accept", "reject"):
        raise Invalid(f"{answer!r} is no answer", why="accept or reject", fix="use a button of the page")
    data.settle_contract(
        _person(here),
        here.project.root,
        here.project.spec.data,
        proposal=found.id,
        answer="accept" if answer == "accept" else "reject",
        reason=_one(form, "reason"),
    )
    return f"/data/proposals/{found.id[:16]}"


def mark(here: Here, path: Mapping[str, str], form: Form) -> str:
    """Settle whether a column is personal, and of which class."""
    pii = _one(form, "pii", "")
    data.mark(
        _person(here),
        here.project.spec.data,
        path["name"],
        _one(form, "column"),
        pii=pii or None,
        reason=_one(form, "reason", "settled on its page"),
    )
    return f"/data/{quote(path['name'])}#personal"


def answer(here: Here, path: Mapping[str, str], form: Form) -> str:
    """Keep what a person said of a row, and show them the next."""
    who = _one(form, "who", "")
    value = _one(form, "value", "")
    unit = _one(form, "unit")
    given = data.answer(
        here.ws.acting_as(person(who)),
        _one(form, "round"),
        unit,
        value=value or None,
        note=_one(form, "note", ""),
    )
    before = replaced(here.ws, given)
    told = {"who": who, "said": f"{unit}: {value or 'cannot tell'}" + (f", {before}" if before else "")}
    return f"/labelling/{quote(path['name'])}?{urlencode(told)}"


def _person(here: Here) -> Workspace:
    return here.ws.acting_as(person(None))


def _one(form: Form, name: str, otherwise: str | None = None) -> str:
    values = form.get(name, [])
    if len(values) == 1 and (values[0].strip() or otherwise is not None):
        return values[0].strip() or (otherwise or "")
    if not values and otherwise is not None:
        return otherwise
    raise Invalid(f"the form lacks {name}", why="it is needed", fix="fill it in")


ACTIONS: tuple[tuple[str, Act], ...] = (
    ("/data/{name}/quarantine", propose),
    ("/data/{name}/personal", mark),
    ("/data/proposals/{id}", settle),
    ("/labelling/{name}", answer),
)
"""(address, what a POST to it does)."""
