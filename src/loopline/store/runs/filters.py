"""The filter language: what a text says, as a tree. docs/reference/run-filters.md shows it.

Values never become SQL text: the tree carries them to where they are bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from loopline.base.errors import Invalid

CHARACTERS = 100_000
DEPTH = 50
HEIGHT = 20
"""Of AND within OR within AND: what the parser of SQLite bears."""
COMPARISONS = 300
PATTERN = 1_000
"""Characters of a LIKE at most."""
VALUES = 10_000
"""Of one list at most."""

Value = str | int | float
KINDS = {
    "metric": "metric", "metrics": "metric",
    "param": "param", "params": "param", "parameter": "param", "parameters": "param",
    "tag": "tag", "tags": "tag",
    "attribute": "attribute", "attributes": "attribute", "attr": "attribute", "run": "attribute",
    "dataset": "dataset", "datasets": "dataset",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compare:
    """One comparison: `metrics.loss < 0.5`."""

    kind: str
    """metric, param, tag, attribute or dataset."""
    key: str
    op: str
    """=, !=, <, <=, >, >=, LIKE, ILIKE, IN, NOT IN, IS NULL or IS NOT NULL."""
    value: Value | tuple[Value, ...] | None = None


@dataclass(frozen=True, slots=True)
class And:
    """All of the parts hold."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of the parts holds, or more."""

    parts: tuple[Tree, ...]


Tree = Compare | And | Or


@dataclass(frozen=True, slots=True)
class Term:
    """One term of an order: `metrics.loss DESC`."""

    kind: str
    key: str
    descending: bool = False
    as_number: bool = False
    """Params only: those that are numbers first, by number."""
    dataset: tuple[str | None, str | None] | None = None
    """Logged models only: the data a metric was measured on."""


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


_TOKENS = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
  | (?P<single>'(?:[^']|'')*')
  | (?P<double>"(?:[^"]|"")*")
  | (?P<back>`[^`]*`)
  | (?P<op><=|>=|!=|<>|==|=|<|>)
  | (?P<mark>[(),])
  | (?P<word>[^\W\d][\w./:@\-]*)
    """,
    re.VERBOSE,
)
_QUOTED = ("single", "double", "back")
_TEXTS = ("LIKE", "ILIKE")
_EXAMPLES = {
    "filter": "write comparisons joined by AND or OR, for example metrics.auc > 0.8 AND params.leaves = '31'",
    "order": "write a name, then ASC or DESC, for example metrics.auc DESC",
}


def parse(text: str, kinds: Mapping[str, str] = KINDS) -> Tree | None:
    """What a filter says; null for one that says nothing.

    Parameters
    ----------
    kinds : mapping
        What may stand before the dot of a name, and the kind that it means.

    Raises
    ------
    Invalid
        If it is not of the language; the message shows the place.
    """
    if not isinstance(text, str):
        raise Invalid(f"the filter is {text!r:.100}", why="a filter is a text", fix="send a text, or nothing")
    if not text.strip():
        return None
    reader = _Reader(text, kinds)
    tree = reader.alternatives(0)
    reader.end()
    if _height(tree) > HEIGHT:
        raise reader.wrong(f"AND and OR may lie {HEIGHT} deep in each other")
    return tree


def _height(tree: Tree) -> int:
    return 0 if isinstance(tree, Compare) else 1 + max(map(_height, tree.parts))


def parse_order(text: str, kinds: Mapping[str, str] = KINDS) -> Term:
    """What one term of an order says.

    Raises
    ------
    Invalid
        If it is not of the language.
    """
    if not isinstance(text, str):
        raise Invalid(f"the order {text!r:.100}", why="an order is a text", fix="write for example metrics.loss DESC")
    reader = _Reader(text, kinds, "order")
    kind, key = reader.identifier()
    as_number = reader.takes("AS")
    if as_number and not reader.takes("NUMBER"):
        raise reader.wrong("AS NUMBER is what may follow")
    descending = reader.takes("DESC")
    if not descending:
        reader.takes("ASC")
    reader.end()
    return Term(kind, key, descending, as_number)


class _Reader:
    """Reads a filter from left to right."""

    def __init__(self, text: str, kinds: Mapping[str, str], what: str = "filter") -> None:
        if len(text) > CHARACTERS:
            raise Invalid(
                f"the {what} has {len(text):,} characters",
                why=f"it may have {CHARACTERS:,}",
                fix="ask in several parts",
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Invalid(
                f"the {what} is no text: {text!r:.200}",
                why="half a surrogate pair stands for nothing",
                fix="send UTF-8",
            ) from error
        self._text, self._kinds, self._what, self._next, self._comparisons = text, kinds, what, 0, 0
        self._tokens: list[_Token] = []
        at = 0
        while at < len(text):
            found = _TOKENS.match(text, at)
            if found is None:
                raise self._wrong_at(at, "nothing of the language begins like this")
            if found.lastgroup != "space":
                self._tokens.append(_Token(str(found.lastgroup), found.group(), at))
            at = found.end()
        self._tokens.append(_Token("end", "", len(text)))

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        if token.kind != "end":
            self._next += 1
        return token

    def takes(self, word: str) -> bool:
        """Whether the next word is this one, which is then read."""
        token = self._token
        if token.kind in ("word", "mark", "op") and token.text.upper() == word:
            self._next += 1
            return True
        return False

    def end(self) -> None:
        """Nothing may follow."""
        if self._token.kind != "end":
            raise self.wrong(
                "it should end here, or go on with AND or OR"
                if self._what == "filter"
                else "after the name ASC or DESC may follow, before them AS NUMBER"
            )

    def alternatives(self, depth: int) -> Tree:
        """Parts joined by OR, which binds less than AND."""
        if depth > DEPTH:
            raise self.wrong(f"parentheses may be {DEPTH} deep")
        parts = [self._conjunction(depth)]
        while self.takes("OR"):
            parts.append(self._conjunction(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _conjunction(self, depth: int) -> Tree:
        parts = [self._part(depth)]
        while self.takes("AND"):
            parts.append(self._part(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _part(self, depth: int) -> Tree:
        if self.takes("("):
            tree = self.alternatives(depth + 1)
            if not self.takes(")"):
                raise self.wrong("a parenthesis is open")
            return tree
        return self._comparison()

    def _comparison(self) -> Compare:
        if self._token.kind == "word" and self._token.text.upper() == "NOT":
            raise self.wrong("NOT is not supported before a comparison: turn it round with !=, NOT IN or IS NULL")
        self._comparisons += 1
        if self._comparisons > COMPARISONS:
            raise self.wrong(f"a filter may have {COMPARISONS} comparisons; use IN for many values")
        kind, key = self.identifier()
        if self._token.kind == "op":
            op = {"<>": "!=", "==": "="}.get(self._token.text, self._token.text)
            self._take()
            return Compare(kind, key, op, self._value())
        for op in _TEXTS:
            if self.takes(op):
                value = self._value()
                if not isinstance(value, str):
                    raise self.wrong(f"{op} takes a quoted text", back=1)
                if len(value) > PATTERN:
                    raise self.wrong(f"{op} takes up to {PATTERN:,} characters", back=1)
                return Compare(kind, key, op, value)
        if self.takes("IS"):
            op = "IS NOT NULL" if self.takes("NOT") else "IS NULL"
            if not self.takes("NULL"):
                raise self.wrong("IS NULL and IS NOT NULL are what there is")
            return Compare(kind, key, op)
        op = "NOT IN" if self.takes("NOT") else "IN"
        if self.takes("IN"):
            return Compare(kind, key, op, self._list())
        raise self.wrong("a comparison is one of =, !=, <, <=, >, >=, LIKE, ILIKE, IN, NOT IN, IS NULL, IS NOT NULL")

    def identifier(self) -> tuple[str, str]:
        """Kind and key: metrics.loss, tags.`a b`, params."x", start_time."""
        token = self._take()
        if token.kind in ("back", "double"):
            return "attribute", _bare(token)
        if token.kind != "word":
            raise self.wrong("a name is due, such as metrics.loss", back=token.kind != "end")
        head, dot, key = token.text.partition(".")
        if not dot:
            return "attribute", token.text
        kind = self._kinds.get(head.lower())
        if kind is None:
            known = ", ".join(one for one in self._kinds if one.endswith("s") or one == "feedback")
            raise self.wrong(f"{head!r} is none of {known}", back=1)
        if not key or key.endswith("."):
            quoted = self._token
            if quoted.kind not in ("back", "double") or quoted.at != token.at + len(token.text):
                raise self.wrong("a key is due, in backticks or double quotes where it is no plain word")
            key += _bare(self._take())
        if not key:
            raise self.wrong("a key is due", back=1)
        return kind, key

    def _value(self) -> Value:
        token = self._take()
        if token.kind in ("single", "double"):
            return _bare(token)
        if token.kind == "number":
            return _number(token.text)
        raise self.wrong("a number or a quoted text is due", back=token.kind != "end")

    def _list(self) -> tuple[Value, ...]:
        if not self.takes("("):
            raise self.wrong("a list in parentheses is due")
        values = [self._value()]
        while self.takes(","):
            if self._token.text == ")":
                break
            values.append(self._value())
        if not self.takes(")"):
            raise self.wrong("a list ends with a parenthesis")
        if len(values) > VALUES:
            raise self.wrong(f"a list may have {VALUES:,} values")
        if len({isinstance(value, str) for value in values}) > 1:
            raise self.wrong("a list has texts or numbers, not both", back=1)
        return tuple(values)

    def wrong(self, why: str, back: int = 0) -> Invalid:
        """The error for what stands here."""
        return self._wrong_at(self._tokens[max(0, self._next - back)].at, why)

    def _wrong_at(self, at: int, why: str) -> Invalid:
        rest = self._text[at : at + 40]
        return Invalid(
            f"the {self._what} {self._text[:200]!r} cannot be read at character {at + 1}: {rest or 'the end'!r}",
            why=why,
            fix=_EXAMPLES[self._what],
        )


def _bare(token: _Token) -> str:
    text = token.text[1:-1]
    quote = token.text[0]
    return text if quote == "`" else text.replace(quote * 2, quote)


def _number(text: str) -> int | float:
    """An integer where SQLite has it exactly, else a float."""
    if len(text) < 19 and text.lstrip("+-").isdigit():
        return int(text)
    return float(text)


def comparisons(tree: Tree | None) -> Sequence[Compare]:
    """Every comparison that must hold whatever else does."""
    if tree is None or isinstance(tree, Or):
        return []
    if isinstance(tree, Compare):
        return [tree]
    return [one for part in tree.parts for one in comparisons(part)]
