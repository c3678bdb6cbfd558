"""The nouns of training."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopline.base.nouns import noun

ADOPTED = "adopted from "
"""How the recipe of a run begins in which nothing was trained: its model came from outside."""


@noun("run")
@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a recipe, recorded without asking."""

    id: str
    step_key: str
    recipe: str
    code: dict[str, Any]
    """Commit, dirty digest, closure digest, closure files."""
    environment: str
    """Blob digest of the list of installed distributions."""
    params: dict[str, Any]
    seed: int
    started_at: datetime
    seconds: float
    cpu_seconds: float
    cached: bool
    log: str | None = None
    text: str | None = None
    """Blob of the code's files, to make the model again; null in runs of before."""
    declared: dict[str, Any] | None = None
    """The section `training` as it was followed, without what is at its default; null in runs of before."""


@noun("model")
@dataclass(frozen=True, slots=True)
class Model:
    """A recipe applied to a set: one immutable bundle."""

    id: str
    run: str
    training_set: str
    problem: str
    bundle: str
    """Blob digest of the bundle (one stored zip)."""
    features: tuple[str, ...]
    framework: str
    author: str
    threshold: float
    parity: dict[str, Any]
    """Greatest difference native against packaged, rows checked, by kind of row."""
    created_at: datetime
    package: dict[str, Any] | None = None
    """Its native runtime, what that may build, and why ONNX was refused; null where ONNX ships."""


@noun("search")
@dataclass(frozen=True, slots=True)
class Search:
    """A search for params, as it was declared: its trials name it."""

    id: str
    """The key over all that decides a trial: code, rows, space, sampler, seeds, environment."""
    training_set: str
    problem: str
    recipe: str
    objectives: tuple[tuple[str, str], ...]
    """Metric and direction, the most important first."""
    declared: dict[str, Any]
    """The section `training.search`, without how many trials and where they run."""
    fixed: dict[str, Any]
    """Params that every trial was given."""
    seed: int
    """With which each trial was trained."""
    validation: dict[str, Any]
    """The part of the training rows that trials were judged on: `by`, `rows`, `fitted`, `from`."""
    author: str
    run: str
    """Its run in the run log; the runs of its trials lie under it."""
    created_at: datetime


@noun("trial")
@dataclass(frozen=True, slots=True)
class Trial:
    """One set of params, tried."""

    id: str
    search: str
    number: int
    """From 0 on, in the order they were proposed."""
    params: dict[str, Any]
    state: str
    """`complete`, `pruned` or `failed`."""
    values: tuple[float, ...]
    """By objective; empty where the trial is not complete."""
    metrics: dict[str, float | None]
    reported: tuple[tuple[int, float], ...]
    """Step and value that the recipe reported."""
    error: str | None
    run: str
    seconds: float
    ended_at: datetime
    memory: dict[str, Any]
    """What the sampler keeps with a trial, to go on from it."""


@noun("reproduction")
@dataclass(frozen=True, slots=True)
class Reproduction:
    """A model made again from what was recorded, and how near it came."""

    id: str
    model: str
    level: int
    """4: the same bundle bytes; 3: the same bytes of scores on probe and held-out rows; 2: scores within 1e-6;
    1: metrics inside their intervals; 0: none of these."""
    bundle: str | None
    """Digest of the bundle that was made; null where none could be."""
    code: str
    """Where the code came from: `text`, `commit`, `project` or `missing`."""
    environment: str
    """`present`, or `fresh`: installed anew from the recorded list."""
    differs: dict[str, Any]
    """What is not as it was: python, platform, distributions with both versions, machine, rows, code; empty where
    nothing is."""
    difference: float | None
    """Greatest difference of a score on probe and held-out rows; null where none could be compared."""
    metrics: dict[str, dict[str, float | None]]
    """By name: `was`, `low`, `high` as reported, and `now`; empty without a report."""
    error: str | None
    """Why nothing was made."""
    seconds: float
    by: str
    at: datetime
