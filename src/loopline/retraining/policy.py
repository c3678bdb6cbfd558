"""What a loop may do: the parts of `loop.yaml` that `decide` looks at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from loopline.base.ids import content_id
from loopline.base.nouns import to_doc
from loopline.base.spec import duration
from loopline.registry.spec import RegistrySpec
from loopline.retraining.spec import TRIGGER, RetrainingSpec
from loopline.serving.spec import ServingSpec


@dataclass(frozen=True, slots=True)
class Trigger:
    """One line of `any_of`, parsed.

    Either `every` is set, or `growth`, or `metric`, `op` and `bound` are; with
    `released` the bound is an offset from the value the champion was released on.
    """

    text: str
    every: timedelta | None = None
    growth: float | None = None
    """New labels for each row the champion was trained on."""
    metric: str | None = None
    op: Literal["<", ">"] | None = None
    bound: float = 0.0
    released: bool = False


def parse_trigger(text: str) -> Trigger:
    """Read `metric > 0.03`, `metric < released - 0.01`, `new_labels > 50%` or `every 90d`."""
    match = TRIGGER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a trigger")
    if match["every"]:
        return Trigger(text, every=duration(match["every"]))
    if match["growth"]:
        return Trigger(text, growth=float(match["growth"]) / 100)
    bound = float(match["bound"])
    if match["ref"]:
        bound = -bound if match["sign"] == "-" else bound
    op: Literal["<", ">"] = "<" if match["op"] == "<" else ">"
    return Trigger(text, metric=match["metric"], op=op, bound=bound, released=bool(match["ref"]))


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything `decide` is bound by; its id is recorded with each cycle."""

    mode: Literal["off", "observe", "suggest", "auto"]
    risk: Literal["minimal", "limited", "high"]
    triggers: tuple[Trigger, ...]
    after_promotion: timedelta
    after_rejection: timedelta
    budget_runs: int
    budget_per: timedelta
    approvals_needed: int
    approval_expires: timedelta
    canary: tuple[float, ...]
    each_at_most: timedelta
    parity: int = 0
    """Requests of the canary whose features must agree with the tables; 0 for none."""

    @property
    def id(self) -> str:
        """Content id of the policy."""
        return content_id(self.doc())

    def doc(self) -> dict[str, Any]:
        """The policy as JSON."""
        found: dict[str, Any] = to_doc(self)
        return found


def policy_of(
    retraining: RetrainingSpec,
    registry: RegistrySpec,
    serving: ServingSpec,
    risk: Literal["minimal", "limited", "high"],
) -> Policy:
    """The policy that these sections declare.

    Above the lowest tier at least one approval is needed; the highest tier is
    never fully automatic: it always parks at a person.
    """
    needed = registry.approvals.needed
    if risk == "high":
        needed = max(needed, 1)
    return Policy(
        mode=retraining.mode,
        risk=risk,
        triggers=tuple(parse_trigger(text) for text in retraining.any_of),
        after_promotion=retraining.cooldown.after_promotion,
        after_rejection=retraining.cooldown.after_rejection,
        budget_runs=retraining.budget.runs,
        budget_per=retraining.budget.per,
        approvals_needed=needed,
        approval_expires=registry.approvals.expire,
        canary=serving.release.canary,
        each_at_most=serving.release.each_at_most,
        parity=serving.release.parity,
    )


@dataclass(frozen=True, slots=True)
class EffectState:
    """What became of one effect of the cycle."""

    kind: str
    status: str
    """`pending`, `running`, `done` or `failed`."""
    result: dict[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """What the data plane says of the running release step."""

    applied: bool
    """Whether the wanted generation is served."""
    verdict: str = "open"
    """`worse`, `fine` or `open`."""
    reason: str = ""
    canary_requests: int = 0


@dataclass(frozen=True, slots=True)
class Parity:
    """What came of computing the canary's features again from the tables."""

    rows: int
    """Requests that could be computed again."""
    differing: int
    """Values that came out otherwise than served."""
    told: str = ""
    report: str | None = None
    open: int = 0
    """Features that it reads and that were compared in no request, though they had to be."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when `decide` is called; nothing else enters it."""

    champion: str | None = None
    """Version id behind `production`."""
    released: dict[str, float | None] | None = None
    released_at: datetime | None = None
    quality: dict[str, tuple[float, float, float]] | None = None
    """Trailing labelled quality: value, low, high of the 90 % interval."""
    quality_id: str | None = None
    new_labels: int | None = None
    """Labels that became known since the champion was trained."""
    trained_rows: int | None = None
    """Rows the champion was trained on."""
    label_problem: str | None = None
    """Why labels must not be learned from as they are; looked at in triage."""
    last_promotion: datetime | None = None
    last_rejection: datetime | None = None
    trained_at: tuple[datetime, ...] = ()
    """When earlier cycles began to train."""
    data_incidents: tuple[str, ...] = ()
    """Open incidents of kind `data`."""
    suppressed: str | None = None
    """Why the last trigger was suppressed, as a key; the same is not said twice."""
    effects: tuple[EffectState, ...] = ()
    """Effects of the cycle's present state and attempt."""
    passed: bool | None = None
    failed_gates: tuple[str, ...] = ()
    report: str | None = None
    approved: bool = False
    refused: str | None = None
    """Who rejected the candidate, and why."""
    approvals_given: int = 0
    parity: Parity | None = None
    """Null where nothing was computed again yet."""
    rollout: Rollout | None = None
