"""The OpenAPI page of the control API, from the signatures of the verbs."""

from __future__ import annotations

import inspect
from typing import Any

from loopline import __version__
from loopline.base.errors import FAMILIES
from loopline.base.nouns import kind_of
from loopline.interfaces.http.shell import STATUS
from loopline.interfaces.http.signatures import Argument, arguments, result, schema
from loopline.workspace import VERBS, VerbInfo

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "what", "why", "fix"],
            "properties": {name: {"type": "string"} for name in ("code", "what", "why", "fix")},
        }
    },
}


def page() -> dict[str, Any]:
    """The whole page; verbs whose arguments cannot travel are left out."""
    schemas: dict[str, Any] = {"Error": ERROR}
    paths = {
        path_of(info): _operations(info, schemas)
        for info in sorted(VERBS.values(), key=_name)
        if arguments(info) is not None
    }
    paths["/health"] = {"get": {"operationId": "health", "responses": {"200": {"description": "It runs."}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Loopline", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def path_of(info: VerbInfo) -> str:
    """Where a verb is called."""
    stage, _, name = info.name.partition(".")
    return f"/api/v1/{stage}/{name}"


def _name(info: VerbInfo) -> str:
    return info.name


def _operations(info: VerbInfo, schemas: dict[str, Any]) -> dict[str, Any]:
    sent = [a for a in arguments(info) or () if a.sent]
    doc = inspect.getdoc(info.call) or ""
    answers: dict[str, Any] = {
        str(STATUS[code]): {
            "description": (family.__doc__ or "").strip(),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for code, family in FAMILIES.items()
    }
    answers["200"] = {
        "description": "What it gives.",
        "content": {"application/json": {"schema": _hoisted(schema(result(info), answer=True), schemas)}},
    }
    common = {"tags": [info.name.partition(".")[0]], "summary": doc.split("\n")[0], "description": doc}
    properties = {a.name: _property(a, schemas) for a in sent}
    required = [a.name for a in sent if a.required]
    body = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        body["required"] = required
    post = {
        **common,
        "operationId": info.name,
        "requestBody": {"required": bool(required), "content": {"application/json": {"schema": body}}},
        "responses": answers,
    }
    if info.writes:
        return {"post": post}
    query = [{"name": n, "in": "query", "required": n in required, "schema": s} for n, s in properties.items()]
    get = {**common, "operationId": f"get.{info.name}", "parameters": query, "responses": answers}
    return {"get": get, "post": post}


def _property(argument: Argument, schemas: dict[str, Any]) -> dict[str, Any]:
    if argument.source == "noun":
        return {"type": "string", "description": f"Id of a {kind_of(argument.annotation)}."}
    return _hoisted(schema(argument.annotation), schemas)


def _hoisted(found: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A schema whose definitions moved to the page's components."""
    schemas.update(found.pop("$defs", {}))
    return found
