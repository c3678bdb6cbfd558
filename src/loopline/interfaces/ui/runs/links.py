"""What a run has to do with: its parent and children, models, versions, reports, the endpoint that answers with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from loopline.base.errors import LooplineError
from loopline.evaluation.nouns import Report
from loopline.interfaces.ui.runs.context import Log
from loopline.interfaces.ui.runs.question import Question, literal, written
from loopline.interfaces.ui.runs.told import PARENT, Told
from loopline.interfaces.ui.runs.traces import ROWS, of_run
from loopline.registry.nouns import Deposit, Version
from loopline.training.nouns import Model

CHILDREN = 50


class Link(NamedTuple):
    """Something that came of a run."""

    kind: str
    name: str
    address: str
    """Empty where no page shows it."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Kin:
    """Runs above and below."""

    parent: Told | None
    missing: str
    """Id of a parent that is not here."""
    children: list[Told]
    every: str
    """Address of all children."""


def kin(log: Log, run: Told) -> Kin:
    """The runs that a run lies in and holds."""
    above, parent = run.tags.get(PARENT, ""), None
    if above:
        try:
            parent = log.run(above)
        except LooplineError:
            parent = None
    inside = f"{written('tag', PARENT)} = {literal(run.id)}"
    found = log.runs.search_runs([run.experiment], filter=inside, limit=CHILDREN)
    every = Question(experiment=(run.experiment,), filter=inside).address()
    children = log.told(found.items)
    return Kin(parent, above if parent is None else "", children, every if children else "")


def came_of(log: Log, run: Told) -> list[Link]:
    """Models, reports and versions that came of a run, and the endpoint where one of them answers."""
    found = [
        Link("logged model", use.model, "", f"made at step {use.step}" if use.step else "")
        for use in log.runs.run(run.id).made
    ]
    if (asked := of_run(log, run.id)) is not None:
        count, address = asked
        found.append(Link("traces", f"{count} or more" if count == ROWS else str(count), address))
    if not (log.ws.root / "records.db").exists():
        return found
    shown = log.project.name if log.project is not None else None
    for model in log.ws.records.find(Model, run=run.id):
        found.append(Link("model", model.id[:12], "/training" if shown else "", model.framework))
        for report in log.ws.records.find(Report, model=model.id):
            at = f"/evaluation/{quote(report.id[:16])}" if shown else ""
            found.append(Link("report", report.id[:12], at, "passed" if report.passed else "rejected"))
        found += [link for version in log.ws.records.find(Version, model=model.id) for link in _version(log, version)]
    for deposit in log.ws.records.find(Deposit, run=run.id):
        found.append(Link("registered", f"{deposit.name} {deposit.number}", "/registry" if shown else ""))
    return list(dict.fromkeys(found))


def _version(log: Log, version: Version) -> list[Link]:
    own = log.project is not None and log.project.name == version.name
    links = [Link("version", f"{version.name} {version.number}", f"/registry/{version.number}" if own else "")]
    if own:
        links.append(Link("lineage", f"of version {version.number}", f"/lineage/{version.number}"))
    held = log.ws.records.pointer("alias", f"{version.name}/production")
    if held is not None and held.target == version.id:
        links.append(Link("endpoint", version.name, "/serving" if own else "", "in production"))
    return links
