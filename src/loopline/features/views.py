"""Views: named features over one source, as a project's Python files declare them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from loopline.base.code import load_module
from loopline.base.errors import Invalid
from loopline.base.ids import content_id
from loopline.base.spec import duration, duration_text
from loopline.features import hops
from loopline.features.expr import AGGREGATES, LEAVES, Expr, col
from loopline.features.functions import FrameFunction

Entity = str | Sequence[str] | Mapping[str, str]
CONFIDENCE = "label_confidence"
"""Column of a training set: how sure each label is, 0 to 1, where the framing declares that."""
RESERVED = frozenset({"unit", "decision_time", "label", "split", CONFIDENCE})
EVER = timedelta(days=36_525)
"""A function of whole tables may read all of them."""
OnStale = Literal["serve", "default", "refuse"]


@dataclass(frozen=True, slots=True)
class View:
    """Features that read one source (or the spine alone).

    `on` pairs spine columns with source columns; a source row belongs to a spine
    row where all of them are equal (null equals nothing).

    With `refresh`, what became known between two multiples of it (since 1970, UTC) is seen from the
    later one on. `available_at` is the column that says when a source row became known, where it is
    not the table's. An entity whose newest event is older than `freshness` breaks the service level;
    `on_stale` says what is then answered: the old value, null, or nothing at all.
    """

    name: str
    source: str | None
    on: tuple[tuple[str, str], ...]
    ttl: timedelta | None
    features: tuple[tuple[str, Expr], ...]
    refresh: timedelta | None = None
    freshness: timedelta | None = None
    on_stale: OnStale = "serve"
    available_at: str | None = None
    external: bool = False
    """Whether its values are computed elsewhere: parity can only look them up again."""
    maker: FrameFunction | None = None
    """The function that makes the source's rows from tables, where it is none itself."""

    def doc(self) -> dict[str, object]:
        """What the view computes, as JSON; its name does not count, nor does what is left at its default.

        `freshness` counts where `on_stale` changes the answer; else it is a service level.
        """
        doc: dict[str, object] = {
            "source": self.source,
            "on": [list(pair) for pair in self.on],
            "ttl": None if self.ttl is None else duration_text(self.ttl),
            "features": [[name, tree.doc()] for name, tree in self.features],
        }
        if self.refresh is not None:
            doc["refresh"] = duration_text(self.refresh)
        if self.available_at is not None:
            doc["available_at"] = self.available_at
        if self.on_stale != "serve" and self.freshness is not None:
            doc["on_stale"], doc["freshness"] = self.on_stale, duration_text(self.freshness)
        if self.external:
            doc["external"] = True if self.maker is None else self.maker.doc()
        return doc

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that it reads."""
        if self.maker is not None:
            return self.maker.inputs
        return () if self.source is None else (self.source,)

    def leaves(self) -> list[Expr]:
        """The lookups and windows in its features."""
        return [node for _, tree in self.features for node in tree.walk() if node.op in LEAVES]

    @property
    def lookback(self) -> timedelta:
        """How old an event can be and still matter: the longest window (to its cut edge), ttl or freshness."""
        if self.maker is not None:
            return EVER
        lengths = [hops.lookback(leaf.args[1], self.refresh) for leaf in self.leaves() if leaf.op in AGGREGATES]
        return max([*lengths, *(one for one in (self.ttl, self.freshness) if one is not None)], default=timedelta(0))


@dataclass(frozen=True)
class Views:
    """All views of a project, in order.

    Two projects with the same definitions have the same `id`, whatever their
    files are called.
    """

    views: tuple[View, ...]

    @cached_property
    def id(self) -> str:
        """Content id of the definitions."""
        return content_id(self.doc())

    def doc(self) -> dict[str, object]:
        """The definitions as JSON."""
        return {"version": 1, "views": [view.doc() for view in self.views]}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The features, in the order of their columns."""
        return tuple(name for view in self.views for name, _ in view.features)

    @cached_property
    def categorical(self) -> tuple[str, ...]:
        """The features whose values are text."""
        return tuple(name for view in self.views for name, tree in view.features if tree.op == "category")

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """The sources that `compute` must be given."""
        return tuple(dict.fromkeys(name for view in self.views for name in view.tables))

    @cached_property
    def lookback(self) -> timedelta:
        """How old an event can be and still matter: the longest window, ttl or freshness."""
        return max((one.lookback for one in self.views), default=timedelta(0))

    def available(self, source: str) -> tuple[str, ...]:
        """Columns of a source that views take for the moment its rows became known."""
        found = (one.available_at for one in self.views if one.source == source)
        return tuple(dict.fromkeys(column for column in found if column is not None))

    def reads(self, source: str) -> frozenset[str] | None:
        """The columns of a source that are read; null where a function of whole frames may read any."""
        if any(one.maker is not None and source in one.tables for one in self.views):
            return None
        mine = [one for one in self.views if one.source == source]
        nodes = (node for one in mine for leaf in one.leaves() for node in leaf.args[0].walk())
        return frozenset(
            [node.args[0] for node in nodes if node.op == "col"]
            + [theirs for one in mine for _, theirs in one.on]
            + list(self.available(source))
        )

    @cached_property
    def spine_columns(self) -> tuple[str, ...]:
        """The columns of the spine that are read."""
        found = [pair[0] for view in self.views for pair in view.on]
        for view in self.views:
            for _, tree in view.features:
                found += _spine_columns(tree)
        return tuple(dict.fromkeys(name for name in found if name != "decision_time"))

    def __add__(self, other: Views) -> Views:
        return together((*self.views, *other.views))


def _spine_columns(tree: Expr) -> list[str]:
    if tree.op == "col":
        return [tree.args[0]]
    if tree.op in LEAVES:
        return []
    return [name for arg in tree.args if isinstance(arg, Expr) for name in _spine_columns(arg)]


def view(
    *,
    entity: Entity = (),
    source: str | None = None,
    ttl: str | None = None,
    refresh: str | None = None,
    freshness: str | None = None,
    on_stale: OnStale = "serve",
    available_at: str | None = None,
) -> Callable[[Callable[[], Mapping[str, Expr]]], View]:
    """Make a function that returns named expressions a view.

    Parameters
    ----------
    entity : str, sequence of str, or mapping
        Columns that join the source to the spine: of the same name in both, or
        `{spine column: source column}`. Without one, all rows of the source count.
    source : str, optional
        Table that `latest`, `lookup` and the windows read. Without one, the
        features are expressions of the spine row.
    ttl : str, optional
        `latest` and `last_n` forget an event older than this, for example `6h`. Needed with them.
    refresh : str, optional
        What became known between two multiples of this (since 1970, UTC) is seen from the later one on,
        offline and online alike, for example `1h`. Without it a row is seen as soon as it is known.
    freshness : str, optional
        Service level: the newest event of an entity is no older than this.
    on_stale : {"serve", "default", "refuse"}
        What is answered for an entity beyond `freshness`: its old values, null, or nothing.
    available_at : str, optional
        Column of the source that says when a row became known, where it is not the table's `known_at`.

    Raises
    ------
    Invalid
        If the parts do not fit together.
    """
    pairs = _pairs(entity)
    age, every, level = (_positive(text) for text in (ttl, refresh, freshness))

    def wrap(function: Callable[[], Mapping[str, Expr]]) -> View:
        made = View(
            function.__name__, source, pairs, age, tuple(function().items()), every, level, on_stale, available_at
        )
        _check(made)
        return made

    return wrap


def _pairs(entity: Entity) -> tuple[tuple[str, str], ...]:
    if isinstance(entity, str):
        return ((entity, entity),)
    if isinstance(entity, Mapping):
        return tuple(entity.items())
    return tuple((name, name) for name in entity)


def _positive(text: str | None) -> timedelta | None:
    try:
        length = None if text is None else duration(text)
    except ValueError as error:
        raise Invalid(str(error), why="a view counts in lengths of time", fix="write for example 6h or 28d") from error
    if length is not None and length <= timedelta(0):
        raise Invalid(f"{text} is no length of time", why="it is zero", fix="write for example 6h or 28d")
    return length


def _check(made: View) -> None:
    _check_service(made)
    for name, tree in made.features:
        if not isinstance(tree, Expr):
            raise Invalid(
                f"feature {name!r} of view {made.name} is {tree!r}",
                why="a feature is an expression",
                fix="build it from col(...), latest(...), mean(...) and the like",
            )
        if name in RESERVED:
            raise Invalid(
                f"view {made.name} calls a feature {name!r}",
                why="that column has a meaning of its own in every training set",
                fix="choose another name",
            )
        if any(node.op == "category" for arg in tree.args if isinstance(arg, Expr) for node in arg.walk()):
            raise Invalid(
                f"feature {name!r} of view {made.name} goes on after .category()",
                why="a category is the last word of a feature",
                fix="move .category() to the end",
            )
    operators = {leaf.op for leaf in made.leaves()}
    if operators and made.source is None:
        raise Invalid(
            f"view {made.name} uses {min(operators)} without a source",
            why="it reads rows of a table",
            fix='name it: @view(entity=..., source="table")',
        )
    if operators & {"latest", "last_n"} and made.ttl is None:
        raise Invalid(
            f"view {made.name} uses {min(operators & {'latest', 'last_n'})} without a ttl",
            why="a value must grow too old at some age, the same offline and online",
            fix='give one: @view(..., ttl="6h")',
        )
    if "lookup" in operators and (len(operators) > 1 or not made.on):
        raise Invalid(
            f"view {made.name} mixes lookup with lookups in time, or names no entity",
            why="lookup reads a table without times, by its key",
            fix="give the table a view of its own, with an entity",
        )


def _check_service(made: View) -> None:
    if made.on_stale not in get_args(OnStale):
        raise Invalid(
            f"view {made.name} has on_stale={made.on_stale!r}",
            why=f"an old value is answered by one of {', '.join(get_args(OnStale))}",
            fix="choose one of them",
        )
    if made.on_stale != "serve" and made.freshness is None:
        raise Invalid(
            f"view {made.name} says what to do with stale values, not what is stale",
            why="on_stale acts on what is older than `freshness`",
            fix='give it: @view(..., freshness="6h")',
        )
    given = [name for name in ("refresh", "freshness", "available_at") if getattr(made, name) is not None]
    if given and made.source is None:
        raise Invalid(
            f"view {made.name} has {given[0]} without a source",
            why="it says when rows of a table become known",
            fix=f'name the table: @view(entity=..., source="table"), or leave {given[0]} out',
        )


def together(views: Iterable[View]) -> Views:
    """The views as one; `Invalid` if two features share a name."""
    found = tuple(views)
    owner: dict[str, str] = {}
    for one in found:
        for name, _ in one.features:
            if name in owner:
                raise Invalid(
                    f"feature {name!r} is defined in view {owner[name]} and in view {one.name}",
                    why="a feature has one definition",
                    fix="rename one of them",
                )
            owner[name] = one.name
    return Views(found)


_LOADED: dict[tuple[int, ...], Views] = {}
"""Views by the objects they consist of (which their modules keep), so that ids are computed once."""


def load_views(project: Path, files: Sequence[str]) -> Views:
    """Every `@view` in the Python files of a project, in their order.

    Raises
    ------
    Invalid
        If a file defines none, or two features share a name; user errors as `UserCodeError`.
    NotFound
        If a file is not there.
    """
    found: dict[int, View] = {}
    for file in files:
        module = load_module(project, file)
        here = [value for value in vars(module).values() if isinstance(value, View)]
        if not here:
            raise Invalid(
                f"{file} defines no view",
                why="`features.views` in loop.yaml names it",
                fix="decorate a function with @view, or take the file out",
            )
        found.update((id(one), one) for one in here)
    known = tuple(found)
    if known not in _LOADED:
        _LOADED[known] = together(found.values())
    return _LOADED[known]


def column_views(columns: Mapping[str, bool]) -> Views:
    """Views that pass columns of the spine on as they are: name to whether it is a category."""
    features = tuple((name, col(name).category() if text else col(name)) for name, text in columns.items())
    return together([View("columns", None, (), None, features)])
