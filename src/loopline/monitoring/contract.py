"""Rules that requests break oftener than they did: the contract at its fourth point, the log."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from loopline.base.errors import Invalid, NotFound
from loopline.data.contracts.contract import Contract
from loopline.data.privacy.treatments import declared
from loopline.data.spec import TableSpec
from loopline.monitoring.drift import LEAST_WINDOWS
from loopline.monitoring.finding import Budget, Finding
from loopline.monitoring.requests import EXAMPLES, Requests, told_of
from loopline.monitoring.triage import t_tail

ELSEWHERE = ("stale:", "absent:", "ahead:", "unavailable:")
"""Begin what is no fault of a request, but of the online store."""
ALIKE = 0.25
"""A rule that one version's requests break less than this share of another's belongs to the version."""
_TERMS = 100_000


@dataclass(frozen=True, slots=True)
class Known:
    """What is declared of the rules of requests."""

    severity: Mapping[str, str]
    columns: Mapping[str, tuple[str, ...]]
    personal: Collection[str] = ()
    """Columns whose values are shown to nobody."""

    @classmethod
    def of(cls, project: Path, spine: TableSpec | None) -> Known:
        """The rules of the spine's contract; nothing where there is none that can be read."""
        if spine is None or spine.contract is None:
            return cls({}, {})
        try:
            contract = Contract.load(project / spine.contract)
            personal = tuple(declared(contract))
        except (Invalid, NotFound):  # whoever takes rows in says so
            return cls({}, {})
        rules = contract.rules
        return cls({r.id: r.severity for r in rules}, {r.id: r.columns for r in rules}, personal)

    def grave(self, rule: str) -> bool:
        """Whether the contract says that the rule must hold; ranges and types of a model's inputs are no contract."""
        return self.severity.get(rule) == "error"

    def of_rule(self, rule: str) -> tuple[str, ...]:
        """The columns that a rule is about."""
        if rule in self.columns:
            return self.columns[rule]
        kind, mark, name = rule.partition(":")
        return (name if mark else kind.rpartition(".")[0] or kind,)


def broken_rules(
    window: Requests,
    reference: Sequence[Requests],
    budget: Budget,
    known: Known,
    rows: pl.DataFrame,
    refused: pl.DataFrame | None = None,
) -> Iterator[Finding]:
    """Rules that far more requests of the window break than the trailing windows let one expect.

    A rule of the contract with severity `error` is a bug, any other a suspect; so is one that only one of several
    versions shows, and what the inputs of a model expect. Nothing while there are fewer than 14 reference windows
    with requests.

    Parameters
    ----------
    window, reference
        Counts of the window, and of the trailing ones.
    rows, refused : DataFrame
        The requests of the window, for examples.

    Notes
    -----
    The chance of so many is that of a negative binomial law: the rate that the reference shows, with Jeffreys'
    prior, so that a few requests that break a rule for the first time are no alarm. Where the rate varies
    between windows, Student's t over their shares must agree.
    """
    reference = [one for one in reference if one.asked]
    if len(reference) < LEAST_WINDOWS or not window.asked:
        return
    rules = [rule for rule in window.broken if not rule.startswith(ELSEWHERE)]
    every = {rule for one in (window, *reference) for rule in one.broken} | set(known.severity)
    level = budget.level("contract", len(every))
    told: pl.DataFrame | None = None
    for rule in rules:
        count = window.broken[rule]
        p, expected = unexpected(count, window.asked, rule, reference)
        if p >= level:
            continue
        told = told_of(rows, refused) if told is None else told
        one = told.filter(pl.col("broken").list.contains(rule))
        evidence = {
            "rule": rule,
            "broken": count,
            "requests": window.asked,
            "share": float(f"{count / window.asked:.4g}"),
            "expected": float(f"{expected:.4g}"),
            "predictions": one["prediction_id"].head(EXAMPLES).to_list(),
            **_values(rule, known, rows),
        }
        only = _of_one_version(one, rows, refused)
        grave = known.grave(rule) and only is None
        evidence |= {} if rule not in known.severity else {"severity": known.severity[rule]}
        evidence |= {} if only is None else {"only_version": only}
        yield Finding("contract", "bug" if grave else "suspect", known.of_rule(rule), p, evidence)


def unexpected(count: int, asked: int, rule: str, reference: Sequence[Requests]) -> tuple[float, float]:
    """Chance of `count` or more among `asked` requests, and the share that the reference lets one expect."""
    before = sum(one.broken.get(rule, 0) for one in reference)
    total = sum(one.asked for one in reference)
    share = (before + 0.5) / total
    p = _tail(count, before + 0.5, asked / (asked + total))
    shares = np.array([one.broken.get(rule, 0) / one.asked for one in reference])
    spread = float(shares.std(ddof=1)) * math.sqrt(1 + 1 / shares.size)
    if spread > 0 and p < 1:
        p = max(p, t_tail(max(0.0, (count / asked - float(shares.mean())) / spread)))
    return p, before / total if before else share


def _tail(count: int, r: float, q: float) -> float:
    """Chance that a negative binomial number (size `r`, mean `r q / (1 - q)`) is at least `count`."""
    if count <= r * q / (1 - q):
        return 1.0
    log = math.lgamma(count + r) - math.lgamma(count + 1) - math.lgamma(r) + r * math.log1p(-q) + count * math.log(q)
    term = total = math.exp(log)
    for n in range(count, count + _TERMS):
        term *= (n + r) / (n + 1) * q
        total += term
        if term < 1e-12 * total:
            break
    return min(1.0, total)


def _values(rule: str, known: Known, rows: pl.DataFrame) -> dict[str, list[str]]:
    """Values that broke a rule about one column, where the log holds them and anyone may see them."""
    columns = known.of_rule(rule)
    if len(columns) != 1 or columns[0] not in rows.columns or set(columns) & set(known.personal):
        return {}
    bad = rows.filter(pl.col("broken").list.contains(rule))[columns[0]].drop_nulls()
    shown = bad.unique(maintain_order=True).head(EXAMPLES).to_list()
    return {"values": [str(value) for value in shown]} if shown else {}


def _of_one_version(told: pl.DataFrame, rows: pl.DataFrame, refused: pl.DataFrame | None) -> str | None:
    """The version that alone shows a rule, where requests were routed to several."""
    frames = [one.select("routed") for one in (rows, refused) if one is not None]
    asked = pl.concat(frames).group_by("routed").len("asked")
    if asked.height < 2:
        return None
    both = asked.join(told.group_by("routed").len("bad"), on="routed", how="left").fill_null(0)
    shares = both.select("routed", share=pl.col("bad") / pl.col("asked")).sort("share")
    return None if shares["share"][0] > ALIKE * shares["share"][-1] else str(shares["routed"][-1])
