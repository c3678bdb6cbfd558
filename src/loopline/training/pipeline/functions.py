"""What a function that a user wrote says of itself: its file, its parameters, its annotations."""

from __future__ import annotations

import inspect
import typing
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid


def file_of(function: Callable[..., Any]) -> Path | None:
    """The file that a function is written in; null where it came from a prompt or a notebook."""
    path = Path(function.__code__.co_filename)
    if path.suffix != ".py" or "ipykernel" in path.as_posix() or not path.is_file():
        return None
    return path.resolve()


_READ: weakref.WeakKeyDictionary[Callable[..., Any], dict[str, Any]] = weakref.WeakKeyDictionary()


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Its annotations as types; those that cannot be read are left out."""
    if (read := _READ.get(function)) is not None:
        return read
    try:
        return _READ.setdefault(function, typing.get_type_hints(function))
    except Exception:  # annotations may name what is imported for type checkers only
        return {
            name: given
            for name, given in getattr(function, "__annotations__", {}).items()
            if not isinstance(given, str)
        }


def arity(function: Callable[..., Any]) -> int | None:
    """How many answers it returns, as far as its annotation says."""
    found = hints(function).get("return")
    parts = typing.get_args(found) if typing.get_origin(found) is tuple else ()
    return len(parts) if parts and parts[-1] is not Ellipsis else None


def plain(function: Any) -> Callable[..., Any]:
    """The function, if it can be a step."""
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function) or function.__closure__:
        raise Invalid(
            f"{getattr(function, '__name__', function)!r} cannot be a step",
            why="a step is an ordinary function that reads only its arguments: no method, coroutine or inner function",
            fix="define it with `def` at the top of a file, and hand over what it needs as arguments",
        )
    return function


def spread(function: Callable[..., Any], bound: inspect.BoundArguments) -> dict[str, Any]:
    """Arguments by name: `*args` and positional-only ones are refused, `**kwargs` are laid open."""
    made: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
            raise Invalid(
                f"the step {function.__name__} takes {name} without a name",
                why="what a step read is recorded by name",
                fix=f"give {function.__name__} named parameters; a list can hold several answers",
            )
        if kind is inspect.Parameter.VAR_KEYWORD:
            made |= value
        else:
            made[name] = value
    return made


def as_annotated(name: str, value: Any, annotation: Any) -> Any:
    """Text from a command line as the number, path or list that the function asks for."""
    if not isinstance(value, str) or annotation in (None, str, Any):
        return value
    from pydantic import TypeAdapter, ValidationError

    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        return adapter.validate_python(value)
    except ValidationError:
        try:
            return adapter.validate_json(value)
        except ValidationError as error:
            due = annotation.__name__ if isinstance(annotation, type) else str(annotation)
            raise Invalid(
                f"{name}={value!r:.200} is no {due}",
                why=f"the pipeline declares {name}: {due}",
                fix=f"give a value that reads as {due}",
            ) from error
