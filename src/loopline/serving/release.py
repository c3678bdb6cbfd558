"""Is the canary worse? Evidence that may be looked at after every request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Any

from loopline.serving.nouns import Guardrail
from loopline.serving.spec import ReleaseSpec

KINDS = ("errors", "contract", "missing", "latency")
"""What is counted about every answer, in this order wherever counts travel."""

LIFTS = (1.5, 2.0, 3.0, 6.0, 20.0, 200.0)
"""Odds ratios that a worse canary may have; the evidence averages over them."""

_TINY = 1e-9


class TwoSample:
    """Two e-processes on the rate of a bad event, canary against champion.

    `worse` is evidence against "the canary's rate exceeds the champion's by no
    more than `slack`", `fine` against "it exceeds it by `margin` + `slack` or
    more". Each is a non-negative supermartingale of mean at most 1 where its null
    holds, so it passes 1 / alpha with probability at most alpha, however often
    one looks. Counts come in blocks whose sizes must not depend on their outcomes.

    Parameters
    ----------
    alpha : float
        Chance that a canary that is no worse is ever called `worse`, and that
        one that is worse by the margin is ever called `fine`.
    margin : float
        Rise of the rate that counts as worse.
    slack : float
        Rise that is expected and tells nothing (more inputs, more nulls).

    Notes
    -----
    Each block is judged against alternatives guessed from earlier blocks only. For
    the alternative (c, b) the e-value is its likelihood ratio to the point of the
    null that is nearest to it in Kullback-Leibler divergence. For a null {c - b
    <= d} that point lies on the boundary, and by the inequality of arithmetic and
    geometric means the mean of the ratio is at most 1 on the whole half plane.
    O(1) per block.

    References
    ----------
    Turner, Ly, Grünwald (2022), Generic E-variables for exact sequential k-sample
    tests that allow for optional stopping, arXiv:2106.02693.
    """

    def __init__(self, alpha: float, margin: float, slack: float = 0.0) -> None:
        self.alpha, self.margin, self.slack = alpha, margin, slack
        self.canary, self.champion = [0, 0], [0, 0]  # rows, bad: of this step
        self._past = [0, 0, 0, 0]  # canary rows, bad, champion rows, bad: of the release
        self._worse = [0.0] * len(LIFTS)
        self._fine = [0.0, 0.0]
        self._top = [0.0, 0.0]  # greatest log evidence seen: worse, fine

    def update(self, nc: int, xc: int, nb: int, xb: int) -> None:
        """Take a block: `xc` bad among `nc` canary rows, `xb` among `nb` champion rows."""
        if nc and nb:
            self._judge(nc, xc, nb, xb)
        for place, more in zip((self.canary, self.champion), ((nc, xc), (nb, xb)), strict=True):
            place[0] += more[0]
            place[1] += more[1]
        self._past = [p + q for p, q in zip(self._past, (nc, xc, nb, xb), strict=True)]

    def _judge(self, nc: int, xc: int, nb: int, xb: int) -> None:
        pc, qc, pb, qb = self._past
        base = (qb + 0.25) / (pb + 25.0)
        odds = base / (1 - base)
        for i, lift in enumerate(LIFTS):
            risen = odds * lift / (1 + odds * lift)
            if risen - base > self.slack:
                c0, b0 = _nearest(risen, base, nc, nb, self.slack)
                self._worse[i] += _ratio(nc, xc, risen, c0) + _ratio(nb, xb, base, b0)
        pooled = (qb + qc + 0.25) / (pb + pc + 25.0)
        bound = self.margin + self.slack
        seen = min((qc + 0.25) / (pc + 25.0), base + bound / 2)
        for i, (c, b) in enumerate(((pooled, pooled), (seen, base))):
            c0, b0 = _nearest(c, b, nc, nb, bound)
            self._fine[i] += _ratio(nc, xc, c, c0) + _ratio(nb, xb, b, b0)
        self._top = [max(self._top[0], _mean(self._worse)), max(self._top[1], _mean(self._fine))]

    @property
    def worse(self) -> float:
        """E-value against "no worse" over the whole release: the greatest so far."""
        return exp(min(self._top[0], 700.0))

    @property
    def fine(self) -> float:
        """E-value against "worse by the margin" in this step: the greatest so far."""
        return exp(min(self._top[1], 700.0))

    @property
    def verdict(self) -> str:
        """`worse`, `fine` or `open`; `worse` wins."""
        if self.worse >= 1 / self.alpha:
            return "worse"
        return "fine" if self.fine >= 1 / self.alpha else "open"

    def next_step(self) -> None:
        """Begin the next share of the same release: `worse` keeps its evidence, `fine` starts anew."""
        self.canary, self.champion = [0, 0], [0, 0]
        self._fine, self._top[1] = [0.0, 0.0], 0.0

    def to_doc(self) -> dict[str, Any]:
        """Everything it knows, as JSON."""
        return dict(vars(self))

    @classmethod
    def from_doc(cls, doc: Mapping[str, Any]) -> TwoSample:
        """What `to_doc` wrote."""
        made = cls(doc["alpha"], doc["margin"], doc["slack"])
        vars(made).update(doc)
        return made


def _nearest(c: float, b: float, nc: int, nb: int, d: float) -> tuple[float, float]:
    """The point with c0 - b0 = d that is nearest to (c, b) for a block of nc and nb rows."""
    if d == 0:
        both = (nc * c + nb * b) / (nc + nb)
        return both, both
    low, high = 0.0, 1.0 - d
    for _ in range(48):
        b0 = (low + high) / 2
        c0 = b0 + d
        slope = nc * (c0 - c) / max(c0 * (1 - c0), _TINY) + nb * (b0 - b) / max(b0 * (1 - b0), _TINY)
        low, high = (b0, high) if slope < 0 else (low, b0)
    b0 = min(max((low + high) / 2, _TINY), 1 - d - _TINY)
    return b0 + d, b0


def _ratio(n: int, x: int, p: float, p0: float) -> float:
    """Log likelihood ratio of `x` bad among `n` at rate `p` against `p0`."""
    return x * log(p / p0) + (n - x) * log((1 - p) / (1 - p0))


def _mean(logs: Sequence[float]) -> float:
    """Log of the mean of the exponentials."""
    top = max(logs)
    return top + log(sum(exp(v - top) for v in logs) / len(logs))


def guardrails(release: ReleaseSpec) -> tuple[dict[str, Any], ...]:
    """The guardrails of a release; the chance of a false rollback is shared among them."""
    alpha = release.alpha / len(KINDS)
    docs: list[dict[str, Any]] = [{"name": k, "kind": k, "alpha": alpha, "margin": release.margin} for k in KINDS]
    docs[KINDS.index("latency")]["latency_ms"] = release.latency_ms
    return tuple(docs)


class Watch:
    """All guardrails of one release."""

    def __init__(self, release: str, generation: int, specs: Sequence[Mapping[str, Any]], slack: float) -> None:
        self.release, self.generation = release, generation
        self.names = [str(s["name"]) for s in specs]
        self.kinds = [str(s["kind"]) for s in specs]
        self.tests = [
            TwoSample(s["alpha"], s["margin"], slack if s["kind"] == "missing" else float(s.get("slack", 0.0)))
            for s in specs
        ]

    def update(self, nc: int, bad_c: Sequence[int], nb: int, bad_b: Sequence[int]) -> None:
        """Take a block of `nc` canary and `nb` champion rows with their bad ones by kind."""
        for kind, test in zip(self.kinds, self.tests, strict=True):
            place = KINDS.index(kind)
            test.update(nc, bad_c[place], nb, bad_b[place])

    def step(self, generation: int) -> None:
        """Go on with the same release under a new split."""
        if generation != self.generation:
            self.generation = generation
            for test in self.tests:
                test.next_step()

    @property
    def found(self) -> tuple[Guardrail, ...]:
        """What is known now."""
        return tuple(
            Guardrail(n, t.canary[0], t.canary[1], t.champion[0], t.champion[1], t.worse, t.fine, t.verdict)
            for n, t in zip(self.names, self.tests, strict=True)
        )

    @property
    def verdict(self) -> str:
        """`worse` if one guardrail says so, `fine` if all do, else `open`."""
        verdicts = [t.verdict for t in self.tests]
        if "worse" in verdicts:
            return "worse"
        return "fine" if verdicts and all(v == "fine" for v in verdicts) else "open"

    def to_doc(self) -> dict[str, Any]:
        """Everything it knows, as JSON."""
        return {
            "release": self.release,
            "generation": self.generation,
            "names": self.names,
            "kinds": self.kinds,
            "tests": [t.to_doc() for t in self.tests],
        }

    @classmethod
    def from_doc(cls, doc: Mapping[str, Any]) -> Watch:
        """What `to_doc` wrote."""
        made = cls(doc["release"], doc["generation"], (), 0.0)
        made.names, made.kinds = list(doc["names"]), list(doc["kinds"])
        made.tests = [TwoSample.from_doc(t) for t in doc["tests"]]
        return made
