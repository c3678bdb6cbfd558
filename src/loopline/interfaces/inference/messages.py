"""JSON rows in and out: `/predict/<endpoint>` and `/invocations`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec

from loopline.serving.calls import Call, Refused
from loopline.serving.route import Route

Zoned = Annotated[datetime, msgspec.Meta(tz=True)]
Name = str | int | None

_EXTRAS: list[Any] = [
    ("ids", list[Name] | None, None),
    ("entities", list[Name] | None, None),
    ("decision_times", list[Zoned | None] | None, None),
]


class Reply(msgspec.Struct, omit_defaults=True, gc=False):
    """`versions` and `fallbacks` stand there only where rows differ from the rule."""

    predictions: list[float]
    ids: list[str]
    version: str
    versions: list[str] | None = None
    fallbacks: list[str | None] | None = None
    holdout: list[bool] | None = None


class Loose(msgspec.Struct, forbid_unknown_fields=True):
    """A request whose rows break the contract, or are no rows at all."""

    rows: list[dict[str, Any]]
    ids: list[Name] | None = None
    entities: list[Name] | None = None
    decision_times: list[Zoned | None] | None = None


class Frame(msgspec.Struct, forbid_unknown_fields=True):
    """`dataframe_split` of `/invocations`."""

    columns: list[str]
    data: list[list[Any]]
    index: Any = None


class Invocation(msgspec.Struct):
    """The bodies that MLflow's scoring servers take."""

    dataframe_split: Frame | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    instances: list[dict[str, Any]] | None = None
    inputs: list[dict[str, Any]] | dict[str, list[Any]] | None = None
    params: dict[str, Any] | None = None


_loose = msgspec.json.Decoder(Loose)
_invocation = msgspec.json.Decoder(Invocation)
_encode = msgspec.json.Encoder().encode


class Reader:
    """Reads requests for one route."""

    def __init__(self, route: Route | None) -> None:
        self.route = route
        if route is not None:
            rows = list[route.row]  # type: ignore[name-defined]
            body = msgspec.defstruct("Body", [("rows", rows), *_EXTRAS], forbid_unknown_fields=True, gc=False)
            self._typed: msgspec.json.Decoder[Any] = msgspec.json.Decoder(body)
            self._rows = rows

    def predict(self, body: bytes) -> Call:
        """A `/predict` request.

        Raises
        ------
        Refused
            With 400 where it is not a request at all.
        """
        try:
            if self.route is not None:
                doc = self._typed.decode(body)
                if doc.ids is None and doc.entities is None and doc.decision_times is None:
                    return Call(doc.rows, True)
                return Call(doc.rows, True, names(doc.ids), names(doc.entities), doc.decision_times)
        except msgspec.ValidationError:
            pass
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(400, f"the body is no JSON: {error}") from error
        loose = decode(_loose, body)
        return Call(loose.rows, False, names(loose.ids), names(loose.entities), loose.decision_times)

    def invocation(self, body: bytes) -> Call:
        """An `/invocations` request; 400 as `predict`."""
        doc = decode(_invocation, body)
        if doc.dataframe_split is not None:
            columns = doc.dataframe_split.columns
            if any(len(values) != len(columns) for values in doc.dataframe_split.data):
                raise Refused(400, f"a row of `dataframe_split` has not the {len(columns)} values of `columns`")
            rows = [dict(zip(columns, values, strict=True)) for values in doc.dataframe_split.data]
        elif isinstance(doc.inputs, dict):
            if len({len(values) for values in doc.inputs.values()}) > 1:
                raise Refused(400, "the columns of `inputs` have different lengths")
            rows = [dict(zip(doc.inputs, values, strict=True)) for values in zip(*doc.inputs.values(), strict=True)]
        else:
            found = doc.dataframe_records or doc.instances or doc.inputs
            if found is None:
                raise Refused(400, "give dataframe_split, dataframe_records, instances or inputs")
            rows = found
        return self.rows(rows)

    def rows(self, rows: list[dict[str, Any]], **more: Any) -> Call:
        """A request from rows of plain values."""
        if self.route is not None:
            try:
                return Call(msgspec.convert(rows, self._rows), True, **more)
            except msgspec.ValidationError:
                pass
        return Call(rows, False, **more)


def decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """`body` by `decoder`, or 400 that says where it is wrong."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, f"the body cannot be read: {error}") from error


def names(given: Sequence[Name] | None) -> list[str | None] | None:
    """Ids and entities as text."""
    if given is None:
        return None
    return [n if n is None or type(n) is str else str(n) for n in given]


def predict_reply(call: Call) -> bytes:
    """The answer to `/predict`."""
    answers = call.answers
    first = answers[0].by.variant.version
    reply = Reply([a.score for a in answers], [a.id for a in answers], first)
    if len(answers) > 1 and any(a.by is not answers[0].by for a in answers):
        reply.versions = [a.by.variant.version for a in answers]
    if any(a.fallback for a in answers):
        reply.fallbacks = [a.fallback or None for a in answers]
    if any(a.held_out for a in answers):
        reply.holdout = [a.held_out for a in answers]
    return _encode(reply)


def invocation_reply(call: Call) -> bytes:
    """The answer to `/invocations`."""
    return _encode({"predictions": [a.score for a in call.answers]})


def error_body(text: str) -> bytes:
    """`{"error": text}`: the shape of every refusal."""
    return _encode({"error": text})


def json_body(doc: Mapping[str, Any]) -> bytes:
    """Any other answer."""
    return _encode(doc)
