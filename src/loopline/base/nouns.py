"""What Loopline answers with: frozen dataclasses that travel as JSON.

One definition per noun. Every door returns it; `records` keeps it; nothing else
spells its fields again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import TypeAdapter

from loopline.base.ids import iso


class Noun(Protocol):
    """A frozen dataclass registered with `@noun`; `id` names it for ever."""

    __noun__: ClassVar[str]

    @property
    def id(self) -> str: ...


N = TypeVar("N")
KINDS: dict[str, type[Any]] = {}
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
_PLAIN = frozenset({str, int, bool, type(None)})


def noun(kind: str) -> Callable[[type[N]], type[N]]:
    """Register a frozen dataclass under the name its records carry."""

    def register(cls: type[N]) -> type[N]:
        if KINDS.get(kind, cls).__qualname__ != cls.__qualname__:
            raise TypeError(f"two nouns are called {kind!r}")
        cls.__noun__ = kind  # type: ignore[attr-defined]
        KINDS[kind] = cls
        return cls

    return register


def kind_of(item: Any) -> str | None:
    """The name that a noun (or its class) is recorded under; null for anything else."""
    cls = item if isinstance(item, type) else type(item)
    name = getattr(cls, "__noun__", None)
    return name if name is not None and KINDS.get(name) is cls else None


def to_doc(value: Any) -> Any:
    """A noun, a spec or plain data as a JSON document (UTC times as text)."""
    kind = type(value)
    if kind in _PLAIN:  # most of a document
        return value
    if kind is list or kind is tuple:
        return [item if type(item) in _PLAIN else to_doc(item) for item in value]
    if kind is dict:
        return {str(key): to_doc(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_doc(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {str(key): to_doc(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, frozenset, set)):
        return [to_doc(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, float) and not (value == value and abs(value) != float("inf")):
        return None
    return value


def from_doc(cls: type[N], doc: Any) -> N:
    """The noun that `to_doc` wrote."""
    adapter = _ADAPTERS.get(cls)
    if adapter is None:
        adapter = _ADAPTERS[cls] = TypeAdapter(cls)
    result: N = adapter.validate_python(doc)
    return result
