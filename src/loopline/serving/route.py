"""What a worker serves, as one value: the versions, who answers whom, and who steps in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loopline.serving import router
from loopline.serving.assembled import inputs_of
from loopline.serving.inputs import Inputs, expected_rise, row_type
from loopline.serving.nouns import BASELINE, DesiredState, Variant
from loopline.serving.raw import any_raw, never
from loopline.store.online.protocol import Online
from loopline.training.bundle import Bundle


@dataclass(eq=False, slots=True)
class Loaded:
    """One version, ready to answer."""

    variant: Variant
    bundle: Bundle
    inputs: Inputs
    version: bytes
    chance: float

    @classmethod
    def of(cls, variant: Variant, bundle: Bundle, store: Online | None = None) -> Loaded:
        """Ready to answer; with a store, from what it holds of the entities that requests name."""
        share = variant.share / router.BUCKETS
        inputs = inputs_of(bundle, store)
        return cls(variant, bundle, inputs, variant.version.encode(), share)


class Route:
    """What a worker serves, as one value that is replaced whole."""

    def __init__(self, desired: DesiredState, loaded: Sequence[Loaded]) -> None:
        self.desired = desired
        self.loaded = tuple(loaded)
        self.generation, self.salt, self.kill = desired.generation, desired.salt, desired.kill
        self.champion = self._role("champion")[0]
        self.previous = next(iter(self._role("previous")), None)
        self.chain = self._chain(desired.fallback)
        self.shadows = self._role("shadow")
        self.canaries: list[tuple[int, Loaded]] = []
        limit = 0
        for canary in self._role("canary"):
            limit += canary.variant.share
            self.canaries.append((limit, canary))
        self.canary = self.canaries[0][1] if self.canaries else None
        self.slow_us = next(
            (g["latency_ms"] * 1000 for g in desired.guardrails if g["kind"] == "latency" and "latency_ms" in g), 1e18
        )
        self.holdout = round(desired.holdout * router.BUCKETS)
        answering = [i.inputs for i in self.loaded if i.variant.role in router.ANSWERING]
        others = [i.inputs for i in self.loaded if i.variant.role not in router.ANSWERING]
        self.unit = next((i.inputs.unit for i in self.loaded if i.inputs.unit is not None), None)
        """The column of a row that names its entity; null where rows hold inputs alone."""
        self.row = never() if any_raw((*answering, *others)) else row_type(answering, others)

    def _chain(self, fallback: Sequence[str]) -> tuple[Loaded | None, ...]:
        """Who answers when a canary or the one before cannot; null stands for the champion's constant."""
        made: list[Loaded | None] = [self.champion]
        for name in fallback:
            if name == "previous" and self.previous is not None:
                made.append(self.previous)
            elif name == BASELINE and self.champion.bundle.base_rate is not None:
                made.append(None)
        return tuple(made)

    def _role(self, role: str) -> list[Loaded]:
        return [item for item in self.loaded if item.variant.role == role]

    @property
    def slack(self) -> float:
        """See `inputs.expected_rise`."""
        return expected_rise(self.canary.inputs, self.champion.inputs) if self.canary else 0.0

    def routed(self, entity: str) -> Loaded:
        """Who answers `entity`; the same as `router.assign`."""
        if self.canaries:
            place = router.bucket(self.salt, entity)
            for limit, canary in self.canaries:
                if place < limit:
                    return canary
        return self.champion
