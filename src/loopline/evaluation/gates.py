"""Verdicts: a candidate passes when its bound holds at the stated confidence."""

from __future__ import annotations

from collections.abc import Mapping

from loopline.evaluation.nouns import Verdict
from loopline.evaluation.scored import Figures
from loopline.evaluation.spec import GateSpec
from loopline.framing.metrics import HIGHER_IS_BETTER


def judge(gate: GateSpec, where: str, candidate: Figures, reference: Figures | None, against: str | None) -> Verdict:
    """What `gate` says about the slice `where`.

    Parameters
    ----------
    gate : GateSpec
    where : str
        Name of the slice.
    candidate : Figures
        With the gate's metric, on the rows of the slice.
    reference : Figures or None
        The champion's or the baseline's, on the same rows and draws; needed by
        `no_worse_by` and `better_by`.
    against : str or None
        Which of them it is.

    Returns
    -------
    Verdict
        `observed` is the metric, or the candidate's minus the reference's;
        `threshold` is what the one-sided `bound` of it was compared with. Not
        passed where the rows are too few for a bound.
    """
    higher = HIGHER_IS_BETTER[gate.metric]
    strictly = False
    if gate.at_least is not None:
        found, threshold, above = candidate, gate.at_least, True
    elif gate.at_most is not None:
        found, threshold, above = candidate, gate.at_most, False
    else:
        if reference is None:
            raise ValueError(f"{label(gate)} needs a reference")
        found, above = candidate.minus(reference), higher
        strictly = gate.better_by is not None
        threshold = _margin(gate)
    limit = found.bound(gate.metric, 1 - gate.confidence if above else gate.confidence)
    observed = found.values[gate.metric]
    known = observed == observed
    if limit is None:
        passed = False
    elif above:
        passed = limit > threshold if strictly else limit >= threshold
    else:
        passed = limit < threshold if strictly else limit <= threshold
    return Verdict(
        gate=label(gate),
        passed=passed,
        metric=gate.metric,
        slice=where,
        observed=observed if known else None,
        bound=limit,
        threshold=threshold,
        against=against if reference is not None else None,
        why=_why(gate, found, observed if known else None, limit, threshold, above, passed),
    )


def unjudged(gate: GateSpec, missing: Mapping[str, str]) -> Verdict:
    """A gate against a champion that could not be scored does not pass.

    Parameters
    ----------
    missing : mapping
        The champion's features that could not be told, and why.
    """
    reasons: dict[str, list[str]] = {}
    for name, why in missing.items():
        reasons.setdefault(why, []).append(name)
    told = "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
    return Verdict(
        gate=label(gate),
        passed=False,
        metric=gate.metric,
        slice=gate.slice,
        observed=None,
        bound=None,
        threshold=_margin(gate),
        against=gate.against,
        why=(
            f"the champion cannot be scored on these rows: {told}. Bring that back to the project until the champion "
            f"is replaced, or let this gate be `against: baseline` for one release"
        ),
    )


def _margin(gate: GateSpec) -> float:
    margin = gate.better_by if gate.better_by is not None else -(gate.no_worse_by or 0.0)
    return margin if HIGHER_IS_BETTER[gate.metric] else -margin


def label(gate: GateSpec) -> str:
    """The gate in one line, as it was declared."""
    for kind in ("at_least", "at_most", "no_worse_by", "better_by"):
        amount = getattr(gate, kind)
        if amount is not None:
            against = f" against {gate.against}" if gate.against else ""
            where = "" if gate.slice == "all" else f" on {gate.slice}"
            return f"{gate.metric} {kind} {amount:g}{against}{where}"
    raise ValueError("a gate has one bound")


def _why(
    gate: GateSpec,
    found: Figures,
    observed: float | None,
    limit: float | None,
    threshold: float,
    above: bool,
    passed: bool,
) -> str:
    rows, ones = int(found.sums.rows.sum()), int(found.sums.positives.sum())
    if observed is None or limit is None:
        return f"too few rows to say: {rows:,} rows, {ones:,} positive, {found.sums.blocks} blocks"
    side, wanted = ("at least", "above") if above else ("at most", "below")
    verdict = "which is" if passed else "which is not"
    return (
        f"observed {observed:+.4f} on {rows:,} rows; at {gate.confidence:.0%} confidence {side} {limit:+.4f}, "
        f"{verdict} {wanted} {threshold:+.4f}"
    )
