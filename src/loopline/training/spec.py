"""Section `training` of `loop.yaml`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from loopline.base.spec import Duration, Share, Spec

Leaks = Literal[
    "target_copy",
    "too_good",
    "missing_values",
    "row_number",
    "encoded_target",
    "time_overlap",
    "group_overlap",
    "duplicate_rows",
    "early_label",
    "future_known_at",
    "own_outcome",
    "reads_future",
]
"""Kinds of leak that are looked for before training."""


class SplitSpec(Spec):
    """How rows are held out. `test` is a duration by time, a share at random."""

    by: Literal["time", "random"] = Field(
        default="time", description="Hold out the newest rows, or random ones (without framing.decision_time)."
    )
    test: Annotated[Share, Field(gt=0, lt=1)] | Duration = Field(
        default=0.2,
        union_mode="left_to_right",
        description="How much is held out: the newest 28d, or a share of the rows as 20%.",
    )
    group: str | None = Field(
        default=None, description="Column of the spine: rows with one value of it are held out together (at random)."
    )


class AcceptSpec(Spec):
    """A finding that is known to be none, with the reason; it stays in the report."""

    kind: Leaks = Field(description="Kind of finding, as the report names it.")
    column: str | None = Field(default=None, description="Feature, group column or table; any by default.")
    reason: str = Field(description="Why the rows may be trained on all the same.", min_length=10)


class LeakageSpec(Spec):
    """The search for leaks before training: always on; what was looked into may be accepted."""

    groups: tuple[str, ...] = Field(
        default=(), description="Columns of the spine whose values must not be both in training and held-out rows."
    )
    accept: tuple[AcceptSpec, ...] = Field(default=(), description="Findings that do not keep training back.")

    @field_validator("groups", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


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


class TrainingSpec(Spec):
    """The recipe and what it is given."""

    recipe: str = Field(description="`file.py:function`; `fit(X, y)` returns a fitted estimator.")
    split: SplitSpec = Field(default=SplitSpec(), description="How rows are held out to judge a candidate.")
    window: Duration | None = Field(default=None, description="Train on the newest part only; all of it by default.")
    search: Literal["none"] = Field(default="none", description="Search over params; comes with a later version.")
    transforms: tuple[TransformSpec, ...] = Field(
        default=(), description="Fitted on the training rows only, and kept in the bundle with the model."
    )
    leakage: LeakageSpec = Field(
        default=LeakageSpec(), description="The search for leaks that comes before every training."
    )
    packages: PackagesSpec = Field(
        default=PackagesSpec(), description="What a model may ship in when its ONNX would answer differently."
    )
    params: dict[str, Any] = Field(default_factory=dict, description="Passed to the recipe as keywords.")
    seed: int = Field(default=0, description="Seeds the recipe, Python and NumPy.")
    pipeline: str | None = Field(
        default=None, description="`file.py:function` marked @pipeline: what `loopline pipeline run` runs."
    )
    compute: ComputeSpec = Field(
        default=ComputeSpec(), description="Where the steps of pipelines run; LOOPLINE_COMPUTE says otherwise."
    )
