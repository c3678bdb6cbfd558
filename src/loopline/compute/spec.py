"""What is to be run, as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from loopline.base.errors import Invalid
from loopline.base.ids import content_id


@dataclass(frozen=True, slots=True)
class StepSpec:
    """A function to call in another process.

    Parameters
    ----------
    entrypoint : str
        `package.module:function`. It is called as
        `function(workspace: Path, **args)` and returns JSON data.
    args : dict
        JSON data. No frames: hand over ids, and let the step read the stores.
    """

    entrypoint: str
    args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        module, colon, function = self.entrypoint.partition(":")
        if not colon or not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
            raise Invalid(
                f"{self.entrypoint!r} does not name a step",
                why="a step is named as `package.module:function`",
                fix="write for example loopline.training.steps:fit",
            )

    @property
    def id(self) -> str:
        """Content id: the same step with the same arguments."""
        return content_id({"entrypoint": self.entrypoint, "args": self.args})

    def to_json(self) -> str:
        """The step as one line of JSON."""
        try:
            return json.dumps({"entrypoint": self.entrypoint, "args": self.args}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise Invalid(
                f"the arguments of {self.entrypoint} are not JSON: {error}",
                why="a step may run on another machine; nothing is pickled",
                fix="hand over text, numbers, lists and objects; for data, the id it is stored under",
            ) from error

    @classmethod
    def from_json(cls, text: str) -> StepSpec:
        """The step that `to_json` wrote."""
        doc = json.loads(text)
        return cls(doc["entrypoint"], doc["args"])
