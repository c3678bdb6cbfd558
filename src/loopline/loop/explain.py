"""Every key of `loop.yaml`: type, default, unit, effect; and the JSON Schema for editors."""

from __future__ import annotations

import difflib
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from loopline.base.errors import NotFound
from loopline.base.spec import Share, duration_text
from loopline.loop.spec import LoopSpec

SCHEMA = "https://json-schema.org/draft/2020-12/schema"
_SHARES = re.compile(r"(^|\.)(canary|test)$")


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `path` as written, with `<name>` for names and `[]` for items of lists."""

    path: str
    type: str
    default: str | None
    """As one would write it; null where the key must be given."""
    unit: str | None
    effect: str
    example: str | None = None


def keys(under: str | None = None) -> list[Key]:
    """All keys in the order of the page, or those at and below `under`.

    Raises
    ------
    NotFound
        If there is no such key; the message names the nearest.
    """
    every = list(_walk(LoopSpec, ""))
    if under is None:
        return every
    wanted = under.strip().rstrip(".")
    found = [k for k in every if _same(k.path, wanted) or _same(k.path, wanted, below=True)]
    if not found:
        plain = [k.path for k in every]
        last = {p.rpartition(".")[2]: p for p in reversed(plain)}
        near = difflib.get_close_matches(wanted, [*plain, *last], 1, cutoff=0.5)
        best = last.get(near[0], near[0]) if near else "framing"
        raise NotFound(
            f"loop.yaml has no key {under!r}", why="keys are written as section.key", fix=f"loopline explain {best}"
        )
    return found


def text(found: list[Key]) -> str:
    """Keys as a page for a terminal."""
    lines: list[str] = []
    for key in found:
        facts = [key.type]
        facts.append("must be given" if key.default is None else f"default {key.default}")
        if key.unit:
            facts.append(key.unit)
        lines.append(f"{key.path}  ({'; '.join(facts)})")
        lines += textwrap.wrap(key.effect, 100, initial_indent="    ", subsequent_indent="    ")
        if key.example:
            lines.append(f"    example: {key.example}")
    return "\n".join(lines)


def schema() -> dict[str, Any]:
    """The JSON Schema of `loop.yaml`, short forms included, for editors."""
    doc = LoopSpec.model_json_schema()
    props = doc["properties"]
    props["data"] = {"anyOf": [{"type": "string", "description": "The only table's file."}, _or_file(props["data"])]}
    props["training"] = {"anyOf": [{"type": "string", "description": "The recipe."}, props["training"]]}
    props["features"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, props["features"]]
    }
    short = {"label": ("FramingSpec", "string"), "views": ("FeaturesSpec", "string")}
    for name, (owner, kind) in short.items():
        field = doc["$defs"][owner]["properties"][name]
        doc["$defs"][owner]["properties"][name] = {"anyOf": [{"type": kind}, field]}
    doc["required"] = [name for name in doc["required"] if name != "features"]
    doc["$defs"]["FeaturesSpec"]["required"] = []
    _durations(doc)
    return {"$schema": SCHEMA, "title": "loop.yaml", **{k: v for k, v in doc.items() if k != "title"}}


def _or_file(tables: dict[str, Any]) -> dict[str, Any]:
    table = tables["additionalProperties"]
    return {**tables, "additionalProperties": {"anyOf": [{"type": "string"}, table]}}


def _durations(doc: Any) -> None:
    """Lengths of time and shares are written as text."""
    if isinstance(doc, dict):
        if doc.get("format") == "duration":
            doc.pop("format")
            doc["pattern"] = r"^\s*\d+(\.\d+)?\s*[smhdw]\s*$"
        for value in doc.values():
            _durations(value)
        if isinstance(doc.get("anyOf"), list) and {"type": "number"} in doc["anyOf"]:
            doc["anyOf"].append({"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"})
        if isinstance(doc.get("items"), dict) and doc["items"] == {"type": "number"}:
            doc["items"] = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\d+(\.\d+)?%$"}]}
    elif isinstance(doc, list):
        for value in doc:
            _durations(value)


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, info in model.model_fields.items():
        path = f"{prefix}{info.alias or name}"
        inner, repeated = _unfolded(info.annotation)
        nested = isinstance(inner, type) and issubclass(inner, BaseModel)
        yield Key(path, _type(info), _default(info), _unit(info, path), _effect(info, inner), _example(info))
        if nested:
            yield from _walk(inner, f"{path}{repeated}.")


def _unfolded(annotation: Any) -> tuple[Any, str]:
    """The type inside optionals, lists and mappings, and how a path runs through them."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        kept = [a for a in arguments if a is not type(None)]
        return _unfolded(kept[0]) if len(kept) == 1 else (annotation, "")
    if origin is tuple:
        return _unfolded(arguments[0])[0], "[]"
    if origin is dict:
        return _unfolded(arguments[1])[0], f".<{'effect' if typing.get_origin(arguments[0]) else 'name'}>"
    return annotation, ""


def _type(info: FieldInfo) -> str:
    return _said(info.annotation, bool(info.metadata))


def _said(annotation: Any, marked: bool = False) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(str(value) for value in arguments)
    if origin is typing.Annotated:
        return "share" if annotation == Share else _said(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_said(a) for a in arguments if a is not type(None))
    if origin is tuple:
        return f"list of {_said(arguments[0])}"
    if origin is dict:
        return f"mapping of {_said(arguments[1])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", timedelta: "duration"}
    if annotation in names:
        return names[annotation]
    return "section" if isinstance(annotation, type) and issubclass(annotation, BaseModel) else "anything"


def _default(info: FieldInfo) -> str | None:
    if info.is_required():
        return None
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return None
    if isinstance(value, BaseModel) and value == type(value)():
        return "its own defaults"
    return _written(value)


def _written(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        given = value.model_dump(mode="json", exclude_defaults=True)
        return _written(given) if given else "its own defaults"
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_written(v)}" for k, v in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value) if value != "" else '""'


def _unit(info: FieldInfo, path: str) -> str | None:
    said = _type(info)
    if "duration" in said:
        return "s, m, h, d or w" + (", or a share as 20%" if "share" in said else "")
    if "share" in said:
        return "share, as 5% or 0.05"
    last = path.rpartition(".")[2]
    if last.endswith("_ms"):
        return "milliseconds"
    if last.endswith(("_positive", "_negative")):
        return "in the currency, per decision"
    if last == "false_alarms_per_year":
        return "alarms per year"
    return None


def _effect(info: FieldInfo, inner: Any) -> str:
    if info.description:
        return info.description
    if isinstance(inner, type) and issubclass(inner, BaseModel) and inner.__doc__:
        return " ".join(inner.__doc__.split("\n\n")[0].split())
    return ""


def _example(info: FieldInfo) -> str | None:
    return _written(info.examples[0]) if info.examples else None


def _same(path: str, wanted: str, *, below: bool = False) -> bool:
    """Whether `wanted` names `path` (or something above it), any name standing for `<name>`."""
    have = [part.removesuffix("[]") for part in path.split(".")]
    asked = [re.sub(r"\[\d*\]$", "", part) for part in wanted.split(".")]
    if len(asked) > len(have) or (len(asked) < len(have) and not below):
        return False
    return all(a == h or h.startswith("<") for a, h in zip(asked, have, strict=False))
