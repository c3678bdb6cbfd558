"""Commands that explain."""

from __future__ import annotations

import json as plain
from typing import Annotated, Any

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer
from loopline.interfaces.cli.session import HERE, Folder, Json, session


def why(
    what: Annotated[
        str | None, Parameter(help="Version number or id, model or prediction id; else production.")
    ] = None,
    *,
    project: Folder = HERE,
    json: Json = False,
) -> Answer:
    """Explain a model or a prediction: rows, features, code, report, gates, approver, and what changed."""
    from loopline import governance, registry, serving
    from loopline.base.errors import NotFound

    ws, found = session(project)
    subject = what
    if what is None or (what.isdigit() and len(what) < 8) or what == "production":
        subject = registry.resolve(ws, found.name, what or "production").id
    try:
        told = governance.why(ws, subject)
    except NotFound:
        if not serving.flush(ws, found.name).rows:  # an answer of the last minute may still be on its way to the log
            raise
        told = governance.why(ws, subject)
    return Answer("\n".join(_lines(told)), told, ("loopline status",))


def _lines(doc: Any, depth: int = 0) -> list[str]:
    """A nested document as indented words."""
    pad = "  " * depth
    if isinstance(doc, dict):
        found: list[str] = []
        for key, value in doc.items():
            if isinstance(value, (dict, list, tuple)) and value:
                inside = _lines(value, depth + 1)
                found += [f"{pad}{key}", *inside] if inside else []
            elif value not in (None, "", [], {}, ()):
                found.append(f"{pad}{key}: {value}")
        return found
    if isinstance(doc, (list, tuple)):
        if all(not isinstance(item, (dict, list, tuple)) for item in doc):
            return [pad + ", ".join(str(item) for item in doc)]
        return [line for item in doc for line in [*_lines(item, depth), ""]][:-1]
    return [f"{pad}{doc}"]


def explain(
    key: Annotated[str | None, Parameter(help="A section or key, as evaluation.gates; all by default.")] = None,
    *,
    schema: Annotated[bool, Parameter(negative="", help="Print the JSON Schema for editors.")] = False,
    json: Json = False,
) -> Answer:
    """Explain the keys of loop.yaml: type, default, unit and effect."""
    from loopline.loop import explain as page

    if schema:
        doc = page.schema()
        return Answer("", doc, raw=plain.dumps(doc, indent=2))
    keys = page.keys(key)
    return Answer(page.text(keys), {"keys": keys}, ("loopline explain --schema > loop.schema.json",))
