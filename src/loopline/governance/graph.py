"""The lineage of a version as a graph. Pure."""

from __future__ import annotations

from loopline.base.nouns import to_doc
from loopline.governance.nouns import Edge, Graph, Node
from loopline.governance.origins import Origins

LEVELS = {
    "table": 0,
    "snapshot": 1,
    "views": 1,
    "training_set": 2,
    "code": 2,
    "run": 3,
    "model": 4,
    "report": 5,
    "version": 6,
    "approval": 7,
    "release": 8,
}


class _Drawing:
    """Nodes and edges while they are collected."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], Edge] = {}

    def node(self, kind: str, id: str, label: str, *, missing: bool = False, **detail: object) -> str:
        name = f"{kind}:{id}"
        said = {key: str(to_doc(value)) for key, value in detail.items() if value is not None}
        self.nodes.setdefault(name, Node(name, kind, label, said, LEVELS[kind], missing))
        return name

    def edge(self, source: str, target: str, label: str) -> None:
        self.edges.setdefault((source, target), Edge(source, target, label))

    def graph(self) -> Graph:
        nodes = sorted(self.nodes.values(), key=lambda node: (node.level, node.label, node.id))
        return Graph(tuple(nodes), tuple(edge for _, edge in sorted(self.edges.items())))


def draw(found: Origins, champion: Origins | None = None) -> Graph:
    """From tables over snapshot, training set, run and model to version, approvals and releases.

    Parameters
    ----------
    champion : Origins, optional
        The version that the candidate was compared with; drawn as its model only.
    """
    drawing = _Drawing()
    version, model = found.version, found.model
    own = drawing.node(
        "version", version.id, f"{version.name} {version.number}", author=version.author, risk=version.risk
    )
    made = drawing.node(
        "model",
        version.model,
        f"model {version.model[:8]}",
        missing=model is None,
        framework=model.framework if model else None,
        bundle=version.bundle,
    )
    drawing.edge(made, own, "registered")
    if model:
        _training(drawing, found, made)
    report = drawing.node(
        "report",
        version.report,
        "report",
        missing=found.report is None,
        passed=found.report.passed if found.report else None,
        rows=found.report.rows if found.report else None,
    )
    drawing.edge(made, report, "judged")
    drawing.edge(report, own, "evidence")
    if champion:
        against = drawing.node(
            "model", champion.version.model, f"model {champion.version.model[:8]}", champion=champion.version.number
        )
        drawing.edge(against, report, "compared")
    for word in found.approvals:
        said = drawing.node("approval", word.id, f"{word.decision} {word.approver}", reason=word.reason, at=word.at)
        drawing.edge(own, said, word.decision)
    for release in found.releases:
        out = drawing.node(
            "release", release.id, f"{release.act} {release.alias}", reason=release.reason, at=release.at
        )
        drawing.edge(own, out, "released")
    return drawing.graph()


def _training(drawing: _Drawing, found: Origins, made: str) -> None:
    model, used, taken = found.model, found.training_set, found.snapshot
    assert model is not None
    run = drawing.node(
        "run",
        model.run,
        f"run {model.run[:8]}",
        missing=found.run is None,
        recipe=found.run.recipe if found.run else None,
        seconds=found.run.seconds if found.run else None,
    )
    drawing.edge(run, made, "made")
    rows = drawing.node(
        "training_set",
        model.training_set,
        "training set",
        missing=used is None,
        train_rows=used.train_rows if used else None,
        test_rows=used.test_rows if used else None,
        train_to=used.train_to if used else None,
    )
    drawing.edge(rows, run, "rows")
    if found.run:
        closure = str(found.run.code.get("closure") or found.run.recipe)
        files = found.run.code.get("files") or {}
        code = drawing.node(
            "code", closure, found.run.recipe, commit=found.run.code.get("commit"), files=", ".join(sorted(files))
        )
        drawing.edge(code, run, "recipe")
    if used is None:
        return
    views = drawing.node("views", used.views, f"{len(used.features)} features")
    drawing.edge(views, rows, "features")
    frozen = drawing.node(
        "snapshot", used.snapshot, "snapshot", missing=taken is None, known_to=taken.known_to if taken else None
    )
    drawing.edge(frozen, rows, "as known")
    for name, content in (taken.tables if taken else {}).items():
        table = drawing.node("table", name, name, content=content, rows=taken.rows.get(name) if taken else None)
        drawing.edge(table, frozen, "frozen")
