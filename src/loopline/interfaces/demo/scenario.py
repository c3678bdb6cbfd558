"""What a scenario may say: a world, its people, and what goes wrong in it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML

from loopline.base.errors import Invalid, NotFound
from loopline.base.spec import Duration, Share, Spec

FILE = "scenario.yaml"


class When(Spec):
    """A day: given, or drawn by the seed between two days, or after the first promotion."""

    on: date | None = None
    between: tuple[date, date] | None = None
    after_first_promotion: tuple[Duration, Duration] | None = None

    @model_validator(mode="after")
    def _one(self) -> When:
        if sum(v is not None for v in (self.on, self.between, self.after_first_promotion)) != 1:
            raise ValueError("give exactly one of on, between and after_first_promotion")
        return self


class ProposeSpec(Spec):
    """Somebody proposes a candidate of their own."""

    by: str
    training: dict[str, Any] = Field(default_factory=dict)
    views: tuple[str, ...] | None = None
    reason: str = "proposed by hand"


class CorruptSpec(Spec):
    """One day of a table arrives broken; `with_` maps (frame, day) to the frame that arrived."""

    table: str
    function: str = Field(description="`file.py:function`, called with the table's frame and the day.")


class StarveSpec(Spec):
    """The producer of some inputs is down: live requests carry null there."""

    views: tuple[str, ...]
    share: Share


class EventSpec(Spec):
    """Something that happens once."""

    name: str
    when: When
    propose: ProposeSpec | None = None
    corrupt: CorruptSpec | None = None
    starve: StarveSpec | None = None
    kill: Literal["control_plane"] | None = None
    days: int = 1


class ScenarioSpec(Spec):
    """A stretch of past time to live through again."""

    start: date = Field(description="First release; what is known then trains the first model.")
    until: date = Field(description="First day that is not played.")
    approver: str = "user:approver"
    author: str = "user:scientist"
    connections: int = Field(64, ge=1, le=256)
    events: tuple[EventSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Cast:
    """A scenario with its dice thrown."""

    spec: ScenarioSpec
    seed: int
    days: dict[str, date]
    """Event name to its day, where that is known beforehand."""
    delays: dict[str, timedelta]
    """Event name to its delay after the first promotion."""


def read(project: Path) -> ScenarioSpec:
    """The project's scenario."""
    path = project / FILE
    if not path.is_file():
        raise NotFound(
            f"{project.name} has no {FILE}",
            why="a demo plays the scenario of a project",
            fix="name another project, or write one (see docs/reference/scenario.md)",
        )
    try:
        return ScenarioSpec.model_validate(YAML(typ="safe", pure=True).load(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        raise Invalid(
            f"{FILE}: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}",
            why="the scenario cannot be read",
            fix=f"mend {FILE}",
        ) from error


def cast(spec: ScenarioSpec, seed: int) -> Cast:
    """Throw the dice: the same seed gives the same days."""
    dice = random.Random(seed)
    days: dict[str, date] = {}
    delays: dict[str, timedelta] = {}
    for event in spec.events:
        when = event.when
        if when.on is not None:
            days[event.name] = when.on
        elif when.between is not None:
            first, last = when.between
            days[event.name] = first + timedelta(days=dice.randrange((last - first).days + 1))
        elif when.after_first_promotion is not None:
            low, high = when.after_first_promotion
            delays[event.name] = low + timedelta(days=dice.randrange((high - low).days + 1))
    return Cast(spec, seed, days, delays)


def midnight(day: date) -> datetime:
    """The first moment of a day, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
