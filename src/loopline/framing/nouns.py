"""The noun of framing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loopline.base.nouns import noun


@noun("problem")
@dataclass(frozen=True, slots=True)
class Problem:
    """A framing, frozen: every model version names the one it answers.

    `spec` is the declaration as JSON, `id` its content id.
    """

    id: str
    name: str
    spec: dict[str, Any]
