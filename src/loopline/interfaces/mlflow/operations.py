"""What an operation of the tracking protocol is, and how requests become its arguments."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from loopline.interfaces.mlflow.errors import INVALID, Refusal, invalid

if TYPE_CHECKING:
    from loopline.store.runs.artifacts import Artifacts
    from loopline.store.runs.protocol import RunLog
    from loopline.workspace import Workspace

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Whole numbers travel as JSON numbers; text is accepted."""
Encoder = msgspec.json.Encoder()
SPOKEN = "3.17.2"
"""The version of the protocol's own server that this door answers like; clients choose their ways by it."""


class Ask(msgspec.Struct, kw_only=True):
    """A request: unknown fields are ignored, null is a field that is not there."""


class Empty(Ask):
    """A request that carries nothing."""


class Pair(msgspec.Struct):
    """A tag or a param."""

    key: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What every operation is given: the workspace as the person who asks sees it, and the time."""

    ws: Workspace
    now_ms: int
    named: bool = False
    """Whether the request carried the name of who asks, with a token."""

    @property
    def log(self) -> RunLog:
        """Experiments and runs."""
        return self.ws.runs

    @property
    def artifacts(self) -> Artifacts:
        """Files of runs and models."""
        return self.ws.artifacts

    @property
    def user(self) -> str:
        """The name of who asks."""
        return self.ws.actor.partition(":")[2]


Answer = Callable[[Call, Any], Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: where it is asked for, of what, by whom.

    `path` is below `/api/2.0/mlflow` and `/api/3.0/mlflow` (and the same under `/ajax-api`); `{name}` in it is a
    field of the request, `{name*}` one that may hold slashes. `needs` are fields that must not be missing. What
    `answer` gives is sent as it is when it is bytes, else as JSON. `permission` is checked before. `conflict` is
    the code for a name that is taken or a state that forbids.
    """

    method: str
    path: str
    asks: type[Ask]
    answer: Answer
    permission: str
    needs: tuple[str, ...] = ()
    conflict: str = INVALID


class Table:
    """Operations by method and path."""

    def __init__(self, operations: tuple[Operation, ...]) -> None:
        self._plain: dict[tuple[str, str], Operation] = {}
        self._patterns: list[tuple[str, re.Pattern[str], Operation]] = []
        for one in operations:
            if "{" in one.path:
                shape = re.compile(_shape(one.path))
                self._patterns.append((one.method, shape, one))
            else:
                self._plain[one.method, one.path] = one
        self.operations = operations

    def find(self, method: str, path: str) -> tuple[Operation, Mapping[str, str]] | None:
        """The operation at a path, and the fields that stand in it; null where there is none."""
        if (plain := self._plain.get((method, path))) is not None:
            return plain, {}
        for wanted, shape, one in self._patterns:
            if wanted == method and (found := shape.fullmatch(path)) is not None:
                return one, found.groupdict()
        return None


def _shape(path: str) -> str:
    """`{name}` is one part of a path, `{name*}` all the rest."""
    return re.sub(r"\{(\w+)(\*?)\}", lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})", path)


@functools.cache
def _decoder(kind: type[Ask]) -> msgspec.json.Decoder[Ask]:
    return msgspec.json.Decoder(kind, strict=False)


@functools.cache
def _lists(kind: type[Ask]) -> frozenset[str]:
    """Fields that may be given many times in a query."""
    return frozenset(field.name for field in msgspec.structs.fields(kind) if "list[" in str(field.type))


_AT = re.compile(r" - at `\$\.?(?P<place>[^`]*)`$")


def decoded(operation: Operation, body: bytes, query: str, below: Mapping[str, str]) -> Ask:
    """The request of an operation: from the body, or else the query, with the fields of its path.

    Raises
    ------
    Refusal
        For what is no JSON, of another type than the field has, or missing; it names the field.
    """
    kind = operation.asks
    try:
        if body:
            given = _decoder(kind).decode(body)
        elif query:
            many, asked = _lists(kind), dict[str, Any]()
            for name, value in parse_qsl(query, keep_blank_values=True):
                if name in many:
                    asked.setdefault(name, []).append(value)
                else:
                    asked[name] = value
            given = msgspec.convert(asked, kind, strict=False)
        else:
            given = kind()
    except msgspec.ValidationError as error:
        raise _mistyped(error) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise invalid(f"The request body is not valid JSON: {error}") from None
    for name, part in below.items():
        setattr(given, name, part)
    for name in operation.needs:
        carried = getattr(given, name)
        if carried is None and name == "run_id":
            carried = given.run_id = getattr(given, "run_uuid", None)  # type: ignore[attr-defined]
        if carried is None or carried == "":
            raise invalid(f"Missing value for required parameter '{name}'.")
    return given


def _mistyped(error: msgspec.ValidationError) -> Refusal:
    text = str(error)
    place = _AT.search(text)
    if place is None:
        return invalid(f"The request body is not valid: {text}")
    what = text[: place.start()].replace("`", "'").replace(" | null", "").replace("'str'", "string")
    return invalid(f"Invalid value for parameter '{place['place']}' supplied: {what}.")


def pairs(items: list[Pair] | None, field: str) -> dict[str, str]:
    """Tags or params by key; a key that is missing is told with its place."""
    found = {}
    for at, item in enumerate(items or ()):
        if not item.key:
            raise invalid(f"Missing value for required parameter '{field}[{at}].key'.")
        found[item.key] = item.value or ""
    return found


def page(name: str, documents: list[bytes], token: str | None) -> bytes:
    """A page of documents that are ready."""
    more = b"" if token is None else b',"next_page_token":' + Encoder.encode(token)
    return b'{"' + name.encode() + b'":[' + b",".join(documents) + b"]" + more + b"}"
