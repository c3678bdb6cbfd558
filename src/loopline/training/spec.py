"""Section `training` of `loop.yaml`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from loopline.base.spec import Duration, Share, Spec
from loopline.features.spec import CutSpec, SplitSpec

__all__ = [
    "RISING",
    "ComputeSpec",
    "Metric",
    "PackagesSpec",
    "RangeSpec",
    "ReproduceSpec",
    "Scalar",
    "SearchSpec",
    "SplitSpec",
    "TrainingSpec",
    "TransformSpec",
]


class TransformSpec(Spec):
    """What is done to some columns before the recipe sees them, fitted on the training rows only.

    The order is: impute, scale for numbers; encode for categories.
    """

    columns: tuple[str, ...] | Literal["numbers", "categories"] = Field(
        description="Features, or all `numbers` or all `categories`."
    )
    impute: Literal["mean", "median", "most_frequent"] | float | None = Field(
        default=None, description="What stands for a missing number: a figure of the training rows, or a constant."
    )
    flag_missing: bool = Field(default=False, description="Add a column that is 1 where the value is missing.")
    scale: Literal["standard", "minmax", "robust"] | None = Field(
        default=None,
        description="Take off mean, least value or median; divide by deviation, range or quartile range.",
    )
    encode: Literal["onehot", "ordinal", "target"] | None = Field(
        default=None,
        description="A column per category, a place in `order`, or the cross-fitted mean of the label.",
    )
    order: tuple[str, ...] = Field(default=(), description="Categories from least to greatest, for `encode: ordinal`.")
    min_rows: int = Field(
        default=1, ge=1, description="A category with fewer training rows is read as unseen (onehot, target)."
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _one_column(cls, value: object) -> object:
        return (value,) if isinstance(value, str) and value not in ("numbers", "categories") else value

    @model_validator(mode="after")
    def _one_kind(self) -> TransformSpec:
        numeric = self.impute is not None or self.scale is not None
        if self.encode is not None and numeric:
            raise ValueError("impute and scale are for numbers, encode is for categories: give each its own entry")
        if not (numeric or self.encode or self.flag_missing):
            raise ValueError("say what to do: impute, scale, flag_missing or encode")
        if (self.encode == "ordinal") != bool(self.order):
            raise ValueError("`encode: ordinal` and `order` belong together")
        return self


class PackagesSpec(Spec):
    """What a model may ship in when its ONNX would answer differently; safe files of its library always."""

    trust: tuple[str, ...] = Field(
        default=(),
        description="Types that a skops file may build beyond Loopline's own list, as `module.Class`; recorded with "
        "the model, so that approvals are about them too.",
    )
    unsafe: bool = Field(
        default=False,
        description="Let a model ship as a pickle: opened only in a process of its own, where LOOPLINE_ALLOW_UNSAFE is "
        "set and the signature is trusted; never for risk `high`.",
    )


Metric = Literal["roc_auc", "brier", "log_loss", "calibration_error", "accuracy", "value"]
Scalar = bool | int | float | str
RISING: tuple[Metric, ...] = ("roc_auc", "accuracy", "value")
"""Metrics of which more is better."""


class RangeSpec(Spec):
    """The values that a searched param may take: numbers between two bounds, or a list of choices."""

    low: float | None = Field(default=None, description="Least value, itself included.")
    high: float | None = Field(default=None, description="Greatest value, itself included.")
    log: bool = Field(default=False, description="Draw its logarithm evenly: for rates and strengths.")
    int_: bool = Field(default=False, alias="int", description="Whole numbers only.")
    step: float | None = Field(default=None, gt=0, description="Distance of values from `low` on.")
    choices: tuple[Scalar, ...] = Field(default=(), description="The values themselves; `[a, b]` is short for this.")

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    @model_validator(mode="after")
    def _possible(self) -> RangeSpec:
        low, high = self.low, self.high
        if self.choices:
            if low is not None or high is not None or self.log or self.step or self.int_:
                raise ValueError("give choices, or low and high, not both")
            if len({repr(one) for one in self.choices}) < len(self.choices):
                raise ValueError("a choice stands twice")
            return self
        if low is None or high is None:
            raise ValueError("give low and high, or a list of choices such as [gbdt, dart]")
        if not low < high:
            raise ValueError(f"low {low:g} is not below high {high:g}: there is nothing to search")
        if self.log and low <= 0:
            raise ValueError(f"a range with `log: true` lies above zero, and low is {low:g}")
        if self.log and self.step is not None:
            raise ValueError("a step is even on the plain scale: give log or step, not both")
        if self.int_ and any(x is not None and x != round(x) for x in (low, high, self.step)):
            raise ValueError("with `int: true` low, high and step are whole numbers")
        if self.step is not None and self.step > high - low:
            raise ValueError(f"step {self.step:g} is wider than the range from {low:g} to {high:g}")
        return self

    @property
    def grid(self) -> tuple[Scalar, ...]:
        """Every value in order; empty where there is no end of them."""
        if self.choices:
            return self.choices
        step = self.step or (1.0 if self.int_ and not self.log else None)
        if step is None or self.low is None or self.high is None:
            return ()
        count = int((self.high - self.low) / step + 1e-9) + 1
        values = [self.low + at * step for at in range(count)]
        return tuple(round(one) for one in values) if self.int_ else tuple(round(one, 12) for one in values)


def _range(given: Any) -> Any:
    return {"choices": given} if isinstance(given, (list, tuple)) else given


class SearchSpec(Spec):
    """A search for params, judged on a part of the training rows; held-out rows are never looked at."""

    params: dict[str, Annotated[RangeSpec, BeforeValidator(_range)]] = Field(
        description="Keyword of the recipe to its range: `{low: 0.01, high: 0.3, log: true}` or `[a, b]`.",
        min_length=1,
    )
    trials: int = Field(default=30, ge=1, le=100_000, description="How many are tried; raised later, it goes on.")
    timeout: Duration | None = Field(
        default=None, description="No trial begins after it, and those that run are stopped; no limit by default."
    )
    sampler: Literal["tpe", "random", "grid", "cmaes", "nsga2"] = Field(
        default="tpe", description="Who proposes what is tried next."
    )
    pruner: Literal["none", "median", "hyperband"] = Field(
        default="none", description="Who ends trials early that report worse values than others did."
    )
    parallel: int = Field(default=1, ge=1, le=256, description="Trials at once; changes nothing of what is found.")
    metric: Metric | None = Field(default=None, description="What is judged; by default evaluation.primary.")
    direction: Literal["maximize", "minimize"] | None = Field(
        default=None, description="Which way `metric` is better; known for each."
    )
    objectives: tuple[Metric, ...] = Field(
        default=(), description="Several metrics at once, the most important first; a Pareto front is found."
    )
    pick: Literal["first", "balanced"] = Field(
        default="first",
        description="Of a Pareto front: the best by the first objective, or the one least far from the best of each.",
    )
    validation: Annotated[Share, Field(gt=0, lt=1)] = Field(
        default=0.25, description="Share of the training rows that trials are judged on: the newest, or random ones."
    )
    seed: int = Field(default=0, description="Of what is proposed; the trials are trained with training.seed.")

    @model_validator(mode="after")
    def _possible(self) -> SearchSpec:
        several = len(self.objectives) > 1
        if self.objectives and (self.metric is not None or self.direction is not None):
            raise ValueError("give metric, or objectives, not both")
        if len(set(self.objectives)) < len(self.objectives) or len(self.objectives) == 1:
            raise ValueError("objectives are two or more different metrics; for one write metric")
        if self.direction is not None:
            if self.metric is None:
                raise ValueError("direction is that of metric: give metric too")
            if (self.direction == "maximize") != (self.metric in RISING):
                raise ValueError(f"{self.metric} is better {'greater' if self.metric in RISING else 'smaller'}")
        if several and self.pruner != "none":
            raise ValueError("trials cannot be pruned where several objectives count: `pruner: none`")
        if several and self.sampler == "cmaes":
            raise ValueError("cmaes has one objective: choose nsga2, tpe or random")
        if self.sampler == "grid":
            endless = [name for name, one in self.params.items() if not one.grid]
            if endless:
                raise ValueError(f"a grid needs steps or choices: give {endless[0]} a step, or choose random")
        if self.sampler == "cmaes" and sum(not one.choices for one in self.params.values()) < 2:
            raise ValueError("cmaes needs two ranges of numbers at least: choose tpe or random")
        return self

    @property
    def what(self) -> dict[str, Any]:
        """All that decides what a trial is; how many there are, and where they run, does not."""
        found = self.model_dump(mode="json", exclude_defaults=True)
        return {name: value for name, value in found.items() if name not in ("trials", "timeout", "parallel", "pick")}


def _none(given: Any) -> Any:
    return None if given == "none" else given


class ComputeSpec(Spec):
    """Where the steps of a pipeline run."""

    executor: Literal["here", "threads", "processes", "ray"] = Field(
        default="here", description="In this process, one after another; in threads; in processes; on a Ray cluster."
    )
    address: str | None = Field(
        default=None, description="Of the cluster, such as ray://head:10001; one is started here by default."
    )
    workers: int | None = Field(
        default=None, ge=1, description="Threads or processes at once; the machine's cores by default."
    )

    @model_validator(mode="after")
    def _one_place(self) -> ComputeSpec:
        if self.address is not None and self.executor != "ray":
            raise ValueError("an address is for `executor: ray`")
        if self.workers is not None and self.executor not in ("threads", "processes"):
            raise ValueError("workers are for `executor: threads` or `processes`")
        return self


class ReproduceSpec(Spec):
    """Registered models that are made again now and then, to see that they still can be."""

    every: Duration = Field(default=timedelta(days=30), description="Time between two samples.", examples=["30d"])
    sample: int = Field(default=1, ge=1, description="How many at a time; those not made again for longest come first.")
    at_least: int = Field(default=0, ge=0, le=4, description="A level below this one is told in the log.")

    @field_validator("every")
    @classmethod
    def _some_time(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            raise ValueError("every must be longer than nothing, for example 30d")
        return value


class TrainingSpec(CutSpec):
    """The recipe and what it is given."""

    recipe: str = Field(description="`file.py:function`; `fit(X, y)` returns a fitted estimator.")
    search: Annotated[
        SearchSpec | None, BeforeValidator(_none, json_schema_input_type=Literal["none"] | SearchSpec | None)
    ] = Field(default=None, description="A search for params before every training; `none` by default.")
    transforms: tuple[TransformSpec, ...] = Field(
        default=(), description="Fitted on the training rows only, and kept in the bundle with the model."
    )
    packages: PackagesSpec = Field(
        default=PackagesSpec(), description="What a model may ship in when its ONNX would answer differently."
    )
    params: dict[str, Any] = Field(default_factory=dict, description="Passed to the recipe as keywords.")
    pipeline: str | None = Field(
        default=None, description="`file.py:function` marked @pipeline: what `loopline pipeline run` runs."
    )
    reproduce: ReproduceSpec | None = Field(
        default=None, description="Registered models made again now and then, while no cycle runs; off by default."
    )
    compute: ComputeSpec = Field(
        default=ComputeSpec(), description="Where the steps of pipelines run; LOOPLINE_COMPUTE says otherwise."
    )

    @model_validator(mode="after")
    def _once(self) -> TrainingSpec:
        if self.search is not None and (twice := sorted(set(self.search.params) & set(self.params))):
            raise ValueError(f"{twice[0]} stands in training.params and in training.search.params: leave one out")
        return self
