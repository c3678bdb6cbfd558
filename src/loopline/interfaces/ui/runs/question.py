"""What the table of runs is asked: all of it stands in the address, so that an address can be shared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams

from loopline.base.errors import Invalid
from loopline.store.runs.filters import Term, parse_order
from loopline.store.runs.protocol import View

TABLE = "/runs"
ROWS = 100
SIZES = (25, 50, 100, 250, 500)
PARTS = {"metric": "metrics", "param": "params", "tag": "tags", "dataset": "datasets"}
_PLAIN = re.compile(r"[\w./:@\-]+")

Kind = Literal["metric", "param", "tag", "attribute"]


@dataclass(frozen=True, slots=True)
class Field:
    """A column: what a filter calls `metrics.auc`."""

    kind: str
    key: str

    @classmethod
    def of(cls, text: str) -> Field:
        """The field that a text names, as filters write it.

        Raises
        ------
        Invalid
            If it is none that can be shown.
        """
        term = parse_order(text)
        if term.kind == "dataset":
            raise Invalid(
                f"{text!r:.100} cannot be a column",
                why="a run may have several datasets; its page lists them",
                fix="take a metric, a param, a tag or an attribute",
            )
        return cls(term.kind, term.key)

    def __str__(self) -> str:
        return written(self.kind, self.key)


def written(kind: str, key: str) -> str:
    """A field as filters write it, its key in quotes where it is no plain word."""
    if kind == "attribute":
        return key if re.fullmatch(r"[^\W\d]\w*", key) else f"`{key}`"
    if not _PLAIN.fullmatch(key) or key.endswith("."):
        key = f"`{key}`" if "`" not in key else '"' + key.replace('"', '""') + '"'
    return f"{PARTS[kind]}.{key}"


def literal(value: str) -> str:
    """A text as filters write it."""
    return "'" + value.replace("'", "''") + "'"


def narrowed(filter: str, field: str, value: str | None) -> str:
    """A filter that asks for one value of a field besides; for runs without the field where the value is null."""
    more = f"{field} IS NULL" if value is None else f"{field} = {literal(value)}"
    return f"({filter}) AND {more}" if filter.strip() else more


@dataclass(frozen=True, slots=True)
class Question:
    """Which runs, in which order, with which columns."""

    experiment: tuple[str, ...] = ()
    """Ids; every experiment when empty."""
    filter: str = ""
    order: str = ""
    """One term; the newest first when empty."""
    group: str = ""
    """A field whose values make groups; none when empty."""
    column: tuple[str, ...] = ()
    """Fields; those that most of the shown runs have when empty."""
    view: View = "active"
    rows: int = ROWS
    token: str = ""

    @classmethod
    def of(cls, given: QueryParams) -> Question:
        """The question of an address; parts of it that say nothing are left out.

        Raises
        ------
        Invalid
            If the view or the number of rows is none that there is.
        """
        view = given.get("view", "active")
        if view not in get_args(View):
            raise Invalid(f"the view {view!r:.100}", why="it is active, deleted or all", fix="choose one of them")
        rows = given.get("rows", str(ROWS))
        if not (rows.isascii() and rows.isdigit() and len(rows) < 5 and 1 <= int(rows) <= max(SIZES)):
            raise Invalid(f"{rows!r:.100} rows", why=f"a page has 1 to {max(SIZES)}", fix="ask for 100")
        named = [one for text in given.getlist("column") if (one := text.strip())]
        return cls(
            experiment=tuple(dict.fromkeys(one for one in given.getlist("experiment") if one)),
            filter=given.get("filter", "").strip(),
            order=given.get("order", "").strip(),
            group=given.get("group", "").strip(),
            column=tuple(dict.fromkeys(named)),
            view=view,  # type: ignore[arg-type]
            rows=int(rows),
            token=given.get("token", ""),
        )

    def address(self, path: str = TABLE, **changes: Any) -> str:
        """The address that asks this, with changes; a change of what is asked leads to the first page."""
        if set(changes) - {"column", "token"}:
            changes.setdefault("token", "")
        asked = replace(self, **changes)
        plain = Question()
        given: dict[str, Any] = {
            one.name: value for one in fields(asked) if (value := getattr(asked, one.name)) != getattr(plain, one.name)
        }
        return path + ("?" + urlencode(given, doseq=True, quote_via=quote) if given else "")

    @property
    def term(self) -> Term | None:
        """What the order says; null where the newest come first."""
        return parse_order(self.order) if self.order else None

    def turned(self, field: Field) -> str:
        """The order that a click on the head of a column asks for: best guess first, the other way the second time."""
        term = self.term
        same = term is not None and (term.kind, term.key) == (field.kind, field.key)
        descending = not term.descending if same and term is not None else field.kind == "metric"
        as_number = " AS NUMBER" if field.kind == "param" else ""
        return f"{field}{as_number}{' DESC' if descending else ''}"

    def sorted_by(self, field: Field) -> str | None:
        """`ascending` or `descending` where the table is sorted by a field, as `aria-sort` says it."""
        term = self.term
        if term is None or (term.kind, term.key) != (field.kind, field.key):
            return None
        return "descending" if term.descending else "ascending"


def numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics without those that tell of the machine and of cost, which every run has."""
    return {key: value for key, value in metrics.items() if not key.startswith(OWN)}


OWN = ("system/", "cost/")
"""How the metrics begin that are recorded without being asked."""
