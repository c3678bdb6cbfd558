"""Commands of the stage features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, session

if TYPE_CHECKING:
    from loopline.loop.project import Project


def listed(*, project: Folder = HERE, json: Json = False) -> Answer:
    """List the features: where each comes from, who reads it, what it is worth, and which nobody uses."""
    from loopline.governance.features import feature_catalogue

    ws, found = session(project)
    entries = feature_catalogue(ws, found.root, **_sections(found))
    entries.sort(key=lambda e: (-(e.importance or 0.0), e.name))
    rows = [
        (
            e.name,
            e.version[:8],
            ", ".join(e.producers),
            str(len(e.consumers)),
            "" if e.importance is None else f"{e.importance:.4f}",
            "late" if e.late else "",
            ", ".join(w for w, so in (("unused", e.unused), ("slow", e.slow), ("outside", not e.recomputable)) if so),
        )
        for e in entries
    ]
    text = table(rows, head=("feature", "version", "from", "models", "importance", "fresh", ""))
    return Answer(text, entries, (f"loopline features show {entries[0].name}",) if entries else ())


def show(name: Annotated[str, Parameter(help="A feature.")], *, project: Folder = HERE, json: Json = False) -> Answer:
    """Show one feature: its definition, its source, the models and endpoints that read it."""
    from loopline.governance.features import entry, feature_catalogue

    ws, found = session(project)
    one = entry(feature_catalogue(ws, found.root, **_sections(found)), name)
    lines = [
        ("feature", one.name),
        ("definition", one.definition),
        ("version", one.version[:12]),
        ("view", one.view),
        ("entity", ", ".join(one.entity) or "none: read from the request"),
        ("from", ", ".join(one.producers)),
        ("newest event", "" if one.newest_event is None else f"{one.newest_event:%Y-%m-%d %H:%M}Z"),
        ("fresh", {None: "no service level", True: "late", False: "yes"}[one.late]),
        ("importance", "not read by the newest model" if one.importance is None else f"{one.importance:.4f}"),
        ("recomputable", "yes" if one.recomputable else "no: computed elsewhere"),
        ("slow in batch", "yes: calls Python for each row" if one.slow else "no"),
    ]
    lines += [("read by", _named(consumer)) for consumer in one.consumers] or [("read by", "no model")]
    return Answer(table(lines), one, ("loopline features impact",))


def impact(*, project: Folder = HERE, json: Json = False) -> Answer:
    """Show which features are not what models were trained on, and which models that touches."""
    from loopline.governance.features import feature_impact

    ws, found = session(project)
    changes = feature_impact(ws, found.root, **_sections(found))
    rows = [(c.feature, c.change, "live" if c.live else "", "; ".join(map(_named, c.models)) or "-") for c in changes]
    text = (
        table(rows, head=("feature", "change", "", "models")) if rows else "every model reads the features as they are"
    )
    return Answer(text, changes, ("loopline run",) if rows else ("loopline features list",))


def _named(consumer: Any) -> str:
    number = "no version" if consumer.version is None else f"version {consumer.version}"
    places = f", {', '.join(consumer.endpoints)}" if consumer.endpoints else ""
    return f"{consumer.model[:12]} ({number}{places})"


def _sections(found: Project) -> dict[str, Any]:
    spec = found.check().spec
    return {"framing": spec.framing, "features": spec.features, "tables": spec.data}
