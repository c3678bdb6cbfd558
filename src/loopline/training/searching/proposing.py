"""What is tried next: Optuna's samplers and pruners over trials that are recorded.

A study is built anew from the recorded trials for each proposal, and knows what ended before its round of trials
began; a round has `ROUND` trials whatever runs at once. So what is proposed depends on the seed, the number of the
trial and the trials of earlier rounds, not on how many processes there are, which one is faster, or what was killed.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from loopline.base.errors import missing_extra
from loopline.base.ids import content_id
from loopline.training.nouns import Trial
from loopline.training.spec import RangeSpec, SearchSpec

try:
    import optuna as optuna
except ModuleNotFoundError as error:
    raise missing_extra("optuna", "search") from error

ROUND = 4
"""Trials that do not know of each other's ends, for samplers and pruners that learn."""
POPULATION = 16
"""Of nsga2."""

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.WARNING)


def first_of_round(number: int) -> int:
    """The first trial of the round that a trial belongs to."""
    return number - number % ROUND


class Proposals:
    """Proposes trials of a search, one after another, and tells which end early.

    Parameters
    ----------
    directions : sequence of str
        `maximize` or `minimize`, by objective.
    done : sequence of Trial
        The recorded ones; those of the round at hand are left out where they must not be known.
    """

    def __init__(self, spec: SearchSpec, directions: Sequence[str], done: Sequence[Trial]) -> None:
        self.spec, self.directions = spec, [optuna.study.StudyDirection[one.upper()] for one in directions]
        self.done = {one.number: one for one in done}
        self.space = {name: distribution(one) for name, one in sorted(spec.params.items())}
        self._proposed: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        if spec.sampler == "cmaes":
            for number in sorted(self.done):
                self._memory(number)

    def add(self, trial: Trial) -> None:
        """Take note of a trial that ended."""
        self.done[trial.number] = trial

    def ready(self, number: int) -> bool:
        """Whether the trials that a proposal may know of have all ended."""
        if self.spec.sampler in ("random", "grid") and self.spec.pruner == "none":
            return True
        return all(earlier in self.done for earlier in range(first_of_round(number)))

    def propose(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The params of a trial, and what the sampler keeps with it."""
        if number in self.done:
            return self.done[number].params, self._memory(number)
        if number not in self._proposed:
            self._proposed[number] = self._grid(number) if self.spec.sampler == "grid" else self._asked(number)
        return self._proposed[number]

    def kept(self, number: int) -> dict[str, Any]:
        """What is recorded of the sampler's memory: all but that of cmaes, which is a pickle and made again instead."""
        return {} if self.spec.sampler == "cmaes" else self.propose(number)[1]

    def _memory(self, number: int) -> dict[str, Any]:
        kept = self.done[number].memory
        if self.spec.sampler != "cmaes":
            return kept
        if number not in self._proposed:
            self._proposed[number] = self._asked(number)
        return {**self._proposed[number][1], **kept}

    def _asked(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        study = self._study(number)
        trial = study.ask(self.space)
        frozen = study._storage.get_trial(trial._trial_id)
        return {name: plain(value) for name, value in trial.params.items()}, dict(frozen.system_attrs)

    def _grid(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The point at a place of the grid, whose points stand in an order that the seed drew."""
        names = sorted(self.spec.params)
        points = itertools.product(*(self.spec.params[name].grid for name in names))
        sizes = [len(self.spec.params[name].grid) for name in names]
        place = int(np.random.default_rng(self.spec.seed).permutation(int(np.prod(sizes)))[number])
        return dict(zip(names, next(itertools.islice(points, place, None)), strict=True)), {}

    def _study(self, number: int) -> optuna.Study:
        """A study as it stands before a trial: rounds before it are told, trials of its own round run."""
        study = self.empty(number)
        if self.spec.sampler == "random":
            earlier: Sequence[int] = ()
        else:
            earlier = range(number)
        for other in earlier:
            if other < first_of_round(number):
                study.add_trial(self._frozen(self.done[other], self._memory(other)))
            else:
                params, memory = self.propose(other)
                study.add_trial(self._running(params, memory))
        return study

    def empty(self, number: int) -> optuna.Study:
        """A study without trials, for the trial `number`."""
        seed = int(content_id({"seed": self.spec.seed, "trial": number})[:8], 16)
        return optuna.create_study(
            study_name="search",
            directions=self.directions,
            sampler=sampler(self.spec, seed),
            pruner=pruner(self.spec),
        )

    def whole(self) -> optuna.Study:
        """A study of every recorded trial."""
        study = self.empty(0)
        for number in sorted(self.done):
            study.add_trial(self._frozen(self.done[number], self.done[number].memory))
        return study

    def judge(self, number: int) -> optuna.Trial:
        """A running trial that can be told values and asked whether it should end."""
        study = self.empty(number)
        for other in range(first_of_round(number)):
            study.add_trial(self._frozen(self.done[other], self.done[other].memory))
        for _ in range(first_of_round(number), number):
            study.add_trial(self._running({}, {}))
        return study.ask()

    def _frozen(self, trial: Trial, memory: dict[str, Any]) -> optuna.trial.FrozenTrial:
        states = optuna.trial.TrialState
        state = {"complete": states.COMPLETE, "pruned": states.PRUNED}.get(trial.state, states.FAIL)
        return optuna.create_trial(
            state=state,
            values=list(trial.values) if trial.state == "complete" else self._last(trial),
            params=trial.params,
            distributions={name: self.space[name] for name in trial.params},
            system_attrs=memory,
            intermediate_values=dict(trial.reported),
        )

    def _last(self, trial: Trial) -> list[float] | None:
        return [trial.reported[-1][1]] if trial.state == "pruned" and trial.reported else None

    def _running(self, params: dict[str, Any], memory: dict[str, Any]) -> optuna.trial.FrozenTrial:
        return optuna.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=params,
            distributions={name: self.space[name] for name in params},
            system_attrs=memory,
        )


def distribution(one: RangeSpec) -> optuna.distributions.BaseDistribution:
    """A range as Optuna knows it."""
    if one.choices:
        return optuna.distributions.CategoricalDistribution(one.choices)
    assert one.low is not None and one.high is not None
    if one.int_:
        step = round(one.step) if one.step is not None else 1
        high = one.high if one.log else one.low + step * ((one.high - one.low) // step)
        return optuna.distributions.IntDistribution(round(one.low), round(high), log=one.log, step=step)
    high = one.high if one.step is None else one.low + one.step * int((one.high - one.low) / one.step + 1e-9)
    return optuna.distributions.FloatDistribution(one.low, high, log=one.log, step=one.step)


def sampler(spec: SearchSpec, seed: int) -> optuna.samplers.BaseSampler:
    """Who proposes; a grid has an order of its own and needs none."""
    match spec.sampler:
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed)
        case "cmaes":
            try:
                import cmaes  # type: ignore[import-untyped] # noqa: F401
            except ModuleNotFoundError as error:
                raise missing_extra("cmaes", "search") from error
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
        case _:
            return optuna.samplers.RandomSampler(seed=seed)


def pruner(spec: SearchSpec) -> optuna.pruners.BasePruner:
    """Who ends trials early."""
    match spec.pruner:
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=ROUND)
        case "hyperband":
            return optuna.pruners.HyperbandPruner()
        case _:
            return optuna.pruners.NopPruner()


def plain(value: Any) -> Any:
    """A proposed value as JSON has it."""
    return value.item() if isinstance(value, np.generic) else value
