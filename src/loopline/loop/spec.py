"""The whole loop as one declaration: the sections of `loop.yaml` are the stages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from loopline.base.ids import content_id
from loopline.base.spec import Spec, duration
from loopline.data.spec import TableSpec
from loopline.evaluation.spec import METRICS, EvaluationSpec
from loopline.features.spec import FeaturesSpec
from loopline.framing.spec import FramingSpec
from loopline.monitoring.spec import MonitoringSpec
from loopline.registry.spec import RegistrySpec
from loopline.retraining.spec import TRIGGER, RetrainingSpec
from loopline.serving.spec import ServingSpec
from loopline.training.spec import TrainingSpec

FORMAT = 1
SHORTEST_WINDOW = timedelta(minutes=1)
ONLY_TABLE = "data"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}")
FUNCTION = re.compile(r"[^:]+\.py:[A-Za-z_]\w*")

Problem = tuple[tuple[str | int, ...], str, tuple[str, ...]]
"""Where, what is wrong, and the values that would be allowed (may be empty)."""


class LoopSpec(Spec):
    """One loop: what is decided, from which data, by which recipe, and how far it may go by itself.

    Short forms: `data: file.csv` is one table called `data`; `training: train.py:fit`
    is its recipe; `framing.label: churned` is a column of the only table; `features`
    may be left out where there is one table, which then gives the columns themselves.
    Without `framing.decision_time` rows are held out at random and nothing retrains.
    """

    version: Literal[1] = Field(default=1, description="Format of this page.")
    name: str = Field(description="Name of the loop: model, endpoint and pages carry it.", examples=["churn"])
    framing: FramingSpec = Field(description="What is decided, and how we will know it went well.")
    data: dict[str, TableSpec] = Field(
        description="One table per thing that becomes known at its own time; or one file.", min_length=1
    )
    features: FeaturesSpec = Field(description="Which table is the spine, and which files define views.")
    training: TrainingSpec = Field(description="The recipe and the rows it is given.")
    evaluation: EvaluationSpec = Field(default=EvaluationSpec(), description="How a candidate is judged.")
    registry: RegistrySpec = Field(default=RegistrySpec(), description="Approvals, and how long versions are kept.")
    serving: ServingSpec = Field(
        default=ServingSpec(), description="How traffic moves to a new version, and what backs it."
    )
    monitoring: MonitoringSpec = Field(default=MonitoringSpec(), description="How live behaviour is watched.")
    retraining: RetrainingSpec = Field(
        default=RetrainingSpec(), description="When the loop acts, and how far it may go."
    )

    @property
    def id(self) -> str:
        """Content id, with the format's version; keys left at their defaults do not count."""
        return content_id({"version": FORMAT, **self.model_dump(mode="json", exclude_defaults=True)})

    @property
    def notices(self) -> tuple[str, ...]:
        """What a short declaration leaves out, said in sentences."""
        if self.framing.decision_time is not None:
            return ()
        return (
            "framing.decision_time is not given: rows are held out at random, nothing is retrained, "
            "and leaks from the future cannot be seen",
        )

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if NAME.fullmatch(value) is None:
            raise ValueError("a name has small letters, digits, `-`, `_` and `.`, at most 63, for example credit-risk")
        return value

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        doc = dict(given)
        data = doc.get("data")
        if isinstance(data, str):
            doc["data"] = data = {ONLY_TABLE: {"source": data}}
        elif isinstance(data, dict):
            doc["data"] = data = {k: {"source": v} if isinstance(v, str) else v for k, v in data.items()}
        if isinstance(doc.get("training"), str):
            doc["training"] = {"recipe": doc["training"]}
        spine = next(iter(data)) if isinstance(data, dict) and len(data) == 1 else None
        features = doc.get("features", {})
        if isinstance(features, (str, list)):
            features = {"views": features}
        if isinstance(features, dict) and "spine" not in features and spine is not None:
            features = {"spine": spine, **features}
        doc["features"] = features
        framing = doc.get("framing")
        if isinstance(framing, dict) and framing.get("decision_time") is None:
            _without_time(doc)
        return doc

    @model_validator(mode="wrap")
    @classmethod
    def _consistent(cls, given: Any, handler: Callable[[Any], LoopSpec]) -> LoopSpec:
        spec = handler(given)
        if found := list(problems(spec)):
            raise ValidationError.from_exception_data(
                cls.__name__,
                [
                    InitErrorDetails(
                        type=PydanticCustomError("loop", "{what}", {"what": what, "allowed": list(allowed)}),
                        loc=path,
                        input=None,
                    )
                    for path, what, allowed in found
                ],
            )
        return spec


def _without_time(doc: dict[str, Any]) -> None:
    """Without a decision time: hold out at random, and train only when somebody runs it."""
    training = doc.get("training")
    if isinstance(training, dict):
        split = training.get("split")
        if split is None or (isinstance(split, dict) and "by" not in split):
            doc["training"] = {**training, "split": {"by": "random", **(split or {})}}
    retraining = doc.get("retraining")
    if retraining is None:
        doc["retraining"] = {"mode": "observe"}
    elif isinstance(retraining, dict) and "mode" not in retraining:
        doc["retraining"] = {"mode": "observe", **retraining}


def problems(spec: LoopSpec) -> Iterator[Problem]:
    """What no section can see alone."""
    yield from _names(spec)
    yield from _times(spec)
    yield from _lengths(spec)
    yield from _addresses(spec)
    yield from _judging(spec)
    yield from _releasing(spec)


def _names(spec: LoopSpec) -> Iterator[Problem]:
    tables = tuple(spec.data)
    for table in tables:
        if TABLE.fullmatch(table) is None:
            yield ("data", table), f"{table!r} is no table name: small letters, digits and `_`, a letter first", ()
    if spec.features.spine not in tables:
        yield ("features", "spine"), f"there is no table {spec.features.spine!r} in data", tables
    label = spec.framing.label
    if label.table is not None and label.table not in tables:
        yield ("framing", "label", "table"), f"there is no table {label.table!r} in data", tables
    if label.table is None and len(tables) > 1:
        yield (
            ("framing", "label"),
            f"with several tables ({', '.join(tables)}) the label must say which holds it: "
            f"`label: {{table: {tables[-1]}, value: {label.value}}}`",
            (),
        )
    spine, unit = spec.data.get(spec.features.spine), spec.framing.unit
    if spine is not None and unit in spine.key and len(spine.key) > 1:
        yield (
            ("data", spec.features.spine, "key"),
            f"rows are named by {' and '.join(spine.key)}, decisions by framing.unit {unit} alone: answers and "
            f"requests go by the unit, so only one row of each would be learned from. Rows of one {unit} that are "
            f"versions of each other: write `key: [{unit}]`; decisions of their own: make a column that names each "
            "framing.unit",
            (),
        )
    functions: list[tuple[tuple[str, ...], str | None]] = [(("training", "recipe"), spec.training.recipe)]
    if spec.framing.baseline != "constant":
        functions.append((("framing", "baseline"), spec.framing.baseline))
    for path, ref in functions:
        if ref is not None and FUNCTION.fullmatch(ref) is None:
            yield path, f"{ref!r} does not name a function; write `file.py:function`", ()
    for index, view in enumerate(spec.features.views):
        if not view.endswith(".py"):
            yield ("features", "views", index), f"{view!r} is not a Python file; every @view in the file is used", ()


def _times(spec: LoopSpec) -> Iterator[Problem]:
    split, timed = spec.training.split, spec.framing.decision_time is not None
    if split.by == "random" and not isinstance(split.test, float):
        yield ("training", "split", "test"), "rows held out at random are a share, for example 20%", ()
    if isinstance(split.test, float) and not 0 < split.test < 1:
        yield ("training", "split", "test"), "some rows must be held out, and some must stay: between 0% and 100%", ()
    if timed:
        return
    if split.by == "time":
        yield ("training", "split", "by"), "a split by time needs framing.decision_time", ("random",)
    if spec.training.window is not None:
        yield ("training", "window"), "a window needs framing.decision_time", ()
    if spec.retraining.mode in ("suggest", "auto"):
        yield ("retraining", "mode"), "retraining needs framing.decision_time", ("off", "observe")
    if spec.retraining.any_of:
        yield ("retraining", "any_of"), "triggers need framing.decision_time", ()


def _lengths(spec: LoopSpec) -> Iterator[Problem]:
    """Lengths of time that make no sense when they are nothing."""
    nothing = timedelta(0)
    lengths = {
        ("monitoring", "reference"): spec.monitoring.reference,
        ("retraining", "over"): spec.retraining.over,
        ("retraining", "budget", "per"): spec.retraining.budget.per,
        ("registry", "approvals", "expire"): spec.registry.approvals.expire,
        ("training", "window"): spec.training.window,
    }
    for kind, adapter in spec.retraining.effects.items():
        lengths["retraining", "effects", kind, "timeout"] = adapter.timeout
    if spec.monitoring.window < SHORTEST_WINDOW:
        yield ("monitoring", "window"), "a window is at least a minute long", ("1h", "12h", "1d", "7d")
    for path, length in lengths.items():
        if length is not None and length <= nothing:
            yield path, f"{path[-1]} must be longer than nothing", ("1h", "1d", "28d")
    for index, text in enumerate(spec.retraining.any_of):
        match = TRIGGER.fullmatch(text)
        if match is not None and match["every"] and duration(match["every"]) <= nothing:
            yield ("retraining", "any_of", index), f"{text!r} would fire without end", ("every 1d", "every 90d")


def _addresses(spec: LoopSpec) -> Iterator[Problem]:
    """Webhooks are reached over HTTP."""
    found: dict[tuple[str, ...], str | None] = {
        ("retraining", "effects", kind, "webhook"): adapter.webhook for kind, adapter in spec.retraining.effects.items()
    }
    if spec.framing.owner is not None:
        found["framing", "owner", "notify"] = spec.framing.owner.notify
    for path, address in found.items():
        if address is not None and not _is_web(address):
            yield path, f"{address!r} is no webhook: it is reached by POST", ("https://host/path", "http://host/path")


def _is_web(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _judging(spec: LoopSpec) -> Iterator[Problem]:
    worth = spec.framing.value is not None
    if spec.evaluation.primary == "value" and not worth:
        yield ("evaluation", "primary"), "the metric `value` needs framing.value", ()
    for index, gate in enumerate(spec.evaluation.gates):
        if gate.metric == "value" and not worth:
            yield ("evaluation", "gates", index, "metric"), "the metric `value` needs framing.value", ()
        column = re.split(r"=", gate.slice, maxsplit=1)[0].strip()
        if gate.slice != "all" and column not in spec.evaluation.slices:
            yield (
                ("evaluation", "gates", index, "slice"),
                f"{gate.slice!r} is no slice: write `all`, or `column=value` with a column of evaluation.slices",
                ("all", *spec.evaluation.slices),
            )
    for index, text in enumerate(spec.retraining.any_of):
        match = TRIGGER.fullmatch(text)
        metric = match["metric"] if match is not None else None
        if metric is not None and metric not in METRICS:
            yield ("retraining", "any_of", index), f"there is no metric {metric!r}", METRICS
        elif metric == "value" and not worth:
            yield ("retraining", "any_of", index), "the metric `value` needs framing.value", ()


def _releasing(spec: LoopSpec) -> Iterator[Problem]:
    shares = spec.serving.release.canary
    if any(later <= earlier for earlier, later in pairwise(shares)):
        yield ("serving", "release", "canary"), "the shares of a canary rise, for example [5%, 25%, 50%]", ()
    if any(not 0 < share < 1 for share in shares):
        yield ("serving", "release", "canary"), "each share lies between 0% and 100%, both excluded", ()


__all__ = ["FORMAT", "ONLY_TABLE", "LoopSpec", "problems"]
