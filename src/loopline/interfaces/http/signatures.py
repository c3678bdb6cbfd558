"""What a verb takes and gives, read from its signature: for calls and for OpenAPI."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError

from loopline.base.errors import Invalid, NotFound
from loopline.base.nouns import kind_of
from loopline.base.spec import Spec
from loopline.data.spec import TableSpec
from loopline.loop.project import Project, dotted
from loopline.loop.spec import LoopSpec
from loopline.workspace import VerbInfo, Workspace, parameters


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a verb as clients see it."""

    name: str
    annotation: Any
    default: Any
    source: str
    """`client`, `noun` (given by id), `section` (of loop.yaml) or `server`; the last two are never sent.

    Clients choose neither paths nor code of the server.
    """

    @property
    def sent(self) -> bool:
        """Whether a client may send it."""
        return self.source in ("client", "noun")

    @property
    def required(self) -> bool:
        """Whether a client must send it."""
        return self.sent and self.default is inspect.Parameter.empty


class Unknown:
    """An annotation whose names exist for type checkers only."""


@functools.cache
def arguments(info: VerbInfo) -> tuple[Argument, ...] | None:
    """The arguments of a verb; null when it is not offered, or takes or gives what cannot travel, such as a frame."""
    if not info.offered or not _travels(_hint(info, "return"), "serialization"):
        return None
    found: list[Argument] = []
    for parameter in parameters(info):
        argument = _argument(parameter, _hint(info, parameter.name))
        if argument is not None:
            found.append(argument)
        elif parameter.default is inspect.Parameter.empty:
            return None
    return tuple(found)


def result(info: VerbInfo) -> Any:
    """The annotation of what a verb returns."""
    found = _hint(info, "return")
    return Any if found is Unknown else found


def bound(info: VerbInfo, ws: Workspace, project: Project, given: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for a call, checked against the signature.

    Raises
    ------
    Invalid
        Naming the argument that is unknown, missing or malformed.
    NotFound
        If a noun is named by an id that no record has.
    """
    known = {a.name: a for a in arguments(info) or () if a.sent}
    if unknown := sorted(set(given) - set(known)):
        raise Invalid(
            f"{info.name} takes no argument {unknown[0]!r}",
            why=f"it takes {', '.join(known) or 'none'}",
            fix="see /api/openapi.json",
        )
    made: dict[str, Any] = {}
    for argument in arguments(info) or ():
        if argument.name in given:
            made[argument.name] = _value(argument, given[argument.name], ws, info)
        elif argument.source == "server":
            made[argument.name] = project.root if argument.annotation is Path else project
        elif argument.source == "section":
            made[argument.name] = functools.reduce(getattr, _section(argument.annotation).split("."), project.spec)
        elif argument.required:
            raise Invalid(
                f"{info.name} lacks the argument {argument.name!r}",
                why="it has no default",
                fix="see /api/openapi.json",
            )
    return made


def schema(annotation: Any, *, answer: bool = False) -> dict[str, Any]:
    """The JSON Schema of an annotation; empty where it can be anything."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        return adapter.json_schema(
            mode="serialization" if answer else "validation", ref_template="#/components/schemas/{model}"
        )
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticUserError, TypeError):
        return {}


def is_noun(annotation: Any) -> bool:
    """Whether an annotation is a noun that records keep."""
    return isinstance(annotation, type) and kind_of(annotation) is not None


def _hint(info: VerbInfo, name: str) -> Any:
    """One annotation of a verb, evaluated by itself, since others may not be."""
    function = inspect.unwrap(info.call)
    one = types.SimpleNamespace(__annotations__={name: function.__annotations__.get(name, Any)})
    try:
        return typing.get_type_hints(one, function.__globals__, _late(), include_extras=True)[name]
    except NameError:
        return Unknown


def is_noun_or_id(annotation: Any) -> bool:
    """Whether an annotation takes a noun or its id; over the wire only the id goes."""
    parts = typing.get_args(annotation) if typing.get_origin(annotation) in (typing.Union, types.UnionType) else ()
    return str in parts and any(is_noun(part) for part in parts)


def _argument(parameter: inspect.Parameter, annotation: Any) -> Argument | None:
    if annotation is Unknown:
        return None
    inner = _inner(annotation)
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        return None
    if inner is Path or inner is Project:
        server = parameter.default is inspect.Parameter.empty or parameter.name == "project"
        return Argument(parameter.name, inner, parameter.default, "server") if server else None
    if is_noun(inner):
        return Argument(parameter.name, inner, parameter.default, "noun")
    if is_noun_or_id(annotation):
        return Argument(parameter.name, str | None if parameter.default is None else str, parameter.default, "client")
    if _section(annotation):
        return Argument(parameter.name, annotation, parameter.default, "section")
    if typing.get_origin(inner) is Callable or inner is Callable or _origin(inner) is Callable:
        return None
    if not _travels(annotation):
        return None
    return Argument(parameter.name, annotation, parameter.default, "client")


def _origin(annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    return Callable if origin is not None and getattr(origin, "__name__", "") == "Callable" else origin


def _travels(annotation: Any, mode: typing.Literal["validation", "serialization"] = "validation") -> bool:
    if annotation is Unknown:
        return False
    try:
        TypeAdapter(annotation).json_schema(mode=mode)
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticUserError, TypeError, NameError):
        return False
    return True


def _section(annotation: Any) -> str:
    """The dotted section of loop.yaml that an annotation is, or nothing: `data`, `registry.approvals`."""
    inner = _inner(annotation)
    if getattr(_origin(inner), "__name__", "") in ("Mapping", "dict"):
        values = typing.get_args(inner)
        return "data" if values and values[-1] is TableSpec else ""
    return _sections().get(inner, "") if isinstance(inner, type) else ""


@functools.cache
def _sections() -> dict[type[Any], str]:
    """Every section that is always there, by its type, and by the part of it that an earlier room declares."""
    found: dict[type[Any], str] = {}

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, info in model.model_fields.items():
            kind = info.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found.update({part: f"{prefix}{name}" for part in kind.__mro__ if part not in Spec.__mro__})
                walk(kind, f"{prefix}{name}.")

    walk(LoopSpec, "")
    return found


def _inner(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kept = [a for a in typing.get_args(annotation) if a is not type(None)]
        return kept[0] if len(kept) == 1 else annotation
    return annotation


def _value(argument: Argument, sent: Any, ws: Workspace, info: VerbInfo) -> Any:
    if argument.source == "noun":
        if sent is None and argument.default is None:
            return None
        if not isinstance(sent, str):
            raise Invalid(
                f"{info.name}: {argument.name} is not an id", why="nouns are named by their id", fix="send it as text"
            )
        found = ws.records.get(argument.annotation, sent)
        if found is None:
            raise NotFound(
                f"there is no {kind_of(argument.annotation)} {sent}", why="no record has that id", fix="check it"
            )
        return found
    try:
        found = TypeAdapter(argument.annotation).validate_python(sent)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Invalid(
            f"{info.name}: {dotted((argument.name, *first['loc']))}: {first['msg']}",
            why="the argument does not fit the verb's signature",
            fix="see /api/openapi.json",
        ) from error
    return _zoned(found, f"{info.name}: {argument.name}")


def _zoned(value: Any, name: str) -> Any:
    """`value`, unless a time in it carries no zone."""
    if isinstance(value, datetime) and value.tzinfo is None:
        raise Invalid(f"{name}: {value} carries no zone", why="a zone is never guessed", fix="2026-03-01T06:00Z")
    if isinstance(value, (list, tuple)):
        for item in value:
            _zoned(item, name)
    return value


def _late() -> dict[str, Any]:
    """Names that rooms import for type checkers only."""
    return {"Project": Project, "Workspace": Workspace, "Path": Path, "Mapping": Mapping, "Callable": Callable}
