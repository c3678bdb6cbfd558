"""What the row of a run says of its steps beside their names: what each asks for, what it reads, how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from loopline.base.ids import iso
from loopline.base.process import is_gone
from loopline.store.records.protocol import Row
from loopline.training.pipeline.declare import Graph, Node, answers
from loopline.training.pipeline.options import Options

_HOLDER = "holder"


def graph_doc(graph: Graph, holder: str) -> dict[str, Any]:
    """The graph as a row keeps it.

    Returns
    -------
    dict
        `after` (step to the steps whose answers it reads), `needs` (step to the options that are not at their default),
        `reads` (step to argument to the steps it comes from) and `holder` (the process that runs it).
    """
    nodes = graph.nodes
    return {
        "after": {name: node.after for name, node in nodes.items()},
        "needs": {name: asked for name, node in nodes.items() if (asked := _asked(node.step.options))},
        "reads": {name: read for name, node in nodes.items() if (read := _reads(node))},
        _HOLDER: holder,
    }


def begun(why: tuple[str, ...], started_at: Any, attempt: int, log: str | None = None) -> dict[str, Any]:
    """A step that runs or has failed: no step run says this of it.

    Parameters
    ----------
    log : str, optional
        Blob of what it printed; null while it runs.
    """
    return {"why": list(why), "started_at": iso(started_at), "attempts": attempt, "log": log}


def state_of(row: Row) -> str:
    """`running`, `killed`, `failed` or `done`: a run whose process has surely ended does not run any more."""
    return "killed" if row.state == "running" and is_gone(row.doc.get(_HOLDER, "")) else row.state


def shown(doc: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a row, without what only processes need."""
    return {key: value for key, value in doc.items() if key not in (_HOLDER, "begun", "needs", "reads")}


def _asked(options: Options) -> dict[str, Any]:
    plain = asdict(Options())
    return {one.name: value for one in fields(options) if (value := getattr(options, one.name)) != plain[one.name]}


def _reads(node: Node) -> dict[str, list[str]]:
    found = {name: [one.step for one in answers(value)] for name, value in node.arguments.items()}
    return {name: list(dict.fromkeys(steps)) for name, steps in found.items() if steps}
