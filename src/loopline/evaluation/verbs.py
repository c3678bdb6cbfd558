"""What can be done with a model: judge it on rows it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from loopline.base.errors import Invalid
from loopline.base.ids import content_id
from loopline.evaluation import slices
from loopline.evaluation.baseline import CONSTANT, baseline_scores
from loopline.evaluation.gates import judge, unjudged
from loopline.evaluation.intervals import Doubles, Ints
from loopline.evaluation.nouns import Estimate, Report, Verdict
from loopline.evaluation.scored import Figures, Rows, figures
from loopline.evaluation.spec import METRICS, EvaluationSpec
from loopline.features.beside import PREFIX, Inputs, inputs
from loopline.features.nouns import TrainingSet
from loopline.framing.metrics import calibration_bins
from loopline.framing.spec import FramingSpec
from loopline.training import cache
from loopline.training.bundle import Bundle, load_bundle
from loopline.training.nouns import Model
from loopline.training.packages.trust import trust_of
from loopline.training.rows import labels, split
from loopline.training.tracking.lineage import append
from loopline.workspace import Workspace, verb

VERSION = 1
LOOSE_BLOCKS = 200
"""Rows without a time are dealt into this many blocks."""


@verb("evaluation.evaluate")
def evaluate(
    ws: Workspace,
    project: Path,
    *,
    evaluation: EvaluationSpec,
    framing: FramingSpec,
    model: Model,
    champion: Model | None,
    training_set: TrainingSet,
) -> Report:
    """Judge `model` on the held-out rows, beside the champion and the baseline on the same rows.

    The same question has the same report, so a retry is safe.

    Parameters
    ----------
    project : Path
        Folder that holds the baseline's code.
    champion : Model or None
        Without one, gates against the champion are judged against the baseline.
    training_set : TrainingSet
        Its rows with split `test`, with the inputs of both models and the
        declared slices as columns. The champion reads its features as they were
        defined when it was trained: the candidate's columns where the definition is
        the same, else those that the set holds beside them (`features.training_set`).
        Where one cannot be told any more the champion is not scored: gates against
        it do not pass, and say why.

    Raises
    ------
    Invalid
        If there are no held-out rows, a model's inputs or a slice are not
        among the columns, or a gate asks for a value that the framing does not
        state.
    """
    _require_value(evaluation, framing)
    asked = {
        "version": VERSION,
        "model": model.id,
        "champion": champion.id if champion else None,
        "training_set": training_set.id,
        "evaluation": evaluation.id,
        "problem": framing.id,
        "baseline": _baseline_code(project, framing.baseline),
    }
    known = ws.records.find(Report, id=content_id(asked), limit=1)
    if known:
        return known[0]
    report = assemble(
        content_id(asked),
        evaluation,
        framing,
        scored=_scored(ws, project, framing, model, champion, training_set),
        model=model,
        champion=champion,
        training_set=training_set,
        at=ws.clock(),
    )
    append(
        ws,
        model.run,
        metrics={
            f"evaluation/{name}": estimate.value
            for name, estimate in report.metrics.items()
            if estimate.value is not None
        },
        tags={"loopline.report": report.id, "loopline.passed": str(report.passed).lower(), "loopline.model": model.id},
        at=report.created_at,
    )
    return report


@dataclass(frozen=True, slots=True)
class Scored:
    """The held-out rows with the scores of each model and its threshold."""

    test: pl.DataFrame
    rows: Rows
    scores: Mapping[str, Doubles]
    """`candidate`, `champion` (where there is one that can be scored) and `baseline`."""
    thresholds: Mapping[str, float]
    beside: tuple[str, ...] = ()
    """Inputs of the champion that are not the candidate's columns of that name."""
    uncompared: Mapping[str, str] = field(default_factory=dict)
    """Inputs of the champion that cannot be told on these rows, and why."""

    def figures(self, who: str, metrics: tuple[str, ...], mask: slices.Mask | None = None) -> Figures:
        """Metrics of one of them, on all rows or those of `mask`."""
        return figures(self.rows, self.scores[who], self.thresholds[who], metrics, mask=mask)


def assemble(
    id: str,
    evaluation: EvaluationSpec,
    framing: FramingSpec,
    *,
    scored: Scored,
    model: Model,
    champion: Model | None,
    training_set: TrainingSet,
    at: datetime,
) -> Report:
    """The report about scored rows, its primary metric first."""
    metrics = tuple(sorted(METRICS, key=lambda m: m != evaluation.primary))
    found = {who: scored.figures(who, metrics) for who in scored.scores}
    candidate = found["candidate"]
    verdicts = _verdicts(evaluation, scored)
    times = _times(scored.test)
    return Report(
        id=id,
        model=model.id,
        champion=champion.id if champion else None,
        rows=scored.test.height,
        test_from=times[0] if times else training_set.train_to,
        test_to=times[1] if times else training_set.test_to,
        metrics=_estimates(candidate),
        champion_metrics=_estimates(found["champion"]) if "champion" in found else {},
        baseline_metrics=_estimates(found["baseline"]),
        differences=_differences(candidate, found["champion"]) if "champion" in found else {},
        baseline_differences=_differences(candidate, found["baseline"]),
        calibration=tuple(
            {"predicted": predicted, "observed": observed, "rows": rows}
            for predicted, observed, rows in calibration_bins(scored.rows.y, scored.scores["candidate"])
        ),
        slices=tuple(
            slices.table(
                scored.test, evaluation.slices, scored.rows, scored.scores["candidate"], scored.thresholds["candidate"]
            )
        ),
        verdicts=verdicts,
        passed=all(v.passed for v in verdicts),
        threshold=model.threshold,
        created_at=at,
        beside=scored.beside,
        uncompared=dict(scored.uncompared),
    )


def _scored(
    ws: Workspace,
    project: Path,
    framing: FramingSpec,
    model: Model,
    champion: Model | None,
    training_set: TrainingSet,
) -> Scored:
    train, test = split(ws, training_set)
    if not test.height:
        raise Invalid(
            f"training set {training_set.id[:12]} has no held-out rows",
            why="a model is judged on rows it was not fitted on",
            fix="lengthen training.split.test",
        )
    bundle = _bundle(ws, model)
    scores = {"candidate": _predict(bundle, model, test, Inputs({n: n for n in bundle.names}, {}), "candidate")}
    thresholds = {"candidate": model.threshold, "baseline": model.threshold}
    beside: tuple[str, ...] = ()
    uncompared: dict[str, str] = {}
    if champion is not None:
        bundle = _bundle(ws, champion)
        reads = inputs(ws, training_set, champion.training_set, bundle.names)
        beside = tuple(name for name, column in reads.columns.items() if column != name and name not in reads.missing)
        uncompared = reads.missing
        if not uncompared:
            scores["champion"] = _predict(bundle, champion, test, reads, "champion")
            thresholds["champion"] = champion.threshold
    own = pl.exclude(f"^{PREFIX}.*$")
    scores["baseline"] = baseline_scores(project, framing.baseline, train.select(own), test.select(own))
    block, blocks = blocks_of(test)
    rows = Rows(labels(test), block, blocks, framing.value)
    return Scored(test, rows, scores, thresholds, beside, uncompared)


def blocks_of(rows: pl.DataFrame) -> tuple[Ints, int]:
    """The block of each row and how many there are: the UTC day of `decision_time`.

    Rows without a time are taken as independent and dealt into 200 blocks (or
    as many as there are rows) in turn.
    """
    if "decision_time" in rows.columns and not rows.get_column("decision_time").null_count():
        day = rows.get_column("decision_time").dt.epoch("d").to_numpy()
        days, block = np.unique(day, return_inverse=True)
        return block.astype(np.int64), len(days)
    blocks = min(LOOSE_BLOCKS, rows.height)
    return np.arange(rows.height, dtype=np.int64) % blocks, blocks


def _bundle(ws: Workspace, model: Model) -> Bundle:
    return load_bundle(ws.blobs.path(model.bundle), trust_of(ws.id))


def _predict(bundle: Bundle, model: Model, test: pl.DataFrame, reads: Inputs, who: str) -> Doubles:
    if lacking := [name for name, column in reads.columns.items() if column not in test.columns]:
        raise Invalid(
            f"the held-out rows lack {', '.join(lacking)}, inputs of the {who} {model.id[:12]}",
            why="both models are judged on the same rows, and one cannot be scored on these",
            fix="build the training set again; beside the training set of the champion where there is one",
        )
    return bundle.predict(test.select(pl.col(column).alias(name) for name, column in reads.columns.items()))


def _verdicts(evaluation: EvaluationSpec, scored: Scored) -> tuple[Verdict, ...]:
    verdicts = []
    for gate in evaluation.gates:
        against = gate.against
        if against == "champion" and scored.uncompared:
            verdicts.append(unjudged(gate, scored.uncompared))
            continue
        if against == "champion" and "champion" not in scored.scores:
            against = "baseline"
        for where, mask in slices.masks(scored.test, gate.slice).items():
            candidate = scored.figures("candidate", (gate.metric,), mask)
            reference = scored.figures(against, (gate.metric,), mask) if against else None
            verdicts.append(judge(gate, where, candidate, reference, against))
    return tuple(verdicts)


def _estimates(found: Figures) -> dict[str, Estimate]:
    return {name: found.estimate(name) for name in found.values}


def _differences(candidate: Figures, other: Figures) -> dict[str, Estimate]:
    gap = candidate.minus(other)
    return {name: gap.difference(name) for name in gap.values}


def _times(test: pl.DataFrame) -> tuple[datetime, datetime] | None:
    if "decision_time" not in test.columns or test.get_column("decision_time").null_count():
        return None
    first, last = test.select(pl.col("decision_time").min().alias("a"), pl.col("decision_time").max().alias("b")).row(0)
    return first, last


def _baseline_code(project: Path, ref: str | None) -> str:
    return CONSTANT if ref is None or ref == CONSTANT else f"{ref} {cache.closure(project, ref).id}"


def _require_value(evaluation: EvaluationSpec, framing: FramingSpec) -> None:
    if framing.value is None and any(gate.metric == "value" for gate in evaluation.gates):
        raise Invalid(
            "a gate asks for `value`, and framing.value is not stated",
            why="expected value needs what right and wrong decisions are worth",
            fix="add framing.value, or another metric to evaluation.gates",
        )
