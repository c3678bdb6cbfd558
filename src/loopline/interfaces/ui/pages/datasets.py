"""A table, its refused rows, and changes of its contract that wait for a person."""

from __future__ import annotations

from typing import Any

import polars as pl
from starlette.requests import Request

from loopline import data, governance
from loopline.base.errors import Invalid, LooplineError, NotFound, Unavailable
from loopline.data.contracts.contract import BROKEN, Contract, contract_of
from loopline.data.contracts.judging import quarantine_of
from loopline.data.contracts.verbs import ContractAnswer, ContractProposal
from loopline.data.describing.dataset import Dataset
from loopline.data.history.progress import POINTER, Progress
from loopline.data.intake.readmission import still_refused
from loopline.data.nouns import Ingestion
from loopline.data.privacy.detectors import CLASSES
from loopline.data.privacy.marks import visible
from loopline.data.privacy.pseudonyms import secret
from loopline.data.privacy.treatments import shown
from loopline.data.sources.json_types import GIVEN
from loopline.features.views import load_views
from loopline.governance.nouns import ErasureProof
from loopline.interfaces.ui.context import Here
from loopline.workspace import Workspace

SHOWN = 200
"""Refused rows on a page, the newest."""
WHOLE = ("required", "unique", "primaryKey", "logicalType", "key")
"""Rules that no value of a row says how to widen."""


def dataset(here: Here, request: Request) -> dict[str, Any]:
    """One table: what it is, its columns, who may see what, how clean it came, what came from it."""
    name = request.path_params["name"]
    spec = here.project.spec
    found = _shown(here, name)
    owner = found.owner or (spec.framing.owner.name if spec.framing.owner else "")
    brought = [i for i in found.history if says(i)]
    worst = max((i.quarantined / max(1, i.rows + i.quarantined) for i in brought), default=0.0)
    return {
        "page": found,
        "owner": owner,
        "spec": spec.data[name],
        "used": governance.consumers(here.ws, table=name),
        "views": _views(here, name),
        "classes": CLASSES,
        "history": list(reversed(brought)),
        "empty": len(found.history) - len(brought),
        "worst": worst,
        "lost": Progress.of(here.ws.records.pointer(POINTER, name)).lost,
        "proposals": _proposals(here, name),
    }


def _shown(here: Here, name: str) -> Dataset:
    """What is known of a table; of one whose files are gone that they are, and what helps."""
    try:
        found: Dataset = data.show(here.ws, here.project.spec.data, here.project.root, name)
    except Invalid as error:
        if here.ws.tables.version(name) is not None or here.ws.records.pointer(POINTER, name) is None:
            raise
        raise Unavailable(f"the files of table {name} are gone", why=error.why, fix=error.fix) from error
    return found


def says(found: Ingestion) -> bool:
    """Whether an ingestion has more to say than that nothing was new."""
    return bool(found.rows or found.quarantined or found.differing or found.superseded or found.lost)


def _views(here: Here, name: str) -> list[str]:
    """Views that read a table; none where their files cannot be loaded."""
    spec = here.project.spec.features
    if not spec.views:
        return ["the columns themselves"] if spec.spine == name else []
    try:
        views = load_views(here.project.root, spec.views)
    except LooplineError:
        return []
    return [view.name for view in views.views if view.source == name or (view.source is None and spec.spine == name)]


def _proposals(here: Here, name: str) -> list[ContractProposal]:
    found: list[ContractProposal] = data.contract_proposals(here.ws, table=name)
    return found


def quarantine(here: Here, request: Request) -> dict[str, Any]:
    """The refused rows of one table, by the rule they broke; personal columns as they may be shown."""
    name = request.path_params["name"]
    tables = here.project.spec.data
    if name not in tables:
        raise NotFound(f"there is no table {name!r}", why="loop.yaml declares none", fix="open /data")
    contract = contract_of(here.project.root, name, tables[name])
    held = quarantine_of(name)
    rows = pl.DataFrame()
    if here.ws.tables.version(held) is not None:
        rows = here.ws.tables.scan(held).sort("refused_at", descending=True).head(SHOWN).collect()
        rows = still_refused(here.ws, name, tables[name], contract, rows)
    declared = visible(here.ws, name, tables[name], here.project.root)
    key = secret(here.ws) if any(t.how == "pseudonym" for t in declared.values()) else None
    rules = _by_rule(rows, contract, set(declared)) if rows.height else []
    seen = shown(rows, declared, key) if rows.height else rows
    wanted = request.query_params.get("rule")
    if wanted and rows.height:
        seen = seen.filter(pl.col(BROKEN).str.split(", ").list.contains(wanted))
    ordered = [c for c in seen.columns if c not in (BROKEN, GIVEN, "refused_at")]
    return {
        "name": name,
        "contract": tables[name].contract,
        "rules": rules,
        "wanted": wanted,
        "columns": ordered,
        "rows": seen.to_dicts(),
        "limit": SHOWN,
        "proposals": _proposals(here, name),
    }


def _by_rule(rows: pl.DataFrame, contract: Contract | None, personal: set[str]) -> list[dict[str, Any]]:
    """Rules that shown rows broke, with the values that broke them."""
    known = {rule.id: rule for rule in contract.rules} if contract else {}
    broken = rows.with_columns(pl.col(BROKEN).str.split(", ").alias("\0rule")).explode("\0rule")
    found = []
    for id, count in broken["\0rule"].drop_nulls().value_counts(sort=True).iter_rows():
        rule = known.get(id)
        column = rule.column if rule is not None else None
        values: list[str] = []
        if rule is not None and column in rows.columns and rule.kind not in WHOLE:
            own = broken.filter(pl.col("\0rule") == id)[column].drop_nulls()
            values = own.unique(maintain_order=True).head(20).cast(pl.String).to_list()
        hidden = column in personal
        found.append(
            {
                "id": id,
                "count": count,
                "column": column,
                "values": [] if hidden else values,
                "hidden": hidden,
                "can": rule is not None and not hidden,
            }
        )
    return found


def proposal(here: Here, request: Request) -> dict[str, Any]:
    """One proposed change of a contract, with its difference; who answered it, if somebody did."""
    found = here.ws.records.get(ContractProposal, request.path_params["id"])
    answers = here.ws.records.find(ContractAnswer, proposal=found.id, limit=1)
    lines = [(line[:1] if line[:1] in "+-@" else " ", line) for line in found.diff.splitlines()]
    return {"found": found, "lines": lines, "answer": answers[0] if answers else None}


def erasures(ws: Workspace) -> list[ErasureProof]:
    """Proofs of erasure, newest first."""
    return ws.records.find(ErasureProof, limit=20)
