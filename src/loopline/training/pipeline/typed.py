"""What the annotations of a step ask for: plain types, frames and arrays by their class, containers by theirs."""

from __future__ import annotations

import numbers
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid
from loopline.training.pipeline.functions import hints

_WIDER: dict[Any, Any] = {int: numbers.Integral, float: numbers.Real, complex: numbers.Complex}
"""An int is a float too (PEP 484), and numbers of NumPy are numbers."""
_SHOWN = (bool, int, float, str, type(None))


def check_arguments(step: str, function: Callable[..., Any], given: Mapping[str, Any], known: tuple[type, ...]) -> None:
    """Refuse arguments that are not what the annotations of the function say.

    Parameters
    ----------
    known : tuple of type
        Types of values that stand for others and are not looked at; none where the values themselves are there.

    Raises
    ------
    Invalid
        Naming step, parameter, what is asked for and what was given.
    """
    annotated = hints(function)
    for name, value in given.items():
        if name in annotated and not isinstance(value, known) and not fits(value, annotated[name]):
            if value is None and _by_default(function, name):
                continue
            if known and annotated[name] is Path and isinstance(value, str):
                continue  # text in a pipeline is read as a path where a path is asked for
            due = _named(annotated[name])
            raise Invalid(
                f"{name} of the step {step} is {_told(value)}, not {due}",
                why=f"it declares {name}: {due}",
                fix=f"hand it {due}, or change the annotation; one that is left out asks for nothing",
            )


def check_answer(step: str, function: Callable[..., Any], answer: Any) -> None:
    """Refuse an answer that is not what the function says it returns.

    Raises
    ------
    Invalid
        Naming the step, what it declares and what it answered.
    """
    annotated = hints(function)
    if "return" in annotated and not fits(answer, annotated["return"]):
        due = _named(annotated["return"])
        raise Invalid(
            f"the step {step} answered {_told(answer)}, not {due}",
            why=f"it declares -> {due}",
            fix=f"return {due}, or change the annotation; one that is left out asks for nothing",
        )


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is what an annotation says, as far as that is looked at.

    Classes by `isinstance`, `list[int]` as `list`, unions by any of their parts, literals by value. What says nothing
    of a class (`Any`, type variables, protocols that cannot be asked) fits.
    """
    if annotation is None:
        return value is None
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is types.UnionType:
        return any(fits(value, one) for one in typing.get_args(annotation))
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in typing.get_args(annotation))
    if origin is typing.Annotated:
        return fits(value, typing.get_args(annotation)[0])
    if (wider := getattr(annotation, "__supertype__", None)) is not None:
        return fits(value, wider)
    if typing.is_typeddict(annotation):
        return isinstance(value, dict)
    kind = origin if origin is not None else annotation
    if not isinstance(kind, type):
        return True
    if kind is bool and type(value).__module__ == "numpy":
        return type(value).__name__ in ("bool", "bool_")
    try:
        return isinstance(value, _WIDER.get(kind, kind))
    except TypeError:  # a protocol that is for type checkers only
        return True


def _by_default(function: Callable[..., Any], name: str) -> bool:
    """Whether a parameter is null when nobody gives it: `def f(x: int = None)`."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    kept = {**dict(zip(names[len(names) - len(defaults) :], defaults, strict=True)), **(function.__kwdefaults__ or {})}
    return name in kept and kept[name] is None


def _told(value: Any) -> str:
    """Type of a value; a plain one itself too, never rows."""
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    if value is None:
        return "None"
    return f"{value!r:.60} ({name})" if kind in _SHOWN else f"of type {name}"


def _named(annotation: Any) -> str:
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        home = annotation.__module__.partition(".")[0]
        return annotation.__name__ if home in ("builtins", "pathlib", "datetime") else f"{home}.{annotation.__name__}"
    return str(annotation).replace("typing.", "")
