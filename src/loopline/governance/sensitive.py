"""Which features read columns that are personal, or by which people must not be treated differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loopline.data.privacy.detectors import SENSITIVE
from loopline.data.privacy.marks import personal
from loopline.data.spec import TableSpec
from loopline.features.expr import LEAVES, Expr
from loopline.features.requests import own_columns
from loopline.features.spec import FeaturesSpec
from loopline.features.verbs import project_views
from loopline.framing.spec import FramingSpec
from loopline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class SensitiveColumn:
    """A column of people that features are made from."""

    features: tuple[str, ...]
    table: str
    column: str
    pii: str
    state: str
    """`proposed` until a person or a contract says so."""

    @property
    def told(self) -> str:
        """One line for whoever trains with it."""
        kind = "people must not be treated differently by it" if self.pii in SENSITIVE else "it is personal"
        maybe = "" if self.state != "proposed" else f"; if not: loopline data pii {self.table} --reject {self.column}"
        shown = ", ".join(self.features[:3]) + (f" and {len(self.features) - 3} more" if len(self.features) > 3 else "")
        read = f"feature{'s' if len(self.features) > 1 else ''} {shown}"
        column = f"column {self.column} of {self.table} ({self.pii.replace('_', ' ')}, {self.state})"
        return f"{column} is read by {read}: {kind}{maybe}"


def sensitive_features(
    ws: Workspace, project: Path, framing: FramingSpec, features: FeaturesSpec, tables: Mapping[str, TableSpec]
) -> list[SensitiveColumn]:
    """Columns that features read and that a contract, a person or a detector calls personal or protected.

    Keys by which rows are found are no features. What a function of the project reads cannot be seen.
    """
    known = {(c.table, c.column): c for c in personal(ws, tables, project) if c.pii is not None}
    read: dict[tuple[str, str], list[str]] = {}
    for view in project_views(ws, project, framing, features, tables).views:
        for name, tree in view.features:
            for place in _read(tree, features.spine, view.source) & set(known):
                read.setdefault(place, []).append(name)
    return [
        SensitiveColumn(tuple(names), *place, known[place].pii or "", known[place].state)
        for place, names in sorted(read.items())
    ]


def _read(tree: Expr, spine: str, source: str | None) -> set[tuple[str, str]]:
    """Table and column of everything that a feature reads."""
    own = {(spine, node.args[0]) for node in own_columns(tree)}
    leaves = [node for node in tree.walk() if node.op in LEAVES]
    inner = {node.args[0] for leaf in leaves for node in leaf.walk() if node.op == "col"}
    return own | {(source, column) for column in inner if source is not None}
