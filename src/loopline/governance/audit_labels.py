"""Asking people about answers that were given, so that few labels tell most about live quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from loopline.base.errors import NotFound
from loopline.data.history.known import known
from loopline.data.labelling import trust as label_trust
from loopline.data.labelling.audit_queue import Estimated, drawn, estimated
from loopline.data.labelling.outcomes import label_table, labels
from loopline.data.labelling.rounds import already_asked, ask, rounds_of, rows_of
from loopline.data.labelling.standing import labels_of
from loopline.data.labelling.trust import LabelHealth
from loopline.data.nouns import LabelRound
from loopline.data.privacy.marks import visible
from loopline.data.privacy.pseudonyms import secret
from loopline.data.privacy.treatments import shown
from loopline.data.spec import TableSpec
from loopline.features.spec import FeaturesSpec
from loopline.framing.spec import FramingSpec
from loopline.serving import log
from loopline.workspace import Workspace, query, verb

ANSWERED = 90
"""Days of answers that a draw looks back on."""


@dataclass(frozen=True, slots=True)
class LiveQuality:
    """How often the model was right, from the labels that people gave to drawn answers."""

    accuracy: Estimated | None
    """Null while no drawn answer has a label."""
    asked: int
    labelled: int


@verb("governance.ask_about_answers")
def ask_about_answers(
    ws: Workspace,
    project: Path,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    name: str,
    *,
    endpoint: str,
    n: int = 100,
    twice: float = 0.2,
    seed: int = 0,
) -> LabelRound:
    """Draw answers of the last 90 days that nobody was asked about, more of the uncertain ones, with known chances.

    People see the row of the spine, personal columns masked, and neither score nor
    decision, so that a label is no echo of them.

    Raises
    ------
    NotFound
        If the endpoint has answered nothing new.
    """
    answers = _answers(ws, endpoint, framing.unit)
    left = answers.filter(~pl.col(framing.unit).is_in(sorted(already_asked(ws, name))))
    if not left.height:
        raise NotFound(
            f"there is no answer of {endpoint} to ask about",
            why="it gave none in the last 90 days, or people were asked about all of them",
            fix="wait for requests, or draw from a table: loopline data label ask --table",
        )
    chosen, sizes = drawn(left, n, seed=seed)
    spec = tables[features.spine]
    spine = known(ws, features.spine, spec, ws.clock()).with_columns(pl.col(framing.unit).cast(pl.String)).collect()
    declared = visible(ws, features.spine, spec, project)
    key = secret(ws) if any(t.how == "pseudonym" for t in declared.values()) else None
    seen = shown(spine, {c: t for c, t in declared.items() if c != framing.unit}, key)
    seen = seen.unique(framing.unit, keep="last").drop(
        [c for c in ("score", "decision", "chance", "stratum", "version", "event_time") if c in seen.columns]
    )
    rows = chosen.join(seen, on=framing.unit, how="left", maintain_order="left")
    why = f"answers of {endpoint}, by stratum of their score"
    return ask(ws, name, rows, framing.unit, strata=sizes, twice=twice, why=why, seed=seed)


@query("governance.live_quality")
def live_quality(ws: Workspace, name: str) -> LiveQuality:
    """The share of right answers among all that were drawn from, by the newest round about answers; 90 % interval."""
    for made in reversed(rounds_of(ws, name)):
        rows = rows_of(ws, made)
        if "decision" not in rows.columns:
            continue
        told = labels_of(ws, name).select(made.unit, "label")
        joined = rows.join(told, on=made.unit, how="left")
        value = (pl.col("label").cast(pl.Boolean) == pl.col("decision")).alias("value")
        found = joined.select("stratum", value)
        return LiveQuality(estimated(found, made.strata), made.asked, found["value"].drop_nulls().len())
    return LiveQuality(None, 0, 0)


@query("governance.label_health")
def label_health(
    ws: Workspace, framing: FramingSpec, tables: Mapping[str, TableSpec], *, endpoint: str | None = None
) -> LabelHealth:
    """Whether to learn from the labels: do people agree, and are they no echo of the endpoint's answers."""
    name = label_table(framing, tables)
    if ws.tables.version(name) is None:
        return label_trust.label_health(ws)
    who = known(ws, name, tables[name], ws.clock())
    held = who.select([c for c in who.collect_schema() if c in ("who", "labelled_by", "annotator")]).collect()
    judged = None
    if endpoint is not None and ws.tables.version(log.table(endpoint)) is not None:
        truth = labels(ws, framing, tables, ws.clock()).select(pl.col(framing.unit).cast(pl.String), "label")
        judged = _answers(ws, endpoint, framing.unit).join(truth, on=framing.unit, how="inner")
    return label_trust.label_health(ws, judged=judged, labels=held if held.width else None)


def _answers(ws: Workspace, endpoint: str, unit: str) -> pl.DataFrame:
    """The last answer about each unit: the unit, `score`, `decision`, `version`, `event_time`."""
    since = ws.clock() - timedelta(days=ANSWERED)
    rows = log.predictions(ws.tables, endpoint).filter(
        (pl.col("role") != "shadow") & (pl.col("decision_time") >= since) & pl.col("score").is_not_null()
    )
    found = rows.select(
        pl.col("entity").alias(unit), "score", "decision", "version", pl.col("decision_time").alias("event_time")
    )
    return found.unique(unit, keep="last", maintain_order=True).collect()
